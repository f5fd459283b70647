"""The guard: how much of a change set waits for a person, and why.

Removals over a limit wait, and so does whatever cannot be right without them; all else flows (law 4). Approval belongs to the
digest of exactly the part that waits (law 5).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.findings import Finding
from sftp_ingest.model import ENTITIES, ChangeSet, Hold, HoldReason, Limits, Roster
from sftp_ingest.roster import ids, layers
from sftp_ingest.roster.arrow import Mask, array_of, is_in
from sftp_ingest.roster.contract import Contract
from sftp_ingest.roster.diff import MEMBERSHIPS, REFERENCES

REKEYED_SHARE = 0.5
"""Where at least this share of the removed comes anew in the same scope, ids have changed rather than people left."""

_OF_FILE: Mapping[str, tuple[str, ...]] = {
    "students": ("students", "contacts"),
    "sections": ("sections", "section_teachers", "terms", "courses"),
}
"""Table → the entities that its file speaks of, where that is more than the one of the same name."""


@dataclass(frozen=True)
class Review:
    """`hold` is None where everything may flow; `flowing` is what may be applied now, `waiting` what the hold keeps."""

    hold: Hold | None
    flowing: ChangeSet
    waiting: ChangeSet | None = None


Doubt = Literal["headers", "crossed"]
_DOUBTS: Mapping[str, Doubt] = {"file_crossed": "crossed", "header_gone": "headers"}
"""What is found of a file → why no removal is believed that it asks for; of two, the later."""


def review(change_set: ChangeSet, now: Roster, limits: Limits, *, doubted: Mapping[str, Doubt] = MappingProxyType({}), approved: str = "") -> Review:
    """Hold what is over the limits, and all removals of `doubted` entities (law 2).

    `approved` is the digest that a person released; an equal digest lets everything flow.
    """
    reasons: list[HoldReason] = []
    waiting = {name: np.zeros(len(frame), dtype=bool) for name, frame in change_set.changes.items()}
    for name, frame in change_set.changes.items():
        if len(frame):
            reasons += _trip(name, frame, now, change_set.existing[name], limits, waiting[name], doubted.get(name))
    if not reasons:
        return Review(None, change_set)
    _wait_with(change_set, waiting)
    hold = Hold(
        reasons=tuple(replace(each, evidence=ids.rekeyed(change_set, each.entity, each.school)) if each.kind == "rekeyed" else each for each in reasons),
        scope={name: int(mask.sum()) for name, mask in waiting.items() if mask.any()},
        digest=_digest(change_set, waiting),
    )
    if hold.digest == approved:
        return Review(None, change_set)
    return Review(hold, _only(change_set, {name: ~mask for name, mask in waiting.items()}), _only(change_set, waiting))


def doubted(findings: Iterable[Finding], rules: Contract) -> dict[str, Doubt]:
    """The entities of whose file it cannot be said that it tells of everybody: a column is gone that it had before, or it is of another night than others."""
    found: dict[str, Doubt] = {}
    for code, doubt in _DOUBTS.items():
        files = {each.file.lower() for each in findings if each.code == code}
        tables = [table.records for table in rules.tables.values() if table.file in files]
        found |= {entity: doubt for name in tables for entity in _OF_FILE.get(name, (name,))}
    return found


def _trip(name: str, frame: pd.DataFrame, now: Roster, existing: int, limits: Limits, waiting: Mask, doubt: Doubt | None) -> list[HoldReason]:
    """Which limits the entity trips, in the district and in each school; marks what waits."""
    operation = array_of(frame["operation"])
    removed, came, changed = (is_in(operation, pa.array(each)) for each in (["deactivated"], ["created", "reactivated"], ["updated", "moved"]))
    reasons = []
    if doubt and removed.any():
        reasons.append(HoldReason(name, "", doubt, int(removed.sum()), existing))
        waiting |= removed
    if limits.trips(int(removed.sum()), existing, limits.removed_share):
        rekeyed = int(came.sum()) >= REKEYED_SHARE * int(removed.sum())
        reasons.append(HoldReason(name, "", "rekeyed" if rekeyed else "removed", int(removed.sum()), existing))
        waiting |= removed | (came if rekeyed else False)
    elif int(removed.sum()) > limits.records and ENTITIES[name].school and name != "schools":
        reasons += _trip_schools(name, frame, now, limits, waiting, removed, came)
    if name != "enrollments" and limits.trips(int(changed.sum()), existing, limits.updated_share):
        reasons.append(HoldReason(name, "", "updated", int(changed.sum()), existing))
        waiting |= changed
    return reasons


def _trip_schools(name: str, frame: pd.DataFrame, now: Roster, limits: Limits, waiting: Mask, removed: Mask, came: Mask) -> list[HoldReason]:
    column = ENTITIES[name].school
    held = layers.of_entity(now, name)
    school = frame[column].to_numpy(dtype=object)
    reasons = []
    leaving = pd.Series(school[removed]).value_counts()
    leaving = leaving[leaving > limits.records]
    theirs = held.take(column, np.flatnonzero(held.among(column, pa.array(leaving.index, pa.string())) & held.active))
    existing = {str(each["values"]): each["counts"].as_py() for each in pc.value_counts(theirs)}
    for each, count in sorted(leaving.items()):
        total = existing.get(str(each), 0)
        if limits.trips(int(count), total, limits.removed_share):
            here = school == each
            rekeyed = int((came & here).sum()) >= REKEYED_SHARE * int(count)
            reasons.append(HoldReason(name, str(each), "rekeyed" if rekeyed else "removed", int(count), total))
            waiting |= here & (removed | (came if rekeyed else False))
    return reasons


# ---------------------------------------------------------------- what must wait with it


def _wait_with(change_set: ChangeSet, waiting: dict[str, Mask]) -> None:
    """Let wait what would be wrong without the waiting part: members of what does not yet exist, ends of what has not yet ended."""
    for name, columns in REFERENCES.items():
        if name in waiting:
            for column, parent in columns.items():
                _wait_for_new(change_set, waiting, name, column, parent)
    for name, columns in MEMBERSHIPS.items():
        if name in waiting:
            for column, parent in columns.items():
                _wait_for_new(change_set, waiting, name, column, parent)
                _wait_for_leaving(change_set, waiting, name, column, parent)
    for name, columns in REFERENCES.items():
        if name in waiting and waiting[name].any():
            for column, parent in columns.items():
                needed = set(change_set.before[name].loc[waiting[name], column])
                keys = change_set.changes[parent][ENTITIES[parent].key[0]]
                waiting[parent] |= _operation(change_set, parent, "deactivated") & keys.isin(needed).to_numpy(dtype=bool)


def _wait_for_new(change_set: ChangeSet, waiting: dict[str, Mask], name: str, column: str, parent: str) -> None:
    coming = waiting.get(parent, np.zeros(0, dtype=bool))
    if coming.any():
        new = coming & ~_operation(change_set, parent, "deactivated", "updated", "moved")
        ids = set(change_set.changes[parent].loc[new, ENTITIES[parent].key[0]])
        frame = change_set.changes[name]
        waiting[name] |= frame[column].isin(ids).to_numpy(dtype=bool) & ~_operation(change_set, name, "deactivated")


def _wait_for_leaving(change_set: ChangeSet, waiting: dict[str, Mask], name: str, column: str, parent: str) -> None:
    leaving = waiting[parent] & _operation(change_set, parent, "deactivated") if parent in waiting else np.zeros(0, dtype=bool)
    if leaving.any():
        ids = set(change_set.changes[parent].loc[leaving, ENTITIES[parent].key[0]])
        waiting[name] |= change_set.changes[name][column].isin(ids).to_numpy(dtype=bool) & _operation(change_set, name, "deactivated")


def _operation(change_set: ChangeSet, name: str, *operations: str) -> Mask:
    mask: Mask = change_set.changes[name]["operation"].isin(operations).to_numpy(dtype=bool)
    return mask


def _only(change_set: ChangeSet, chosen: Mapping[str, Mask]) -> ChangeSet:
    return ChangeSet(
        changes={name: frame[chosen[name]].reset_index(drop=True) for name, frame in change_set.changes.items()},
        before={name: frame[chosen[name]].reset_index(drop=True) for name, frame in change_set.before.items()},
        existing=change_set.existing,
        unchanged=change_set.unchanged,
        findings=change_set.findings,
    )


def _digest(change_set: ChangeSet, waiting: Mapping[str, Mask]) -> str:
    """SHA-256 of the waiting rows, which are in key order; of a removal only who leaves, not what was last known of him."""
    digest = hashlib.sha256()
    for name, mask in waiting.items():
        frame = change_set.changes[name][mask]
        removed = (frame["operation"] == "deactivated").to_numpy(dtype=bool)
        for part in (frame.loc[removed, list(ENTITIES[name].key)], frame[~removed]):
            digest.update(f"{name}:{len(part)}:".encode())
            digest.update(part.to_csv(index=False, header=False).encode())
    return digest.hexdigest()
