"""Frames seen as Arrow arrays, where look-ups among millions of ids are quick."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

TEXT = pd.ArrowDtype(pa.string())
"""The type of every column of every frame."""

Mask = npt.NDArray[np.bool_]


def array_of(series: pd.Series) -> pa.Array:
    """The column's cells, in one piece, without a copy where they lie in one piece already."""
    array = pa.chunked_array(series.array.__arrow_array__())
    return array.chunk(0) if array.num_chunks == 1 else array.combine_chunks()


def is_in(cells: pa.Array | pa.ChunkedArray, of: pa.Array | pa.ChunkedArray) -> Mask:
    """Which cells are among the others."""
    found: Mask = pc.is_in(cells, value_set=of).to_numpy(zero_copy_only=False)
    return found


def key_of(parts: Sequence[pa.Array | pa.ChunkedArray]) -> pa.Array:
    """One text a row that tells its key from every other: parts are joined behind their lengths, so that ("a", "bc") is not ("ab", "c")."""
    whole = [part.combine_chunks() if isinstance(part, pa.ChunkedArray) else part for part in parts]
    whole = [part.chunk(0) if isinstance(part, pa.ChunkedArray) else part for part in whole]
    if len(whole) == 1:
        return whole[0]
    first = whole[0]
    return pc.binary_join_element_wise(pc.cast(pc.binary_length(first), pa.string()), ":", first, *whole[1:], "")


def more_than_once(parts: Sequence[pa.Array]) -> Mask:
    """Which rows have a key that another row has too; a sort of numbers, for grouping the texts themselves takes five times as long."""
    codes = np.zeros(len(parts[0]), dtype=np.int64)
    for part in parts:
        encoded = part.dictionary_encode()
        codes = codes * (len(encoded.dictionary) + 1) + encoded.indices.to_numpy(zero_copy_only=False)
    ordered = np.sort(codes)
    again = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    found: Mask = np.isin(codes, again) if len(again) else np.zeros(len(codes), dtype=bool)
    return found
