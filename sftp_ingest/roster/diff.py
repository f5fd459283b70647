"""Two rosters become the change set that leads from one to the other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.findings import Finding, finding
from sftp_ingest.model import ENTITIES, LEFT_BY_MOVING, OPERATIONS, ChangeSet, Entity, Roster
from sftp_ingest.roster import layers, shelf
from sftp_ingest.roster.arrow import TEXT, Mask, Places, array_of, frame_of, in_one_piece, is_in, key_of, places_of_keys, says_nothing, side_by_side, spelt_out

Positions = npt.NDArray[np.int64]

MEMBERSHIPS: Mapping[str, Mapping[str, str]] = {
    "enrollments": {"section_id": "sections", "student_id": "students"},
    "section_teachers": {"section_id": "sections", "teacher_id": "teachers"},
    "contacts": {"student_id": "students"},
}
"""Records that end with either of the records they join: column → the entity that it names."""

PART_OF: Mapping[str, str] = {"contacts": "student_id", "section_teachers": "section_id"}
"""Records that are told in the row of another: where that row is rejected, they are kept with it, which needs no finding of its own."""

REFERENCES: Mapping[str, Mapping[str, str]] = {
    "students": {"school_id": "schools"},
    "teachers": {"school_id": "schools"},
    "staff": {"school_id": "schools"},
    "sections": {"school_id": "schools", "term_id": "terms", "course_id": "courses"},
}
"""Records that need the record they name: it can't leave before them."""


_CREATED, _UPDATED, _MOVED, _DEACTIVATED, _REACTIVATED = range(len(OPERATIONS))
"""The place of each operation: of millions of rows it takes a byte, not a text."""

_NOTHING = -1


@dataclass
class _Side:
    """One entity while it is compared: where each wanted row stands now, and which rows now are missing tonight."""

    entity: Entity
    now: pa.Table  # of which a column may be encoded
    wanted: pa.Table
    active: Mask
    position: Places  # of each wanted row in `now`, or -1
    told: Mask  # of each row now: it is in a valid row tonight
    missing: Mask  # active now, and in no valid row tonight
    kept: Mask  # of the missing: stays, because a rejected row speaks for it

    @property
    def leaving(self) -> Mask:
        return self.missing & ~self.kept

    def held(self, column: str, which: Mask | pa.Array) -> pa.Array:
        """The column's cells now, of the records that are masked, or at the places; null where a place is."""
        places = pa.array(np.flatnonzero(which)) if isinstance(which, np.ndarray) else which
        return spelt_out(in_one_piece(self.now[column]).take(places))


def compare(now: Roster, wanted: Roster, seen: Mapping[str, pd.DataFrame], covered: Mapping[str, Collection[str]] = {}) -> ChangeSet:
    """All differences. `seen` are the keys of rejected rows, by entity: none of them has left (law 1); a null speaks for any value.

    Entities that `wanted` does not have are left alone, and so are records of a source that is not `covered` tonight, where an entity
    says what is. The order of rows means nothing, neither here nor there.
    """
    told = [entity for name, entity in ENTITIES.items() if name in wanted.entities]
    rows = max((len(frame) for frame in wanted.entities.values()), default=0)
    rows = 0 if shelf.puts_away(rows) else rows  # of so many, one entity after the other
    sides = dict(zip((each.name for each in told), side_by_side(lambda each: _side(each, now, wanted.entities[each.name]), told, rows), strict=True))
    for name, sources in covered.items():
        _keep_uncovered(sides, name, sources)
    findings = [found for name, side in sides.items() for found in _keep_seen(side, seen.get(name))]
    _end_memberships(sides)
    findings += _keep_parents(sides, now)
    compared = dict(zip(sides, side_by_side(_changes, sides.values(), rows), strict=True))
    changes = {name: after for name, (after, _) in compared.items()}
    before = {name: was for name, (_, was) in compared.items()}
    if "enrollments" in sides:
        changes["enrollments"], before["enrollments"] = _pair_moves(changes["enrollments"], before["enrollments"], sides)
    return ChangeSet(
        changes=changes,
        before=before,
        existing={name: int(side.active.sum()) for name, side in sides.items()},
        unchanged={name: _unchanged(side, changes[name]) for name, side in sides.items()},
        findings=tuple(findings),
    )


def _side(entity: Entity, now: Roster, wanted: pd.DataFrame) -> _Side:
    before = pa.table({column: pa.array([], pa.string()) for column in entity.columns})
    active = np.zeros(0, dtype=bool)
    if entity.name in now.entities:
        held = layers.of_entity(now, entity.name).table((*entity.columns, "active"))
        before, active = held.select(entity.columns), in_one_piece(held["active"]).to_numpy(zero_copy_only=False)
    after = _table(wanted, entity.columns)
    position = places_of_keys(*([in_one_piece(side[column]) for column in entity.key] for side in (after, before)))
    found = np.zeros(len(before), dtype=bool)
    found[position[position >= 0]] = True
    missing = active & ~found & (not entity.incremental)
    return _Side(entity, before, after, active, position, found, missing, np.zeros(len(before), dtype=bool))


def _key(table: pa.Table, entity: Entity) -> pa.Array:
    return key_of([table[column] for column in entity.key])


def _table(frame: pd.DataFrame, columns: Sequence[str]) -> pa.Table:
    return pa.table({column: array_of(frame[column]) for column in columns})


# ---------------------------------------------------------------- who stays although missing


def _keep_uncovered(sides: Mapping[str, _Side], name: str, sources: Collection[str]) -> None:
    """Keep the records of files that were not sent tonight. Teachers are told in the row of their section, and stay as long as nothing is told of it."""
    side = sides[name]
    at = np.flatnonzero(side.missing)
    if not len(at):
        return
    known = pa.array(list(sources), pa.string())
    if "source" in side.entity.values:
        side.kept[at] |= ~is_in(side.held("source", pa.array(at)), known)
    else:
        sections = sides["sections"]
        elsewhere = ~sections.told & ~is_in(sections.now["source"], known)
        side.kept[at] |= is_in(side.held("section_id", pa.array(at)), sections.held("section_id", elsewhere))


def _keep_seen(side: _Side, seen: pd.DataFrame | None) -> Iterable[Finding]:
    """Keep what a rejected row speaks for; say so where a row without a readable key speaks for more than itself."""
    if seen is None or not len(seen) or not side.missing.any():
        return
    blank = seen.isna()
    whole = seen[~blank.any(axis=1)]
    if len(whole):
        side.kept |= side.missing & is_in(_key(side.now, side.entity), key_of([array_of(whole[column]) for column in side.entity.key]))
    by_name = side.kept.copy()
    for column in side.entity.key:
        others = [other for other in side.entity.key if other != column]
        half = seen.loc[~blank[column] & blank[others].all(axis=1), column] if others else seen.iloc[:0, 0]
        if len(half):
            spoken_for = side.missing & is_in(side.now[column], array_of(half))
            side.kept |= spoken_for
            if column == PART_OF.get(side.entity.name):
                by_name |= spoken_for
    if blank.all(axis=1).any():
        side.kept |= side.missing
    withheld = int((side.kept & ~by_name).sum())
    if withheld:
        yield finding("removals_withheld", side.entity.name, count=withheld)


def _end_memberships(sides: Mapping[str, _Side]) -> None:
    """A membership ends with the person or the section that leaves or has left before, whatever a rejected row says of it."""
    for name, columns in MEMBERSHIPS.items():
        if name not in sides or not sides[name].kept.any():
            continue
        side = sides[name]
        for column, parent in columns.items():
            each = sides[parent]
            left = each.held(each.entity.key[0], each.leaving | ~(each.active | each.told))
            at = np.flatnonzero(side.kept)
            side.kept[at] = ~is_in(side.held(column, pa.array(at)), left)


def _keep_parents(sides: Mapping[str, _Side], now: Roster) -> Iterable[Finding]:
    """A school, term or course stays while a record that stays refers to it."""
    for parent in ("schools", "terms", "courses"):
        side = sides[parent]
        if not side.leaving.any():
            continue
        needed = []
        for name, columns in REFERENCES.items():
            named = [column for column, target in columns.items() if target == parent]
            if parent == "schools" and "sis_school_id" in ENTITIES[name].values:  # the school that was sent, where another was derived
                named.append("sis_school_id")
            for column in named:
                if name in sides:
                    needed.append(sides[name].held(column, sides[name].kept & sides[name].missing))
                    needed.append(in_one_piece(sides[name].wanted[column]))  # changes may end a school, and say nothing of those who are there
                elif name in now.entities:
                    held = layers.of_entity(now, name)
                    needed.append(held.take(column, np.flatnonzero(held.active)))
        still = side.leaving & is_in(side.now[side.entity.key[0]], pa.chunked_array(needed, pa.string()))
        if still.any():
            side.kept |= still
            yield finding("parent_kept", parent, count=int(still.sum()))


# ---------------------------------------------------------------- what changes


def _changes(side: _Side) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The entity's changes in key order, and what was held before. A first load is millions of rows, so no column is copied twice."""
    entity, position = side.entity, side.position
    operation = _operations(side)
    touched = _where(operation != _NOTHING)
    left = np.flatnonzero(side.leaving)
    keys = pa.concat_tables([_taken(side.wanted, entity.key, touched), _left(side, entity.key, left)])
    order = pc.sort_indices(keys, sort_keys=[(column, "ascending") for column in entity.key]).to_numpy()
    if len(left):
        parts = [_taken(side.wanted, entity.columns, touched), _left(side, entity.columns, left)]
        after = pa.concat_tables(parts).combine_chunks().take(pa.array(order))
    else:
        after = _taken(side.wanted, entity.columns, order if isinstance(touched, slice) else touched[order])
    operations = np.concatenate((operation[touched], np.full(len(left), _DEACTIVATED, dtype=np.int8)))[order]
    frame = frame_of(after.append_column("operation", shelf.put(pa.array(OPERATIONS).take(pa.array(operations)))))
    del after, operations, keys
    return frame, frame_of(_before(side, np.concatenate((position[touched], left))[order] if len(side.now) else position))


def _operations(side: _Side) -> npt.NDArray[np.int8]:
    """What becomes of each record that is wanted, as a place in OPERATIONS, or -1 where it is as it was."""
    entity, position = side.entity, side.position
    there = position >= 0
    was_active = np.zeros(len(position), dtype=bool)
    differs = np.zeros(len(position), dtype=bool)
    moves = np.zeros(len(position), dtype=bool)
    if len(side.now):
        at = np.where(there, position, 0)
        was_active = there & side.active[at]
        places = pa.array(at)

        def different(column: str) -> Mask:
            changed: Mask = pc.not_equal(side.wanted[column], side.held(column, places)).to_numpy(zero_copy_only=False)
            return changed

        compared = [column for column in entity.values if not (says_nothing(side.now[column]) and says_nothing(side.wanted[column]))]
        for column, changed in zip(compared, side_by_side(different, compared, len(position)), strict=True):
            differs |= changed
            if column == entity.school and entity.name != "enrollments":
                moves = there & changed
        differs &= there
    operation = np.full(len(position), _NOTHING, dtype=np.int8)
    for which, told in ((differs, _UPDATED), (moves, _MOVED), (~was_active, _REACTIVATED), (~there, _CREATED)):  # the last one that holds counts
        operation[which] = told
    return operation


def _where(mask: Mask) -> Positions | slice:
    """The places that are masked; all of them, which in a first load are millions, as a slice."""
    return slice(None) if mask.all() else np.flatnonzero(mask)


def _taken(table: pa.Table, columns: Sequence[str], at: Positions | slice) -> pa.Table:
    """The columns' cells at the places; where these are all places in their order, as in a first load from files in order, not copied."""
    if isinstance(at, slice) or (len(at) == len(table) and bool((at[1:] > at[:-1]).all())):
        return table.select(list(columns))
    places = pa.array(at)
    return pa.table(shelf.columns(lambda name: table[name].take(places), columns, len(at)))


def _left(side: _Side, columns: Sequence[str], at: Positions) -> pa.Table:
    """The columns of records that leave, as they are now."""
    places = pa.array(at)
    return pa.table(shelf.columns(lambda name: side.held(name, places), columns, len(at)))


def _before(side: _Side, source: Places | Positions) -> pa.Table:
    """What was held at the places; blanks where a place is -1, which in a first load is one array for all columns."""
    blank = source < 0
    if blank.all():
        cells = shelf.blank(len(source))
        return pa.table(dict.fromkeys(side.entity.values, cells))
    at = pa.array(source, mask=blank)
    return pa.table({column: pc.fill_null(side.held(column, at), "") for column in side.entity.values})


def _unchanged(side: _Side, changes: pd.DataFrame) -> int:
    """Records that are now as they were, those kept by a rejected row among them."""
    operations = changes["operation"]
    ended = int(operations.isin(["deactivated", "updated"]).sum())
    moved = int((operations == "moved").sum())
    return int(side.active.sum()) - ended - moved


def _pair_moves(changes: pd.DataFrame, before: pd.DataFrame, sides: Mapping[str, _Side]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A student's dropped and added enrollments are told as moves: first within one course, then whatever is left, in order of section."""
    came = changes["operation"].isin(["created", "reactivated"]).to_numpy(dtype=bool)
    left = (changes["operation"] == "deactivated").to_numpy(dtype=bool)
    blank = pd.array(shelf.blank(len(changes)), dtype=TEXT)
    changes = changes.assign(**{f"from_{column}": blank for column in LEFT_BY_MOVING})
    if not came.any() or not left.any():
        return changes, before
    course = _courses(sides["sections"], pc.unique(array_of(changes["section_id"]).filter(pa.array(came | left))))
    arrived, departed = (_by_student(changes, np.flatnonzero(rows)) for rows in (came, left))
    pairs = [pair for student in arrived.keys() & departed.keys() for pair in _pairs(arrived[student], departed[student], course)]
    to, origin = (np.array([pair[side] for pair in pairs], dtype=np.int64) for side in (0, 1))
    columns = {name: changes[name].to_numpy(dtype=object).copy() for name in changes.columns}
    columns["operation"][to] = "moved"
    for column in LEFT_BY_MOVING:
        columns[f"from_{column}"][to] = columns[column][origin]
    stay = np.ones(len(changes), dtype=bool)
    stay[origin] = False
    paired = pd.DataFrame({name: pd.array(values[stay], dtype=TEXT) for name, values in columns.items()}, copy=False)
    return paired, before[stay].reset_index(drop=True)


def _courses(sections: _Side, ids: pa.Array) -> dict[str, str]:
    """Section → course, of tonight's sections and of those held before, among these."""
    held, told = (is_in(table["section_id"], ids) for table in (sections.now, sections.wanted))
    before = (sections.held(column, held).to_pylist() for column in ("section_id", "course_id"))
    tonight = (sections.wanted[column].filter(pa.array(told)).to_pylist() for column in ("section_id", "course_id"))
    return dict(zip(*before, strict=True)) | dict(zip(*tonight, strict=True))


def _by_student(changes: pd.DataFrame, rows: Positions) -> dict[str, list[tuple[str, int]]]:
    """Each student's sections among these rows, in order, each with its row."""
    sections: dict[str, list[tuple[str, int]]] = {}
    students, ids = (array_of(changes[column]).take(pa.array(rows)).to_pylist() for column in ("student_id", "section_id"))
    for student, section, row in sorted(zip(students, ids, rows.tolist(), strict=True)):
        sections.setdefault(student, []).append((section, row))
    return sections


def _pairs(arrived: Sequence[tuple[str, int]], departed: Sequence[tuple[str, int]], course: Mapping[str, str]) -> Iterable[tuple[int, int]]:
    """Rows of one student's new sections, each with that of an old one: the first new with the first old of a course and so on, then of what is left."""
    waiting: dict[str, list[int]] = {}
    for section, row in departed:
        waiting.setdefault(course.get(section, ""), []).append(row)
    others = []
    for section, row in arrived:
        told = course.get(section, "")
        if told and waiting.get(told):
            yield row, waiting[told].pop(0)
        else:
            others.append(row)
    still = {row for rows in waiting.values() for row in rows}
    yield from zip(others, (row for _, row in departed if row in still), strict=False)
