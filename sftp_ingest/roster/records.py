"""Frames under the roster's names: what the assemblers of all formats have in common."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.model import ENTITIES, Roster
from sftp_ingest.roster import arrow, shelf
from sftp_ingest.roster.arrow import TEXT, array_of
from sftp_ingest.roster.contract import Table

TERM_COLUMNS = ("term_name", "term_start", "term_end")
COURSE_COLUMNS = ("course_name", "course_number")

_AT_SCHOOLS = ("students", "teachers", "sections")
"""Entities whose records need the school that they name."""


def records_of(name: str, table: Table, frame: pd.DataFrame) -> pd.DataFrame:
    """One row a key, under the roster's names; columns that were not sent are blank."""
    sent = {each.to: each.column for each in table.fields if each.column in frame.columns and each.to and not table.repeats(each.column)}
    if table.repeat:  # in any other table two believed rows never have one key
        first = arrow.first_ones(arrow.groups([arrow.encoded(array_of(frame[column])) for column in table.key]))
        taken = [column for column in frame.columns if column in sent.values() or column.startswith("ext.")]
        frame = frame if first.all() else shelf.filtered(frame[taken], first)
    columns = {to: frame[column] for to, column in sent.items()}
    columns["ext"] = ext_of(frame)
    if table.source:
        columns["source"] = pd.Series(pd.array(pa.repeat(table.source, len(frame)), dtype=TEXT), index=frame.index)
    if table.source == "custom" and name == "teachers":  # contract 1.9: the number of a custom teacher is his id
        columns["number"] = columns["sis_id"]
    return shaped(ENTITIES[name].columns, columns, len(frame))


def shaped(names: Sequence[str], columns: Mapping[str, pd.Series], length: int) -> pd.DataFrame:
    """A frame of `length` rows with these columns in this order, those that are not given blank."""
    blank = pd.array(shelf.blank(length), dtype=TEXT)
    return pd.DataFrame({name: columns[name].array if name in columns else blank for name in names}, copy=False)


def ext_of(frame: pd.DataFrame) -> pd.Series:
    """The extension columns as one JSON object a row, keys in order, blanks left out."""
    names = sorted(column for column in frame.columns if column.startswith("ext."))
    if not names:
        return pd.Series(pd.array(shelf.blank(len(frame)), dtype=TEXT), index=frame.index)
    told = [_members(name.removeprefix("ext."), array_of(frame[name])) for name in names]
    # something stands first in every row, for Arrow leaves out the rows in which all parts are null
    joined = pc.binary_join_element_wise("", *told, ", ", null_handling="skip")
    objects = pc.binary_join_element_wise("{", pc.utf8_slice_codeunits(joined, 2), "}", "")
    return pd.Series(pd.array(shelf.put(pc.if_else(pc.equal(joined, ""), "", objects)), dtype=TEXT), index=frame.index)


def _members(name: str, cells: pa.Array) -> pa.Array:
    """Each cell as a member of a JSON object, null where it is blank; every distinct text is written once."""
    encoded = arrow.encoded(cells)
    key = json.dumps(name, ensure_ascii=False)
    return encoded.with_texts([f"{key}: {json.dumps(text, ensure_ascii=False)}" if text else None for text in encoded.texts.to_pylist()])


def derived_id(frame: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """A stable id of the columns' values together, blank where all are blank."""
    parts = {column: arrow.encoded(array_of(frame[column])) for column in columns if column in frame.columns}
    if not parts:
        return pd.Series(pd.array(shelf.blank(len(frame)), dtype=TEXT), index=frame.index)
    _, first, of_row = np.unique(arrow.groups(list(parts.values())), return_index=True, return_inverse=True)
    told = [[parts[column].texts[place].as_py() for place in parts[column].places[first]] if column in parts else [""] * len(first) for column in columns]
    ids = [digest(*values) if any(values) else "" for values in zip(*told, strict=True)]
    return pd.Series(pd.array(pa.array(ids, pa.string()).take(pa.array(of_row)), dtype=TEXT), index=frame.index)


def digest(*values: str) -> str:
    """Twenty hex digits of the values; JSON keeps ("a", "bc") and ("ab", "c") apart."""
    return hashlib.blake2b(json.dumps(values).encode(), digest_size=10).hexdigest()


def distinct(frame: pd.DataFrame, key: str, names: Mapping[str, str]) -> pd.DataFrame:
    """One row a derived id; of values that differ between its sections the smallest, so that the order of rows does not matter."""
    there = frame.loc[frame[key] != "", [column for column in names if column in frame.columns]]
    return there.sort_values(list(there.columns)).drop_duplicates(key).rename(columns=names)


def first_of(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The parts one after the other."""
    return parts[0] if len(parts) == 1 else shelf.stacked(parts)


def rows_of(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """All rows of several files; a column that one of them does not have is blank there."""
    return frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True).fillna("")


def sections_of(sent: Sequence[tuple[Table, pd.DataFrame]]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Sections, terms and courses. Clever has no files for the last two: they are what the sections name (contract 1.8)."""
    frames = [frame.assign(term_id=derived_id(frame, TERM_COLUMNS), course_id=derived_id(frame, COURSE_COLUMNS)) for _, frame in sent]
    sections = [
        records_of("sections", table, frame).assign(term_id=frame["term_id"].array, course_id=frame["course_id"].array)
        for (table, _), frame in zip(sent, frames, strict=True)
    ]
    every = rows_of(frames)
    terms = distinct(every, "term_id", {"term_id": "term_id", "term_name": "name", "term_start": "start_date", "term_end": "end_date"})
    courses = distinct(every, "course_id", {"course_id": "course_id", "course_name": "name", "course_number": "number", "course_description": "description"})
    return first_of(sections), shaped(ENTITIES["terms"].columns, terms, len(terms)), shaped(ENTITIES["courses"].columns, courses, len(courses))


def staff_of(table: Table, frame: pd.DataFrame) -> pd.DataFrame:
    """One row a person, with the schools of all rows; the first in order stands as school_id."""
    staff = records_of("staff", table, frame)
    schools = frame.groupby("staff_id", sort=False)["school_id"].agg(set)
    return _at_schools(staff, [schools[person] for person in staff["sis_id"]])


def _at_schools(staff: pd.DataFrame, schools: Sequence[Collection[str]]) -> pd.DataFrame:
    of_person = [sorted(each) for each in schools]
    return staff.assign(
        school_id=pd.array([each[0] for each in of_person], dtype=TEXT),
        sis_school_id=pd.array([each[0] for each in of_person], dtype=TEXT),
        school_ids=pd.array([json.dumps(each) for each in of_person], dtype=TEXT),
    )


def with_schools_kept(entities: Mapping[str, pd.DataFrame], seen: Mapping[str, pd.DataFrame], now: Roster) -> pd.DataFrame:
    """The staff, of whom those with a rejected row among theirs stay at the schools where they were, as far as these stay (law 1)."""
    staff, before = entities["staff"], _spoken_for("staff", seen, now)
    if not len(before):
        return staff
    left = {*now.entities["schools"]["school_id"]} - {*entities["schools"]["school_id"], *_spoken_for("schools", seen, now)["school_id"]}
    left -= {school for name in _AT_SCHOOLS for school in _needed(name, entities[name], seen, now)} if left else set()
    kept = {person: set(json.loads(schools or "[]")) - left for person, schools in zip(before["sis_id"], before["school_ids"], strict=True)}
    concerned = staff["sis_id"].isin(kept).to_numpy(dtype=bool)
    theirs = staff[concerned]
    at = [kept[person].union(json.loads(schools)) for person, schools in zip(theirs["sis_id"], theirs["school_ids"], strict=True)]
    return pd.concat([staff[~concerned], _at_schools(theirs, at)], ignore_index=True)


def _needed(name: str, wanted: pd.DataFrame, seen: Mapping[str, pd.DataFrame], now: Roster) -> set[str]:
    """The schools that stay because of records that only rejected rows speak of, and that need them."""
    held, key = _spoken_for(name, seen, now), ENTITIES[name].key[0]
    kept = held[~arrow.is_in(array_of(held[key]), array_of(wanted[key]))]
    return {school for column in ("school_id", "sis_school_id") if column in kept.columns for school in kept[column]}


def _spoken_for(name: str, seen: Mapping[str, pd.DataFrame], now: Roster) -> pd.DataFrame:
    """The records that rejected rows may mean, as they are now."""
    rejected, held = seen.get(name), now.entities[name]
    if rejected is None or not len(rejected):
        return held.iloc[:0]
    key = ENTITIES[name].key[0]
    meant = held["active"].to_numpy(dtype=bool)
    return held[meant if rejected[key].isna().any() else meant & arrow.is_in(array_of(held[key]), array_of(rejected[key]))]
