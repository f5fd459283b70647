"""Rejected rows go back as they were sent: read again from the sealed files, each with what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

import pyarrow as pa

from sftp_ingest.findings import CATALOGUE, Finding
from sftp_ingest.model import Delivery, Rejections
from sftp_ingest.roster import again, lines, loader
from sftp_ingest.roster.contract import Contract, Table
from sftp_ingest.roster.decoding import Text

MOST_ROWS = 100_000
"""So many rejected rows of a file are given back, the first; who has more of them looks at the cause and not at the rows."""

MOST_SURPLUS = 50
"""So many cells beyond the header's width are given back."""

APPENDED = ("finding", "column", "advice", "line")


def tables(delivery: Delivery, contract: Contract, rejections: Mapping[str, Rejections], findings: Sequence[Finding]) -> dict[str, pa.Table]:
    """File → its rejected rows, first lines first: the sender's own columns in his order, every cell as sent, then `APPENDED`.

    Cells of columns that are dropped when a file is read (passwords, sensitive columns that the district does not keep) are blank:
    what may not be stored is not given back either (law 10). Raises DeliveryError where a sealed file is not what it was.
    """
    return {table.file: _table(table, text, rejections[table.file], findings) for table, text in loader.texts(delivery, contract, rejections)}


def _table(table: Table, text: Text, rejected: Rejections, findings: Sequence[Finding]) -> pa.Table:
    header = lines.header(text).cells
    dropped = [place for place, name in enumerate(header) if _is_dropped(table, table.column_of(name))]
    at, causes = rejected.lines[:MOST_ROWS], rejected.causes[:MOST_ROWS]
    rows = [_without(record, dropped, len(header)) for record in again.records(text, at.tolist(), len(header))]
    surplus = min(max((len(row) for row in rows), default=0), len(header) + MOST_SURPLUS) - len(header)
    names = [*header, *(f"surplus {number}" for number in range(1, surplus + 1))]
    cells = [list(column) for column in zip_longest(*rows, fillvalue="")][: len(names)]
    cells += [[""] * len(rows)] * (len(names) - len(cells))
    told = [_told(table, label, findings) for label in rejected.labels]
    appended = [pa.array([each[part] for each in told], pa.string()).take(pa.array(causes)) for part in range(3)]
    numbers = pa.array(at).cast(pa.string())
    return pa.Table.from_arrays([*(pa.array(column, pa.string()) for column in cells), *appended, numbers], names=[*names, *APPENDED])


def _is_dropped(table: Table, column: str) -> bool:
    known = table.columns.get(column)
    return known.drop if known else "password" in column


def _without(record: again.Record, dropped: Sequence[int], width: int) -> list[str]:
    """The record's cells with the dropped ones blank. Where the width is wrong, every cell that may be one of them is blank."""
    cells = list(record.cells)
    if not dropped:
        return cells
    if record.guessed:  # what its cells are is anybody's guess
        return [""] * min(len(cells), width)
    shift = len(cells) - width
    for place in dropped:
        for position in range(max(place + min(shift, 0), 0), min(place + max(shift, 0) + 1, len(cells))):
            cells[position] = ""
    return cells


def _told(table: Table, label: str, findings: Sequence[Finding]) -> tuple[str, str, str]:
    """Code, column and advice for the rows of this label; rows that follow a record of another file are told of both."""
    root = next((each for each in findings if each.label == label), None)
    if root is not None and root.file.lower() == table.file.lower():
        return root.code, root.column, _advice(root)
    follower = next((each for each in findings if each.file == table.file and each.cause == label), None)
    if follower is None:
        code = label.partition("|")[0]
        return code, "", CATALOGUE[code].advice if code in CATALOGUE else ""
    if root is None:
        return follower.code, follower.column, follower.advice
    place = f"{root.file}, {root.column}" if root.column else root.file
    return follower.code, follower.column, f"{follower.advice} What is wrong there: {root.title[0].lower()}{root.title[1:]} ({place})."


def _advice(found: Finding) -> str:
    hint = f" {found.hint[0].upper()}{found.hint[1:]}." if found.hint else ""
    return f"{found.advice}{hint}"
