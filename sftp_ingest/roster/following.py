"""What changes in a roster of which few records were told anew: the change set that all rows would have come to, by looking at those concerned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.model import ENTITIES, ChangeSet, Derivations, Roster
from sftp_ingest.roster import clever, contacts, diff, touched
from sftp_ingest.roster.arrow import Mask, array_of, is_in, places_of, places_of_keys
from sftp_ingest.roster.contract import Contract, Table
from sftp_ingest.roster.excerpt import Excerpt
from sftp_ingest.roster.touched import Positions, Wanted

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


def compare(excerpt: Excerpt, rules: Contract, now: Roster, switches: Derivations) -> ChangeSet | None:
    """What changes in the roster, as `diff.compare` tells it of whole files; None where a whole reading would find a fault."""
    wanted = _wanted(excerpt, clever.described(excerpt.verdict, rules, now), now, switches)
    if wanted is None or not _sound(excerpt, rules, wanted):
        return None
    after = {name: each.new for name, each in wanted.items()} | touched.derived(wanted, now, switches)
    here = dict(now.entities)
    for name, each in wanted.items():
        if name == "schools" or name in _NAMED_IN_SECTIONS:  # there are few of them, and they are compared as a whole
            continue
        before = places_of_keys(*([array_of(frame[column]) for column in ENTITIES[name].key] for frame in (after[name], each.held)))
        here[name] = each.held.iloc[np.union1d(before[before >= 0], each.goes)]
    return _counted(diff.compare(Roster(here), Roster(after), {}), now)


def _counted(changes: ChangeSet, now: Roster) -> ChangeSet:
    """The same, with those records that were not looked at counted as unchanged."""
    counts = {name: int(now.entities[name]["active"].sum()) for name in changes.existing}
    unchanged = {name: count + counts[name] - changes.existing[name] for name, count in changes.unchanged.items()}
    return replace(changes, existing=counts, unchanged=unchanged)


# ---------------------------------------------------------------- what is to be


def _wanted(excerpt: Excerpt, part: Roster, now: Roster, switches: Derivations) -> dict[str, Wanted] | None:
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
        wanted[name] = _replaced(name, held, active, changes, new)
    for name, column in _NAMED_IN_SECTIONS.items():
        held, new = now.entities[name], part.entities.get(name)
        active = held["active"].to_numpy(dtype=bool)
        if name == "courses" and any(pc.any(pc.not_equal(array_of(each["description"]), "")).as_py() for each in (held, new) if each is not None):
            return None  # of several descriptions the smallest counts, and all rows would have to be looked at
        ends = active & ~wanted["sections"].has(column, array_of(held[column]))
        if new is not None:
            new = new[~is_in(array_of(new[column]), array_of(held[column]).filter(pa.array(active & ~ends)))]
        wanted[name] = _replaced(name, held, active, ends, new)
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


def _replaced(name: str, held: pd.DataFrame, active: Mask, changes: Mask, new: pd.DataFrame | None) -> Wanted:
    new = held.iloc[:0] if new is None else new
    return Wanted(held, active & ~changes, np.flatnonzero(changes), new[list(ENTITIES[name].columns)])


# ---------------------------------------------------------------- what a whole reading would find


def _sound(excerpt: Excerpt, rules: Contract, wanted: Mapping[str, Wanted]) -> bool:
    """Whether a whole reading would find no fault between the rows that are new and all others."""
    for name, gone in excerpt.gone.items():
        table, came = rules.tables[name], excerpt.verdict.tables[name]
        if not _were_there(table, gone, wanted[name]) or not _know_whom_they_name(table, came, wanted):
            return False
        if name in _NAMED_BY:
            child, column = _NAMED_BY[name]
            held = array_of(wanted[name].held[ENTITIES[name].key[0]]).take(pa.array(wanted[name].goes))
            left = held.filter(pa.array(~is_in(held, array_of(came[table.key[0]]))))
            if wanted[child].has(column, left).any():
                return False
    return _have_students(excerpt, wanted) and _have_one_name(wanted["contacts"])


def _were_there(table: Table, gone: pd.DataFrame, wanted: Wanted) -> bool:
    """Whether the rows that are gone were records, and no new row repeats a record of a row that is still there."""
    columns = _TOLD_IN[table.name][1]
    distinct = gone[list(columns.values())].drop_duplicates()
    there = wanted.held.iloc[wanted.goes]
    of_gone = int(_told_in(distinct, there, columns).sum())
    return of_gone == len(distinct) and (bool(table.repeat) or of_gone == len(gone) == len(there))


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
    place: Positions = np.flatnonzero(wanted.staying("sis_id", ids))
    held, called = (array_of(wanted.held[column]).take(pa.array(place)) for column in ("sis_id", "name"))
    at = places_of(ids, held)
    there = np.flatnonzero(at >= 0)
    return bool(names.take(pa.array(there)).equals(called.take(pa.array(at[there]))))
