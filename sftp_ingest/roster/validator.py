"""Frames become a verdict: which rows may be believed, which are left out, and which keys were seen all the same.

Cells are checked by pandera, from schemas built of the contract; keys and references between files by set operations on Arrow arrays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.pandas as pap
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.findings import SAMPLE_LINES, Finding, Reading, Severity, finding, refuses
from sftp_ingest.model import FileShape, Frames, Rejections, Verdict
from sftp_ingest.roster import arrow, causes, contacts, values
from sftp_ingest.roster.arrow import TEXT, Mask, array_of, is_in, key_of
from sftp_ingest.roster.contract import Check, Contract, Field, Reference, Table

SHOWN_VALUES = 10
"""How many distinct values of an id column a finding shows."""

SHOWN_READINGS = 50
"""How many distinct texts of a vocabulary column a finding shows, with what each was read as."""

MOST_UNKNOWN = 25
"""A column with more unknown texts than this is no vocabulary: names may have slipped into it, and none of them is shown."""

MEMBERSHIPS = frozenset({"enrollments", "section_teachers"})
"""Tables whose rows say nothing but that two records belong together: to say it again, in whatever words, is harmless."""

SEPARATE_VALUES = 20
"""How many unknown parents are told one by one, each with the rows it takes along; the rest share a finding."""

FEWEST_UNKNOWN, FEWEST_SENSITIVE = 2, 5
"""In fewer rows than these a text that was not wholly understood, or any text of a sensitive column, is not shown: it may tell of one person."""

_PERSONAL = re.compile(r"@|[0-9]{5}|[0-9][-/.][0-9]+[-/.][0-9]")  # an e-mail, a long number, a date


@dataclass(frozen=True)
class Ids:
    """Of one kind of records: the ids that the district has now, with the source of each, and all that it ever had, those that left among them."""

    standing: pa.Array
    sources: pa.Array
    ever: pa.Array


_NO_IDS = Ids(pa.array([], pa.string()), pa.array([], pa.string()), pa.array([], pa.string()))

_SINGULAR = {"schools": "school", "students": "student", "teachers": "teacher", "sections": "section", "staff": "staff"}


@dataclass
class _Rows:
    """One table while it is judged: `cause` has, per row, the index + 1 into `labels` of what rejected it, or 0."""

    table: Table
    file: str
    frame: pd.DataFrame
    cause: npt.NDArray[np.int32]
    labels: list[str] = field(default_factory=list)
    doubted: dict[str, pd.Index] = field(default_factory=dict)
    """Key column → lines whose cell names a record that never was, so that whom the row meant is unknown."""
    _encoded: dict[str, arrow.Encoded] = field(default_factory=dict)
    _encoded_of: pd.DataFrame | None = None

    @property
    def kept(self) -> Mask:
        kept: Mask = self.cause == 0
        return kept

    def column(self, name: str) -> pa.Array:
        return array_of(self.frame[name])

    def encoded(self, name: str) -> arrow.Encoded:
        """The column by its distinct texts, found once for as long as the frame is the same."""
        if self._encoded_of is not self.frame:
            self._encoded, self._encoded_of = {}, self.frame
        if name not in self._encoded:
            self._encoded[name] = arrow.encoded(self.column(name))
        return self._encoded[name]

    def lines(self, mask: Mask) -> list[int]:
        return [int(line) for line in self.frame.index[np.flatnonzero(mask)[:SAMPLE_LINES]]]

    def reject(self, mask: Mask, label: str) -> None:
        self.labels.append(label)
        self.cause[mask & self.kept] = len(self.labels)


@dataclass
class _Court:
    """What all tables share while a delivery is judged."""

    strict: bool
    known: Mapping[str, Ids]
    findings: list[Finding]
    readers: Mapping[str, values.Reader]
    done: dict[str, _Rows] = field(default_factory=dict)
    unread: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    faulty: Mapping[str, Rejections] = field(default_factory=dict)

    def of(self, records: str) -> list[_Rows]:
        """The tables that hold records of a kind, as far as they have been judged."""
        return [rows for rows in self.done.values() if rows.table.records == records]

    def find(
        self,
        code: str,
        rows: _Rows,
        column: str,
        mask: Mask,
        *,
        values: Sequence[str] = (),
        hint: str = "",
        cause: str = "",
        readings: Sequence[Reading] = (),
        severity: Severity | None = None,
    ) -> Finding:
        """Note a finding on the masked rows, and reject them where its severity says so."""
        found = finding(
            code,
            rows.file,
            column,
            rows.lines(mask),
            count=int(mask.sum()),
            values=values,
            hint=hint,
            cause=cause,
            readings=readings,
            severity=severity,
            strict=self.strict,
        )
        self.findings.append(found)
        if found.severity != "warn":
            rows.reject(mask, cause or found.label)
        return found


def validate(
    frames: Frames,
    contract: Contract,
    *,
    today: date,
    strict: bool = False,
    known: Mapping[str, Ids] | None = None,
    before: Mapping[str, FileShape] | None = None,
) -> Verdict:
    """Judge every row, with dates as they are understood on the day of the delivery.

    `known` are the district's ids by table: a row may refer to a record that stands, though its own row is rejected tonight.
    `before` are the shapes of the files applied last, by which cells that stand in a wrong column are recognised.
    """
    frames = _in_the_formats_words(frames, contract)
    unread = {name: _unread(contract.tables[name], keys, known or {}) for name, keys in frames.unread.items()}
    court = _Court(strict, known or {}, list(frames.findings), values.readers(today), unread=unread, faulty=frames.faulty)
    for name, table in contract.tables.items():
        if name not in frames.tables:
            continue
        frame = frames.tables[name]
        rows = _Rows(table, table.file, frame, np.zeros(len(frame), dtype=np.int32))
        if table.sorts and len(frame):  # what no table took: nobody knows what these rows speak of
            court.find("kind_unknown", rows, table.sorts, rows.kept)
            court.done[name] = rows
            continue
        if strict:
            _check_grades_as_clever_does(court, rows)
        _read_values(court, rows)
        _check_cells(court, rows)
        for reference in table.references:
            _check_reference(court, rows, reference)
        if table.key:
            _check_keys(court, rows)
        if name == "students":
            _check_contacts(court, rows)
        court.done[name] = rows
    for name, table in contract.tables.items():
        if name in court.done and table.records:
            _drop_overridden(court, court.done[name])
    _check_sections_have_students(court)
    findings = causes.explained(court.findings, contract.tables, frames.tables, before or {})
    return Verdict(
        tables={name: rows.frame if rows.kept.all() else rows.frame[rows.kept] for name, rows in court.done.items()},
        findings=causes.with_left_out(findings, [causes.Judged(each.table, each.frame, each.cause, each.labels) for each in court.done.values()]),
        seen={name: _seen(rows, unread[name]) for name, rows in court.done.items()},
        rows=frames.rows,
        rejected={name: int((~rows.kept).sum()) + frames.rows[name] - len(rows.frame) for name, rows in court.done.items()},
        rejections=_rejections(list(court.done.values()), frames.faulty),
        aside=frames.aside,
        refused=refuses(court.findings),
        gone=frames.gone,
    )


# ---------------------------------------------------------------- cells


def _in_the_formats_words(frames: Frames, contract: Contract) -> Frames:
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
    encoded = array_of(cells).dictionary_encode()
    texts = pa.array([meant.get(text, text) for text in encoded.dictionary.to_pylist()], pa.string())
    return pd.Series(pd.array(texts.take(encoded.indices), dtype=TEXT), index=cells.index)


def _check_grades_as_clever_does(court: _Court, rows: _Rows) -> None:
    """A grade with a leading zero is an error (contract 1.3). A school's lowest and highest are let pass: nobody is in a grade by them."""
    field = rows.table.columns.get("grade")
    if field is None or field.column not in rows.frame.columns:
        return
    zero = pc.match_substring_regex(rows.column(field.column), "^0[0-9]$").to_numpy(zero_copy_only=False)
    if zero.any():
        court.find("grade_leading_zero", rows, field.name, zero, values=_distinct(rows.column(field.column), zero))


def _read_values(court: _Court, rows: _Rows) -> None:
    """Give every column that has a fixed set of values the format's spelling; every distinct text is looked at once."""
    _fill_relationships(rows)
    changed: dict[str, pa.Array] = {}
    for each in rows.table.fields:
        if each.column not in rows.frame.columns:
            continue
        if each.type == "phone":  # nearly every phone is a text of its own: these are read all at once
            changed[each.column] = values.phones(rows.column(each.column))
        elif reader := court.readers.get(each.type):
            encoded = rows.column(each.column).dictionary_encode()
            texts = encoded.dictionary.to_pylist()
            meanings = [reader(text) if text else values.Meaning("") for text in texts]
            if each.type == "contact_type" and each.required:  # a word that is no keyword is no blank cell, and costs nobody his row
                meanings = [replace(meaning, value="Other") if meaning.code == values.UNKNOWN else meaning for meaning in meanings]
            _tell_readings(court, rows, each, texts, meanings, encoded.indices.to_numpy())
            if any(meaning.value != text for meaning, text in zip(meanings, texts, strict=True)):
                changed[each.column] = pa.array([meaning.value for meaning in meanings], pa.string()).take(encoded.indices)
    if changed:
        rows.frame = rows.frame.assign(**{column: pd.Series(pd.array(cells, dtype=TEXT), index=rows.frame.index) for column, cells in changed.items()})


def _fill_relationships(rows: _Rows) -> None:
    """Where a contact's relationship is blank and his type tells it, as `Mother` does, it is taken from there (contract 1.6.8)."""
    columns = {each.type: each.column for each in rows.table.fields if each.type in ("contact_type", "relationship")}
    if len(columns) < 2 or columns["contact_type"] not in rows.frame.columns:
        return
    encoded = rows.column(columns["contact_type"]).dictionary_encode()
    told = pa.array([values.relationship_of_type(text) for text in encoded.dictionary.to_pylist()], pa.string()).take(encoded.indices)
    if columns["relationship"] in rows.frame.columns:
        sent = rows.column(columns["relationship"])
        told = pc.if_else(pc.equal(sent, ""), told, sent)
    rows.frame = rows.frame.assign(**{columns["relationship"]: pd.Series(pd.array(told, dtype=TEXT), index=rows.frame.index)})


def _tell_readings(court: _Court, rows: _Rows, column: Field, texts: Sequence[str], meanings: Sequence[values.Meaning], codes: npt.NDArray[np.int32]) -> None:
    """One finding for all texts of the column that deserve the same, with what each of them was read as."""
    told = {meaning.code for meaning in meanings}
    for code in (values.UNKNOWN, values.EXCEL, values.CONVERTED):
        if code in told:
            at = np.array([meaning.code == code for meaning in meanings], dtype=bool)
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


def _check_cells(court: _Court, rows: _Rows) -> None:
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
    owned = pairs[np.diff(pairs, prepend=-1) != 0] // (len(keys) + 1)
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


# ---------------------------------------------------------------- references


def _check_reference(court: _Court, rows: _Rows, reference: Reference) -> None:
    """Every cell of the column names a record that is believed tonight, or one that stands although its row was rejected."""
    parents = court.of(reference.table)
    if not parents or reference.column not in rows.frame.columns:
        return
    names = {each.column: each.name for each in rows.table.fields}
    cells = rows.column(reference.column)
    believed = [parent.column(parent.table.key[0]).filter(pa.array(parent.kept)) for parent in parents]
    rejected = pa.concat_arrays([parent.column(parent.table.key[0]).filter(pa.array(~parent.kept)) for parent in parents])
    unread = pa.concat_arrays([array_of(court.unread[parent.table.name].iloc[:, 0]).drop_null() for parent in parents])
    ids = court.known.get(reference.table, _NO_IDS)
    seen = pd.concat([_seen(parent, court.unread[parent.table.name]).iloc[:, 0] for parent in parents], ignore_index=True)
    # of a file that was not delivered tonight nothing is known: what stands of it still stands
    elsewhere = ids.standing.filter(pc.invert(pc.is_in(ids.sources, value_set=pa.array([parent.table.source for parent in parents]))))
    # a row whose id cannot be read may be anybody's: then all that stand are excused
    excused = ids.standing if seen.isna().any() else ids.standing.filter(pc.is_in(ids.standing, value_set=array_of(seen)))
    known = pa.concat_arrays([*believed, elsewhere, excused])
    wrong = ~rows.encoded(reference.column).are_in(pa.concat_arrays([known, pa.array([""])]))
    if reference.also:
        wrong &= ~is_in(pc.utf8_lower(cells), pa.array(reference.also, pa.string()))
    if not wrong.any():
        return
    if reference.optional:
        reason = causes.likely(cells.filter(pa.array(wrong)), known)
        court.find("coteacher_unknown", rows, names[reference.column], wrong, values=_distinct(cells, wrong), hint=reason.sentence)
        cleared = pc.if_else(pa.array(wrong), "", cells)
        rows.frame = rows.frame.assign(**{reference.column: pd.Series(pd.array(cleared, dtype=TEXT), index=rows.frame.index)})
        return
    wrong &= rows.kept
    unseen = wrong & ~is_in(cells, rejected)
    inherited = wrong & (~unseen | is_in(cells, unread))
    if inherited.any():
        _reject_with_parents(court, rows, names[reference.column], cells, inherited, parents)
    if reference.column in rows.table.key and unseen.any():
        rows.doubted[reference.column] = rows.frame.index[unseen & ~is_in(cells, ids.ever)]
    unknown = wrong & ~inherited
    if unknown.any():
        _reject_unknown(court, rows, reference, names[reference.column], cells, unknown, pa.concat_arrays([known, ids.standing]))


def _reject_with_parents(court: _Court, rows: _Rows, column: str, cells: pa.Array, mask: Mask, parents: Sequence[_Rows]) -> None:
    """Rows whose parent was left out, or could not even be read, follow it under the parent's own cause."""
    for parent in parents:
        at = np.flatnonzero(~parent.kept)
        unread = court.unread[parent.table.name].iloc[:, 0]
        why, further = _causes_of(unread.index.to_numpy(dtype=np.int64), _left_behind(court, parent))
        labels = [*parent.labels, *further]
        of_parent = np.concatenate((parent.cause[at], (why[why >= 0] + len(parent.labels) + 1).astype(np.int32)))
        gone = pa.concat_arrays([parent.column(parent.table.key[0]).take(pa.array(at)), array_of(unread[why >= 0])])
        position = pc.index_in(cells, value_set=gone).fill_null(-1).to_numpy(zero_copy_only=False)
        here = mask & (position >= 0)
        of_row = np.where(here, of_parent[position], 0) if len(of_parent) else np.zeros(len(mask), dtype=np.int32)
        by_label: dict[str, Mask] = {}
        for cause in np.unique(of_row[here]).tolist():
            label = labels[cause - 1]
            by_label[label] = by_label.get(label, np.zeros(len(mask), dtype=bool)) | (of_row == cause)
        for label, hit in by_label.items():
            court.find("parent_rejected", rows, column, hit, cause=label)
        mask = mask & ~here


def _left_behind(court: _Court, parent: _Rows) -> Rejections | None:
    """The lines of the parent's file that are in none of its tables: they could not be read, or do not say where they belong."""
    parts = [each for each in (court.faulty.get(parent.file),) if each is not None]
    unsorted = court.done.get(parent.table.of)
    if unsorted is not None:
        parts.append(Rejections(unsorted.frame.index.to_numpy(dtype=np.int64), unsorted.cause - 1, tuple(unsorted.labels)))
    return _joined(parts) if parts else None


def _causes_of(lines: npt.NDArray[np.int64], faulty: Rejections | None) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """For each line of a row that could not be read, the place of its finding in the labels, or -1 for a row that was read all the same."""
    if faulty is None or not len(lines):
        return np.full(len(lines), -1), ()
    order = np.argsort(faulty.lines, kind="stable")
    at = np.minimum(np.searchsorted(faulty.lines[order], lines), len(order) - 1)
    return np.where(faulty.lines[order][at] == lines, faulty.causes[order][at], -1), faulty.labels


def _reject_unknown(court: _Court, rows: _Rows, reference: Reference, column: str, cells: pa.Array, mask: Mask, known: pa.Array) -> None:
    """One finding an unknown parent, most rows first, so that the one wrong school is seen at once."""
    code = f"{_SINGULAR[reference.table]}_unknown"
    reason = causes.likely(cells.filter(pa.array(mask)), known)
    if reference.table == "students":  # each student is unknown by himself: one finding for all
        court.find(code, rows, column, mask, values=_distinct(cells, mask), hint=reason.sentence)
        return
    counted = pc.value_counts(cells.filter(pa.array(mask)))
    ranked = sorted(zip(counted.field("counts").to_pylist(), counted.field("values").to_pylist(), strict=True), key=lambda pair: (-pair[0], pair[1]))
    rest = mask.copy()
    for _, value in ranked[:SEPARATE_VALUES]:
        hit = mask & pc.equal(cells, value).to_numpy(zero_copy_only=False)
        rest &= ~hit
        court.find(code, rows, column, hit, values=[value], hint=reason.hint(value))
    if rest.any():
        court.find(code, rows, column, rest, values=_distinct(cells, rest), hint=reason.sentence)


# ---------------------------------------------------------------- keys


def _check_keys(court: _Court, rows: _Rows) -> None:
    """One record a key. Repeated rows are harmless where nothing but the columns that may repeat differs."""
    table = rows.table
    group = arrow.groups([rows.encoded(column) for column in table.key])
    kept = np.flatnonzero(rows.kept & arrow.more_than_once(group))
    if not len(kept):
        return
    _, first, of_group = np.unique(group[kept], return_index=True, return_inverse=True)
    first_of = kept[first[of_group]]
    later, first_of = kept[first_of != kept], first_of[first_of != kept]
    if not len(later):
        return
    pairs = [pa.array(later), pa.array(first_of)]
    differs = {
        column: pc.not_equal(*(rows.column(column).take(each) for each in pairs)).to_numpy(zero_copy_only=False)
        for column in rows.frame.columns
        if column not in table.key
    }
    own = np.zeros(len(later), dtype=bool)
    repeated = np.zeros(len(later), dtype=bool)
    for column, different in differs.items():
        if table.repeats(column):
            repeated |= different
        else:
            own |= different

    def tell(code: str, column: str, at: Mask) -> None:
        if at.any():
            mask = np.zeros(len(rows.frame), dtype=bool)
            mask[later[at]] = True
            court.find(code, rows, column, mask)

    key = next(each.name for each in table.fields if each.column == table.key[0])
    if table.records in MEMBERSHIPS:
        return _drop_repeated(court, rows, later)
    if not table.repeat:
        tell("id_duplicate", key, own)
        return _drop_repeated(court, rows, later[~own])
    elsewhere = np.zeros(len(later), dtype=bool) if table.repeats("school_id") else differs["school_id"]
    tell("id_duplicate", key, elsewhere)
    tell("rows_differ", key, own & ~elsewhere)
    return _drop_repeated(court, rows, later[~own & ~repeated])


def _drop_repeated(court: _Court, rows: _Rows, at: npt.NDArray[np.int64]) -> None:
    """Leave out rows that say nothing new; that rejects nothing."""
    if not len(at):
        return
    mask = np.zeros(len(rows.frame), dtype=bool)
    mask[at] = True
    court.find("row_repeated", rows, "", mask)
    rows.frame, rows.cause = rows.frame[~mask], rows.cause[~mask]


def _drop_overridden(court: _Court, rows: _Rows) -> None:
    """Leave out records that a table of a lower rank has too, be its row valid or not: which of the two counts must not hang on a fault."""
    table = rows.table
    before = [each for each in court.of(table.records) if each.table.rank < table.rank]
    if not before or not len(rows.frame):
        return
    taken = [_key(frame, table.key) for each in before for frame in (each.frame, court.unread[each.table.name].dropna())]
    again = is_in(_key(rows.frame, table.key), pa.concat_arrays(taken))
    if again.any():
        court.find("record_overridden", rows, next(each.name for each in table.fields if each.column == table.key[0]), again)
        rows.frame, rows.cause = rows.frame[~again], rows.cause[~again]


def _key(frame: pd.DataFrame, key: Sequence[str]) -> pa.Array:
    return key_of([array_of(frame[column]) for column in key])


def _check_contacts(court: _Court, rows: _Rows) -> None:
    """Contacts without name or type, one id for two people, and more contacts than Clever takes (contract 1.5, 1.10.2); the students stay."""
    columns = [column for column in rows.frame.columns if column.startswith("contact_")]
    if "contact_name" not in columns:
        return
    nameless = pc.equal(rows.column("contact_name"), "").to_numpy(zero_copy_only=False)
    told = np.zeros(len(nameless), dtype=bool)
    for column in columns:
        told |= pc.not_equal(rows.column(column), "").to_numpy(zero_copy_only=False)
    if (nameless & told).any():
        court.find("contact_incomplete", rows, "Contact_name", nameless & told)
    untyped = ~nameless & rows.kept
    if "contact_type" in columns:
        untyped &= pc.equal(rows.column("contact_type"), "").to_numpy(zero_copy_only=False)
    if untyped.any():
        court.find("contact_type_missing", rows, "Contact_type", untyped)
        if court.strict:  # left out as one without a name is
            cleared = pc.if_else(pa.array(untyped), "", rows.column("contact_name"))
            rows.frame = rows.frame.assign(contact_name=pd.Series(pd.array(cleared, dtype=TEXT), index=rows.frame.index))
    named = rows.kept & pc.not_equal(rows.column("contact_name"), "").to_numpy(zero_copy_only=False)
    if "contact_sis_id" in columns:
        _check_shared_contacts(court, rows, named & pc.not_equal(rows.column("contact_sis_id"), "").to_numpy(zero_copy_only=False))
    _check_many_contacts(court, rows, named)


def _check_shared_contacts(court: _Court, rows: _Rows, mask: Mask) -> None:
    """One Contact_sis_id is one person, who has one name."""
    at = np.flatnonzero(mask)
    of_row = rows.encoded("contact_sis_id").places[at]
    first = np.zeros(len(rows.encoded("contact_sis_id").texts), dtype=np.int64)
    first[of_row[::-1]] = at[::-1]
    names = rows.column("contact_name")
    differs = pc.not_equal(names.take(pa.array(at)), names.take(pa.array(first[of_row]))).to_numpy(zero_copy_only=False)
    shared = mask & np.isin(rows.encoded("contact_sis_id").places, np.unique(of_row[differs]))
    if shared.any():
        court.find("contact_id_shared", rows, "Contact_sis_id", shared, values=_distinct(rows.column("contact_sis_id"), shared))


def _check_many_contacts(court: _Court, rows: _Rows, mask: Mask) -> None:
    """Several rows may be one contact, so only students with more rows than Clever takes contacts are looked at closely."""
    at = np.flatnonzero(mask)
    students = rows.encoded("student_id").places[at]
    at = at[np.bincount(students)[students] > contacts.MOST] if len(at) else at
    if not len(at):
        return
    blank = pd.array(pa.repeat("", len(at)), dtype=TEXT)
    there = rows.frame.iloc[at]
    told = {column: there[f"contact_{column}"].array if f"contact_{column}" in there.columns else blank for column in contacts.CELLS}
    student, contact = (
        each.dictionary_encode() for each in (array_of(there["student_id"]), contacts.ids(pd.DataFrame({"student_id": there["student_id"].array, **told})))
    )
    of_student = np.unique(student.indices.to_numpy().astype(np.int64) * len(contact.dictionary) + contact.indices.to_numpy()) // len(contact.dictionary)
    _, first = np.unique(student.indices.to_numpy(), return_index=True)
    many = np.zeros(len(mask), dtype=bool)
    many[at[first[np.bincount(of_student) > contacts.MOST]]] = True
    if many.any():
        court.find("contacts_many", rows, "Student_id", many)


def _check_sections_have_students(court: _Court) -> None:
    """Clever drops a section without a valid student (contract 1.4.4); here it is kept with a warning unless the district is strict."""
    enrollments = court.of("enrollments")
    for sections in court.of("sections") if enrollments else ():
        if any(court.unread[each.table.name].isna().all(axis=1).any() for each in enrollments):
            return  # a row of which nothing can be read may be of any section
        empty = sections.kept
        for each in enrollments:
            empty &= ~is_in(sections.column("section_id"), each.encoded("section_id").texts)
        if empty.any():
            court.find("section_without_students", sections, "Section_id", empty, values=_distinct(sections.column("section_id"), empty))


def _rejections(judged: Sequence[_Rows], faulty: Mapping[str, Rejections]) -> dict[str, Rejections]:
    """All lines of each file that are left out, in order and each once; those that never got into a frame among them."""
    parts: dict[str, list[Rejections]] = {}
    for rows in judged:
        at = np.flatnonzero(rows.cause)
        parts.setdefault(rows.file, []).append(Rejections(rows.frame.index.to_numpy(dtype=np.int64)[at], rows.cause[at] - 1, tuple(rows.labels)))
    for file, unread in faulty.items():
        parts.setdefault(file, []).append(unread)
    joined = {file: _joined(each) for file, each in parts.items()}
    return {file: each for file, each in joined.items() if len(each.lines)}


def _joined(parts: Sequence[Rejections]) -> Rejections:
    begins = np.cumsum([0, *(len(each.labels) for each in parts)]).tolist()
    causes = np.concatenate([each.causes + np.int32(begin) for each, begin in zip(parts, begins, strict=False)])
    lines, first = np.unique(np.concatenate([each.lines for each in parts]), return_index=True)
    return Rejections(lines, causes[first], tuple(label for each in parts for label in each.labels))


def _seen(rows: _Rows, unread: pd.DataFrame) -> pd.DataFrame:
    """Keys of rejected rows, those of the frame and those that never got into it; a blank or doubted part speaks for any value."""
    rejected = rows.frame.loc[~rows.kept, list(rows.table.key)]
    for column, lines in rows.doubted.items():
        rejected[column] = rejected[column].mask(rejected.index.isin(lines))
    return pd.concat([rejected.mask(rejected == ""), unread], ignore_index=True)


def _unread(table: Table, keys: pd.DataFrame, known: Mapping[str, Ids]) -> pd.DataFrame:
    """The keys of rows that could not be read. A row of which no cell names a record that ever was has lost its id: it may be anybody's."""
    named = np.ones(len(keys), dtype=bool)
    for column in table.key:
        kind = next((each.table for each in table.references if each.column == column), table.records if len(table.key) == 1 else "")
        if kind in known:
            named &= is_in(array_of(keys[column]), known[kind].ever) | keys[column].isna().to_numpy(dtype=bool)
    lost = keys.index.difference(keys.index[named])
    return pd.concat([keys, pd.DataFrame({column: pd.array([None] * len(lost), dtype=TEXT) for column in table.key}, index=lost)])


def _distinct(cells: pa.Array, mask: Mask) -> list[str]:
    shown = pc.unique(cells.filter(pa.array(mask))).slice(0, SHOWN_VALUES).to_pylist()
    return [str(value)[:40] for value in shown]
