"""A night of which only few lines are new is told by these lines and by what is known already: as a whole reading would tell it, and sooner.

What these lines cannot tell for certain is told by a whole reading: whatever is odd here ends in None, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.errors import DeliveryError
from sftp_ingest.model import DeliveredFile, Delivery, FileShape, Frames, Verdict
from sftp_ingest.roster import drift, files, lines_changed, loader, validator
from sftp_ingest.roster.arrow import array_of
from sftp_ingest.roster.contract import Contract, Table
from sftp_ingest.roster.drift import CARRIED_SHARE, FEWEST_ROWS
from sftp_ingest.roster.lines_changed import Changed

_TABLES = ("schools", "teachers", "staff", "students", "sections", "enrollments")
"""The files that a delivery may consist of; one of any other name is read with all others."""


@dataclass(frozen=True)
class Known:
    """The delivery of which the roster is the whole and faultless word, with the shapes of its files."""

    delivery: Delivery
    shapes: Mapping[str, FileShape]


@dataclass(frozen=True)
class Excerpt:
    """What is new in a delivery, by table: the rows that are gone, and the verdict on all rows of the records that any new row tells of.

    The verdict counts the rows of the whole files, of whose shapes `shapes` says what can be said.
    """

    gone: Mapping[str, pd.DataFrame]
    verdict: Verdict
    shapes: Mapping[str, FileShape]


def read(known: Known, delivery: Delivery, rules: Contract, *, today: date) -> Excerpt | None:
    """What is new in the delivery, its archives listed; None where that cannot be told from few lines alone.

    Raises DeliveryError where a file of the delivery is not what was sealed.
    """
    try:
        earlier, packed = files.listed(known.delivery)
    except DeliveryError:  # it need not be kept
        return None
    before, tonight = (_by_table(each, rules) for each in (earlier, delivery))
    if packed or before is None or tonight is None or before.keys() != tonight.keys():
        return None
    files.check_there(delivery)
    shapes = {name: known.shapes.get(rules.tables[name].file) for name in tonight}
    others = [name for name, sealed in tonight.items() if sealed.sha256 != before[name].sha256]
    if None in shapes.values() or "schools" in others:  # on which everything else hangs, and which hardly ever change
        return None
    rows = {name: shape.rows for name, shape in shapes.items() if shape is not None}
    told: dict[str, _Part] = {}
    for name in others:  # side by side they would wait for each other: much of it holds Python's lock
        part = _part((earlier.folder, before[name]), (delivery.folder, tonight[name]), rows[name], rules.tables[name], rules)
        if part is None:
            return None
        told[name] = part
    rows |= {name: rows[name] + part.more for name, part in told.items()}
    return _judged(known, {name: part.gone for name, part in told.items()}, {name: part.came for name, part in told.items()}, rows, rules, today)


@dataclass(frozen=True)
class _Part:
    """What is new in one file: the rows that are gone, the lines, below the header, of all records that any new line tells of, and how many `more` it has."""

    gone: pd.DataFrame
    came: bytes
    more: int


def _part(before: tuple[Path, DeliveredFile], tonight: tuple[Path, DeliveredFile], rows: int, table: Table, rules: Contract) -> _Part | None:
    """What is new in a file that had so many rows; None where that cannot be told from few lines alone."""
    changed = _changed(before, tonight, rows)
    if changed is None:
        return None
    came, more = changed.header + b"".join(changed.came), len(changed.came) - len(changed.gone)
    left = _read_in({table.name: changed.header + b"".join(changed.gone)}, rules)
    if left is None:
        return None
    gone = left.tables[table.name]
    if table.repeat:
        told = _read_in({table.name: came}, rules)
        if told is None:
            return None
        ids = [array_of(each[table.key[0]]) for each in (gone, told.tables[table.name])]
        of_them = loader.lines_of(table, files.blocks(*tonight), pc.unique(pa.concat_arrays(ids)))
        if of_them is None:
            return None
        came = changed.header + b"".join(of_them)
    return _Part(gone, came, more)


def _by_table(delivery: Delivery, rules: Contract) -> dict[str, DeliveredFile] | None:
    """The files by table, or None where they are not simply those of a roster, each once and all sent as one that very night."""
    names = {rules.tables[name].file: name for name in _TABLES if name in rules.tables}
    found = {names[each.name]: each for each in delivery.files if each.name in names and each.resent and not each.crossed and not each.member}
    if len(found) < len(delivery.files) or any(table.core and name not in found for name, table in rules.tables.items()):
        return None
    judged = [rules.tables[name] for name in found]
    own_words = any(each.values for table in judged for each in table.fields if each.column in table.key)
    if own_words or any(check.unique for table in judged for check in table.checks):
        return None
    return found


class _NotKeptError(Exception):
    """The file of the night before is no longer there as it was sealed, and need not be."""


def _changed(before: tuple[Path, DeliveredFile], tonight: tuple[Path, DeliveredFile], rows: int) -> Changed | None:
    """The lines that differ, where every line below an unchanged header is a record, before and tonight, and few of them differ."""
    try:
        changed = lines_changed.between(_kept(*before), files.blocks(*tonight), max(FEWEST_ROWS, int(CARRIED_SHARE * rows)))
    except _NotKeptError:
        return None
    if changed is None or changed.rows != rows or any(line.count(b'"') % 2 or b"\r" in line[:-2] for line in (*changed.gone, *changed.came)):
        return None
    return changed


def _kept(folder: Path, sealed: DeliveredFile) -> Iterator[bytes]:
    try:
        yield from files.blocks(folder, sealed)
    except DeliveryError as fault:
        raise _NotKeptError from fault


def _read_in(contents: Mapping[str, bytes], rules: Contract) -> Frames | None:
    """The lines as frames, where every one of them is a record and there is nothing to be said of any."""
    frames = loader.parts(contents, rules)
    every_one = all(frames.rows.get(name) == data.count(b"\n") - 1 for name, data in contents.items())
    return frames if every_one and not frames.findings and not frames.faulty else None


def _judged(known: Known, gone: Mapping[str, pd.DataFrame], came: Mapping[str, bytes], rows: Mapping[str, int], rules: Contract, today: date) -> Excerpt | None:
    """The verdict, or None where it is not that all rows are to be believed."""
    told = _read_in(came, rules)
    if told is None:
        return None
    shapes = dict(known.shapes)
    for name in came:
        table = rules.tables[name]
        shape = drift.carried(table, known.shapes[table.file], rows[name], gone[name], told.tables[name])
        if shape is None:
            return None
        shapes[table.file] = shape
    # what they refer to is mostly not among them, and is looked up later
    alone = replace(rules, tables={name: replace(table, references=()) for name, table in rules.tables.items()})
    verdict = validator.validate(told, alone, today=today)
    if any(each.code != "section_without_students" for each in verdict.findings) or verdict.rejections:
        return None
    return Excerpt(gone, replace(verdict, findings=(), rows=rows), shapes)
