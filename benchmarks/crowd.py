"""Many districts in one night: how many a minute the daemon's runner brings through on PostgreSQL, by the number of its workers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import districts, nights
from benchmarks.databases import POSTGRESQL, Databases
from benchmarks.measure import OURS_PYTHON, Case, Figure, Row, run

DISTRICTS = 200
STUDENTS = 5_000
WORKERS = (1, 2, 4)


@dataclass(frozen=True)
class Scene:
    """What the cases of this family share: two nights, which every district sends, and the databases."""

    scratch: Path
    nights: Path
    given: Databases


@contextmanager
def scene(scratch: Path) -> Iterator[Scene]:
    """Make all that, outside any clock."""
    made = districts.make(scratch / "crowd", STUDENTS, 2)
    with Databases.open(scratch) as given:
        yield Scene(scratch, made, given)


def cases(at: Scene) -> list[Case]:
    """One case a number of workers."""
    return [Case(POSTGRESQL, "ours", f"{workers} at once", partial(_turn, at, workers)) for workers in WORKERS]


def table(rows: Sequence[Row], rounds: int) -> str:
    """All figures as a Markdown table. The ideal is that as many workers as there are processors take the time of one, divided by their number."""
    alone = {row.night: row.median("seconds") for row in rows if row.case.name == f"{WORKERS[0]} at once"}
    lines = [
        f"{DISTRICTS} districts of {STUDENTS:,} students each, medians of {rounds}; {os.cpu_count()} processors, which the database shares.",
        "",
        "| Runs | Night | s | Districts a minute | Share of the ideal |",
        "|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda each: each.night != nights.FIRST):
        seconds = row.median("seconds")
        workers = int(row.case.name.split(" ", 1)[0])
        share = alone[row.night] / (seconds * min(workers, os.cpu_count() or 1))
        lines.append(f"| {row.case.name} | {row.night} | {seconds:.1f} | {DISTRICTS * 60 / seconds:.0f} | {share:.0%} |")
    return "\n".join(lines)


def _turn(at: Scene, workers: int, _: int) -> Mapping[str, Figure]:
    figures = {}
    with at.given.fresh(POSTGRESQL) as url, nights.a_home(at.scratch, url) as home:
        for title, name in ((nights.FIRST, "night-1"), (nights.CHANGED, "night-2")):
            environment = {"SFTP_INGEST_DATABASE_URL": url}
            asked = {"home": str(home), "folder": str(at.nights / name), "districts": str(DISTRICTS), "workers": str(workers)}
            figures[title] = run(OURS_PYTHON, "ours", "crowd", environment, **asked)
    return figures
