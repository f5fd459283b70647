"""What flows beside a hold: tonight's roster is told once more as if what waits had not been sent, and everything is derived from that."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.model import ENTITIES, Assembled, ChangeSet, Derivations, Entity, Roster
from sftp_ingest.roster import derive, diff
from sftp_ingest.roster.arrow import TEXT, array_of, is_in, places_of_keys

_LOOKED_AT = ("schools", "terms", "courses", "students", "teachers", "staff", "sections", "enrollments", "section_teachers")
"""What anything is derived from, or refers to."""

_COMPARED = ("schools", "terms", "courses", *derive.FILLED)
"""What has derived columns; and what these name, without which nothing can be compared."""


def changes(assembled: Assembled, now: Roster, waiting: ChangeSet, switches: Derivations) -> ChangeSet:
    """What would change of the records that have derived columns if nothing that waits had been sent.

    Of `assembled` the derived columns may be filled already; they are filled anew.
    """
    sent = {name: _without(ENTITIES[name], frame, waiting) for name, frame in assembled.roster.entities.items() if name in _LOOKED_AT}
    derived = derive.derive(Assembled(Roster(sent), assembled.seen, assembled.covered), now, switches).roster.entities
    compared = {name: frame for name, frame in derived.items() if name in _COMPARED}
    covered = {name: sources for name, sources in assembled.covered.items() if name in compared}
    return diff.compare(now, Roster(compared), assembled.seen, covered)


def _without(entity: Entity, wanted: pd.DataFrame, waiting: ChangeSet) -> pd.DataFrame:
    """The records wanted without those that wait to be otherwise than they are; these as they are, where they are there at all."""
    changes = waiting.changes.get(entity.name)
    if changes is None or changes.empty:
        return wanted
    told = [array_of(wanted[column]) for column in entity.key]
    place = places_of_keys([array_of(changes[column]) for column in entity.key], told)
    stays = np.ones(len(wanted), dtype=bool)
    stays[place[place >= 0]] = False
    held = _held(entity, changes, waiting.before[entity.name])
    cells = {column: pa.concat_arrays([array_of(wanted[column]).filter(pa.array(stays)), held[column]]) for column in entity.columns}
    return pd.DataFrame({column: pd.array(each, dtype=TEXT) for column, each in cells.items()}, copy=False)


def _held(entity: Entity, changes: pd.DataFrame, before: pd.DataFrame) -> dict[str, pa.Array]:
    """The records that changes find, as they were; who leaves is told in the change itself, and who moves is still where he comes from."""
    operation = array_of(changes["operation"])
    leaves = pa.array(is_in(operation, pa.array(["deactivated"])))
    there = pa.array(is_in(operation, pa.array(["deactivated", "updated", "moved"])))
    cells = {column: array_of(changes[column]) for column in entity.columns}
    was = {column: pc.if_else(leaves, cells[column], array_of(before[column])) for column in entity.values}
    if "from_section_id" in changes.columns:
        moves = pa.array(is_in(operation, pa.array(["moved"])))
        cells["section_id"] = pc.if_else(moves, array_of(changes["from_section_id"]), cells["section_id"])
        was |= {column: pc.if_else(moves, array_of(changes[f"from_{column}"]), was[column]) for column in entity.values}
    return {column: each.filter(there) for column, each in (cells | was).items()}
