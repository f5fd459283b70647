"""Changes laid over what the district has now: a delivery that tells only what changed becomes the snapshot that it leads to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from sftp_ingest.model import ENTITIES, Roster
from sftp_ingest.roster.arrow import Mask, array_of, is_in, key_of
from sftp_ingest.roster.records import first_of

DELTA = "delta"
ENDED = "ended"
"""Names, in `Frames.aside`, of the tables whose files tell only changes, and of the records that they say have ended."""

OF_FILE: Mapping[str, tuple[str, ...]] = {
    "orgs": ("schools",),
    "users": ("students", "teachers", "staff", "contacts"),
    "sections": ("sections", "terms", "courses"),
    "memberships": ("enrollments", "section_teachers"),
}
"""Table of a file → the entities that it tells of."""

JOINS: Mapping[str, Mapping[str, str]] = {
    "enrollments": {"section_id": "sections", "student_id": "students"},
    "section_teachers": {"section_id": "sections", "teacher_id": "teachers"},
    "contacts": {"student_id": "students"},
}


@dataclass(frozen=True)
class Changes:
    """What is known to be only changes: `files` are tables as read, `records` has `entity`, `id` and `other` of what has ended.

    Demographics, which are no entity, end like one: what they said of a student is blank then.
    """

    files: frozenset[str]
    records: pd.DataFrame

    @staticmethod
    def of(aside: Mapping[str, pd.DataFrame]) -> Changes:
        """As noted while the files were sorted."""
        return Changes(frozenset(aside[DELTA]["table"].to_list()), aside[ENDED])

    @property
    def entities(self) -> frozenset[str]:
        """The entities that are told in changes."""
        return frozenset(entity for file in self.files for entity in OF_FILE.get(file, ()))

    def ended(self, entity: str) -> pd.DataFrame:
        """The records of an entity that have ended: `id`, and for memberships `other`."""
        return self.records[(self.records["entity"] == entity).to_numpy(dtype=bool)]


def laid_over(entities: Mapping[str, pd.DataFrame], changes: Changes, now: Roster, seen: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The entities that are told in changes as they will stand: what was named tonight, and all that was not named and has not ended."""
    whole = dict(entities)
    for name in ENTITIES:
        if name in changes.entities and name not in ("terms", "courses"):
            whole[name] = first_of([entities[name], _standing(name, entities[name], changes, now)])
    for name, columns in JOINS.items():
        if name in changes.entities:
            for column, parent in columns.items():
                left = is_in(array_of(whole[name][column]), _gone(parent, whole[parent], now, seen.get(parent)))
                whole[name] = whole[name][~left]
    for name in ("terms", "courses"):
        if name in changes.entities:
            whole[name] = first_of([entities[name], _referred(name, entities[name], whole["sections"], now)])
    return whole


def _standing(name: str, told: pd.DataFrame, changes: Changes, now: Roster) -> pd.DataFrame:
    entity, held = ENTITIES[name], _held(name, now)
    ended = changes.ended(name)
    if len(entity.key) == 1:
        gone = is_in(array_of(held[entity.key[0]]), array_of(ended["id"]))
    else:
        gone = is_in(_key(held, entity.key), key_of([array_of(ended["id"]), array_of(ended["other"])]))
    stay: Mask = ~gone & ~is_in(_key(held, entity.key), _key(told, entity.key))
    return held[stay]


def _gone(name: str, wanted: pd.DataFrame, now: Roster, seen: pd.DataFrame | None) -> pa.Array:
    """The ids that stand now and will not: what belongs to them goes with them."""
    key = ENTITIES[name].key[0]
    ids = array_of(_held(name, now)[key])
    left = ~is_in(ids, array_of(wanted[key]))
    if seen is not None:
        left &= ~is_in(ids, array_of(seen[key])) if not seen[key].isna().any() else np.zeros(len(ids), dtype=bool)
    return ids.filter(pa.array(left))


def _referred(name: str, told: pd.DataFrame, sections: pd.DataFrame, now: Roster) -> pd.DataFrame:
    """Terms and courses that a section still has."""
    key, held = ENTITIES[name].key[0], _held(name, now)
    ids = array_of(held[key])
    return held[is_in(ids, array_of(sections[key])) & ~is_in(ids, array_of(told[key]))]


def _held(name: str, now: Roster) -> pd.DataFrame:
    held = now.entities[name]
    return held.loc[held["active"].to_numpy(dtype=bool), list(ENTITIES[name].columns)]


def _key(frame: pd.DataFrame, key: tuple[str, ...]) -> pa.Array:
    return key_of([array_of(frame[column]) for column in key])
