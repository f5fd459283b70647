"""Clever's files become the roster that they describe: people, sections, memberships, and what Clever derives from them."""

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
    """The wanted roster. Entities whose file was not sent are absent from it: nothing is known of them tonight."""
    entities: dict[str, pd.DataFrame] = {}
    for name in ("schools", "teachers", "students", "enrollments"):
        entities[name] = _entity(name, contract.tables[name], verdict.tables[name])
    entities["sections"], entities["terms"], entities["courses"] = _sections(contract.tables["sections"], verdict.tables["sections"])
    entities["section_teachers"] = _section_teachers(verdict.tables["sections"])
    entities["contacts"] = _contacts(verdict.tables["students"])
    if "staff" in verdict.tables:
        entities["staff"] = _staff(contract.tables["staff"], verdict.tables["staff"])
    return Assembled(Roster({name: entities[name] for name in ENTITIES if name in entities}), _seen(verdict))


def _entity(name: str, table: Table, frame: pd.DataFrame) -> pd.DataFrame:
    """One row a key, under the roster's names; columns that were not sent are blank."""
    key = list(table.key)
    frame = frame[~frame.duplicated(key)]
    columns = {each.to: frame[each.column] for each in table.fields if each.column in frame.columns and each.to and not table.repeats(each.column)}
    columns["ext"] = _ext(frame)
    return _shaped(ENTITIES[name].columns, columns, len(frame))


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


def _sections(table: Table, frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Sections, terms and courses. Clever has no files for the last two: they are what the sections name (contract 1.8)."""
    frame = frame.assign(term_id=_derived_id(frame, TERM_COLUMNS), course_id=_derived_id(frame, COURSE_COLUMNS))
    sections = _entity("sections", table, frame)
    sections = sections.assign(term_id=frame["term_id"].array, course_id=frame["course_id"].array)
    terms = _distinct(frame, "term_id", {"term_id": "term_id", "term_name": "name", "term_start": "start_date", "term_end": "end_date"})
    courses = _distinct(frame, "course_id", {"course_id": "course_id", "course_name": "name", "course_number": "number", "course_description": "description"})
    return sections, _shaped(ENTITIES["terms"].columns, terms, len(terms)), _shaped(ENTITIES["courses"].columns, courses, len(courses))


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
    staff = _entity("staff", table, frame)
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


# ---------------------------------------------------------------- keys of rejected rows


def _seen(verdict: Verdict) -> dict[str, pd.DataFrame]:
    """Keys by entity. What a rejected row would have said of contacts, co-teachers, terms and courses is unknown, so all of them are spoken for."""
    seen: dict[str, pd.DataFrame] = {}
    for name, frame in verdict.seen.items():
        entity = ENTITIES[name]
        seen[name] = frame.set_axis(list(entity.key), axis=1) if len(entity.key) == 1 else frame[list(entity.key)]
    for name, source in (("contacts", "students"), ("section_teachers", "sections")):
        parent, other = ENTITIES[name].key
        keys = seen[source].iloc[:, 0].array
        if name == "contacts":
            keys = pd.concat([seen[source].iloc[:, 0], _nameless(verdict.tables["students"])["student_id"]]).array
        seen[name] = pd.DataFrame({parent: keys, other: pd.array(np.full(len(keys), None), dtype=TEXT)})
    return seen
