"""Cells of a table as the format means them, and what they must be: values in the format's spelling, then pandera, from schemas built of the contract."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.pandas as pap
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.findings import Reading
from sftp_ingest.model import Frames
from sftp_ingest.roster import arrow, shelf, values
from sftp_ingest.roster.arrow import TEXT, Mask, array_of, is_in
from sftp_ingest.roster.contract import Check, Contract, Field, Table
from sftp_ingest.roster.court import SHOWN_VALUES, Court, Rows, distinct

SHOWN_READINGS = 50
"""How many distinct texts of a vocabulary column a finding shows, with what each was read as."""

MOST_UNKNOWN = 25
"""A column with more unknown texts than this is no vocabulary: names may have slipped into it, and none of them is shown."""

FEWEST_UNKNOWN, FEWEST_SENSITIVE = 2, 5
"""In fewer rows than these a text that was not wholly understood, or any text of a sensitive column, is not shown: it may tell of one person."""

_PERSONAL = re.compile(r"@|[0-9]{5}|[0-9][-/.][0-9]+[-/.][0-9]")  # an e-mail, a long number, a date


def in_the_formats_words(frames: Frames, contract: Contract) -> Frames:
    """The frames with a district's own words read as it says; keys of rows that were not read stand under both, as either may be meant."""
    tables, unread = dict(frames.tables), dict(frames.unread)
    for name, frame in frames.tables.items():
        table = contract.tables[name]
        words = {each.column: dict(each.values) for each in table.fields if each.values}
        read = {column: _in_words(frame[column], meant) for column, meant in words.items() if column in frame.columns}
        if read:
            tables[name] = frame.assign(**read)
        if meant := {column: _in_words(unread[name][column], words[column]) for column in table.key if column in words}:
            both = pd.concat([unread[name], unread[name].assign(**meant)])
            unread[name] = both[~both.duplicated()]
    return replace(frames, tables=tables, unread=unread)


def _in_words(cells: pd.Series, meant: Mapping[str, str]) -> pd.Series:
    encoded = arrow.encoded(array_of(cells))
    read = encoded.with_texts([meant.get(text, text) for text in encoded.texts.to_pylist()])
    return pd.Series(pd.array(read, dtype=TEXT), index=cells.index)


def check_grades_as_clever_does(court: Court, rows: Rows) -> None:
    """A grade with a leading zero is an error (contract 1.3). A school's lowest and highest are let pass: nobody is in a grade by them."""
    field = rows.table.columns.get("grade")
    if field is None or field.column not in rows.frame.columns:
        return
    zero = pc.match_substring_regex(rows.column(field.column), "^0[0-9]$").to_numpy(zero_copy_only=False)
    if zero.any():
        court.find("grade_leading_zero", rows, field.name, zero, values=distinct(rows.column(field.column), zero))


def read_values(court: Court, rows: Rows) -> None:
    """Give every column that has a fixed set of values the format's spelling; every distinct text is looked at once."""
    _fill_relationships(rows)
    rows.encode(each.column for each in rows.table.fields if each.type in court.readers)
    changed: dict[str, pa.Array] = {}
    for each in rows.table.fields:
        if each.column not in rows.frame.columns:
            continue
        if each.type == "phone":  # nearly every phone is a text of its own: these are read all at once
            changed[each.column] = shelf.put(values.phones(rows.column(each.column)))
        elif reader := court.readers.get(each.type):
            encoded = rows.encoded(each.column)
            texts = encoded.texts.to_pylist()
            meanings = [reader(text) if text else values.Meaning("") for text in texts]
            if each.type == "contact_type" and each.required:  # a word that is no keyword is no blank cell, and costs nobody his row
                meanings = [replace(meaning, value="Other") if meaning.code == values.UNKNOWN else meaning for meaning in meanings]
            _tell_readings(court, rows, each, texts, meanings, encoded.places)
            if any(meaning.value != text for meaning, text in zip(meanings, texts, strict=True)):
                changed[each.column] = shelf.put(encoded.with_texts([meaning.value for meaning in meanings]))
    if changed:
        rows.frame = rows.frame.assign(**{column: pd.Series(pd.array(cells, dtype=TEXT), index=rows.frame.index) for column, cells in changed.items()})


def _fill_relationships(rows: Rows) -> None:
    """Where a contact's relationship is blank and his type tells it, as `Mother` does, it is taken from there (contract 1.6.8)."""
    columns = {each.type: each.column for each in rows.table.fields if each.type in ("contact_type", "relationship")}
    if len(columns) < 2 or columns["contact_type"] not in rows.frame.columns:
        return
    encoded = rows.encoded(columns["contact_type"])
    told = encoded.with_texts([values.relationship_of_type(text) for text in encoded.texts.to_pylist()])
    if columns["relationship"] in rows.frame.columns:
        sent = rows.column(columns["relationship"])
        told = pc.if_else(pc.equal(sent, ""), told, sent)
    rows.frame = rows.frame.assign(**{columns["relationship"]: pd.Series(pd.array(told, dtype=TEXT), index=rows.frame.index)})


def _tell_readings(court: Court, rows: Rows, column: Field, texts: Sequence[str], meanings: Sequence[values.Meaning], codes: npt.NDArray[np.int32]) -> None:
    """One finding for all texts of the column that deserve the same, with what each of them was read as."""
    told = {meaning.code for meaning in meanings}
    for code in (*values.NOT_UNDERSTOOD, values.EXCEL, values.CONVERTED):
        if code in told:
            at = np.array([meaning.code == code for meaning in meanings], dtype=bool)
            if code == values.UNKNOWN:
                rows.unknown[column.column] = rows.frame.index[at[codes]]
            counts = np.where(at, np.bincount(codes, minlength=len(texts)), 0)
            court.find(code, rows, column.name, at[codes], readings=_shown(column, code, texts, meanings, counts))


def _shown(column: Field, code: str, texts: Sequence[str], meanings: Sequence[values.Meaning], counts: npt.NDArray[np.int64]) -> list[Reading]:
    """What the counted texts became, as far as it may be shown, most frequent first: no date, and nothing that may be a person's (law 10)."""
    doubtful = code == values.UNKNOWN or column.type in values.KEYWORDS
    if column.type in values.DATES or (doubtful and np.count_nonzero(counts) > MOST_UNKNOWN):
        return []
    fewest = FEWEST_SENSITIVE if column.sensitive else FEWEST_UNKNOWN if doubtful else 1
    places = [place for place in np.flatnonzero(counts >= fewest).tolist() if not (doubtful and _PERSONAL.search(texts[place]))]
    places.sort(key=lambda place: (-counts[place], texts[place]))
    return [Reading(texts[place][:40], meanings[place].value[:40], int(counts[place])) for place in places[:SHOWN_READINGS]]


def check_cells(court: Court, rows: Rows) -> None:
    """What cells must be, by pandera; the masks give exact counts, the failure cases are not needed."""
    try:
        _schema(rows.table, rows.frame).validate(rows.frame, lazy=True)
    except pap.errors.SchemaErrors as faults:
        names = {each.column: each.name for each in rows.table.fields}
        own = {each.name: each for each in rows.table.checks}
        for fault in faults.schema_errors:
            failed = ~np.asarray(fault.check_output, dtype=bool)
            column = names.get(str(fault.schema.name), str(fault.schema.name))
            check = own.get(str(fault.check.title))
            if check is None:
                court.find(str(fault.check.name), rows, column, failed, hint=fault.check.error or "")
            else:
                court.find(str(fault.check.name), rows, column, failed, values=[check.name], hint=check.advice, severity=check.severity)


def _schema(table: Table, frame: pd.DataFrame) -> pap.DataFrameSchema:
    """The contract's table as a pandera schema over the columns that are there."""
    checks = {each.column: _checks(each) for each in table.fields if each.column in frame.columns}
    for check in table.checks:
        if check.column in frame.columns and (not check.other or check.other in frame.columns):
            holds = _own(check, table, frame)
            checks.setdefault(check.column, []).append(pap.Check(holds, name="check_failed", title=check.name, n_failure_cases=1))
    return pap.DataFrameSchema({column: pap.Column(TEXT, each) for column, each in checks.items()})


Holds = Callable[[pd.Series], pd.Series]
"""Tells of every cell of a column whether it is as it should be."""


def _checks(each: Field) -> list[pap.Check]:
    checks = []
    if each.required:
        checks.append(pap.Check(_filled, name="value_missing", n_failure_cases=1))
    pattern = each.pattern or values.PATTERNS.get(each.type, "")
    if pattern:
        checks.append(pap.Check(_like(pattern), name="value_malformed", n_failure_cases=1))
    if each.enum:
        shown = ", ".join(each.enum[:SHOWN_VALUES]) + (" and others" if len(each.enum) > SHOWN_VALUES else "")
        checks.append(pap.Check(_among(each.enum), name="value_malformed", error=f"allowed are {shown}", n_failure_cases=1))
    if each.min_length or each.max_length:
        bounds = " and ".join([*([f"at least {each.min_length}"] if each.min_length else []), *([f"at most {each.max_length}"] if each.max_length else [])])
        checks.append(pap.Check(_long(each.min_length, each.max_length), name="value_malformed", error=f"{bounds} characters", n_failure_cases=1))
    return checks


def _filled(series: pd.Series) -> pd.Series:
    return _answer(series, pc.not_equal(array_of(series), ""))


def _like(pattern: str) -> Holds:
    expression = f"^(?:{pattern})?$"
    return lambda series: _answer(series, pc.match_substring_regex(array_of(series), expression))


def _among(allowed: Sequence[str]) -> Holds:
    return lambda series: _answer(series, is_in(array_of(series), pa.array([*allowed, ""], pa.string())))


def _long(least: int, most: int) -> Holds:
    def check(series: pd.Series) -> pd.Series:
        length = pc.utf8_length(array_of(series)).to_numpy(zero_copy_only=False)
        return _answer(series, (length == 0) | ((length >= least) & (length <= (most or length))))

    return check


def _answer(series: pd.Series, holds: pa.Array | Mask) -> pd.Series:
    return pd.Series(holds if isinstance(holds, np.ndarray) else holds.to_numpy(zero_copy_only=False), index=series.index)


# ---------------------------------------------------------------- a district's own checks


def _own(check: Check, table: Table, frame: pd.DataFrame) -> Holds:
    if check.pattern:
        return _like(check.pattern)
    if check.enum:
        return _among(check.enum)
    if check.unique:
        return lambda series: _answer(series, _unshared(array_of(series), frame[list(table.key)]))
    type = table.columns[check.column].type if check.column in table.columns else "string"
    if not check.relation:
        return lambda series: _answer(series, _within(array_of(series), check, type))
    return lambda series: _answer(series, _related(array_of(series), check.relation, array_of(frame[check.other]), type))


def _unshared(cells: pa.Array, keys: pd.DataFrame) -> Mask:
    """Which cells are blank or belong to one record alone, in however many rows it stands."""
    blank = pc.equal(cells, "").to_numpy(zero_copy_only=False)
    cell = cells.dictionary_encode().indices.to_numpy().astype(np.int64)
    record = keys.groupby(list(keys.columns), sort=False).ngroup().to_numpy().astype(np.int64) if len(keys.columns) else np.arange(len(keys))
    pairs = np.sort(cell * (len(keys) + 1) + record)
    owned = pairs[arrow.begins_of(pairs)] // (len(keys) + 1)
    alone: Mask = blank | (np.bincount(owned, minlength=1)[cell] == 1)
    return alone


def _within(cells: pa.Array, check: Check, type: str) -> Mask:
    rank, silent = _ranks(cells, type)
    least = -np.inf if check.minimum is None else check.minimum
    most = np.inf if check.maximum is None else check.maximum
    within: Mask = silent | ((rank >= least) & (rank <= most))
    return within


def _related(cells: pa.Array, relation: str, others: pa.Array, type: str) -> Mask:
    """Which pairs stand in the relation; a blank on either side says nothing against it."""
    if relation in ("==", "!="):
        same = pc.equal(cells, others).to_numpy(zero_copy_only=False)
        blank = pc.or_(pc.equal(cells, ""), pc.equal(others, "")).to_numpy(zero_copy_only=False)
        alike: Mask = blank | (same if relation == "==" else ~same)
        return alike
    (left, left_silent), (right, right_silent) = _ranks(cells, type), _ranks(others, type)
    compared: Mask = {">=": left >= right, "<=": left <= right, ">": left > right, "<": left < right}[relation]
    return left_silent | right_silent | compared


def _ranks(cells: pa.Array, type: str) -> tuple[npt.NDArray[np.float64], Mask]:
    """Where each cell stands in the order of its type, and which say nothing of an order. A cell that should be a number and is none has no rank."""
    if type == "grade":
        rank = pc.index_in(cells, value_set=pa.array(values.GRADES[: values.GRADES.index("Ungraded")], pa.string()))
        return rank.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False), rank.is_null().to_numpy(zero_copy_only=False)
    dated = type in values.DATES
    readable = pc.match_substring_regex(cells, r"^\d{4}-\d{2}-\d{2}$" if dated else r"^[+-]?(\d{1,300}(\.\d*)?|\.\d+)$")
    digits = pc.if_else(readable, pc.replace_substring(cells, "-", "") if dated else pc.utf8_ltrim(cells, characters="+"), None)
    silent = pc.invert(readable) if dated else pc.equal(cells, "")
    return digits.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False), silent.to_numpy(zero_copy_only=False)
