"""Clever's files become the roster that they describe: people, sections, memberships, contacts and attendance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from sftp_ingest.model import ENTITIES, Assembled, Roster, Verdict
from sftp_ingest.roster import contacts
from sftp_ingest.roster.arrow import TEXT
from sftp_ingest.roster.contract import Contract, Table

TEACHER_COLUMNS = ("teacher_id", *(f"teacher_{position}_id" for position in range(2, 11)))
TERM_COLUMNS = ("term_name", "term_start", "term_end")
COURSE_COLUMNS = ("course_name", "course_number")


NAME = "clever"


def assemble(verdict: Verdict, contract: Contract, now: Roster) -> Assembled:
    """The wanted roster. Entities of which no file was sent are absent from it: nothing is known of them tonight."""
    sent = {records: [table for table in contract.of(records) if table.name in verdict.tables] for records in _KINDS}
    entities = {name: _entity(name, verdict, sent[name]) for name in ("schools", "teachers", "students", "enrollments", "attendance") if sent[name]}
    sections = [(table, verdict.tables[table.name]) for table in sent["sections"]]
    entities["sections"], entities["terms"], entities["courses"] = _sections(sections)
    entities["section_teachers"] = _section_teachers(_rows_of([frame for _, frame in sections]))
    entities["contacts"] = _contacts(verdict.tables["students"])
    if sent["contacts"]:
        entities["contacts"] = _first_of([entities["contacts"], _named_contacts(_entity("contacts", verdict, sent["contacts"]), verdict, sent["contacts"])])
    if sent["staff"]:
        entities["staff"] = _first_of([_staff(table, verdict.tables[table.name]) for table in sent["staff"]])
    if "attendance" in entities:
        entities["attendance"] = _attendance(entities["attendance"])
    for table in contract.tables.values():
        if table.extends in entities:
            entities[table.extends] = _extended(entities[table.extends], table, verdict, now)
    covered = {name: frozenset(table.source for table in tables) for name, tables in sent.items() if len(contract.of(name)) > 1 and tables}
    covered["section_teachers"] = covered["sections"]
    covered["contacts"] = frozenset({"", *(table.source for table in sent["contacts"])})
    return Assembled(Roster({name: entities[name] for name in ENTITIES if name in entities}), _seen(verdict, contract), covered)


_KINDS = ("schools", "teachers", "students", "staff", "sections", "enrollments", "contacts", "attendance")


def _entity(name: str, verdict: Verdict, tables: Sequence[Table]) -> pd.DataFrame:
    """The records of all files of a kind, those of the files that count most first."""
    return _first_of([_records(name, table, verdict.tables[table.name]) for table in tables])


def _records(name: str, table: Table, frame: pd.DataFrame) -> pd.DataFrame:
    """One row a key, under the roster's names; columns that were not sent are blank."""
    if table.key:
        frame = frame[~frame.duplicated(list(table.key))]
    columns = {each.to: frame[each.column] for each in table.fields if each.column in frame.columns and each.to and not table.repeats(each.column)}
    columns["ext"] = _ext(frame)
    if table.source:
        columns["source"] = pd.Series(pd.array(pa.repeat(table.source, len(frame)), dtype=TEXT), index=frame.index)
    if table.source == "custom" and name == "teachers":  # contract 1.9: the number of a custom teacher is his id
        columns["number"] = columns["sis_id"]
    return _shaped(ENTITIES[name].columns, columns, len(frame))


def _first_of(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)


def _rows_of(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """All rows of several files; a column that one of them does not have is blank there."""
    return frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True).fillna("")


def _extended(records: pd.DataFrame, table: Table, verdict: Verdict, now: Roster) -> pd.DataFrame:
    """The records with the columns of their file under extensionfields/; what their own file says goes before it (contract 1.7).

    Where that file was not sent tonight nothing is known of its columns, and what the roster has of them stays.
    """
    entity = ENTITIES[table.extends]
    own = entity.key[0]
    if table.name in verdict.tables:
        frame = verdict.tables[table.name]
        further = dict(zip(frame[table.key[0]].to_list(), _ext(frame).to_list(), strict=True))
    elif table.name in verdict.gone:
        columns = {column.removeprefix("ext.") for column in verdict.gone[table.name].columns}
        held = now.entities[entity.name]
        there = held[(held["ext"] != "").to_numpy(dtype=bool)]
        kept = ({name: value for name, value in json.loads(text).items() if name in columns} for text in there["ext"])
        further = {key: json.dumps(each, ensure_ascii=False) for key, each in zip(there[own].to_list(), kept, strict=True) if each}
    else:
        return records
    merged = [
        json.dumps(dict(sorted((json.loads(further[key]) | (json.loads(text) if text else {})).items())), ensure_ascii=False) if further.get(key) else text
        for key, text in zip(records[own].to_list(), records["ext"].to_list(), strict=True)
    ]
    return records.assign(ext=pd.array(merged, dtype=TEXT))


def _shaped(names: Sequence[str], columns: Mapping[str, pd.Series], length: int) -> pd.DataFrame:
    blank = pd.array(pa.repeat("", length), dtype=TEXT)
    return pd.DataFrame({name: columns[name].array if name in columns else blank for name in names}, copy=False)


def _ext(frame: pd.DataFrame) -> pd.Series:
    """The extension columns as one JSON object a row, keys in order, blanks left out."""
    names = sorted(column for column in frame.columns if column.startswith("ext."))
    if not names:
        return pd.Series(pd.array(pa.repeat("", len(frame)), dtype=TEXT), index=frame.index)
    rows = zip(*(frame[name].to_list() for name in names), strict=True)
    keys = [name.removeprefix("ext.") for name in names]
    told = [{key: value for key, value in zip(keys, row, strict=True) if value} for row in rows]
    return pd.Series(pd.array([json.dumps(each, ensure_ascii=False) if each else "" for each in told], dtype=TEXT), index=frame.index)


# ---------------------------------------------------------------- sections, and what is derived from them


def _sections(sent: Sequence[tuple[Table, pd.DataFrame]]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Sections, terms and courses. Clever has no files for the last two: they are what the sections name (contract 1.8)."""
    frames = [frame.assign(term_id=_derived_id(frame, TERM_COLUMNS), course_id=_derived_id(frame, COURSE_COLUMNS)) for _, frame in sent]
    sections = [
        _records("sections", table, frame).assign(term_id=frame["term_id"].array, course_id=frame["course_id"].array)
        for (table, _), frame in zip(sent, frames, strict=True)
    ]
    every = _rows_of(frames)
    terms = _distinct(every, "term_id", {"term_id": "term_id", "term_name": "name", "term_start": "start_date", "term_end": "end_date"})
    courses = _distinct(every, "course_id", {"course_id": "course_id", "course_name": "name", "course_number": "number", "course_description": "description"})
    return _first_of(sections), _shaped(ENTITIES["terms"].columns, terms, len(terms)), _shaped(ENTITIES["courses"].columns, courses, len(courses))


def _derived_id(frame: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """A stable id of the columns' values together, blank where all are blank."""
    parts = [frame[column].to_list() if column in frame.columns else [""] * len(frame) for column in columns]
    known: dict[tuple[str, ...], str] = {}
    ids = []
    for values in zip(*parts, strict=True):
        if values not in known:
            known[values] = _digest(*values) if any(values) else ""
        ids.append(known[values])
    return pd.Series(pd.array(ids, dtype=TEXT), index=frame.index)


def _digest(*values: str) -> str:
    """Twenty hex digits of the values; JSON keeps ("a", "bc") and ("ab", "c") apart."""
    return hashlib.blake2b(json.dumps(values).encode(), digest_size=10).hexdigest()


def _distinct(frame: pd.DataFrame, key: str, names: Mapping[str, str]) -> pd.DataFrame:
    """One row a derived id; of values that differ between its sections the smallest, so that the order of rows does not matter."""
    there = frame.loc[frame[key] != "", [column for column in names if column in frame.columns]]
    return there.sort_values(list(there.columns)).drop_duplicates(key).rename(columns=names)


def _section_teachers(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a section and teacher, at the first position that names the teacher (1 is the primary one)."""
    parts = [
        pd.DataFrame({"section_id": frame["section_id"].array, "teacher_id": frame[column].array, "position": position})
        for position, column in enumerate(TEACHER_COLUMNS, start=1)
        if column in frame.columns
    ]
    links = pd.concat(parts, ignore_index=True)
    links = links[(links["teacher_id"] != "").to_numpy()].drop_duplicates(["section_id", "teacher_id"])
    return _shaped(ENTITIES["section_teachers"].columns, links.assign(position=pd.array(links["position"].astype(str), dtype=TEXT)), len(links))


# ---------------------------------------------------------------- people with several rows


def _staff(table: Table, frame: pd.DataFrame) -> pd.DataFrame:
    """One row a person, with the schools of all rows; the first in order stands as school_id."""
    staff = _records("staff", table, frame)
    schools = frame.groupby("staff_id", sort=False)["school_id"].agg(lambda each: sorted(set(each)))
    of_person = [schools[person] for person in staff["sis_id"]]
    return staff.assign(
        school_id=pd.array([each[0] for each in of_person], dtype=TEXT),
        sis_school_id=pd.array([each[0] for each in of_person], dtype=TEXT),
        school_ids=pd.array([json.dumps(each) for each in of_person], dtype=TEXT),
    )


def _contacts(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that name a contact, as they were sent; who is who is told later, by `contacts.told`."""
    columns = {column: frame[f"contact_{column}"] for column in contacts.CELLS if f"contact_{column}" in frame.columns}
    if "name" not in columns:
        return _shaped(ENTITIES["contacts"].columns, {}, 0)
    named = (frame["contact_name"] != "").to_numpy(dtype=bool)
    rows = {column: cells[named] for column, cells in columns.items()} | {"student_id": frame.loc[named, "student_id"]}
    return _shaped(ENTITIES["contacts"].columns, rows, int(named.sum()))


def _nameless(frame: pd.DataFrame) -> pd.DataFrame:
    """The students with a row that tells of a contact and does not name him: whom it means is unknown, so none of theirs has left (law 1)."""
    columns = [column for column in frame.columns if column.startswith("contact_")]
    if "contact_name" not in columns:
        return frame.iloc[:0][["student_id"]]
    nameless = (frame["contact_name"] == "").to_numpy(dtype=bool)
    return frame.loc[nameless, ["student_id"]][(frame.loc[nameless, columns] != "").any(axis=1).to_numpy(dtype=bool)]


def _named_contacts(contacts: pd.DataFrame, verdict: Verdict, tables: Sequence[Table]) -> pd.DataFrame:
    """Contacts of customcontacts/, whose file has first and last names in columns of their own; their id is the one that was sent."""
    frames = [verdict.tables[table.name] for table in tables]
    names = [f"{first} {last}" for frame in frames for first, last in zip(frame["first_name"].to_list(), frame["last_name"].to_list(), strict=True)]
    return contacts.assign(name=pd.array(names, dtype=TEXT), sis_id=contacts["contact_id"])


# ---------------------------------------------------------------- attendance


def _attendance(records: pd.DataFrame) -> pd.DataFrame:
    """One row an id; a row without one is told by student, date, section and type, which is *section* where a section is named (contract 1.9)."""
    kind = [kind or ("section" if section else "daily") for kind, section in zip(records["type"].to_list(), records["section_id"].to_list(), strict=True)]
    records = records.assign(type=pd.array(kind, dtype=TEXT))
    parts = (records[column].to_list() for column in ("attendance_id", "student_id", "date", "section_id", "type"))
    ids = [sent or "~" + _digest(*others) for sent, *others in zip(*parts, strict=True)]
    records = records.assign(attendance_id=pd.array(ids, dtype=TEXT))
    return records.sort_values(list(records.columns)).drop_duplicates("attendance_id", ignore_index=True)


# ---------------------------------------------------------------- keys of rejected rows


def _seen(verdict: Verdict, contract: Contract) -> dict[str, pd.DataFrame]:
    """Keys by entity. What a rejected row would have said of contacts, co-teachers, terms and courses is unknown, so all of them are spoken for."""
    parts: dict[str, list[pd.DataFrame]] = {}
    for name, frame in verdict.seen.items():
        table = contract.tables[name]
        if table.key and table.records in ENTITIES:
            entity = ENTITIES[table.records]
            parts.setdefault(entity.name, []).append(frame.set_axis(list(entity.key), axis=1) if len(entity.key) == 1 else frame[list(entity.key)])
    for name, source in (("contacts", "students"), ("section_teachers", "sections")):
        parent, other = ENTITIES[name].key
        keys = [frame.iloc[:, 0] for frame in parts[source]]
        if name == "contacts":
            keys.append(_nameless(verdict.tables["students"])["student_id"])
        for each in keys:
            parts.setdefault(name, []).append(pd.DataFrame({parent: each.array, other: pd.array(np.full(len(each), None), dtype=TEXT)}))
    return {name: pd.concat(frames, ignore_index=True) for name, frames in parts.items()}
