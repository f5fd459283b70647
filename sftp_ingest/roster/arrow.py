"""Frames seen as Arrow arrays, where look-ups among millions of ids are quick."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

TEXT = pd.ArrowDtype(pa.string())
"""The type of every column of every frame."""

Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int32]

_FEW = 8
"""Where there are so many times more keys to look among, most of them are left out before any is looked for."""

_BLANKS = " \t\n\v\f\r\x1c\x1d\x1e\x1f"
"""What Unicode calls white space, as far as it is ASCII."""

_SPACE, _NOT_ASCII = 0x20, 0x80
"""No byte up to the one, and none from the other on, is surely not white space."""

_AT_ONCE = 1 << 20
"""So many of millions of sorted keys are looked for together: what is noted of each takes several times its place."""

_NUMBERS = 1 << 64
"""Keys become numbers below this one."""

_THREADS_FROM = 20_000
"""Of so many rows on, threads save more time than it takes to begin them."""

Part = TypeVar("Part")
Made = TypeVar("Made")


def side_by_side(make: Callable[[Part], Made], parts: Iterable[Part], rows: int) -> list[Made]:
    """What is made of every part, in their order, by as many threads as there are processors: Arrow works on columns without Python's lock.

    Of few `rows` one part is made after the other.
    """
    if rows < _THREADS_FROM:
        return [make(part) for part in parts]
    with ThreadPoolExecutor(pa.cpu_count()) as pool:
        return list(pool.map(make, parts))


def in_turn(make: Callable[[Part], Made], parts: Iterable[Part]) -> Iterator[Made]:
    """As `side_by_side`, of parts of which not many more are there at once than there are processors, nor of what is made of them."""
    with ThreadPoolExecutor(pa.cpu_count()) as pool:
        begun: deque[Future[Made]] = deque()
        for part in parts:
            begun.append(pool.submit(make, part))
            if len(begun) > pa.cpu_count():
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()


def array_of(series: pd.Series) -> pa.Array:
    """The column's cells, in one piece, without a copy where they lie in one piece already."""
    return in_one_piece(pa.chunked_array(series.array.__arrow_array__()))


def in_one_piece(cells: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The cells in one piece, without a copy where they lie in one piece already."""
    if not isinstance(cells, pa.ChunkedArray):
        return cells
    return cells.chunk(0) if cells.num_chunks == 1 else cells.combine_chunks()


def spelt_out(cells: pa.Array) -> pa.Array:
    """The cells as texts where they are places in their distinct texts, else as they are."""
    return cells.dictionary_decode() if pa.types.is_dictionary(cells.type) else cells


def trimmed(cells: pa.Array) -> pa.Array:
    """The cells without white space around them; that of other alphabets costs five times as much to look for, and is looked for where it can be."""
    if _tight(cells):
        return cells
    if not pc.all(pc.string_is_ascii(cells)).as_py():
        return pc.utf8_trim_whitespace(cells)
    return pc.ascii_trim(cells, characters=_BLANKS)


def _tight(cells: pa.Array) -> bool:
    """Whether no cell can begin or end with white space, as in most columns: that is seen in a tenth of the time that trimming takes."""
    text, bounds = text_of(cells)
    content = np.frombuffer(text, dtype=np.uint8)
    if not len(content) or (content.min() > _SPACE and content.max() < _NOT_ASCII):
        return True
    edges = bounds - bounds[0]  # of a blank cell the neighbours' letters are looked at, which does no harm
    ends = np.concatenate((content[edges[:-1][edges[:-1] < len(content)]], content[edges[1:][edges[1:] > 0] - 1]))
    return bool(ends.min() > _SPACE and ends.max() < _NOT_ASCII)


def says_nothing(cells: pa.Array | pa.ChunkedArray) -> bool:
    """Whether all cells are blank texts: told by how many letters they, or the texts that they are places in, have together, without a look at any."""
    pieces = cells.chunks if isinstance(cells, pa.ChunkedArray) else [cells]
    return not any(len(text_of(piece.dictionary if pa.types.is_dictionary(piece.type) else piece)[0]) for piece in pieces)


def text_of(cells: pa.Array) -> tuple[memoryview, Places]:
    """The bytes of all cells, one behind the other as they lie, and where in Arrow's own each of them begins and the last one ends."""
    if not len(cells):
        return memoryview(b""), np.zeros(1, dtype=np.int32)
    _, offsets, text = cells.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int32)[cells.offset : cells.offset + len(cells) + 1]
    return memoryview(text or b"")[bounds[0] : bounds[-1]], bounds


def frame_of(table: pa.Table) -> pd.DataFrame:
    """The table as a frame, of text but for a column of truth values."""
    cells = {name: in_one_piece(table[name]) for name in table.column_names}
    return pd.DataFrame(
        {name: each.to_numpy(zero_copy_only=False) if pa.types.is_boolean(each.type) else pd.array(each, dtype=TEXT) for name, each in cells.items()},
        copy=False,
    )


def is_in(cells: pa.Array | pa.ChunkedArray, of: pa.Array | pa.ChunkedArray) -> Mask:
    """Which cells are among the others. Of cells that are encoded, each distinct text is looked for once."""
    if pa.types.is_dictionary(cells.type):
        whole = in_one_piece(cells)
        of_text: Mask = is_in(whole.dictionary, of)[whole.indices.to_numpy()]
        return of_text
    if not len(cells):
        return np.zeros(0, dtype=bool)
    if _FEW * len(cells) < len(of):
        of = of.filter(pc.is_in(of, value_set=cells))
    found: Mask = pc.is_in(cells, value_set=of).to_numpy(zero_copy_only=False)
    return found


def key_of(parts: Sequence[pa.Array | pa.ChunkedArray]) -> pa.Array:
    """One text a row that tells its key from every other: parts are joined behind their lengths, so that ("a", "bc") is not ("ab", "c")."""
    whole = [spelt_out(in_one_piece(part)) for part in parts]
    if len(whole) == 1:
        return whole[0]
    first = whole[0]
    return pc.binary_join_element_wise(pc.cast(pc.binary_length(first), pa.string()), ":", first, *whole[1:], "")


def places_of(cells: pa.Array, among: pa.Array) -> Places:
    """Where each cell stands among the others, or -1. Of cells that are encoded, each distinct text is looked for once."""
    if pa.types.is_dictionary(cells.type):
        of_text: Places = places_of(cells.dictionary, among)[cells.indices.to_numpy()]
        return of_text
    if not len(cells):
        return np.zeros(0, dtype=np.int32)
    if _FEW * len(cells) < len(among):
        maybe = np.flatnonzero(is_in(among, cells)).astype(np.int32)
        among_few: Places = np.append(maybe, np.int32(-1))[places_of(cells, among.take(pa.array(maybe)))]  # the last of which stands at -1
        return among_few
    found: Places = pc.index_in(cells, value_set=among).fill_null(-1).to_numpy(zero_copy_only=False)
    return found


def places_of_keys(keys: Sequence[pa.Array], among: Sequence[pa.Array]) -> Places:
    """Where each key, of one cell in each part, stands among the others, or -1; on neither side is a key there twice.

    Keys of several parts become numbers, and both sides are sorted: to hash millions takes three times as long, and more memory.
    """
    if not len(among[0]):
        return np.full(len(keys[0]), -1, dtype=np.int32)
    if len(keys) > 1:
        return _places_of_parts(keys, among)
    cells, others = keys[0], spelt_out(among[0])
    if len(cells) >= len(others):
        return places_of(cells, others)
    of_other = places_of(others, cells)
    found = np.full(len(cells), -1, dtype=np.int32)
    at = np.flatnonzero(of_other >= 0)
    found[of_other[at]] = at
    return found


def _places_of_parts(keys: Sequence[pa.Array], among: Sequence[pa.Array]) -> Places:
    """As `places_of_keys`, of keys of several parts."""
    rows = len(keys[0]), len(among[0])
    if _FEW * rows[0] < rows[1]:
        maybe = np.flatnonzero(np.logical_and.reduce([is_in(within, part) for part, within in zip(keys, among, strict=True)]))
        places = places_of_keys(keys, [within.take(pa.array(maybe)) for within in among])
        return np.append(maybe, -1)[places].astype(np.int32)  # the last of which stands at -1
    known, bits = side_by_side(encoded, among, rows[1]), max(rows).bit_length()
    if math.prod(len(each.texts) for each in known) << bits > _NUMBERS:
        return places_of(key_of(keys), key_of(among))
    told = side_by_side(lambda each: Encoded(each[1].texts, places_of(each[0], each[1].texts)), zip(keys, known, strict=True), rows[0])
    there = np.logical_and.reduce([each.places >= 0 for each in told])
    left = _with_places(groups([each.filter(there) for each in told]), np.flatnonzero(there), bits)
    right = _with_places(groups(known), np.arange(rows[1]), bits)
    place_of = np.uint64((1 << bits) - 1)
    found = np.full(rows[0], -1, dtype=np.int32)
    for begin in range(0, len(left), _AT_ONCE):
        wanted = left[begin : begin + _AT_ONCE]
        near = right[np.minimum(np.searchsorted(right, wanted & ~place_of), len(right) - 1)]
        same = near >> bits == wanted >> bits
        found[wanted[same] & place_of] = near[same] & place_of
    return found


def _with_places(numbers: npt.NDArray[np.int64], places: npt.NDArray[np.int64], bits: int) -> npt.NDArray[np.uint64]:
    """The numbers in order, each with its place in its last bits; they themselves are no more."""
    packed = numbers.view(np.uint64)
    packed <<= bits
    packed |= places.view(np.uint64)
    packed.sort()
    return packed


@dataclass(frozen=True)
class Encoded:
    """A column's cells as places in their distinct `texts`; what is asked of millions of cells is then looked up once a text."""

    texts: pa.Array
    places: Places

    def are_in(self, of: pa.Array) -> Mask:
        """Which cells are among the others."""
        found: Mask = is_in(self.texts, of)[self.places]
        return found

    def filter(self, mask: Mask) -> Encoded:
        """The masked cells."""
        return Encoded(self.texts, self.places[mask])

    def narrowed(self) -> Encoded:
        """The same cells, with no texts but theirs."""
        there = np.zeros(len(self.texts), dtype=bool)
        there[self.places] = True
        return self if there.all() else Encoded(self.texts.filter(pa.array(there)), (np.cumsum(there, dtype=np.int32) - 1)[self.places])

    @property
    def cells(self) -> pa.Array:
        """The cells as Arrow has them encoded."""
        return pa.DictionaryArray.from_arrays(pa.array(self.places), self.texts)

    def with_texts(self, texts: Sequence[str | None]) -> pa.Array:
        """The cells, with another text, or none, in place of each distinct one."""
        return pa.array(texts, pa.string()).take(pa.array(self.places))


def encoded(cells: pa.Array) -> Encoded:
    """The cells, none of them null, by their distinct texts, in order of first appearance; cells that are encoded already, as they are."""
    dictionary = cells if pa.types.is_dictionary(cells.type) else cells.dictionary_encode()
    return Encoded(dictionary.dictionary, dictionary.indices.to_numpy())


def joined(parts: Sequence[Encoded]) -> Encoded:
    """The cells of several columns one behind the other."""
    if len(parts) == 1:
        return parts[0]
    whole = encoded(pa.concat_arrays([part.texts for part in parts]))
    begins = np.cumsum([0, *(len(part.texts) for part in parts)]).tolist()
    return Encoded(whole.texts, np.concatenate([whole.places[begin:][part.places] for begin, part in zip(begins, parts, strict=False)]))


def groups(parts: Sequence[Encoded]) -> npt.NDArray[np.int64]:
    """A number a row, the same for rows whose key is the same in all of its parts."""
    numbers = np.zeros(len(parts[0].places), dtype=np.int64)
    for part in parts:
        numbers = numbers * len(part.texts) + part.places
    return numbers


def first_ones(numbers: npt.NDArray[np.int64]) -> Mask:
    """Which numbers are there for the first time."""
    first = np.zeros(len(numbers), dtype=bool)
    first[np.unique(numbers, return_index=True)[1]] = True
    return first


def begins_of(ordered: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Where each run of one number begins, among numbers of which those that are alike stand side by side."""
    new = np.ones(len(ordered), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    return np.flatnonzero(new)


def more_than_once(numbers: npt.NDArray[np.int64]) -> Mask:
    """Which numbers are there more than once; sorted, for grouping texts takes five times as long."""
    ordered = np.sort(numbers)
    again = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(again):
        return np.zeros(len(numbers), dtype=bool)
    place = np.minimum(np.searchsorted(again, numbers), len(again) - 1)
    found: Mask = again[place] == numbers
    return found
