"""Bytes of a CSV file become text: whatever their encoding is, line by line where it must be, and cut into blocks of whole lines."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from sftp_ingest.roster import shelf
from sftp_ingest.roster.quotes import Positions
from sftp_ingest.roster.shelf import Data

BLOCK = 2 << 20
"""So many bytes are looked at together: what is noted of each comma must not grow with the file."""

MOST_LINES = 1 << 17
"""No more lines than these are looked at together: what is noted of each takes many times the place of a blank one."""

_NOT_NUL = re.compile(rb"[^\0]")

_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Text:
    """A file as UTF-8 with LF line ends. `guessed` are lines that were in another encoding, `unreadable` lines in none; `encoding` names a foreign one."""

    data: Data
    encoding: str = ""
    guessed: Positions = field(default_factory=lambda: _NONE)
    unreadable: Positions = field(default_factory=lambda: _NONE)


def decode(data: Data) -> Text:
    """The bytes as UTF-8 with LF ends; of a large file they are put away. Raises OSError where the disk has no room for that.

    A UTF-8 file with stray Windows-1252 lines is common (one school types its own export): each line is decoded by itself.
    """
    begin, encoding = data[:4096], ""
    if begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif b"\0" in begin and begin.count(b"\0") * 3 > len(begin):
        encoding = "utf-16-le" if begin[1:2] == b"\0" else "utf-16-be"
    if encoding:
        data = shelf.gathered(_transcoded(data, encoding), len(data))
    if data[:3] == codecs.BOM_UTF8 or shelf.has(data, b"\r"):
        data = shelf.gathered(_with_line_feeds(data), len(data))
    if encoding:
        return Text(data, encoding, unreadable=_lines_with(data, "\ufffd".encode()))
    if _is_utf8(data):
        return Text(data)
    guessed: list[int] = []
    unreadable: list[int] = []
    data = shelf.gathered(_mended(data, guessed, unreadable), len(data))
    return Text(data, "Windows-1252" if guessed else "", np.array(guessed, dtype=np.int64), np.array(unreadable, dtype=np.int64))


def is_blank(data: Data) -> bool:
    """Whether nothing but white space is there."""
    return all(piece.isspace() for piece in shelf.pieces(data))


def ends_in_nul_bytes(data: Data) -> bool:
    """What a file system leaves of a file that was being written when the power went; UTF-16 has NUL bytes at its beginning too."""
    begin = data[:4096]
    if data[-1:] != b"\0" or b"\0" in begin.rstrip(b"\0"):
        return False
    return not begin.endswith(b"\0") or _NOT_NUL.search(data, len(begin)) is None


def _transcoded(data: Data, encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    for piece in shelf.pieces(data):
        for start in range(0, len(piece), BLOCK):  # in smaller ones: decoded text takes up to four bytes a letter
            yield decoder.decode(piece[start : start + BLOCK]).encode("utf-8", errors="replace")
    yield decoder.decode(b"", final=True).encode("utf-8", errors="replace")


def _with_line_feeds(data: Data) -> Iterator[bytes]:
    """The bytes without the mark of UTF-8 at their beginning, and with LF for every other end of a line."""
    held, mark = b"", codecs.BOM_UTF8
    for piece in shelf.pieces(data):
        piece, mark = held + piece.removeprefix(mark), b""
        held = b"\r" if piece.endswith(b"\r") else b""  # it may be the first half of an end
        yield piece.removesuffix(held).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if held:
        yield b"\n"


def _lines_with(data: Data, mark: bytes) -> Positions:
    """The numbers of the lines in which the mark is, of UTF-8 with LF ends."""
    found, line = [], 1
    for start, stop, count in blocks_of(data, 0):
        block, position = data[start:stop], 0
        here = line
        while (at := block.find(mark, position)) >= 0:
            here += block.count(b"\n", position, at)
            found.append(here)
            end = block.find(b"\n", at)
            position = end if end >= 0 else len(block)
        line += count
    return np.array(found, dtype=np.int64)


def _mended(data: Data, guessed: list[int], unreadable: list[int]) -> Iterator[bytes]:
    """The text as UTF-8; the numbers of lines that were not are added to the lists."""
    line = 1
    for start, stop, count in blocks_of(data, 0):
        yield from _mended_block(data[start:stop], line, guessed, unreadable)
        line += count


def _mended_block(block: bytes, first_line: int, guessed: list[int], unreadable: list[int]) -> Iterator[bytes]:
    """The block's lines as UTF-8; only those that hold bytes beyond ASCII are looked at one by one."""
    if _is_utf8(block):
        yield block
        return
    raw = np.frombuffer(block, dtype=np.uint8)
    ends = np.flatnonzero(raw == 10)
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
        yield block[position:start]
        yield text.encode()
        position = stop
    yield block[position:]


def _is_utf8(data: Data) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for piece in shelf.pieces(data):
            if piece.isascii() and not decoder.getstate()[0]:
                continue
            for start in range(0, len(piece), 1 << 20):  # in smaller ones: the decoded text is thrown away
                decoder.decode(piece[start : start + (1 << 20)])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def blocks_of(data: Data, start: int) -> Iterator[tuple[int, int, int]]:
    """Stretches of whole lines, each of about a block's size and with no more than MOST_LINES, or of one longer line; and how many lines each has."""
    while start < len(data):
        size = BLOCK
        stop = data.find(b"\n", start + size - 1) + 1 or len(data)
        while (count := data[start:stop].count(b"\n")) > MOST_LINES:
            size //= 2
            stop = data.find(b"\n", start + size - 1) + 1 or len(data)
        yield start, stop, count
        start = stop
