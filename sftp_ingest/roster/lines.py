"""Bytes of a CSV file become records with line numbers: sound lines by pyarrow at full speed, odd ones one by one with care.

Most lines of most files are plain. One vectorised look at where the quotes, commas and line ends are tells which lines are
not; those are taken out, read by a patient parser, and put back, so that one bad quote costs one line and never the file.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pacsv

LONGEST_RECORD = 100
"""A quoted cell may run over this many lines; beyond that the quote was never closed."""

Fault = Literal["row_short", "row_long", "quote_open", "nul_byte", "bytes_unreadable"]


@dataclass(frozen=True)
class OddRecord:
    """A record that pyarrow did not read: its first line, its cells, and what is wrong with it (nothing, where it could be read as meant)."""

    line: int
    cells: tuple[str, ...]
    fault: Fault | None = None
    unescaped: bool = False


@dataclass(frozen=True)
class Text:
    """A file as UTF-8 with LF line ends. `guessed` are lines that were in another encoding, `unreadable` lines in none; `encoding` names a foreign one."""

    data: bytes
    encoding: str = ""
    guessed: tuple[int, ...] = ()
    unreadable: tuple[int, ...] = ()


@dataclass(frozen=True)
class Records:
    """The records below the header: `table` has one text column a header, `lines` their line numbers; `faulty` could not be put into it."""

    table: pa.Table
    lines: npt.NDArray[np.int64]
    faulty: tuple[OddRecord, ...] = ()
    unescaped: tuple[int, ...] = ()
    blank: tuple[int, ...] = ()
    terminated: bool = True
    last_whole: bool = True


def decode(data: bytes) -> Text | None:
    """The bytes as UTF-8 with LF ends, or None where they are no text.

    A UTF-8 file with stray Windows-1252 lines is common (one school types its own export): each line is decoded by itself.
    """
    encoding = ""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif b"\0" in data[:4096] and data[:4096].count(b"\0") * 3 > len(data[:4096]):
        encoding = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
    if encoding:
        try:
            data = data.decode(encoding).encode()
        except UnicodeDecodeError:
            return None
    data = data.removeprefix(codecs.BOM_UTF8)
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if _is_utf8(data):
        return Text(data, encoding)
    lines = data.split(b"\n")
    guessed, unreadable = [], []
    for position, line in enumerate(lines):
        if line.isascii() or _is_utf8(line):
            continue
        try:
            lines[position] = line.decode("cp1252").encode()
            guessed.append(position + 1)
        except UnicodeDecodeError:
            lines[position] = line.decode("utf-8", errors="replace").encode()
            unreadable.append(position + 1)
    return Text(b"\n".join(lines), "Windows-1252" if guessed else "", tuple(guessed), tuple(unreadable))


def _is_utf8(data: bytes) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    view = memoryview(data)
    try:
        for start in range(0, len(data), 1 << 20):  # in pieces: the decoded text is thrown away
            decoder.decode(view[start : start + (1 << 20)])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


@dataclass(frozen=True)
class Header:
    """The first line that is not blank: its text and cells as sent, its number, and the byte at which the records begin."""

    text: str
    cells: tuple[str, ...]
    line: int
    end: int


def header(text: Text) -> Header:
    """The header of a file that is not blank."""
    start = len(text.data) - len(text.data.lstrip(b"\n"))
    end = text.data.find(b"\n", start)
    end = len(text.data) if end < 0 else end
    line = text.data[start:end].decode("utf-8", errors="replace")
    try:
        cells = next(csv.reader([line]), [])
    except csv.Error:
        cells = line.split(",")
    return Header(line, tuple(cells), start + 1, min(end + 1, len(text.data)))


def records(text: Text, start: int, first_line: int, names: Sequence[str], wanted: Iterable[str]) -> Records:
    """The records of `text` from byte `start`, whose first line has the number `first_line`.

    `names` are the header's columns, all different; only `wanted` ones are kept.
    """
    body = memoryview(text.data)[start:]
    size = len(body)
    width = len(names)
    keep = [name for name in names if name in set(wanted)]
    raw = np.frombuffer(body, dtype=np.uint8)
    ends = np.flatnonzero(raw == 10)
    terminated = size == 0 or bool(raw[-1] == 10)
    if not terminated:
        ends = np.append(ends, size)
    starts = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends

    def count(byte: int) -> npt.NDArray[np.int64]:
        at = np.flatnonzero(raw == byte)
        return np.searchsorted(at, ends) - np.searchsorted(at, starts)

    quotes = count(34)
    plain = (quotes == 0) & (count(44) == width - 1)
    odd = ((quotes == 0) & ~plain) | (quotes % 2 == 1) | (ends == starts)
    odd[_lines_with_inner_quotes(raw, ends)] = True
    if text.data.find(b"\0", start) >= 0:
        odd |= count(0) > 0
    for line in text.unreadable:
        if line >= first_line:
            odd[line - first_line] = True

    wrong_width = False

    def skip(_row: object) -> str:
        nonlocal wrong_width
        wrong_width = True
        return "skip"

    continued = _continuations(body, starts, ends, quotes, plain, odd, width)
    table = _parse(body, starts, ends, odd | continued, names, keep, skip)
    if wrong_width:  # a quoted line of the wrong width: rare enough to read all quoted lines with care
        odd |= quotes > 0
        table = _parse(body, starts, ends, odd | continued, names, keep, skip)
    lines = np.flatnonzero(~(odd | continued)) + first_line

    read: list[OddRecord] = []
    blank: list[int] = []
    unreadable = set(text.unreadable)
    for position in np.flatnonzero(odd & ~continued).tolist():
        last = position
        while last + 1 < len(continued) and continued[last + 1]:
            last += 1
        line = position + first_line
        record = bytes(body[starts[position] : ends[last]]).decode("utf-8", errors="replace")
        if not record.strip(", \t"):
            if record.strip():
                blank.append(line)
            continue
        read.append(_odd_record(record, line, width, "bytes_unreadable" if line in unreadable else None))
    faulty = tuple(each for each in read if each.fault)
    sound = [each for each in read if not each.fault]
    if sound:
        at = [names.index(name) for name in keep]
        extra = pa.table({name: pa.array([each.cells[index] for each in sound], pa.string()) for name, index in zip(keep, at, strict=True)})
        lines = np.concatenate((lines, np.array([each.line for each in sound], dtype=np.int64)))
        order = np.argsort(lines, kind="stable")
        table, lines = pa.concat_tables([table, extra]).combine_chunks().take(pa.array(order)), lines[order]
    last_line = first_line + len(ends) - 1
    return Records(
        table=table,
        lines=lines,
        faulty=faulty,
        unescaped=tuple(each.line for each in sound if each.unescaped),
        blank=tuple(blank),
        terminated=terminated,
        last_whole=not any(each.fault in ("row_short", "quote_open") and each.line == last_line for each in faulty),
    )


def _lines_with_inner_quotes(raw: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Lines with a quote that has ordinary characters on both sides, as in Clever's own example "Thomas "Tom" Ford"."""
    at = np.flatnonzero(raw == 34)
    if not len(at):
        return at
    edge = np.zeros(256, dtype=bool)
    edge[[10, 34, 44]] = True
    before = edge[raw[np.maximum(at - 1, 0)]] | (at == 0)
    after = edge[raw[np.minimum(at + 1, len(raw) - 1)]] | (at == len(raw) - 1)
    inner: npt.NDArray[np.int64] = np.searchsorted(ends, at[~before & ~after])
    return inner


def _continuations(
    body: memoryview,
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    quotes: npt.NDArray[np.int64],
    plain: npt.NDArray[np.bool_],
    odd: npt.NDArray[np.bool_],
    width: int,
) -> npt.NDArray[np.bool_]:
    """Which lines go on with the record of a line before: those between two lines of uneven quotes that make one sound record together.

    Two stray quotes must not swallow the people between them: where a line between is a plain record by itself, nothing is joined.
    """
    continued = np.zeros(len(ends), dtype=bool)
    uneven = np.flatnonzero(quotes % 2 == 1).tolist()
    position = 0
    while position + 1 < len(uneven):
        first, last = uneven[position], uneven[position + 1]
        apart = last - first > LONGEST_RECORD or bool(plain[first + 1 : last].any())
        joined = "" if apart else bytes(body[starts[first] : ends[last]]).decode("utf-8", errors="replace")
        cells = _strict_cells(joined)
        if cells is not None and len(cells) == width:
            continued[first + 1 : last + 1] = True
            odd[first] = True
            position += 2
        else:
            position += 1
    return continued


def read_again(text: Text, at: Iterable[int], width: int) -> Iterator[OddRecord]:
    """The records that begin at these lines, one by one and with all their cells, as `records` took them."""
    ends = np.flatnonzero(np.frombuffer(text.data, dtype=np.uint8) == 10)
    if not len(ends) or ends[-1] != len(text.data) - 1:
        ends = np.append(ends, len(text.data))
    for line in at:
        yield _odd_record(_whole(text.data, ends, line - 1, width).decode("utf-8", errors="replace"), line, width, None)


def _whole(data: bytes, ends: npt.NDArray[np.int64], position: int, width: int) -> bytes:
    """The line with those that go on with its record, joined as `_continuations` joins them."""
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


def _parse(
    body: memoryview,
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    left_out: npt.NDArray[np.bool_],
    names: Sequence[str],
    keep: Sequence[str],
    skip: object,
) -> pa.Table:
    """All lines that are not left out, through pyarrow."""
    empty = pa.table({name: pa.array([], pa.string()) for name in keep})
    if left_out.all():
        return empty
    source: object = pa.py_buffer(body)
    if left_out.any():
        stops = np.minimum(ends + 1, len(body))
        edges = np.flatnonzero(np.diff(np.concatenate(([True], left_out, [True])).astype(np.int8)))
        source = pa.py_buffer(b"".join(body[starts[first] : stops[last - 1]] for first, last in zip(edges[::2], edges[1::2], strict=True)))
    table = pacsv.read_csv(
        pa.BufferReader(source),
        read_options=pacsv.ReadOptions(column_names=list(names), block_size=4 << 20),
        parse_options=pacsv.ParseOptions(newlines_in_values=False, ignore_empty_lines=False, invalid_row_handler=skip),
        convert_options=pacsv.ConvertOptions(column_types={name: pa.string() for name in keep}, include_columns=list(keep), strings_can_be_null=False),
    )
    return table.combine_chunks()


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


def _odd_record(record: str, line: int, width: int, fault: Fault | None) -> OddRecord:
    cells = _strict_cells(record)
    unescaped = False
    if cells is None or len(cells) != width:
        patient = _patient_cells(record)
        unescaped = cells is None
        if len(patient) == width or cells is None:
            cells = patient
    if fault is None and "\0" in record:
        fault = "nul_byte"
    if fault is None and any(cell.lstrip().startswith('"') for cell in cells if unescaped):
        fault = "quote_open"
    if fault is None and len(cells) != width:
        fault = "quote_open" if record.count('"') % 2 else "row_short" if len(cells) < width else "row_long"
    return OddRecord(line, tuple(cells), fault, unescaped and fault is None)
