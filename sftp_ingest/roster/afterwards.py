"""The roster as it stands once a change set has been applied to it: what the database would tell, without asking it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.model import ENTITIES, ChangeSet, Entity
from sftp_ingest.roster.arrow import TEXT, array_of, is_in, places_of_keys


def one(name: str, held: pd.DataFrame, change_set: ChangeSet) -> pd.DataFrame:
    """The records held of one entity with all changes of the set; without any the very same frame. Rows keep their places, new ones follow."""
    changes = change_set.changes.get(name)
    return held if changes is None or changes.empty else entity(ENTITIES[name], held, changes)


def entity(kind: Entity, held: pd.DataFrame, changes: pd.DataFrame) -> pd.DataFrame:
    """The records held of one entity, among them all that the changes tell of and that were there, once these are applied."""
    columns = {column: array_of(held[column]) for column in kind.columns}
    wanted = {column: array_of(changes[column]) for column in kind.columns}
    operation = array_of(changes["operation"])
    keys = [columns[column] for column in kind.key]
    place = places_of_keys([wanted[column] for column in kind.key], keys)
    leaves = is_in(operation, pa.array(["deactivated"]))
    active = held["active"].to_numpy(dtype=bool).copy()
    active[place[leaves]] = False
    if "from_section_id" in changes.columns:  # places are left before others are taken, for one may be the other
        moved = pa.array(is_in(operation, pa.array(["moved"])))
        origin = {**wanted, "section_id": array_of(changes["from_section_id"])}
        active[places_of_keys([origin[column].filter(moved) for column in kind.key], keys)] = False
    new = place < 0
    rewritten = np.flatnonzero(~leaves & ~new)
    rewritten = rewritten[np.argsort(place[rewritten])]
    active[place[rewritten]] = True
    here = np.zeros(len(held), dtype=bool)
    here[place[rewritten]] = True
    mask, values, added = pa.array(here), pa.array(rewritten), pa.array(new)
    for column, cells in columns.items():
        becomes = wanted[column].take(values)
        if column not in kind.key and not becomes.equals(cells.filter(mask)):
            cells = pc.replace_with_mask(cells, mask, becomes)
        came = wanted[column] if new.all() else wanted[column].filter(added)
        columns[column] = pa.concat_arrays([cells, came]) if len(cells) and len(came) else came if len(came) else cells
    frame = pd.DataFrame({column: pd.array(cells, dtype=TEXT) for column, cells in columns.items()}, copy=False)
    return frame.assign(active=np.concatenate((active, np.ones(int(new.sum()), dtype=bool))))
