"""The guard: how much of a change set waits for a person, and why.

Removals over a limit wait, and so does whatever cannot be right without them; all else flows (law 4). Where a person or a section leaves,
its memberships go where it goes: that they end is no removal of its own. What is derived flows as if the waiting part had not been sent, and a record
that is another than it was only because of what waits, waits with it unnamed. Approval belongs to the digest of exactly the part that waits (law 5).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.findings import Finding
from sftp_ingest.model import ENTITIES, ChangeSet, Hold, HoldReason, Limits, Roster
from sftp_ingest.roster import derive, ids, layers
from sftp_ingest.roster.arrow import Mask, array_of, is_in, key_of
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


Anew = Callable[[ChangeSet], ChangeSet]
"""What waits → what would change of the records that have derived columns if it had not been sent."""

_PRIMARY = pa.array(["1"])
"""The position of a section's primary teacher."""

_NOTHING: Mask = np.zeros(0, dtype=bool)

_SENT_TO: Mapping[str, Mapping[str, str]] = {
    "students": {"sis_school_id": "schools"},
    "teachers": {"sis_school_id": "schools"},
    "staff": {"sis_school_id": "schools"},
    "enrollments": {"school_id": "schools"},
}
"""Schools that rows name beside the derived one, which becomes a person's where his sections wait: he cannot be at one that does not yet exist."""

Doubt = Literal["headers", "crossed"]
_DOUBTS: Mapping[str, Doubt] = {"file_crossed": "crossed", "header_gone": "headers"}
"""What is found of a file → why no removal is believed that it asks for; of two, the later."""


def review(
    change_set: ChangeSet,
    now: Roster,
    limits: Limits,
    *,
    doubted: Mapping[str, Doubt] = MappingProxyType({}),
    approved: str = "",
    anew: Anew | None = None,
    undecided: Sequence[HoldReason] = (),
) -> Review:
    """Hold what is over the limits, and all removals of `doubted` entities (law 2).

    `undecided` is why the night before was held, where nobody released it: what flowed beside it is in no total, or the same part could be a smaller
    share of more records, and go unseen.
    `approved` is the digest that a person released; an equal digest lets everything flow. Without `anew` what flows beside a hold is as if
    what waits were there already.
    """
    reasons: list[HoldReason] = []
    waiting = {name: np.zeros(len(frame), dtype=bool) for name, frame in change_set.changes.items()}
    left = _left(change_set, now)
    totals = {(each.entity, each.school): each.total for each in undecided}
    following = _following(change_set, {name: _with_leaving(change_set, name, ids, ~waiting[name]) for name, ids in left.items()})
    for name, frame in change_set.changes.items():
        if len(frame):
            reasons += _trip(name, frame, now, change_set.existing[name], totals, limits, waiting[name], doubted.get(name), following.get(name))
    if not reasons:
        return Review(None, change_set)
    _wait_with(change_set, waiting, left)
    beside = None if anew is None else anew(_only(change_set, waiting))
    if beside is not None:
        reasons = _let_go(change_set, waiting, beside, reasons)
    hold = Hold(
        reasons=tuple(replace(each, evidence=ids.rekeyed(change_set, each.entity, each.school)) if each.kind == "rekeyed" else each for each in reasons),
        scope={name: int(mask.sum()) for name, mask in waiting.items() if mask.any()},
        digest=_digest(change_set, waiting),
    )
    if hold.digest == approved:
        return Review(None, change_set)
    flowing, kept = _only(change_set, {name: ~mask for name, mask in waiting.items()}), _only(change_set, waiting)
    return Review(hold, flowing if beside is None else _with_derived(flowing, kept, beside), kept)


def doubted(findings: Iterable[Finding], rules: Contract) -> dict[str, Doubt]:
    """The entities of whose file it cannot be said that it tells of everybody: a column is gone that it had before, or it is of another night than others."""
    found: dict[str, Doubt] = {}
    for code, doubt in _DOUBTS.items():
        files = {each.file.lower() for each in findings if each.code == code}
        tables = [table.records for table in rules.tables.values() if table.file in files]
        found |= {entity: doubt for name in tables for entity in _OF_FILE.get(name, (name,))}
    return found


_Totals = Mapping[tuple[str, str], int]
"""Entity and school, which is blank for the district → of how many records a share was told that nobody has decided on."""


def _trip(
    name: str, frame: pd.DataFrame, now: Roster, existing: int, totals: _Totals, limits: Limits, waiting: Mask, doubt: Doubt | None, following: Mask | None
) -> list[HoldReason]:
    """Which limits the entity trips, in the district and in each school; marks what waits. Ends that are `following` count nowhere."""
    operation = array_of(frame["operation"])
    removed, came, changed = (is_in(operation, pa.array(each)) for each in (["deactivated"], ["created", "reactivated"], ["updated", "moved"]))
    if following is not None:
        removed &= ~following
    reasons = []
    existing = min(existing, totals.get((name, ""), existing))
    if doubt and removed.any():
        reasons.append(HoldReason(name, "", doubt, int(removed.sum()), existing))
        waiting |= removed
    if limits.trips(int(removed.sum()), existing, limits.removed_share):
        rekeyed = int(came.sum()) >= REKEYED_SHARE * int(removed.sum())
        reasons.append(HoldReason(name, "", "rekeyed" if rekeyed else "removed", int(removed.sum()), existing))
        waiting |= removed | (came if rekeyed else False)
    elif int(removed.sum()) > limits.records and ENTITIES[name].school and name != "schools":
        reasons += _trip_schools(name, frame, now, totals, limits, waiting, removed, came)
    if name != "enrollments" and limits.trips(int(changed.sum()), existing, limits.updated_share):
        reasons.append(HoldReason(name, "", "updated", int(changed.sum()), existing))
        waiting |= changed
    return reasons


def _trip_schools(name: str, frame: pd.DataFrame, now: Roster, totals: _Totals, limits: Limits, waiting: Mask, removed: Mask, came: Mask) -> list[HoldReason]:
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
        total = min(total, totals.get((name, str(each)), total))
        if limits.trips(int(count), total, limits.removed_share):
            here = school == each
            rekeyed = int((came & here).sum()) >= REKEYED_SHARE * int(count)
            reasons.append(HoldReason(name, str(each), "rekeyed" if rekeyed else "removed", int(count), total))
            waiting |= here & (removed | (came if rekeyed else False))
    return reasons


# ---------------------------------------------------------------- what must wait with it


def _wait_with(change_set: ChangeSet, waiting: dict[str, Mask], left: Mapping[str, pa.Array]) -> None:
    """Let wait what would be wrong without the waiting part: members of what does not yet exist, ends of what has not yet ended."""
    for name, columns in (*_SENT_TO.items(), *REFERENCES.items(), *MEMBERSHIPS.items()):
        if name in waiting:
            for column, parent in columns.items():
                _wait_for_new(change_set, waiting, name, column, parent)
    if waiting.get("enrollments", _NOTHING).any():  # who waits to move away is still there
        moves = change_set.changes["enrollments"][waiting["enrollments"] & _operation(change_set, "enrollments", "moved")]
        _wait_as_needed(change_set, waiting, "sections", array_of(moves["from_section_id"]))
    leaving = {name: _with_leaving(change_set, name, ids[:0], waiting[name]) for name, ids in left.items()}
    going = {name: _with_leaving(change_set, name, ids, ~waiting[name]) for name, ids in left.items()}
    for masks, waits in ((_following(change_set, leaving), True), (_following(change_set, going), False)):
        for name, mask in masks.items():
            waiting[name][mask] = waits
    if waiting.get("section_teachers", _NOTHING).any():
        _wait_for_place(change_set, waiting["section_teachers"])
    for name, columns in REFERENCES.items():
        if name in waiting and waiting[name].any():
            for column, parent in columns.items():
                _wait_as_needed(change_set, waiting, parent, array_of(change_set.before[name].loc[waiting[name], column]))
    if waiting.get("sections", _NOTHING).any():
        _wait_with_who_names_it(change_set, waiting)
        _wait_where_the_section_is(change_set, waiting)


def _wait_for_new(change_set: ChangeSet, waiting: dict[str, Mask], name: str, column: str, parent: str) -> None:
    coming = waiting.get(parent, _NOTHING)
    if coming.any():
        new = coming & ~_operation(change_set, parent, "deactivated", "updated", "moved")
        ids = set(change_set.changes[parent].loc[new, ENTITIES[parent].key[0]])
        frame = change_set.changes[name]
        waiting[name] |= frame[column].isin(ids).to_numpy(dtype=bool) & ~_operation(change_set, name, "deactivated")


def _wait_with_who_names_it(change_set: ChangeSet, waiting: dict[str, Mask]) -> None:
    """Terms and courses are what sections name: a new one waits with the sections that do, where all of them wait."""
    sections, stays = change_set.changes["sections"], ~_operation(change_set, "sections", "deactivated")
    for column, parent in REFERENCES["sections"].items():
        if parent != "schools" and parent in waiting:
            named = array_of(sections[column])
            waits, flows = (named.filter(pa.array(stays & mask)) for mask in (waiting["sections"], ~waiting["sections"]))
            ids = array_of(change_set.changes[parent][ENTITIES[parent].key[0]])
            waiting[parent] |= _operation(change_set, parent, "created", "reactivated") & is_in(ids, waits) & ~is_in(ids, flows)


def _wait_where_the_section_is(change_set: ChangeSet, waiting: dict[str, Mask]) -> None:
    """An enrollment is of the school of its section: it waits with one that waits to go to another."""
    if "enrollments" in waiting:
        going = change_set.changes["sections"].loc[waiting["sections"] & _operation(change_set, "sections", "moved"), "section_id"]
        theirs = is_in(array_of(change_set.changes["enrollments"]["section_id"]), array_of(going))
        waiting["enrollments"] |= theirs & _operation(change_set, "enrollments", "updated")


def _wait_for_place(change_set: ChangeSet, waiting: Mask) -> None:
    """A section has one primary teacher: while it waits that somebody is that no more, nobody else becomes it."""
    frame, before = change_set.changes["section_teachers"], change_set.before["section_teachers"]
    section, (was, becomes) = array_of(frame["section_id"]), (array_of(each["position"]) for each in (before, frame))
    ends = _operation(change_set, "section_teachers", "deactivated")
    here = ends | _operation(change_set, "section_teachers", "updated")
    taken = section.filter(pa.array(waiting & here & is_in(was, _PRIMARY)))
    waiting |= ~ends & is_in(becomes, _PRIMARY) & is_in(section, taken)


def _wait_as_needed(change_set: ChangeSet, waiting: dict[str, Mask], name: str, needed: pa.Array) -> None:
    keys = array_of(change_set.changes[name][ENTITIES[name].key[0]])
    waiting[name] |= _operation(change_set, name, "deactivated") & is_in(keys, needed)


# ---------------------------------------------------------------- what is derived


def _let_go(change_set: ChangeSet, waiting: dict[str, Mask], beside: ChangeSet, reasons: list[HoldReason]) -> list[HoldReason]:
    """Take out of what waits the records that would be as they are if the rest of it had not been sent, and of the reasons those that meant no others.

    They change with it once it is released. If they were told as waiting, those that come tonight and would be changed by what waits would be
    among them the next night, and nobody could release what he saw.
    """
    chosen = dict(waiting)
    for name, derived in derive.FILLED.items():
        if name in waiting and waiting[name].any():
            frame, before = change_set.changes[name], change_set.before[name]
            alike = _operation(change_set, name, "updated", "moved") & ~is_in(_keys(change_set, name), _keys(beside, name))
            for column in ENTITIES[name].values:
                if column not in derived:
                    alike &= pc.equal(array_of(frame[column]), array_of(before[column])).to_numpy(zero_copy_only=False)
            chosen[name] = waiting[name] & ~alike
    stand = [each for each in reasons if each.kind != "updated" or (chosen[each.entity] & _operation(change_set, each.entity, "updated", "moved")).any()]
    if not stand:  # then it is they that the hold is about
        return reasons
    waiting.update(chosen)
    return stand


def _with_derived(flowing: ChangeSet, waiting: ChangeSet, beside: ChangeSet) -> ChangeSet:
    """What flows, with the records that have derived columns as they are told anew. A record that waits stays as it is, in all of its columns."""
    changes, before, unchanged = ({**each} for each in (flowing.changes, flowing.before, flowing.unchanged))
    for name in derive.FILLED:
        if name in changes:
            told = _dropping(beside, name, is_in(_keys(beside, name), _keys(waiting, name)))
            changes[name], before[name] = told.changes[name], told.before[name]
            unchanged[name] = flowing.existing[name] - sum(int((~_operation(each, name, "created", "reactivated")).sum()) for each in (told, waiting))
    return replace(flowing, changes=changes, before=before, unchanged=unchanged)


def _dropping(change_set: ChangeSet, name: str, mask: Mask) -> ChangeSet:
    """The change set without the masked changes of one entity."""
    if not mask.any():
        return change_set
    changes, before = (each[name][~mask].reset_index(drop=True) for each in (change_set.changes, change_set.before))
    return replace(change_set, changes={**change_set.changes, name: changes}, before={**change_set.before, name: before})


def _keys(change_set: ChangeSet, name: str) -> pa.Array:
    return key_of([array_of(change_set.changes[name][column]) for column in ENTITIES[name].key])


# ---------------------------------------------------------------- who leaves, and what follows


def _left(change_set: ChangeSet, now: Roster) -> dict[str, pa.Array]:
    """Who had left before tonight and does not come back, of each entity of which memberships end tonight."""
    ending = [name for name in MEMBERSHIPS if name in change_set.changes and _operation(change_set, name, "deactivated").any()]
    found = {}
    for name in dict.fromkeys(parent for each in ending for parent in MEMBERSHIPS[each].values()):
        held, changes = layers.of_entity(now, name), change_set.changes[name]
        here = held.active.copy()
        here[: len(held.base)] |= held.replaced
        ids = held.take(ENTITIES[name].key[0], np.flatnonzero(~here))
        back = array_of(changes.loc[_operation(change_set, name, "created", "reactivated"), ENTITIES[name].key[0]])
        found[name] = ids.filter(pa.array(~is_in(ids, back)))
    return found


def _with_leaving(change_set: ChangeSet, name: str, ids: pa.Array, among: Mask) -> pa.Array:
    """The ids, and those of the records that leave tonight among the masked changes of an entity."""
    leaving = change_set.changes[name].loc[_operation(change_set, name, "deactivated") & among, ENTITIES[name].key[0]]
    return pa.concat_arrays([ids, array_of(leaving)])


def _following(change_set: ChangeSet, gone: Mapping[str, pa.Array]) -> dict[str, Mask]:
    """Which ends of memberships follow from it that these persons and sections are gone."""
    found = {}
    for name, columns in MEMBERSHIPS.items():
        if name in change_set.changes and gone.keys() >= set(columns.values()):
            ends = _operation(change_set, name, "deactivated")
            for_one = [is_in(array_of(change_set.changes[name][column]), gone[parent]) for column, parent in columns.items()]
            found[name] = ends & np.logical_or.reduce(for_one)
    return found


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
