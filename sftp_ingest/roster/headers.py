"""Whether a first line is a header: what tells the cells of a row from the names of columns, and what may be told of a strange name."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Collection, Sequence

from sftp_ingest.roster.contract import Table, normalised
from sftp_ingest.roster.lines import Header
from sftp_ingest.roster.shelf import Data

_FIRST_BYTES = 1 << 18
"""So much of a file is looked at to see what its columns hold."""

_CELL = re.compile(
    r"@"  # an e-mail
    r"|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}"  # a date
    r"|^[^a-zA-Z]*\d[^a-zA-Z]*$"  # a number, a phone
    r"|^\d+\w?\s+\S"  # the house of an address
    r"|\bbox\s+\d"
    r"|(?:\d\D*){5}",  # a number beside words
    re.ASCII | re.IGNORECASE,
)
"""What no name of a column looks like, and cells of people do."""

_NARROWEST = 3
"""Rows of fewer cells say nothing by their number: a row of two may lack its last cell."""


def first_rows(data: Data, header: Header) -> list[list[str]]:
    """The cells of the first lines below the header, those that repeat it left out."""
    lines = data[header.end : header.end + _FIRST_BYTES].decode("utf-8", errors="replace").split("\n")
    return [row for row in map(_cells, lines) if any(map(str.strip, row)) and tuple(row) != header.cells]


def _cells(line: str) -> list[str]:
    """The cells of one line, however odd it is."""
    if '"' not in line and "\r" not in line:  # nearly all, and of every file thousands are looked at
        return line.split(",")
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return line.split(",")


def strange_names(names: Sequence[str], sent: Sequence[str], table: Table) -> frozenset[str]:
    """The names, as sent, that are none of the format's; in a file that extends records any name is one of the district's own."""
    return frozenset(
        original.strip()
        for name, original in zip(names, sent, strict=True)
        if name not in ("", *table.columns)
        and not normalised(original).startswith("ext.")
        and not any(normalised(original).startswith(each.starts) for each in table.prefixes)
    )


def shown(original: str, position: int, like_cells: Collection[str]) -> str:
    """What to call a column that the format does not know: by its number where its name may be a cell of a person."""
    return f"column {position + 1}" if original.strip() in like_cells else original.strip()[:100]


def like_cells(names: Collection[str], rows: Sequence[Sequence[str]]) -> frozenset[str]:
    """Those of the names that look like a cell of a person, or that are one of the first rows."""
    held = {cell.strip() for row in rows for cell in row} if names else set()
    return frozenset(name for name in names if name in held or _CELL.search(name))


def usual(rows: Sequence[Sequence[str]]) -> int:
    """How many cells most of the rows have, 0 where no number is that of more than half of them, or where there is but one: once is no habit."""
    cells, count = Counter(map(len, rows)).most_common(1)[0] if rows else (0, 0)
    return cells if count * 2 > len(rows) and count > 1 else 0


def holds_row(width: int, known: int, strange: Collection[str], like: Collection[str], rows: Sequence[Sequence[str]], *, keyed: bool) -> bool:
    """Whether a first line of so many cells, of which so many are `known` columns, is a row, or goes on with one behind the names.

    `strange` are the names that the format does not know, `like` those of them that look like cells; `keyed` says that the key is named.
    """
    if not strange:
        return False
    most = len(like) * 2 >= len(strange)
    if not rows:
        return len(strange) > 1 and (most or len(strange) >= known)
    cells = len(rows[0]) if len(rows) == 1 else usual(rows)
    if cells >= _NARROWEST and width >= 2 * cells - 1:  # one cell less, where the break was all that parted the last name from the first cell
        return True
    return most and len(strange) > known and not keyed
