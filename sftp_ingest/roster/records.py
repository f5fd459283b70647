"""Frames under the roster's names: what the assemblers of all formats have in common."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import pandas as pd
import pyarrow as pa

from sftp_ingest.model import ENTITIES
from sftp_ingest.roster.arrow import TEXT
from sftp_ingest.roster.contract import Table

TERM_COLUMNS = ("term_name", "term_start", "term_end")
COURSE_COLUMNS = ("course_name", "course_number")


def records_of(name: str, table: Table, frame: pd.DataFrame) -> pd.DataFrame:
    """One row a key, under the roster's names; columns that were not sent are blank."""
    if table.key:
        frame = frame[~frame.duplicated(list(table.key))]
    columns = {each.to: frame[each.column] for each in table.fields if each.column in frame.columns and each.to and not table.repeats(each.column)}
    columns["ext"] = ext_of(frame)
    if table.source:
        columns["source"] = pd.Series(pd.array(pa.repeat(table.source, len(frame)), dtype=TEXT), index=frame.index)
    if table.source == "custom" and name == "teachers":  # contract 1.9: the number of a custom teacher is his id
        columns["number"] = columns["sis_id"]
    return shaped(ENTITIES[name].columns, columns, len(frame))


def shaped(names: Sequence[str], columns: Mapping[str, pd.Series], length: int) -> pd.DataFrame:
    """A frame of `length` rows with these columns in this order, those that are not given blank."""
    blank = pd.array(pa.repeat("", length), dtype=TEXT)
    return pd.DataFrame({name: columns[name].array if name in columns else blank for name in names}, copy=False)


def ext_of(frame: pd.DataFrame) -> pd.Series:
    """The extension columns as one JSON object a row, keys in order, blanks left out."""
    names = sorted(column for column in frame.columns if column.startswith("ext."))
    if not names:
        return pd.Series(pd.array(pa.repeat("", len(frame)), dtype=TEXT), index=frame.index)
    rows = zip(*(frame[name].to_list() for name in names), strict=True)
    keys = [name.removeprefix("ext.") for name in names]
    told = [{key: value for key, value in zip(keys, row, strict=True) if value} for row in rows]
    return pd.Series(pd.array([json.dumps(each, ensure_ascii=False) if each else "" for each in told], dtype=TEXT), index=frame.index)


def derived_id(frame: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """A stable id of the columns' values together, blank where all are blank."""
    parts = [frame[column].to_list() if column in frame.columns else [""] * len(frame) for column in columns]
    known: dict[tuple[str, ...], str] = {}
    ids = []
    for values in zip(*parts, strict=True):
        if values not in known:
            known[values] = digest(*values) if any(values) else ""
        ids.append(known[values])
    return pd.Series(pd.array(ids, dtype=TEXT), index=frame.index)


def digest(*values: str) -> str:
    """Twenty hex digits of the values; JSON keeps ("a", "bc") and ("ab", "c") apart."""
    return hashlib.blake2b(json.dumps(values).encode(), digest_size=10).hexdigest()


def distinct(frame: pd.DataFrame, key: str, names: Mapping[str, str]) -> pd.DataFrame:
    """One row a derived id; of values that differ between its sections the smallest, so that the order of rows does not matter."""
    there = frame.loc[frame[key] != "", [column for column in names if column in frame.columns]]
    return there.sort_values(list(there.columns)).drop_duplicates(key).rename(columns=names)
