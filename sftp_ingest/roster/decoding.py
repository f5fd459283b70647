"""Bytes of a CSV file become text: whatever their encoding is, line by line where it must be, and cut into blocks of whole lines."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from sftp_ingest.roster.quotes import Positions

BLOCK = 2 << 20
"""So many bytes are looked at together: what is noted of each comma must not grow with the file."""

MOST_LINES = 1 << 17
"""No more lines than these are looked at together: what is noted of each takes many times the place of a blank one."""

_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Text:
    """A file as UTF-8 with LF line ends. `guessed` are lines that were in another encoding, `unreadable` lines in none; `encoding` names a foreign one."""

    data: bytes
    encoding: str = ""
    guessed: Positions = field(default_factory=lambda: _NONE)
    unreadable: Positions = field(default_factory=lambda: _NONE)


def decode(data: bytes) -> Text:
    """The bytes as UTF-8 with LF ends.

    A UTF-8 file with stray Windows-1252 lines is common (one school types its own export): each line is decoded by itself.
    """
    encoding = ""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif b"\0" in data[:4096] and data[:4096].count(b"\0") * 3 > len(data[:4096]):
        encoding = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
    if encoding:
        data = b"".join(_transcoded(data, encoding))
    data = data.removeprefix(codecs.BOM_UTF8)
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if encoding:
        replaced = "\ufffd".encode()
        return Text(data, encoding, unreadable=_lines_with(data, replaced) if replaced in data else _NONE)
    if _is_utf8(data):
        return Text(data)
    pieces: list[bytes] = []
    guessed: list[int] = []
    unreadable: list[int] = []
    line = 1
    for start, stop, _ in blocks_of(data, 0):
        line += _decode_block(data[start:stop], line, pieces, guessed, unreadable)
    return Text(b"".join(pieces), "Windows-1252" if guessed else "", np.array(guessed, dtype=np.int64), np.array(unreadable, dtype=np.int64))


def _transcoded(data: bytes, encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    view = memoryview(data)
    for start in range(0, len(data), BLOCK):  # in pieces: decoded text takes up to four bytes a letter
        yield decoder.decode(view[start : start + BLOCK], final=start + BLOCK >= len(data)).encode("utf-8", errors="replace")


def _lines_with(data: bytes, mark: bytes) -> Positions:
    """The numbers of the lines in which the mark is."""
    found, line, position = [], 1, 0
    while (at := data.find(mark, position)) >= 0:
        line += data.count(b"\n", position, at)
        found.append(line)
        end = data.find(b"\n", at)
        position = end if end >= 0 else len(data)
    return np.array(found, dtype=np.int64)


def _decode_block(block: bytes, first_line: int, pieces: list[bytes], guessed: list[int], unreadable: list[int]) -> int:
    """Add the block's lines as UTF-8 to the pieces; only those that hold bytes beyond ASCII are looked at one by one. Gives the number of lines."""
    raw = np.frombuffer(block, dtype=np.uint8)
    ends = np.flatnonzero(raw == 10)
    if _is_utf8(block):
        pieces.append(block)
        return len(ends)
    position = 0
    stops = np.append(ends, len(raw))
    for index in np.unique(np.searchsorted(stops, np.flatnonzero(raw > 127))).tolist():
        start, stop = int(stops[index - 1]) + 1 if index else 0, int(stops[index])
        line = block[start:stop]
        if _is_utf8(line):
            continue
        try:
            text = line.decode("cp1252")
            guessed.append(first_line + index)
        except UnicodeDecodeError:
            text = line.decode("utf-8", errors="replace")
            unreadable.append(first_line + index)
        pieces += (block[position:start], text.encode())
        position = stop
    pieces.append(block[position:])
    return len(ends)


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    decoder = codecs.getincrementaldecoder("utf-8")()
    view = memoryview(data)
    try:
        for start in range(0, len(data), 1 << 20):  # in pieces: the decoded text is thrown away
            decoder.decode(view[start : start + (1 << 20)])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def blocks_of(data: bytes, start: int) -> Iterator[tuple[int, int, int]]:
    """Stretches of whole lines, each of about a block's size and with no more than MOST_LINES, or of one longer line; and how many lines each has."""
    while start < len(data):
        size = BLOCK
        stop = data.find(b"\n", start + size - 1) + 1 or len(data)
        while (count := data.count(b"\n", start, stop)) > MOST_LINES:
            size //= 2
            stop = data.find(b"\n", start + size - 1) + 1 or len(data)
        yield start, stop, count
        start = stop
