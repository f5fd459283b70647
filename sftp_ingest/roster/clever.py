"""Clever's files become the roster that they describe: people, sections, memberships, contacts and attendance."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd

from sftp_ingest.model import ENTITIES, Assembled, Frames, Roster, Verdict
from sftp_ingest.roster import contacts, shelf
from sftp_ingest.roster.arrow import TEXT
from sftp_ingest.roster.contract import Contract, Table
from sftp_ingest.roster.records import digest, ext_of, first_of, records_of, rows_of, sections_of, shaped, staff_of, with_schools_kept

TEACHER_COLUMNS = ("teacher_id", *(f"teacher_{position}_id" for position in range(2, 11)))

NAME = "clever"


def prepare(frames: Frames, contract: Contract, now: Roster, *, strict: bool) -> Frames:
    """The same: Clever's files are the tables that are judged."""
    return frames


def assemble(verdict: Verdict, contract: Contract, now: Roster) -> Assembled:
    """The wanted roster. Entities of which no file was sent are absent from it: nothing is known of them tonight."""
    sent = _sent(verdict, contract)
    covered = {name: frozenset(table.source for table in tables) for name, tables in sent.items() if len(contract.of(name)) > 1 and tables}
    covered["section_teachers"] = covered["sections"]
    covered["contacts"] = frozenset({"", *(table.source for table in sent["contacts"])})
    seen = _seen(verdict, contract)
    entities = dict(described(verdict, contract, now).entities)
    if "staff" in entities:
        entities["staff"] = with_schools_kept(entities, seen, now)
    return Assembled(Roster(entities), seen, covered)


def described(verdict: Verdict, contract: Contract, now: Roster) -> Roster:
    """What the rows describe, as it was sent, in all entities of which there is a file among those judged."""
    sent = _sent(verdict, contract)
    entities = {name: _entity(name, verdict, sent[name]) for name in ("schools", "teachers", "students", "enrollments", "attendance") if sent[name]}
    if sent["sections"]:
        sections = [(table, verdict.tables[table.name]) for table in sent["sections"]]
        entities["sections"], entities["terms"], entities["courses"] = sections_of(sections)
        entities["section_teachers"] = _section_teachers(rows_of([frame for _, frame in sections]))
    if "students" in verdict.tables:
        entities["contacts"] = _contacts(verdict.tables["students"])
    if sent["contacts"]:
        entities["contacts"] = first_of([entities["contacts"], _named_contacts(_entity("contacts", verdict, sent["contacts"]), verdict, sent["contacts"])])
    if sent["staff"]:
        entities["staff"] = first_of([staff_of(table, verdict.tables[table.name]) for table in sent["staff"]])
    if "attendance" in entities:
        entities["attendance"] = _attendance(entities["attendance"])
    for table in contract.tables.values():
        if table.extends in entities:
            entities[table.extends] = _extended(entities[table.extends], table, verdict, now)
    return Roster({name: entities[name] for name in ENTITIES if name in entities})


def _sent(verdict: Verdict, contract: Contract) -> dict[str, list[Table]]:
    return {records: [table for table in contract.of(records) if table.name in verdict.tables] for records in _KINDS}


_KINDS = ("schools", "teachers", "students", "staff", "sections", "enrollments", "contacts", "attendance")


def _entity(name: str, verdict: Verdict, tables: Sequence[Table]) -> pd.DataFrame:
    """The records of all files of a kind, those of the files that count most first."""
    return first_of([records_of(name, table, verdict.tables[table.name]) for table in tables])


def _extended(records: pd.DataFrame, table: Table, verdict: Verdict, now: Roster) -> pd.DataFrame:
    """The records with the columns of their file under extensionfields/; what their own file says goes before it (contract 1.7).

    Where that file was not sent tonight nothing is known of its columns, and what the roster has of them stays.
    """
    entity = ENTITIES[table.extends]
    own = entity.key[0]
    if table.name in verdict.tables:
        frame = verdict.tables[table.name]
        further = dict(zip(frame[table.key[0]].to_list(), ext_of(frame).to_list(), strict=True))
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


# ---------------------------------------------------------------- sections, and what is derived from them


def _section_teachers(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a section and teacher, at the first position that names the teacher (1 is the primary one)."""
    parts = [
        pd.DataFrame({"section_id": frame["section_id"].array, "teacher_id": frame[column].array, "position": position})
        for position, column in enumerate(TEACHER_COLUMNS, start=1)
        if column in frame.columns
    ]
    links = pd.concat(parts, ignore_index=True)
    links = links[(links["teacher_id"] != "").to_numpy()].drop_duplicates(["section_id", "teacher_id"])
    return shaped(ENTITIES["section_teachers"].columns, links.assign(position=pd.array(links["position"].astype(str), dtype=TEXT)), len(links))


# ---------------------------------------------------------------- people with several rows


def _contacts(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that name a contact, as they were sent; who is who is told later, by `contacts.told`."""
    columns = {column: frame[f"contact_{column}"] for column in contacts.CELLS if f"contact_{column}" in frame.columns}
    if "name" not in columns:
        return shaped(ENTITIES["contacts"].columns, {}, 0)
    named = (frame["contact_name"] != "").to_numpy(dtype=bool)
    rows = shelf.filtered(pd.DataFrame(columns | {"student_id": frame["student_id"]}, copy=False), named)
    return shaped(ENTITIES["contacts"].columns, dict(rows.items()), len(rows))


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
    ids = [sent or "~" + digest(*others) for sent, *others in zip(*parts, strict=True)]
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
