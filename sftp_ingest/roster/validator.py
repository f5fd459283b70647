"""Frames become a verdict: which rows may be believed, which are left out, and which keys were seen all the same.

Cells are checked by pandera, from schemas built of the contract; keys and references between files by set operations on Arrow arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.pandas as pap
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.findings import SAMPLE_LINES, Finding, finding, refuses
from sftp_ingest.model import Frames, Verdict
from sftp_ingest.roster import values
from sftp_ingest.roster.arrow import TEXT, Mask, array_of, is_in, key_of, more_than_once
from sftp_ingest.roster.contract import Contract, Field, Reference, Table

SHOWN_VALUES = 10
"""How many distinct values of an id or vocabulary column a finding shows."""

SEPARATE_VALUES = 20
"""How many unknown parents are told one by one, each with the rows it takes along; the rest share a finding."""

VOCABULARY = frozenset({"grade", "gender", "flag", "attendance", "attendance_type"})
"""Types whose cells may be shown: they say nothing of a person alone."""


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

    @property
    def kept(self) -> Mask:
        kept: Mask = self.cause == 0
        return kept

    def column(self, name: str) -> pa.Array:
        return array_of(self.frame[name])

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
    done: dict[str, _Rows] = field(default_factory=dict)
    unread: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def of(self, records: str) -> list[_Rows]:
        """The tables that hold records of a kind, as far as they have been judged."""
        return [rows for rows in self.done.values() if rows.table.records == records]

    def find(self, code: str, rows: _Rows, column: str, mask: Mask, *, values: Sequence[str] = (), hint: str = "", cause: str = "") -> Finding:
        """Note a finding on the masked rows, and reject them where its severity says so."""
        found = finding(code, rows.file, column, rows.lines(mask), count=int(mask.sum()), values=values, hint=hint, cause=cause, strict=self.strict)
        self.findings.append(found)
        if found.severity != "warn":
            rows.reject(mask, cause or found.label)
        return found


def validate(frames: Frames, contract: Contract, *, strict: bool = False, known: Mapping[str, Ids] | None = None) -> Verdict:
    """Judge every row. `known` are the district's ids by table: a row may refer to a record that stands, though its own row is rejected tonight."""
    court = _Court(strict, known or {}, list(frames.findings), unread=frames.unread)
    for name, table in contract.tables.items():
        if name not in frames.tables:
            continue
        frame = frames.tables[name]
        rows = _Rows(table, table.file, frame, np.zeros(len(frame), dtype=np.int32))
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
    return Verdict(
        tables={name: rows.frame if rows.kept.all() else rows.frame[rows.kept] for name, rows in court.done.items()},
        findings=tuple(court.findings),
        seen={name: _seen(rows, frames.unread[name]) for name, rows in court.done.items()},
        rows=frames.rows,
        rejected={name: int((~rows.kept).sum()) + frames.rows[name] - len(rows.frame) for name, rows in court.done.items()},
        rejections={},
        refused=refuses(court.findings),
        gone=frames.gone,
    )


# ---------------------------------------------------------------- cells


def _read_values(court: _Court, rows: _Rows) -> None:
    """Give vocabulary and date columns the format's spelling; every distinct text is looked at once."""
    changed: dict[str, pd.Series] = {}
    for each in rows.table.fields:
        meaning = values.CANONICAL.get(each.type)
        if meaning is None or each.column not in rows.frame.columns:
            continue
        encoded = rows.column(each.column).dictionary_encode()
        texts = encoded.dictionary.to_pylist()
        read = [meaning(text) if text else "" for text in texts]
        codes = encoded.indices.to_numpy()
        unknown = np.array([value is None for value in read], dtype=bool)
        converted = np.array([value is not None and value != text for value, text in zip(read, texts, strict=True)], dtype=bool)
        guessed = converted & np.array([each.type != "date" or values.has_short_year(text) for text in texts], dtype=bool)
        for code, at in (("value_unknown", unknown), ("value_converted", guessed)):
            if at.any():
                shown = [text for text, hit in zip(texts, at, strict=True) if hit][:SHOWN_VALUES] if each.type in VOCABULARY else []
                court.find(code, rows, each.name, at[codes], values=[text[:40] for text in shown])
        if unknown.any() or converted.any():
            spelt = pa.array([values.UNKNOWN.get(each.type, "") if value is None else value for value in read], pa.string())
            changed[each.column] = pd.Series(pd.array(spelt.take(encoded.indices), dtype=TEXT), index=rows.frame.index)
    if changed:
        rows.frame = rows.frame.assign(**changed)


def _check_cells(court: _Court, rows: _Rows) -> None:
    """Required cells and patterns, by pandera; the masks give exact counts, the failure cases are not needed."""
    try:
        _schema(rows.table, list(rows.frame.columns)).validate(rows.frame, lazy=True)
    except pap.errors.SchemaErrors as faults:
        names = {each.column: each.name for each in rows.table.fields}
        for fault in faults.schema_errors:
            failed = ~np.asarray(fault.check_output, dtype=bool)
            court.find(str(fault.check.name), rows, names[str(fault.schema.name)], failed)


def _schema(table: Table, columns: Sequence[str]) -> pap.DataFrameSchema:
    """The contract's table as a pandera schema over the columns that are there."""
    return pap.DataFrameSchema({each.column: pap.Column(TEXT, _checks(each)) for each in table.fields if each.column in columns})


def _checks(each: Field) -> list[pap.Check]:
    checks = []
    if each.required:
        checks.append(pap.Check(_filled, name="value_missing", n_failure_cases=1))
    pattern = each.pattern or values.PATTERNS.get(each.type, "")
    if pattern:
        checks.append(pap.Check(_like(pattern), name="value_malformed", n_failure_cases=1))
    return checks


def _filled(series: pd.Series) -> pd.Series:
    return pd.Series(pc.not_equal(array_of(series), "").to_numpy(zero_copy_only=False), index=series.index)


def _like(pattern: str) -> Callable[[pd.Series], pd.Series]:
    expression = f"^(?:{pattern})?$"

    def check(series: pd.Series) -> pd.Series:
        return pd.Series(pc.match_substring_regex(array_of(series), expression).to_numpy(zero_copy_only=False), index=series.index)

    return check


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
    ids = court.known.get(reference.table, _NO_IDS)
    seen = pd.concat([_seen(parent, court.unread[parent.table.name]).iloc[:, 0] for parent in parents], ignore_index=True)
    # of a file that was not delivered tonight nothing is known: what stands of it still stands
    elsewhere = ids.standing.filter(pc.invert(pc.is_in(ids.sources, value_set=pa.array([parent.table.source for parent in parents]))))
    # a row whose id cannot be read may be anybody's: then all that stand are excused
    excused = ids.standing if seen.isna().any() else ids.standing.filter(pc.is_in(ids.standing, value_set=array_of(seen)))
    known = pa.concat_arrays([*believed, elsewhere, excused])
    wrong = ~is_in(cells, known) & pc.not_equal(cells, "").to_numpy(zero_copy_only=False)
    if reference.also:
        wrong &= ~is_in(pc.utf8_lower(cells), pa.array(reference.also, pa.string()))
    if not wrong.any():
        return
    if reference.optional:
        court.find("coteacher_unknown", rows, names[reference.column], wrong, values=_distinct(cells, wrong))
        cleared = pc.if_else(pa.array(wrong), "", cells)
        rows.frame = rows.frame.assign(**{reference.column: pd.Series(pd.array(cleared, dtype=TEXT), index=rows.frame.index)})
        return
    wrong &= rows.kept
    inherited = wrong & is_in(cells, rejected)
    if inherited.any():
        _reject_with_parents(court, rows, names[reference.column], cells, inherited, parents)
    unknown = wrong & ~inherited
    if unknown.any():
        if reference.column in rows.table.key:
            rows.doubted[reference.column] = rows.frame.index[unknown & ~is_in(cells, ids.ever)]
        _reject_unknown(court, rows, reference, names[reference.column], cells, unknown, pa.concat_arrays([known, ids.standing]))


def _reject_with_parents(court: _Court, rows: _Rows, column: str, cells: pa.Array, mask: Mask, parents: Sequence[_Rows]) -> None:
    """Rows whose parent was left out follow it, under the parent's own cause."""
    for parent in parents:
        at = np.flatnonzero(~parent.kept)
        rejected = parent.column(parent.table.key[0]).take(pa.array(at))
        position = pc.index_in(cells, value_set=rejected).fill_null(-1).to_numpy(zero_copy_only=False)
        here = mask & (position >= 0)
        of_row = np.where(here, parent.cause[at][position] if len(at) else 0, 0)
        for cause in np.unique(of_row[here]).tolist():
            court.find("parent_rejected", rows, column, of_row == cause, cause=parent.labels[cause - 1])
        mask = mask & ~here


def _reject_unknown(court: _Court, rows: _Rows, reference: Reference, column: str, cells: pa.Array, mask: Mask, known: pa.Array) -> None:
    """One finding an unknown parent, most rows first, so that the one wrong school is seen at once."""
    code = f"{_SINGULAR[reference.table]}_unknown"
    if reference.table == "students":  # each student is unknown by himself: one finding for all
        court.find(code, rows, column, mask, values=_distinct(cells, mask))
        return
    counted = pc.value_counts(cells.filter(pa.array(mask)))
    ranked = sorted(zip(counted.field("counts").to_pylist(), counted.field("values").to_pylist(), strict=True), key=lambda pair: (-pair[0], pair[1]))
    rest = mask.copy()
    for _, value in ranked[:SEPARATE_VALUES]:
        hit = mask & pc.equal(cells, value).to_numpy(zero_copy_only=False)
        rest &= ~hit
        court.find(code, rows, column, hit, values=[value], hint=_resembling(value, known))
    if rest.any():
        court.find(code, rows, column, rest, values=_distinct(cells, rest))


def _resembling(value: str, known: pa.Array) -> str:
    """A known id that differs only in leading zeros, case or space: what a spreadsheet does to ids."""
    plain = pc.utf8_ltrim(pc.utf8_lower(known), characters="0 ")
    alike = known.filter(pc.equal(plain, value.lower().lstrip("0 ")))
    return f"{alike[0].as_py()} is known" if len(alike) else ""


# ---------------------------------------------------------------- keys


def _check_keys(court: _Court, rows: _Rows) -> None:
    """One record a key. Repeated rows are harmless where nothing but the columns that may repeat differs."""
    table = rows.table
    kept = np.flatnonzero(rows.kept & more_than_once([rows.column(column) for column in table.key]))
    if not len(kept):
        return
    frame = rows.frame.iloc[kept]
    codes = frame.groupby(list(table.key), sort=False).ngroup().to_numpy()
    first_of = np.unique(codes, return_index=True)[1][codes]
    later = np.flatnonzero(first_of != np.arange(len(codes)))
    if not len(later):
        return
    differs = {
        column: (frame[column].iloc[later].to_numpy(dtype=object) != frame[column].iloc[first_of[later]].to_numpy(dtype=object)) for column in frame.columns
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
            mask[kept[later[at]]] = True
            court.find(code, rows, column, mask)

    key = next(each.name for each in table.fields if each.column == table.key[0])
    if table.records == "enrollments":
        return _drop_repeated(court, rows, kept[later])
    if not table.repeat:
        tell("id_duplicate", key, own)
        return _drop_repeated(court, rows, kept[later[~own]])
    elsewhere = np.zeros(len(later), dtype=bool) if table.repeats("school_id") else differs["school_id"]
    tell("id_duplicate", key, elsewhere)
    tell("rows_differ", key, own & ~elsewhere)
    return _drop_repeated(court, rows, kept[later[~own & ~repeated]])


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
    columns = [column for column in rows.frame.columns if column.startswith("contact_")]
    if "contact_name" not in columns:
        return
    nameless = pc.equal(rows.column("contact_name"), "").to_numpy(zero_copy_only=False)
    told = np.zeros(len(nameless), dtype=bool)
    for column in columns:
        told |= pc.not_equal(rows.column(column), "").to_numpy(zero_copy_only=False)
    if (nameless & told).any():
        court.find("contact_incomplete", rows, "Contact_name", nameless & told)


def _check_sections_have_students(court: _Court) -> None:
    """Clever drops a section without a valid student (contract 1.4.4); here it is kept with a warning unless the district is strict."""
    enrollments = court.of("enrollments")
    for sections in court.of("sections") if enrollments else ():
        taken = pa.concat_arrays([each.column("section_id") for each in enrollments])
        empty = sections.kept & ~is_in(sections.column("section_id"), taken)
        if empty.any():
            court.find("section_without_students", sections, "Section_id", empty, values=_distinct(sections.column("section_id"), empty))


def _seen(rows: _Rows, unread: pd.DataFrame) -> pd.DataFrame:
    """Keys of rejected rows, those of the frame and those that never got into it; a blank or doubted part speaks for any value."""
    rejected = rows.frame.loc[~rows.kept, list(rows.table.key)]
    for column, lines in rows.doubted.items():
        rejected[column] = rejected[column].mask(rejected.index.isin(lines))
    return pd.concat([rejected.mask(rejected == ""), unread], ignore_index=True)


def _distinct(cells: pa.Array, mask: Mask) -> list[str]:
    shown = pc.unique(cells.filter(pa.array(mask))).slice(0, SHOWN_VALUES).to_pylist()
    return [str(value)[:40] for value in shown]
