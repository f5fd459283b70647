"""Columns of Arrow text become CSV, a block of rows at a time: pyarrow's own writer quotes every text it is given, here quotes stand only where they must."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

Columns = dict[str, Any]
"""Header → Arrow array of text, all of one length; pyarrow has no types of its own."""

_UNSAFE = (",", '"', "\n", "\r")


def header(columns: Columns) -> bytes:
    """The header line."""
    return bytes(joined(_quoted_row(list(columns))))


def lines(columns: Columns) -> Any:
    """One text a row, without its line end."""
    return glued(*(quoted(column) for column in columns.values()), between=",")


def joined(rows: Any) -> Any:
    """The lines, each with its line end, as one buffer of UTF-8."""
    ended = glued(rows, "\n")
    return pc.binary_join(pa.ListArray.from_arrays([0, len(ended)], ended), "")[0].as_buffer()


def quoted(text: Any) -> Any:
    """The cells as they are written: in quotes those that hold a comma, a quote or a line break."""
    unsafe = pc.match_substring(text, _UNSAFE[0])
    for each in _UNSAFE[1:]:
        unsafe = pc.or_(unsafe, pc.match_substring(text, each))
    if not pc.any(unsafe).as_py():
        return text
    return pc.if_else(unsafe, glued('"', pc.replace_substring(text, '"', '""'), '"'), text)


def glued(*parts: Any, between: str = "") -> Any:
    """The parts of each row, arrays or one text for all, as one text."""
    return pc.binary_join_element_wise(*parts, between)


def alike(word: str, count: int) -> Any:
    """A column of the same text."""
    return pa.repeat(pa.scalar(word), count)


def _quoted_row(cells: list[str]) -> Any:
    return pa.array([",".join(quoted(pa.array(cells, pa.string())).to_pylist())], pa.string())
