"""What changes in a roster of which few records were told anew: the change set that all rows would have come to, by looking at those concerned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.model import ENTITIES, ChangeSet, Derivations, Roster
from sftp_ingest.roster import clever, contacts, diff, layers, touched
from sftp_ingest.roster.arrow import Mask, array_of, is_in, places_of
from sftp_ingest.roster.contract import Contract, Table
from sftp_ingest.roster.excerpt import Excerpt
from sftp_ingest.roster.layers import Layers
from sftp_ingest.roster.records import shaped
from sftp_ingest.roster.touched import Wanted

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

_NAMED_IN_SECTIONS: Mapping[str, str] = {"terms": "term_id", "courses": "course_id"}

_NAMED_BY: Mapping[str, tuple[str, str]] = {
    "teachers": ("section_teachers", "teacher_id"),
    "students": ("enrollments", "student_id"),
    "sections": ("enrollments", "section_id"),
}
"""Table → who must not name a record of it any more once it has left."""


def wanted(excerpt: Excerpt, rules: Contract, now: Roster, switches: Derivations) -> dict[str, Wanted] | None:
    """Every entity as it is to be, apart from what is derived of it; None where a whole reading would find a fault."""
    found = _as_told(excerpt, clever.described(excerpt.verdict, rules, now), layers.of(now), now, switches)
    return found if found is not None and _sound(excerpt, rules, found) else None


def compare(wanted: Mapping[str, Wanted], now: Roster, switches: Derivations) -> ChangeSet:
    """What changes in the roster, as `diff.compare` tells it of whole files."""
    held = layers.of(now)
    after = {name: each.new for name, each in wanted.items()} | touched.derived(wanted, held["staff"], switches)
    here = {}
    for name, each in wanted.items():
        if name == "schools" or name in _NAMED_IN_SECTIONS:  # there are few of them, and they are compared as a whole
            here[name] = each.held.frame
            continue
        before = each.held.places({column: array_of(after[name][column]) for column in ENTITIES[name].key})
        here[name] = each.held.rows(ENTITIES[name].columns, np.union1d(before[before >= 0], each.goes))
    return _counted(diff.compare(Roster(here), Roster(after), {}), held)


def _counted(changes: ChangeSet, held: Mapping[str, Layers]) -> ChangeSet:
    """The same, with those records that were not looked at counted as unchanged."""
    counts = {name: int(held[name].active.sum()) for name in changes.existing}
    unchanged = {name: count + counts[name] - changes.existing[name] for name, count in changes.unchanged.items()}
    return replace(changes, existing=counts, unchanged=unchanged)


# ---------------------------------------------------------------- what is to be


def _as_told(excerpt: Excerpt, part: Roster, lying: Mapping[str, Layers], now: Roster, switches: Derivations) -> dict[str, Wanted] | None:
    """All entities that the files tell of, in which records of rows that changed are replaced by what those rows say tonight."""
    wanted = {}
    for name, (table, columns) in _TOLD_IN.items():
        if table not in excerpt.verdict.rows:
            continue
        held, new = lying[name], part.entities.get(name)
        if "source" in ENTITIES[name].columns and _says_anything(held, "source"):
            return None  # a record of a side file that has not come for long
        if name == "contacts" and new is not None:
            new = contacts.told(new, now, None, merge=switches.contact_merge)
        changes = np.zeros(len(held.active), dtype=bool)
        for rows in (each[table] for each in (excerpt.gone, excerpt.verdict.tables) if table in each):
            changes |= held.active & _told_in(rows, held, columns)
        wanted[name] = _replaced(name, held, changes, new)
    for name, column in _NAMED_IN_SECTIONS.items():
        held, new = lying[name], part.entities.get(name)
        if name == "courses" and (held.which("description", _is_told).any() or (new is not None and _is_told(array_of(new["description"])).any())):
            return None  # of several descriptions the smallest counts, and all rows would have to be looked at
        ids = held.take(column, np.arange(len(held.active)))
        ends = held.active & ~wanted["sections"].has(column, ids)
        if new is not None:
            new = new[~is_in(array_of(new[column]), ids.filter(pa.array(held.active & ~ends)))]
        wanted[name] = _replaced(name, held, ends, new)
    return wanted


def _says_anything(held: Layers, column: str) -> bool:
    """Whether anything stands in the column of a record that is active; where nothing does in any, that is told by its texts alone."""
    return not held.says_nothing(column) and bool((held.active & held.which(column, _is_told)).any())


def _is_told(cells: pa.Array) -> Mask:
    told: Mask = pc.not_equal(cells, "").to_numpy(zero_copy_only=False)
    return told


def _told_in(rows: pd.DataFrame, held: Layers, columns: Mapping[str, str]) -> Mask:
    """Which records are told in these rows."""
    if len(columns) == 1:
        ((own, sent),) = columns.items()
        return held.among(own, array_of(rows[sent]))
    told = np.zeros(len(held.active), dtype=bool)
    at = held.places({own: array_of(rows[sent]) for own, sent in columns.items()})
    told[at[at >= 0]] = True
    return told


def _replaced(name: str, held: Layers, changes: Mask, new: pd.DataFrame | None) -> Wanted:
    told = _nothing(name) if new is None else new[list(ENTITIES[name].columns)]
    return Wanted(held, held.active & ~changes, np.flatnonzero(changes), told)


@cache
def _nothing(name: str) -> pd.DataFrame:
    return shaped(ENTITIES[name].columns, {}, 0)


# ---------------------------------------------------------------- what a whole reading would find


def _sound(excerpt: Excerpt, rules: Contract, wanted: Mapping[str, Wanted]) -> bool:
    """Whether a whole reading would find no fault between the rows that are new and all others."""
    for name, gone in excerpt.gone.items():
        table, came = rules.tables[name], excerpt.verdict.tables[name]
        if not _were_there(table, gone, wanted[name]) or not _know_whom_they_name(table, came, wanted):
            return False
        if name in _NAMED_BY:
            child, column = _NAMED_BY[name]
            held = wanted[name].held.take(ENTITIES[name].key[0], wanted[name].goes)
            left = held.filter(pa.array(~is_in(held, array_of(came[table.key[0]]))))
            if wanted[child].has(column, left).any():
                return False
    return _have_students(excerpt, wanted) and _have_one_name(wanted["contacts"])


def _were_there(table: Table, gone: pd.DataFrame, wanted: Wanted) -> bool:
    """Whether the rows that are gone were records, and no new row repeats a record of a row that is still there."""
    columns = _TOLD_IN[table.name][1]
    distinct = gone[list(columns.values())].drop_duplicates()
    there = Layers.of(wanted.held.rows(list(columns), wanted.goes))
    of_gone = int(_told_in(distinct, there, columns).sum())
    return of_gone == len(distinct) and (bool(table.repeat) or of_gone == len(gone) == len(wanted.goes))


def _know_whom_they_name(table: Table, came: pd.DataFrame, wanted: Mapping[str, Wanted]) -> bool:
    """Whether all whom the new rows refer to are there."""
    for each in table.references:
        if each.column in came.columns and each.table in wanted:
            named = pc.unique(array_of(came[each.column]))
            nobody = is_in(named, pa.array(["", *each.also])) | is_in(pc.utf8_lower(named), pa.array(each.also, pa.string()))
            if not (nobody | wanted[each.table].has(ENTITIES[each.table].key[0], named)).all():
                return False
    return True


def _have_students(excerpt: Excerpt, wanted: Mapping[str, Wanted]) -> bool:
    """Whether no section that is new, or that somebody left, is without an enrollment."""
    concerned = [frames[name]["section_id"] for frames, name in ((excerpt.verdict.tables, "sections"), (excerpt.gone, "enrollments")) if name in frames]
    if not concerned:
        return True
    ids = pc.unique(pa.concat_arrays([array_of(each) for each in concerned]))
    there = wanted["sections"].has("section_id", ids)
    return bool((wanted["enrollments"].has("section_id", ids) | ~there).all())


def _have_one_name(wanted: Wanted) -> bool:
    """Whether no new contact has the id of one of another name."""
    ids, names = (array_of(wanted.new[column]) for column in ("sis_id", "name"))
    named = pc.not_equal(ids, "")
    ids, names = ids.filter(named), names.filter(named)
    same = np.flatnonzero(wanted.staying("sis_id", ids))
    held, called = (wanted.held.take(column, same) for column in ("sis_id", "name"))
    at = places_of(ids, held)
    there = np.flatnonzero(at >= 0)
    return bool(names.take(pa.array(there)).equals(called.take(pa.array(at[there]))))
