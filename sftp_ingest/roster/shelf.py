"""Cells of large files lie in files without a name, mapped into memory: what a run takes is told by its keys, and not by its rows.

Small ones, and all where nobody has said in which folder such files may lie, stay in memory. With the last array that lies in a file the file is
gone, and at the latest with the process.
"""

from __future__ import annotations

import io
import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
import pyarrow as pa

from sftp_ingest import memory
from sftp_ingest.roster.arrow import TEXT, Mask, array_of, frame_of, in_one_piece, side_by_side, text_of

LARGE = 64 << 20
"""From so many bytes on a file's text is put away."""

MANY = 1_000_000
"""From so many rows on columns are put away."""

PIECE = 8 << 20
"""So many bytes are looked through at once, by what holds Python's lock meanwhile."""

Data = bytes | mmap.mmap
"""Bytes in memory or in a file: both have a length, are sliced to bytes, and know `find`."""

_LONGEST = np.iinfo(np.int32).max
"""Bytes of text in a column, as Arrow counts them."""

_ENCODED = pa.dictionary(pa.int32(), pa.string())

_folders: list[Path] = []


@contextmanager
def standing_in(folder: Path) -> Iterator[None]:
    """Inside, what is large in this process lies in files in the folder, which is made when it is needed."""
    _folders.append(folder)
    try:
        with memory.letting_go():
            yield
    finally:
        _folders.remove(folder)


def puts_away(rows: int) -> bool:
    """Whether columns of so many rows are put away."""
    return rows >= MANY and bool(_folders)


def gathered(pieces: Iterable[bytes], size: int) -> Data:
    """The pieces as one, of about so many bytes. Raises OSError where the disk has no room."""
    if size < LARGE or not _folders:
        whole = io.BytesIO()  # joined, the pieces would be there twice for a moment
        whole.writelines(pieces)
        return whole.getvalue()
    with _file() as file:
        file.writelines(pieces)
        return memory.mapped(file) if file.tell() else b""


def pieces(data: Data) -> Iterator[bytes]:
    """The bytes one part after the other."""
    for begin in range(0, len(data), PIECE):
        yield data[begin : begin + PIECE]


def has(data: Data, mark: bytes) -> bool:
    """Whether the mark is anywhere in the bytes."""
    return any(data.find(mark, begin, begin + PIECE + len(mark) - 1) >= 0 for begin in range(0, len(data), PIECE))


def columns(make: Callable[[str], pa.Array | pa.ChunkedArray], names: Iterable[str], rows: int) -> dict[str, pa.Array]:
    """Name → the column that is made of it, in one piece; of many `rows` each that is of text, encoded or not, is put away before the next is made.

    Few are made side by side; of many, two at once would take what is to be spared.

    Raises OSError where the disk has no room.
    """
    names = list(names)
    if not puts_away(rows):
        return dict(zip(names, side_by_side(lambda name: in_one_piece(make(name)), names, rows), strict=True))
    with _file() as file:
        found = {name: _put_away(file, make(name)) for name in names}
        lying = pa.py_buffer(memory.mapped(file) if file.tell() else b"")
    return {name: again(lying) for name, again in found.items()}


def put(cells: pa.Array) -> pa.Array:
    """One column of text, put away where it is long."""
    return columns(lambda _: cells, [""], len(cells))[""]


def blank(rows: int) -> pa.Array:
    """A column of so many blank texts."""
    return put(pa.repeat("", rows))


def filtered(frame: pd.DataFrame, mask: Mask) -> pd.DataFrame:
    """The masked rows of a frame of text."""
    kept = pa.array(mask)
    cells = columns(lambda name: array_of(frame[name]).filter(kept), frame.columns, len(frame))
    return pd.DataFrame({name: pd.array(each, dtype=TEXT) for name, each in cells.items()}, index=frame.index[mask], copy=False)


def stacked(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Frames of text with the same columns, one behind the other."""
    names, rows = frames[0].columns, sum(map(len, frames))
    return frame_of(pa.table(columns(lambda name: pa.chunked_array([array_of(each[name]) for each in frames], pa.string()), names, rows)))


class Pile:
    """Tables of text with the same columns, laid one on the other; in a file, where there is one, each column by itself.

    There it has two stretches of its own, for the text and for where each cell ends, which may stay empty: such a file takes no more room than
    what was written to it.
    """

    def __init__(self, names: Sequence[str], size: int, file: IO[bytes] | None) -> None:
        self._names = names
        self._tables = [pa.table({name: pa.array([], pa.string()) for name in names})]
        self._file = file
        self._texts, self._ends = (-(-each // mmap.PAGESIZE) * mmap.PAGESIZE for each in (size + 1, 4 * (size // max(len(names), 1) + 2)))
        self._written = dict.fromkeys(names, 0)
        self._rows = 0

    def add(self, table: pa.Table) -> None:
        """Lay one on top. Raises OSError where the disk has no room."""
        if self._file is None:
            self._tables.append(table)
            return
        for name, begin in zip(self._names, self._begins, strict=True):
            rows = self._rows
            for chunk in table[name].chunks:
                text, bounds = text_of(chunk)
                end = self._written[name]
                if end + len(text) > min(self._texts, _LONGEST) or 4 * (rows + len(chunk) + 1) > self._ends:
                    raise _too_long()
                _write(self._file, text, begin + end)
                _write(self._file, (bounds[1:] + (end - bounds[0])).data, begin + self._texts + 4 * (rows + 1))
                self._written[name] += len(text)
                rows += len(chunk)
        self._rows += len(table)

    def whole(self) -> pa.Table:
        """All that was added, each column in one piece; nothing more can be."""
        if self._file is None or not self._rows:
            there = pa.concat_tables(self._tables)
            return pa.table(columns(lambda name: there[name], self._names, len(there)))
        lying = pa.py_buffer(memory.mapped(self._file))
        told = zip(self._names, self._begins, self._written.values(), strict=True)
        return pa.table({name: _lying(lying, begin, size, begin + self._texts, self._rows) for name, begin, size in told})

    @property
    def _begins(self) -> Sequence[int]:
        """Where in the file each column begins."""
        return [place * (self._texts + self._ends) for place in range(len(self._names))]


@contextmanager
def piled(names: Sequence[str], size: int) -> Iterator[Pile]:
    """A pile for the tables of these columns that so many bytes of CSV become: no column has more text, and every row takes a byte for each."""
    if size < LARGE or not _folders:
        yield Pile(names, size, None)
        return
    with _file() as file:
        yield Pile(names, size, file)


# ---------------------------------------------------------------- files without a name


_Found = Callable[[pa.Buffer], pa.Array]
"""A column again, of the file that it was written to."""


def _file() -> IO[bytes]:
    folder = _folders[-1]
    folder.mkdir(mode=0o700, exist_ok=True)  # and nothing above it: what is in a home's data folder is for its user alone
    return tempfile.TemporaryFile(dir=folder)


def _put_away(file: IO[bytes], cells: pa.Array | pa.ChunkedArray) -> _Found:
    """Write a column as Arrow has it, where it is of text, and no cell null."""
    if cells.type == pa.string() and not cells.null_count:
        return _written(file, cells)
    whole = in_one_piece(cells)
    if whole.type != _ENCODED or whole.null_count:
        return lambda lying: whole
    texts, places, length = _written(file, whole.dictionary), _laid(file, whole.indices.to_numpy().data), len(whole)

    def found(lying: pa.Buffer) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.Array.from_buffers(pa.int32(), length, [None, lying.slice(places, 4 * length)]), texts(lying))

    return found


def _written(file: IO[bytes], cells: pa.Array | pa.ChunkedArray) -> _Found:
    """Write cells of text as Arrow has them."""
    begin, ends, at = _laid(file, b""), np.zeros(len(cells) + 1, dtype=np.int32), 1
    for chunk in cells.chunks if isinstance(cells, pa.ChunkedArray) else [cells]:
        text, bounds = text_of(chunk)
        if int(ends[at - 1]) + len(text) > _LONGEST:
            raise _too_long()
        file.write(text)
        np.add(bounds[1:], ends[at - 1] - bounds[0], out=ends[at : at + len(chunk)])
        at += len(chunk)
    length, size, behind = len(cells), int(ends[-1]), _laid(file, ends.data)
    return lambda lying: _lying(lying, begin, size, behind, length)


def _lying(lying: pa.Buffer, begin: int, size: int, ends: int, rows: int) -> pa.Array:
    """The column whose text begins at one place in the file, and whose ends begin at the other."""
    return pa.Array.from_buffers(pa.string(), rows, [None, lying.slice(ends, 4 * (rows + 1)), lying.slice(begin, size)])


def _too_long() -> pa.ArrowCapacityError:
    return pa.ArrowCapacityError("a column of more than 2 GiB of text")


def _write(file: IO[bytes], data: memoryview, at: int) -> None:
    """Write it to this place."""
    data = data.cast("B")
    while len(data):
        written = os.pwrite(file.fileno(), data, at)
        data, at = data[written:], at + written


def _laid(file: IO[bytes], data: bytes | memoryview) -> int:
    """Write it where a number of Arrow's may begin; where that is."""
    file.write(bytes(-file.tell() % 8))
    begin = file.tell()
    file.write(data)
    return begin
