"""Frames become a verdict: which rows may be believed, which are left out, and which keys were seen all the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import numpy as np
import pandas as pd

from sftp_ingest.findings import Finding, refuses
from sftp_ingest.model import FileShape, Frames, Rejections, Verdict
from sftp_ingest.roster import astray, cells, contacts, drift, keys, reach, references, shelf, values
from sftp_ingest.roster.arrow import TEXT, array_of, is_in
from sftp_ingest.roster.contract import Contract, Table
from sftp_ingest.roster.court import Court, Ids, Rows, joined, seen_of


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
    frames = cells.in_the_formats_words(frames, contract)
    unread = {name: _unread(contract.tables[name], keys, known or {}) for name, keys in frames.unread.items()}
    court = Court(strict, known or {}, list(frames.findings), values.readers(today), unread=unread, faulty=frames.faulty)
    for name, table in contract.tables.items():
        if name not in frames.tables:
            continue
        frame = frames.tables[name]
        rows = Rows(table, table.file, frame, np.zeros(len(frame), dtype=np.int32))
        if table.sorts and len(frame):  # what no table took: nobody knows what these rows speak of
            court.find("kind_unknown", rows, table.sorts, rows.kept)
            court.done[name] = rows
            continue
        if strict:
            cells.check_grades_as_clever_does(court, rows)
        cells.read_values(court, rows)
        cells.check_cells(court, rows)
        rows.encode((*table.key, *(each.column for each in table.references)))
        for reference in table.references:
            references.check_reference(court, rows, reference)
        if table.key:
            keys.check_keys(court, rows)
        if name == "attendance":
            keys.check_attendance(court, rows)
        if name == "students":
            contacts.check_contacts(court, rows)
        court.done[name] = rows
        if shelf.puts_away(len(frame)) and table.records != "enrollments":  # whose sections are asked for once more
            rows.forget()
    for name, table in contract.tables.items():
        if name in court.done and table.records:
            keys.drop_overridden(court, court.done[name])
    references.check_sections_have_students(court)
    findings: Sequence[Finding] = astray.explained(court.findings, contract.tables, frames.tables, drift.of_format(before or {}, contract))
    findings = reach.with_left_out(findings, [reach.Judged(each.table, each.frame, each.cause, each.labels, each.encoded) for each in court.done.values()])
    for rows in court.done.values():
        rows.forget()
    return Verdict(
        tables={name: rows.frame if rows.kept.all() else shelf.filtered(rows.frame, rows.kept) for name, rows in court.done.items()},
        findings=tuple(findings),
        seen={name: seen_of(rows, unread[name]) for name, rows in court.done.items()},
        rows=frames.rows,
        rejected={name: int((~rows.kept).sum()) + frames.rows[name] - len(rows.frame) - rows.needless for name, rows in court.done.items()},
        rejections=_rejections(list(court.done.values()), frames.faulty),
        aside=frames.aside,
        refused=refuses(court.findings),
        gone=frames.gone,
    )


def _rejections(judged: Sequence[Rows], faulty: Mapping[str, Rejections]) -> dict[str, Rejections]:
    """All lines of each file that are left out, in order and each once; those that never got into a frame among them."""
    parts: dict[str, list[Rejections]] = {}
    for rows in judged:
        at = np.flatnonzero(rows.cause)
        parts.setdefault(rows.file, []).append(Rejections(rows.frame.index.to_numpy(dtype=np.int64)[at], rows.cause[at] - 1, tuple(rows.labels)))
    for file, unread in faulty.items():
        parts.setdefault(file, []).append(unread)
    by_file = {file: joined(each) for file, each in parts.items()}
    return {file: each for file, each in by_file.items() if len(each.lines)}


def _unread(table: Table, keys: pd.DataFrame, known: Mapping[str, Ids]) -> pd.DataFrame:
    """The keys of rows that could not be read. A row of which no cell names a record that ever was has lost its id: it may be anybody's."""
    named = np.ones(len(keys), dtype=bool)
    for column in table.key:
        kind = next((each.table for each in table.references if each.column == column), table.records if len(table.key) == 1 else "")
        if kind in known:
            named &= is_in(array_of(keys[column]), known[kind].ever) | keys[column].isna().to_numpy(dtype=bool)
    lost = keys.index.difference(keys.index[named])
    return pd.concat([keys, pd.DataFrame({column: pd.array([None] * len(lost), dtype=TEXT) for column in table.key}, index=lost)])
