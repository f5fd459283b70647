"""The lines of certain records are found in a file of which every line is a record, in little more time than it takes to read it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from sftp_ingest.roster.arrow import Mask, in_one_piece, in_turn, is_in, trimmed
from sftp_ingest.roster.quotes import COMMA, LINE_END, QUOTE, Bytes, Positions

PART = 4 << 20
"""Bytes of a file that are best looked through at once."""

_NEAR = 64
"""So many bytes of a line are looked through for the cell, one after the other; of what is not found in them, the whole line is parsed."""

_ODD = np.isin(np.arange(256), (QUOTE, LINE_END, ord("\r"))) | (np.arange(256) >= 0x80)
"""Bytes of which it takes a closer look to tell what they mean."""


def lines_with(parts: Iterable[bytes], width: int, place: int, ids: pa.Array) -> list[bytes] | None:
    """The lines, each with its end, of the parts of a file without its header, that have one of the ids for the cell at the place.

    Every line is a record of so many cells; None where one is seen not to be.
    """
    found: list[bytes] = []
    for lines in in_turn(lambda part: _of_part(part, width, place, ids), parts):
        if lines is None:
            return None
        found += lines
    return found


def _of_part(part: bytes, width: int, place: int, ids: pa.Array) -> list[bytes] | None:
    raw = np.frombuffer(part, np.uint8)
    ends = np.flatnonzero(raw == LINE_END) + 1
    begins = np.concatenate((np.zeros(1, dtype=np.int64), ends))[:-1]
    cells, plain = _plain_cells(raw, begins, place)
    wanted = np.zeros(len(ends), dtype=bool)
    wanted[plain] = is_in(trimmed(cells), ids)
    if len(others := np.flatnonzero(~plain)):
        told = _parsed(b"".join(_cut(part, begins[others], ends[others])), width, place)
        if told is None or len(told) != len(others):
            return None
        wanted[others] = is_in(trimmed(told), ids)
    return list(_cut(part, begins[wanted], ends[wanted]))


def _cut(part: bytes, begins: Positions, ends: Positions) -> Iterator[bytes]:
    return (part[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True))


def _plain_cells(raw: Bytes, begins: Positions, place: int) -> tuple[pa.Array, Mask]:
    """The cells at the place, of those lines that have nothing but ASCII, and no quote, as far as these; and which lines that is."""
    commas, first, last = (np.zeros(len(begins), dtype=np.uint8) for _ in range(3))  # passed; where the cell begins and ends in its line
    odd = np.zeros(len(begins), dtype=bool)
    for step in range(_NEAR):
        letter = raw.take(begins + step, mode="clip")
        commas += letter == COMMA
        inside = commas <= place
        if not inside.any():
            break
        odd |= inside & _ODD.take(letter)
        first += commas < place
        last += inside
    plain: Mask = (commas > place) & ~odd
    begin, size = (begins + first)[plain], (last - first)[plain].astype(np.int64)
    if place:  # the comma before the cell is none of its letters
        begin, size = begin + 1, size - 1
    bounds = np.concatenate(([0], np.cumsum(size)))
    text = raw[np.repeat(begin - bounds[:-1], size) + np.arange(bounds[-1])]
    return pa.StringArray.from_buffers(len(size), pa.py_buffer(bounds.astype(np.int32)), pa.py_buffer(text)), plain


def _parsed(lines: bytes, width: int, place: int) -> pa.Array | None:
    """The cells at the place of lines of so many cells; None where a line has more or less."""
    columns = [str(number) for number in range(width)]
    try:
        read = pacsv.read_csv(
            pa.BufferReader(lines),
            read_options=pacsv.ReadOptions(column_names=columns),
            parse_options=pacsv.ParseOptions(ignore_empty_lines=False),
            convert_options=pacsv.ConvertOptions(include_columns=[columns[place]], column_types={columns[place]: pa.string()}, strings_can_be_null=False),
        )
    except pa.ArrowInvalid:
        return None
    return in_one_piece(read[0])
