"""A night of which only few lines are new is told by these lines and by what is known already: as a whole reading would tell it, and sooner.

What these lines cannot tell for certain is told by a whole reading: whatever is odd here ends in None, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.errors import DeliveryError
from sftp_ingest.model import ENTITIES, Assembled, ChangeSet, DeliveredFile, Delivery, Derivations, FileShape, Frames, Roster, Verdict
from sftp_ingest.roster import clever, contacts, derive, diff, drift, files, lines_changed, loader, validator
from sftp_ingest.roster.arrow import TEXT, Mask, array_of, is_in, places_of, places_of_keys, side_by_side
from sftp_ingest.roster.contract import Contract, Table
from sftp_ingest.roster.drift import CARRIED_SHARE, FEWEST_ROWS
from sftp_ingest.roster.lines_changed import Changed

_TABLES = ("schools", "teachers", "staff", "students", "sections", "enrollments")
"""The files that a delivery may consist of; one of any other name is read with all others."""

_TOLD_IN: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "schools": ("schools", {"school_id": "school_id"}),
    "teachers": ("teachers", {"sis_id": "teacher_id"}),
    "staff": ("staff", {"sis_id": "staff_id"}),
    "students": ("students", {"sis_id": "student_id"}),
    "contacts": ("students", {"student_id": "student_id"}),
    "sections": ("sections", {"section_id": "section_id"}),
    "section_teachers": ("sections", {"section_id": "section_id"}),
    "enrollments": ("enrollments", {"section_id": "section_id", "student_id": "student_id"}),
}
"""Entity → the table in whose rows its records are told, and which columns of the two say that a record is told in a row."""

_ALWAYS_WHOLE = ("schools", "terms", "courses")
"""There are few of them, and others hang on them: they are compared as a whole."""

_NAMED_BY: Mapping[str, tuple[str, str]] = {
    "teachers": ("section_teachers", "teacher_id"),
    "students": ("enrollments", "student_id"),
    "sections": ("enrollments", "section_id"),
}
"""Table → who must not name a record of it any more once it has left."""

_LOOKED_AT: Mapping[str, tuple[str, ...]] = {
    "students": ("sis_id", "school_id", "school_ids", "sis_school_id", "grade"),
    "teachers": ("sis_id", "school_id", "school_ids", "sis_school_id", "last_name"),
    "staff": ("sis_id",),
    "contacts": ("student_id", "contact_id", "name", "sis_id"),
}
"""The columns of people that others hang on. Of most people nothing else has to be looked at, and there are many columns."""

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Known:
    """The delivery of which the roster is the whole and faultless word, with the shapes of its files."""

    delivery: Delivery
    shapes: Mapping[str, FileShape]


@dataclass(frozen=True)
class Excerpt:
    """What is new in a delivery, by table: the rows that are gone, and the verdict on all rows of the records that any new row tells of.

    The verdict counts the rows of the whole files, of whose shapes `shapes` says what can be said.
    """

    gone: Mapping[str, pd.DataFrame]
    verdict: Verdict
    shapes: Mapping[str, FileShape]


@dataclass(frozen=True)
class _Wanted:
    """An entity as it is to be: what stands at `stays` in the roster was sent once more, `new` comes behind it, and what stands at `goes` goes.

    `frame` has the columns that others hang on.
    """

    frame: pd.DataFrame
    stays: Positions
    goes: Positions
    new: pd.DataFrame


# ---------------------------------------------------------------- the lines


def read(known: Known, delivery: Delivery, rules: Contract, *, today: date) -> Excerpt | None:
    """What is new in the delivery, its archives listed; None where that cannot be told from few lines alone.

    Raises DeliveryError where a file of the delivery is not what was sealed.
    """
    try:
        earlier, packed = files.listed(known.delivery)
    except DeliveryError:  # it need not be kept
        return None
    before, tonight = (_by_table(each, rules) for each in (earlier, delivery))
    if packed or before is None or tonight is None or before.keys() != tonight.keys():
        return None
    files.check_there(delivery)
    gone: dict[str, pd.DataFrame] = {}
    came: dict[str, bytes] = {}
    rows: dict[str, int] = {}
    for name, sealed in tonight.items():
        table, shape = rules.tables[name], known.shapes.get(rules.tables[name].file)
        if shape is None:
            return None
        rows[name] = shape.rows
        if sealed.sha256 == before[name].sha256:
            continue
        if name == "schools":  # everything else hangs on them, and they hardly ever change
            return None
        both = partial(_kept, earlier.folder, before[name]), partial(files.content, delivery.folder, sealed)
        old, new = side_by_side(lambda read: read(), both, shape.rows)
        if old is None or new is None or (changed := _changed(old, new, shape)) is None:
            return None
        header = new[: new.index(b"\n") + 1]
        came[name] = header + b"".join(changed.came)
        rows[name] += len(changed.came) - len(changed.gone)
        left = _read_in({name: header + b"".join(changed.gone)}, rules)
        if left is None:
            return None
        gone[name] = left.tables[name]
        if table.repeat:
            told = _read_in({name: came[name]}, rules)
            if told is None:
                return None
            ids = [array_of(each[table.key[0]]) for each in (gone[name], told.tables[name])]
            of_them = loader.lines_of(table, new, pc.unique(pa.concat_arrays(ids)))
            if of_them is None:
                return None
            came[name] = header + b"".join(of_them)
    return _judged(known, gone, came, rows, rules, today)


def _by_table(delivery: Delivery, rules: Contract) -> dict[str, DeliveredFile] | None:
    """The files by table, or None where they are not simply those of a roster, each once and sent that very night."""
    names = {rules.tables[name].file: name for name in _TABLES if name in rules.tables}
    found = {names[each.name]: each for each in delivery.files if each.name in names and each.resent and not each.member}
    if len(found) < len(delivery.files) or any(table.core and name not in found for name, table in rules.tables.items()):
        return None
    judged = [rules.tables[name] for name in found]
    own_words = any(each.values for table in judged for each in table.fields if each.column in table.key)
    if own_words or any(check.unique for table in judged for check in table.checks):
        return None
    return found


def _kept(folder: Path, sealed: DeliveredFile) -> bytes | None:
    try:
        return files.content(folder, sealed)
    except DeliveryError:
        return None


def _changed(old: bytes, new: bytes, shape: FileShape) -> Changed | None:
    """The lines that differ, where every line below an unchanged header is a record, before and tonight, and few of them differ."""
    begin = old.find(b"\n") + 1
    if not begin or old[:begin] != new[:begin] or not (old.endswith(b"\n") and new.endswith(b"\n")) or old.count(b"\n") != shape.rows + 1:
        return None
    changed = lines_changed.between(old, new, begin, max(FEWEST_ROWS, int(CARRIED_SHARE * shape.rows)))
    if changed is None or any(line.count(b'"') % 2 or b"\r" in line[:-2] for line in (*changed.gone, *changed.came)):
        return None
    return changed


def _read_in(contents: Mapping[str, bytes], rules: Contract) -> Frames | None:
    """The lines as frames, where every one of them is a record and there is nothing to be said of any."""
    frames = loader.parts(contents, rules)
    every_one = all(frames.rows.get(name) == data.count(b"\n") - 1 for name, data in contents.items())
    return frames if every_one and not frames.findings and not frames.faulty else None


def _judged(known: Known, gone: Mapping[str, pd.DataFrame], came: Mapping[str, bytes], rows: Mapping[str, int], rules: Contract, today: date) -> Excerpt | None:
    """The verdict, or None where it is not that all rows are to be believed."""
    told = _read_in(came, rules)
    if told is None:
        return None
    shapes = dict(known.shapes)
    for name in came:
        table = rules.tables[name]
        shape = drift.carried(table, known.shapes[table.file], rows[name], gone[name], told.tables[name])
        if shape is None:
            return None
        shapes[table.file] = shape
    # what they refer to is mostly not among them, and is looked up later
    alone = replace(rules, tables={name: replace(table, references=()) for name, table in rules.tables.items()})
    verdict = validator.validate(told, alone, today=today)
    if any(each.code != "section_without_students" for each in verdict.findings) or verdict.rejections:
        return None
    return Excerpt(gone, replace(verdict, findings=(), rows=rows), shapes)


# ---------------------------------------------------------------- the roster that follows


def compare(excerpt: Excerpt, rules: Contract, now: Roster, switches: Derivations) -> ChangeSet | None:
    """What changes in the roster, as `diff.compare` tells it of whole files; None where a whole reading would find a fault."""
    part = clever.described(excerpt.verdict, rules, now)
    wanted = _wanted(excerpt, part, now, switches)
    if wanted is None or not _sound(excerpt, rules, wanted, now):
        return None
    frames = {name: each.frame for name, each in wanted.items()}
    sent = Assembled(Roster({name: frame for name, frame in frames.items() if name != "contacts"}), {})
    derived = {**frames, **derive.derive(sent, now, switches).roster.entities}
    return _compared(wanted, derived, now)


def _wanted(excerpt: Excerpt, part: Roster, now: Roster, switches: Derivations) -> dict[str, _Wanted] | None:
    """All entities that the files tell of, in which records of rows that changed are replaced by what those rows say tonight."""
    wanted = {}
    for name, (table, columns) in _TOLD_IN.items():
        if table not in excerpt.verdict.rows:
            continue
        held, new = now.entities[name], part.entities.get(name)
        active = held["active"].to_numpy(dtype=bool)
        if "source" in held.columns and pc.any(pc.and_(pa.array(active), pc.not_equal(array_of(held["source"]), ""))).as_py():
            return None  # a record of a side file that has not come for long
        if name == "contacts" and new is not None:
            new = contacts.told(new, now, None, merge=switches.contact_merge)
        changes = np.zeros(len(held), dtype=bool)
        for rows in (each[table] for each in (excerpt.gone, excerpt.verdict.tables) if table in each):
            changes |= active & _told_in(rows, held, columns)
        wanted[name] = _joined(name, held, np.flatnonzero(active & ~changes), np.flatnonzero(changes), new)
    for name, key in (("terms", "term_id"), ("courses", "course_id")):
        held, new = now.entities[name], part.entities.get(name)
        active = held["active"].to_numpy(dtype=bool)
        if name == "courses" and any(pc.any(pc.not_equal(array_of(each["description"]), "")).as_py() for each in (held, new) if each is not None):
            return None  # of several descriptions the smallest counts, and all rows would have to be looked at
        stays = active & is_in(array_of(held[key]), array_of(wanted["sections"].frame[key]))
        if new is not None:
            new = new[~is_in(array_of(new[key]), array_of(held[key]).filter(pa.array(stays)))]
        wanted[name] = _joined(name, held, np.flatnonzero(stays), np.flatnonzero(active & ~stays), new)
    return wanted


def _told_in(rows: pd.DataFrame, held: pd.DataFrame, columns: Mapping[str, str]) -> Mask:
    """Which records are told in these rows."""
    if len(columns) == 1:
        ((own, sent),) = columns.items()
        return is_in(array_of(held[own]), array_of(rows[sent]))
    told = np.zeros(len(held), dtype=bool)
    at = places_of_keys([array_of(rows[sent]) for sent in columns.values()], [array_of(held[own]) for own in columns])
    told[at[at >= 0]] = True
    return told


def _joined(name: str, held: pd.DataFrame, stays: Positions, goes: Positions, new: pd.DataFrame | None) -> _Wanted:
    new = held.iloc[:0] if new is None else new
    columns = {}
    for column in _LOOKED_AT.get(name, ENTITIES[name].columns):
        cells = array_of(held[column])
        cells = cells if len(stays) == len(held) else cells.take(pa.array(stays))
        columns[column] = pd.array(pa.concat_arrays([cells, array_of(new[column])]) if len(new) else cells, dtype=TEXT)
    return _Wanted(pd.DataFrame(columns, copy=False), stays, goes, new[list(ENTITIES[name].columns)])


def _sound(excerpt: Excerpt, rules: Contract, wanted: Mapping[str, _Wanted], now: Roster) -> bool:
    """Whether a whole reading would find no fault between the rows that are new and all others."""
    for name, gone in excerpt.gone.items():
        table, came = rules.tables[name], excerpt.verdict.tables[name]
        if not _were_there(table, gone, wanted[name], now.entities[name]) or not _know_whom_they_name(table, came, wanted):
            return False
        if name in _NAMED_BY:
            child, column = _NAMED_BY[name]
            held = array_of(now.entities[name][ENTITIES[name].key[0]]).take(pa.array(wanted[name].goes))
            left = held.filter(pa.array(~is_in(held, array_of(came[table.key[0]]))))
            if len(left) and is_in(array_of(wanted[child].frame[column]), left).any():
                return False
    return _have_students(excerpt, wanted) and _have_one_name(wanted)


def _were_there(table: Table, gone: pd.DataFrame, wanted: _Wanted, held: pd.DataFrame) -> bool:
    """Whether the rows that are gone were records, and no new row repeats a record of a row that is still there."""
    columns = _TOLD_IN[table.name][1]
    distinct = gone[list(columns.values())].drop_duplicates()
    there = held.iloc[wanted.goes]
    of_gone = int(_told_in(distinct, there, columns).sum())
    return of_gone == len(distinct) and (bool(table.repeat) or of_gone == len(gone) == len(there))


def _know_whom_they_name(table: Table, came: pd.DataFrame, wanted: Mapping[str, _Wanted]) -> bool:
    """Whether all whom the new rows refer to are there."""
    for each in table.references:
        if each.column in came.columns and each.table in wanted:
            named = pc.unique(array_of(came[each.column]))
            known = pa.concat_arrays([array_of(wanted[each.table].frame[ENTITIES[each.table].key[0]]), pa.array(["", *each.also])])
            if not (is_in(named, known) | is_in(pc.utf8_lower(named), pa.array(each.also, pa.string()))).all():
                return False
    return True


def _have_students(excerpt: Excerpt, wanted: Mapping[str, _Wanted]) -> bool:
    """Whether no section that is new, or that somebody left, is without an enrollment."""
    concerned = [frames[name]["section_id"] for frames, name in ((excerpt.verdict.tables, "sections"), (excerpt.gone, "enrollments")) if name in frames]
    if not concerned:
        return True
    ids = pc.unique(pa.concat_arrays([array_of(each) for each in concerned]))
    ids = ids.filter(pa.array(is_in(ids, array_of(wanted["sections"].frame["section_id"]))))
    filled = array_of(wanted["enrollments"].frame["section_id"])
    return len(pc.unique(filled.filter(pa.array(is_in(filled, ids))))) == len(ids)


def _have_one_name(wanted: Mapping[str, _Wanted]) -> bool:
    """Whether no new contact has the id of one of another name."""
    frame, length = wanted["contacts"].frame, len(wanted["contacts"].stays)
    ids, names = array_of(frame["sis_id"]), array_of(frame["name"])
    new = pc.not_equal(ids.slice(length), "")
    place = places_of(ids.slice(0, length), ids.slice(length).filter(new))
    at = np.flatnonzero(place >= 0)
    told = names.slice(length).filter(new).take(pa.array(place[at]))
    return bool(told.equals(names.take(pa.array(at))))


# ---------------------------------------------------------------- what changes


def _compared(wanted: Mapping[str, _Wanted], derived: Mapping[str, pd.DataFrame], now: Roster) -> ChangeSet:
    """The change set. Records that stay as they are need not be compared; they are counted."""
    here, after = dict(now.entities), {}
    enrollments = wanted["enrollments"]
    came, went = enrollments.frame["section_id"].iloc[len(enrollments.stays) :], now.entities["enrollments"]["section_id"].iloc[enrollments.goes]
    moved = pa.concat_arrays([array_of(came), array_of(went)])
    for name, each in wanted.items():
        if name in _ALWAYS_WHOLE:
            after[name] = derived[name]
            continue
        held, length = now.entities[name], len(each.stays)
        differs = _differs(name, each, derived[name])
        if name == "sections":  # moves are told by the course of a section, whether it has changed or not
            differs |= is_in(array_of(each.frame["section_id"]).slice(0, length), moved)
        after[name] = _in_full(name, each, derived[name], held, np.flatnonzero(differs))
        key = ENTITIES[name].key
        before = places_of_keys(*([array_of(frame[column]) for column in key] for frame in (after[name], held)))
        here[name] = held.iloc[np.union1d(before[before >= 0], each.goes)]
    changes = diff.compare(Roster(here), Roster(after), {})
    counts = {name: int(now.entities[name]["active"].sum()) for name in changes.existing}
    unchanged = {name: count + counts[name] - changes.existing[name] for name, count in changes.unchanged.items()}
    return replace(changes, existing=counts, unchanged=unchanged)


def _in_full(name: str, wanted: _Wanted, derived: pd.DataFrame, held: pd.DataFrame, differs: Positions) -> pd.DataFrame:
    """All columns of the records that differ, and of the new ones."""
    rows = pd.concat([held.iloc[wanted.stays[differs]][list(ENTITIES[name].columns)], wanted.new], ignore_index=True)
    chosen = np.concatenate((differs, np.arange(len(wanted.stays), len(wanted.frame))))
    return rows.assign(**{column: derived[column].array.take(chosen) for column in derive.FILLED.get(name, ())})


def _differs(name: str, wanted: _Wanted, derived: pd.DataFrame) -> Mask:
    """Which of the records that stay as they were sent have another value derived tonight."""
    differs = np.zeros(len(wanted.stays), dtype=bool)
    for column in derive.FILLED.get(name, ()):
        before, tonight = (array_of(frame[column]).slice(0, len(wanted.stays)) for frame in (wanted.frame, derived))
        differs |= pc.not_equal(before, tonight).to_numpy(zero_copy_only=False)
    return differs
