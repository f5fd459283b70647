"""Rejected records are read again, one by one and with all their cells, as `lines.records` took them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sftp_ingest.roster import shelf
from sftp_ingest.roster.decoding import Text
from sftp_ingest.roster.lines import LONGEST_RECORD
from sftp_ingest.roster.shelf import Data

LONGEST_CELL = 32_767
"""So many letters of a record too long to be looked at are given back: what a cell of a spreadsheet holds."""

_TOO_LONG = 1 << 20


@dataclass(frozen=True)
class Record:
    """A record as it was sent; `guessed` tells that a quote in it is open, so that where its cells begin and end is a guess."""

    line: int
    cells: tuple[str, ...]
    guessed: bool = False


def records(text: Text, at: Iterable[int], width: int) -> Iterator[Record]:
    """The records that begin at these lines."""
    begin, found = 0, [np.zeros(0, dtype=np.int64)]
    for piece in shelf.pieces(text.data):
        found.append(np.flatnonzero(np.frombuffer(piece, dtype=np.uint8) == 10) + begin)
        begin += len(piece)
    ends = np.concatenate(found)
    if not len(ends) or ends[-1] != len(text.data) - 1:
        ends = np.append(ends, len(text.data))
    for line in at:
        yield _record(_whole(text.data, ends, line - 1, width).decode("utf-8", errors="replace"), line, width)


def _whole(data: Data, ends: npt.NDArray[np.int64], position: int, width: int) -> bytes:
    """The line with those that go on with its record, joined as `lines` joins them."""
    start = int(ends[position - 1]) + 1 if position else 0
    alone = data[start : int(ends[position])]
    if alone.count(b'"') % 2 == 0:
        return alone
    for last in range(position + 1, min(position + LONGEST_RECORD + 1, len(ends))):
        line = data[int(ends[last - 1]) + 1 : int(ends[last])]
        if line.count(b'"') % 2:
            joined = data[start : int(ends[last])]
            cells = _strict_cells(joined.decode("utf-8", errors="replace"))
            return joined if cells is not None and len(cells) == width else alone
        if b'"' not in line and line.count(b",") == width - 1:
            return alone
    return alone


def _strict_cells(record: str) -> list[str] | None:
    if not record:
        return None
    try:
        rows = list(csv.reader(io.StringIO(record, newline=""), strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


_CELL = re.compile(r'[ \t]*"((?:[^"]|"(?![ \t]*(?:,|$)))*)"[ \t]*(?=,|$)|([^,]*)(?=,|$)')


def _patient_cells(record: str) -> list[str]:
    """Cells where a quote closes only before a comma or the line's end, so that inner quotes need no doubling."""
    cells, position = [], 0
    while position <= len(record):
        match = _CELL.match(record, position)
        if match is None:  # pragma: no cover -- the second half of the pattern matches anything
            break
        quoted = match.group(1)
        cells.append(match.group(2) if quoted is None else quoted.replace('""', '"'))
        position = match.end() + 1
    return cells


def _record(text: str, line: int, width: int) -> Record:
    if len(text) > _TOO_LONG:
        return Record(line, (text[:LONGEST_CELL],), guessed=True)
    cells = _strict_cells(text)
    open_quote = False
    if cells is None or len(cells) != width:
        patient = _patient_cells(text)
        open_quote = cells is None and any(cell.lstrip().startswith('"') for cell in patient)
        if len(patient) == width or cells is None:
            cells = patient
    return Record(line, tuple(cells), open_quote or (len(cells) != width and text.count('"') % 2 == 1))
