"""Frames seen as Arrow arrays, where look-ups among millions of ids are quick."""

from __future__ import annotations

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
