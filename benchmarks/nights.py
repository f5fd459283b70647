"""Whole nights on both databases: floors that only load, ours on a first, an unchanged and a 1 % night, and peers that load or merge."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import databases, districts
from benchmarks.contender import FILES
from benchmarks.databases import POSTGRESQL, SQLITE, Databases
from benchmarks.districts import UP_TO_M
from benchmarks.measure import OURS_PYTHON, PEERS_PYTHON, Case, Figure, run
from sftp_ingest import forks

FIRST, UNCHANGED, CHANGED = "first", "unchanged", "1 %"

_KEYS_AFTER = ";".join(
    (
        *(f'ALTER TABLE "{name}" ADD PRIMARY KEY ({databases.quoted(key)})' for name, key in FILES.items()),
        'CREATE INDEX "enrollments_by_student" ON "enrollments" ("Student_id")',
    )
)


@dataclass(frozen=True)
class Course:
    """One way for ours to go through nights: which folder comes on which night, in order; `whole` has all of every file read.

    A night without a title is gone through outside the clock, to come to where another way begins.
    """

    name: str
    nights: tuple[tuple[str, str], ...]
    whole: bool = False


COURSES = (
    Course("sftp_ingest", ((FIRST, "night-1"), (UNCHANGED, "night-1"), (CHANGED, "night-2"))),
    Course("sftp_ingest, all read", (("", "night-1"), (CHANGED, "night-2")), whole=True),
)


@dataclass(frozen=True)
class Scene:
    """What the cases of this family share: the nights, the rows that ours makes of the first one, and the databases."""

    scratch: Path
    nights: Path
    our_rows: Path
    our_counts: Mapping[str, int]
    given: Databases


@contextmanager
def scene(scratch: Path, nights: Path) -> Iterator[Scene]:
    """Make all that, outside any clock."""
    with Databases.open(scratch) as given:
        with given.fresh(SQLITE) as url, a_home(scratch, url) as home:
            run(OURS_PYTHON, "ours", "sync", {"SFTP_INGEST_DATABASE_URL": url}, home=str(home), district="bench", folder=str(nights / "night-1"))
            counts = databases.write_our_rows(url, scratch / "our-rows")
        yield Scene(scratch, nights, scratch / "our-rows", counts, given)


def cases(at: Scene, warm: Path) -> list[Case]:
    """All contenders of this family."""
    night = str(at.nights / "night-1")
    found = [
        Case("files alone", "floor", "raw read", lambda _: {"": run(OURS_PYTHON, "floors", "raw read", folder=night)}),
        Case("files alone", "floor", "pyarrow parse", lambda _: {"": run(OURS_PYTHON, "floors", "parse", folder=night, warm=str(warm))}, base="parse"),
        Case("files alone", "floor", "pyarrow parse, then pandera", lambda _: {"": run(OURS_PYTHON, "ours", "arrow pandera", folder=night, warm=str(warm))}),
    ]
    for kind, loader in ((SQLITE, "import"), (POSTGRESQL, "copy")):
        said = ".import" if kind == SQLITE else "COPY"
        found.append(Case(kind, "floor", f"bare {said} into keyed tables", partial(_floor, at, kind, loader, True), base="load"))
        if kind == POSTGRESQL:
            found.append(Case(kind, "floor", "COPY, then primary keys", partial(_floor, at, kind, loader, False)))
        found.append(Case(kind, "floor", f"{said} of our rows into our tables", partial(_our_rows, at, kind, loader)))
        found += [Case(kind, "ours", each.name, partial(_ours, at, kind, each)) for each in COURSES]
        found.append(Case(kind, "peer", "pandas.to_sql", partial(_to_sql, at, kind), sizes=UP_TO_M))
        merging = ("sqlite-utils upsert", partial(_sqlite_utils, at)) if kind == SQLITE else ("dlt merge", partial(_dlt, at))
        found.append(Case(kind, "peer", *merging, sizes=UP_TO_M))
    return found


@contextmanager
def a_home(scratch: Path, url: str) -> Iterator[Path]:
    """A home of ours with a district in it."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        environment = {"SFTP_INGEST_CONFIG": f"{folder}/sftp-ingest.toml", "SFTP_INGEST_DATABASE_URL": url}
        districts.command("init", folder, environment=environment)
        districts.command("districts", "add", "bench", environment=environment)
        yield Path(folder)


def _ours(at: Scene, kind: str, course: Course, _: int) -> Mapping[str, Figure]:
    figures = {}
    with at.given.fresh(kind) as url, a_home(at.scratch, url) as home:
        for title, name in course.nights:
            folder = at.nights / name
            environment = {**forks.environment(), "SFTP_INGEST_DATABASE_URL": url}
            figure = run(OURS_PYTHON, "ours", "sync", environment, home=str(home), district="bench", folder=str(folder), whole=str(course.whole))
            databases.expect_ours(url, course.name, districts.people(folder))
            if title:
                figures[title] = figure
    return figures


def _floor(at: Scene, kind: str, loader: str, keyed: bool, _: int) -> Mapping[str, Figure]:
    night = at.nights / "night-1"
    after: dict[str, Any] = {} if keyed else {"keys": _KEYS_AFTER}
    with at.given.fresh(kind) as url:
        databases.lay_tables(url, night, keyed=keyed)
        figure = run(OURS_PYTHON, "floors", loader, url=url, folder=str(night), **after)
        databases.expect_files(url, loader, districts.records(night))
    return {FIRST: figure}


def _our_rows(at: Scene, kind: str, loader: str, _: int) -> Mapping[str, Figure]:
    with at.given.fresh(kind) as url, a_home(at.scratch, url):
        if kind == SQLITE:
            databases.let_import_in(url)
        figure = run(OURS_PYTHON, "floors", loader, url=url, folder=str(at.our_rows), order=" ".join(at.our_counts))
        databases.expect_files(url, loader, at.our_counts)
    return {FIRST: figure}


def _to_sql(at: Scene, kind: str, _: int) -> Mapping[str, Figure]:
    night = at.nights / "night-1"
    with at.given.fresh(kind) as url:
        databases.lay_tables(url, night, keyed=True)
        figure = run(PEERS_PYTHON, "peers", "to_sql", url=url, folder=str(night))
        databases.expect_files(url, "pandas.to_sql", districts.records(night))
    return {FIRST: figure}


def _sqlite_utils(at: Scene, _: int) -> Mapping[str, Figure]:
    with at.given.fresh(SQLITE) as url:
        databases.lay_tables(url, at.nights / "night-1", keyed=True)
        return _first_and_changed(at, url, "sqlite-utils", "", lambda folder: run(PEERS_PYTHON, "peers", "sqlite-utils", url=url, folder=folder))


def _dlt(at: Scene, _: int) -> Mapping[str, Figure]:
    quiet = {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR", "DLT_DATA_DIR": str(at.scratch / "dlt")}
    state = str(at.scratch / "dlt")
    with at.given.fresh(POSTGRESQL) as url:
        figures = _first_and_changed(at, url, "dlt", "night", lambda folder: run(PEERS_PYTHON, "peers", "dlt", quiet, url=url, folder=folder, scratch=state))
    shutil.rmtree(state)
    return figures


def _first_and_changed(at: Scene, url: str, contender: str, schema: str, night: Callable[[str], Figure]) -> Mapping[str, Figure]:
    """The first night and the changed one, by who keeps all that ever came."""
    first, second = at.nights / "night-1", at.nights / "night-2"
    figures = {FIRST: night(str(first))}
    databases.expect_files(url, contender, districts.records(first), schema)
    figures[CHANGED] = night(str(second))
    databases.expect_files(url, contender, districts.records(first, second), schema)
    return figures
