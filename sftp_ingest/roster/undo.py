"""What a run changed becomes the change set that puts it back, record by record, where the record still is as the run left it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field

import pandas as pd

from sftp_ingest.model import ENTITIES, LEFT_BY_MOVING, Change, ChangeSet, Counts, Entity, Roster
from sftp_ingest.roster.arrow import TEXT
from sftp_ingest.roster.diff import MEMBERSHIPS, PART_OF, REFERENCES

Key = tuple[str, ...]
Row = dict[str, str]

_FLIPS = ("created", "deactivated", "reactivated")


@dataclass(frozen=True)
class Undo:
    """What puts a run's changes back. `change_set` says it all; `first` are values that have to be written while their records are still active.

    `left_alone` are the keys of records that are not as the run left them, or that others hang on which are not.
    """

    change_set: ChangeSet
    first: ChangeSet
    left_alone: Mapping[str, pd.DataFrame]
    counts: Mapping[str, Counts]


@dataclass(frozen=True)
class _Step:
    """What puts one record back: `held` is what it holds now, `row` what it will hold. A move back has the place that it leaves, what is held there, and
    what of that was `former` when it had been left before.
    """

    key: Key
    operation: str
    held: Row
    row: Row
    origin: Key = ()
    leaves: Row = field(default_factory=dict)
    former: Row = field(default_factory=dict)

    @property
    def stays(self) -> bool:
        """Whether the record is active afterwards."""
        return self.operation != "deactivated"


@dataclass
class _Live:
    """One entity as it is now: where each record stands in its frame, which are active, and the rows of those that the run changed."""

    entity: Entity
    places: Mapping[Key, int]
    active: list[bool]
    rows: Mapping[Key, Row]
    steps: dict[Key, _Step] = field(default_factory=dict)
    changed: set[Key] = field(default_factory=set)

    def is_active(self, key: Key) -> bool:
        return self.active[self.places[key]]


def undo(entries: Iterable[Change], now: Roster, later: Set[tuple[str, Key]] = frozenset(), unkept: Mapping[str, Collection[str]] = {}) -> Undo:
    """The change set that puts back what the entries of one run tell, compared with the roster held now.

    A change of values is undone where those values are as the run left them, whatever else of the record has changed; whether a record is
    there at all only where none of the `later` runs that stand has touched it. Columns that are `unkept` today are not put back. A record
    does not come back to a school, section or person that has left, nor leave while others need it.
    """
    told: dict[str, list[Change]] = {}
    for change in entries:
        if change.entity in now.entities:
            told.setdefault(change.entity, []).append(change)
    sides = {name: _live(ENTITIES[name], now.entities[name], every) for name, every in told.items()}
    for name, side in sides.items():
        for change in told[name]:
            _take(side, change, later, unkept.get(name, ()))
    while _leave_what_is_bound(sides, now) | _leave_parts(sides):
        pass
    steps = {name: [sides[name].steps[key] for key in sorted(sides[name].steps)] for name in ENTITIES if name in sides}
    return Undo(
        change_set=_change_set(steps),
        first=_change_set({name: _written_first(ENTITIES[name], each) for name, each in steps.items()}),
        left_alone={name: _frame(sorted(side.changed), side.entity.key) for name, side in sides.items() if side.changed},
        counts={name: _counted(sides.get(name), frame) for name, frame in now.entities.items()},
    )


def _live(entity: Entity, frame: pd.DataFrame, entries: Iterable[Change]) -> _Live:
    keys = zip(*(frame[name].to_list() for name in entity.key), strict=True)
    places = {key: place for place, key in enumerate(keys)}
    asked = dict.fromkeys(key for change in entries for key in (_key(entity, change), _origin(entity, change)) if key in places)
    cells = frame[list(entity.columns)].iloc[[places[key] for key in asked]].to_dict("records")
    rows = {key: {str(name): str(value) for name, value in row.items()} for key, row in zip(asked, cells, strict=True)}
    return _Live(entity, places, frame["active"].to_list(), rows)


def _key(entity: Entity, change: Change) -> Key:
    return tuple(change.key[name] for name in entity.key)


def _origin(entity: Entity, change: Change) -> Key:
    """The enrollment that a move ended; of any other change nothing."""
    if entity.name != "enrollments" or change.operation != "moved" or change.before is None:
        return ()
    return str(change.before.get("section_id", "")), change.key["student_id"]


# ---------------------------------------------------------------- one entry


def _take(side: _Live, change: Change, later: Set[tuple[str, Key]], unkept: Collection[str]) -> None:
    """Note what puts the entry's record back, or that it is left alone; nothing where it is back already."""
    key, origin = _key(side.entity, change), _origin(side.entity, change)
    if origin:
        step, changed = _moved_back(side, change, key, origin, later)
    else:
        step, changed = _put_back(side, change, key, later, unkept)
    if changed:
        side.changed.add(key)
    elif step is not None:
        side.steps[step.key] = step


def _put_back(side: _Live, change: Change, key: Key, later: Set[tuple[str, Key]], unkept: Collection[str]) -> tuple[_Step | None, bool]:
    entity, held = side.entity, side.rows.get(key)
    compared = [name for name in entity.values if name not in unkept]
    before, after = _values(change.before, compared), _values(change.after, compared)
    if held is None:  # attendance is forgotten after a time; a record that was created and is no more needs nothing
        return None, change.operation != "created"
    left = {**dict.fromkeys(compared, ""), **after} if change.operation == "created" else after
    here = side.is_active(key)
    if here != (change.operation != "deactivated") or any(held[name] != value for name, value in left.items()):
        back = here == (change.operation not in ("created", "reactivated")) and all(held[name] == value for name, value in before.items())
        return None, not back
    if change.operation in _FLIPS and (entity.name, key) in later:
        return None, True
    row = {**held, **before}
    if change.operation in _FLIPS:
        return _Step(key, "reactivated" if change.operation == "deactivated" else "deactivated", held, row), False
    if row == held:
        return None, False
    elsewhere = entity.school in entity.values and row[entity.school] != held[entity.school]
    moved = elsewhere and entity.name != "enrollments"  # those move from section to section, and are of the school of theirs
    return _Step(key, "moved" if moved else "updated", held, row), False


def _moved_back(side: _Live, change: Change, key: Key, origin: Key, later: Set[tuple[str, Key]]) -> tuple[_Step | None, bool]:
    """An enrollment goes back to the section that it came from."""
    before, after = change.before or {}, change.after or {}
    here, there = side.rows.get(key), side.rows.get(origin)
    if here is None or there is None:
        return None, True
    values = side.entity.values
    if not side.is_active(key) or side.is_active(origin) or any(here[name] != after.get(name, here[name]) for name in values):
        return None, not (side.is_active(origin) and not side.is_active(key))
    if not later.isdisjoint({("enrollments", key), ("enrollments", origin)}):
        return None, True
    row = {**there, **{name: str(before.get(name, here[name])) for name in values}}
    former = {name: str(before[f"former_{name}"]) for name in values if f"former_{name}" in before}
    return _Step(origin, "moved", there, row, key, here, former), False


def _values(told: Mapping[str, object] | None, compared: Collection[str]) -> Row:
    return {name: str(value) for name, value in (told or {}).items() if name in compared}


# ---------------------------------------------------------------- what hangs on what


def _leave_what_is_bound(sides: Mapping[str, _Live], now: Roster) -> bool:
    """Leave alone what would hang on a record that has left, and what others would hang on that stay; whether there was any."""
    found = False
    for parent in dict.fromkeys(target for columns in (*MEMBERSHIPS.values(), *REFERENCES.values()) for target in columns.values()):
        if parent not in now.entities:
            continue
        leaving = {step.key[0] for step in sides[parent].steps.values() if not step.stays} if parent in sides else set()
        needed: set[str] = set()
        gone: set[str] | None = None
        for name, columns in (*MEMBERSHIPS.items(), *REFERENCES.items()):
            named = [column for column, target in columns.items() if target == parent]
            if parent == "schools" and "sis_school_id" in ENTITIES[name].values:
                named.append("sis_school_id")
            if not named or name not in now.entities:
                continue
            if name in sides:
                if gone is None:
                    gone = _gone(parent, sides, now)
                found |= _leave_orphans(sides[name], named, gone)
            if leaving:
                needed |= _needed(name, named, leaving, sides, now)
        for identifier in needed:
            found = True
            del sides[parent].steps[identifier,]
            sides[parent].changed.add((identifier,))
    return found


def _leave_parts(sides: Mapping[str, _Live]) -> bool:
    """A record that was created and is left alone keeps what is a part of it: its contacts, its teachers."""
    found = False
    for name, column in PART_OF.items():
        whole = sides.get(MEMBERSHIPS[name][column])
        if name not in sides or whole is None:
            continue
        place = ENTITIES[name].key.index(column)
        for step in [each for each in sides[name].steps.values() if not each.stays and (each.key[place],) in whole.changed]:
            found = True
            del sides[name].steps[step.key]
            sides[name].changed.add(step.key)
    return found


def _gone(parent: str, sides: Mapping[str, _Live], now: Roster) -> set[str]:
    """The ids of the parents that are known, and not active afterwards."""
    frame = now.entities[parent]
    gone = set(frame.loc[~frame["active"].to_numpy(dtype=bool), ENTITIES[parent].key[0]])
    for step in sides[parent].steps.values() if parent in sides else ():
        (gone.discard if step.stays else gone.add)(step.key[0])
    return gone


def _leave_orphans(side: _Live, columns: Collection[str], gone: Set[str]) -> bool:
    """Leave alone what would come to a parent that has left. A record that stays where it is hangs on nothing new."""
    lost = [
        step
        for step in side.steps.values()
        if step.stays and any(step.row[column] in gone and (step.operation == "reactivated" or step.row[column] != _place(step, column)) for column in columns)
    ]
    for step in lost:
        del side.steps[step.key]
        side.changed.add(step.origin or step.key)
    return bool(lost)


def _place(step: _Step, column: str) -> str:
    return (step.leaves or step.held)[column]


def _needed(name: str, columns: Collection[str], leaving: Set[str], sides: Mapping[str, _Live], now: Roster) -> set[str]:
    """Those of the leaving parents that a record names which stays."""
    frame, active = now.entities[name], now.entities[name]["active"].to_numpy(dtype=bool).copy()
    staying: list[Row] = []
    if name in sides:
        side = sides[name]
        for step in side.steps.values():
            for key in (step.key, step.origin):
                if key:
                    active[side.places[key]] = False
            if step.stays:
                staying.append(step.row)
    found = {row[column] for row in staying for column in columns}
    for column in columns:
        cells = frame[column]
        found.update(cells[active & cells.isin(list(leaving)).to_numpy(dtype=bool)])
    return found & set(leaving)


# ---------------------------------------------------------------- the change set


def _written_first(entity: Entity, steps: Iterable[_Step]) -> list[_Step]:
    """A record that leaves keeps what it holds, so what it held before has to be written while it is here."""
    first = []
    for step in steps:
        if step.operation == "deactivated" and step.row != step.held:
            first.append(_Step(step.key, "updated", step.held, step.row))
        elif step.former:
            first.append(_Step(step.origin, "updated", step.leaves, {**step.leaves, **step.former}))
    return first


def _change_set(steps: Mapping[str, list[_Step]]) -> ChangeSet:
    changes, before = {}, {}
    for name, every in steps.items():
        entity = ENTITIES[name]
        frame = _frame([tuple(step.row[column] for column in entity.columns) for step in every], entity.columns)
        changes[name] = frame.assign(operation=pd.array([step.operation for step in every], dtype=TEXT))
        if name == "enrollments":
            changes[name] = changes[name].assign(
                **{f"from_{column}": pd.array([step.leaves.get(column, "") for step in every], dtype=TEXT) for column in LEFT_BY_MOVING}
            )
        before[name] = _frame([tuple(step.held[column] for column in entity.values) for step in every], entity.values)
    return ChangeSet(changes, before, {}, {})


def _frame(rows: Collection[tuple[str, ...]], columns: Collection[str]) -> pd.DataFrame:
    cells = list(zip(*rows, strict=True)) if rows else [()] * len(columns)
    return pd.DataFrame({name: pd.array(list(column), dtype=TEXT) for name, column in zip(columns, cells, strict=True)})


def _counted(side: _Live | None, frame: pd.DataFrame) -> Counts:
    existing = int(frame["active"].sum())
    operations = [step.operation for step in side.steps.values()] if side is not None else []
    done = {each: operations.count(each) for each in ("updated", "moved", "deactivated", "reactivated")}
    return Counts(existing=existing, unchanged=existing - done["updated"] - done["moved"] - done["deactivated"], **done)
