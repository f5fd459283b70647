"""Two reports of one delivery side by side, without and with a contract: what the contract changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sftp_ingest.model import SyncReport


def as_json(before: SyncReport, after: SyncReport) -> dict[str, Any]:
    """The two under `before` and `after`: each its outcome, the rows of its files, those left out, and how often each finding's code is counted."""
    return {name: {"outcome": each.outcome, **_rows(each), "findings": _counts(each)} for name, each in (("before", before), ("after", after))}


def render(before: SyncReport, after: SyncReport, console: Console) -> None:
    """Print them as a table of two columns; where a line differs it stands out."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1), show_edge=False)
    table.add_column("this contract", no_wrap=True)
    for column in ("without", "with"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_row("outcome", *_cells(before.outcome, after.outcome))
    for told in (_rows, _counts):
        one, other = told(before), told(after)
        for name in (*one, *(each for each in other if each not in one)):
            table.add_row(name.replace("_", " ") if told is _rows else name, *_cells(f"{one.get(name, 0):,}", f"{other.get(name, 0):,}"))
    console.print()
    console.print(table)


def _rows(report: SyncReport) -> dict[str, int]:
    return {"rows": sum(each.rows for each in report.counts.values()), "rejected": sum(each.rejected for each in report.counts.values())}


def _counts(report: SyncReport) -> Mapping[str, int]:
    """Code → how often it is counted, in all files together."""
    counts: dict[str, int] = {}
    for each in report.findings:
        counts[each.code] = counts.get(each.code, 0) + each.count
    return dict(sorted(counts.items()))


def _cells(before: str, after: str) -> tuple[Text, Text]:
    return Text(before, style="dim"), Text(after, style="bold" if before != after else "dim")
