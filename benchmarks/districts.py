"""The made-up districts that all contenders are given, how many rows they have, and hence how many a contender must have written."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from benchmarks.contender import FILES
from benchmarks.measure import OURS_PYTHON

SIZES: Mapping[str, int] = {"S": 10_000, "M": 100_000, "L": 1_000_000, "XL": 2_000_000}
"""Size → students; a student has six enrollments. S is for trying the benchmark itself."""

UP_TO_M = ("S", "M")
"""The sizes for a contender that would take too long for more."""


def command(*arguments: str, environment: Mapping[str, str] | None = None) -> None:
    """Run `sftp-ingest`, outside any clock."""
    done = subprocess.run(
        [OURS_PYTHON, "-m", "sftp_ingest", *arguments], env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"sftp-ingest {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-2000:]}")


def make(folder: Path, students: int, nights: int = 1, *arguments: str) -> Path:
    """The nights of a district, `night-1`, `night-2`, …, each with about one record in a hundred changed."""
    command("sample", str(folder), "--students", str(students), "--nights", str(nights), *arguments)
    return folder


def header(path: Path) -> list[str]:
    """The columns of a file."""
    with path.open(encoding="utf-8") as file:
        return file.readline().strip().split(",")


@cache
def rows(folder: Path) -> int:
    """How many rows the files of a night have together."""
    return sum(len(_keys(folder, name)) for name in FILES)


@cache
def records(*folders: Path) -> Mapping[str, int]:
    """File → how many different keys it has in these nights together: the rows of a table that was upserted with one after the other."""
    counts = {}
    for name, key in FILES.items():
        keys = pa.concat_tables(_keys(folder, name) for folder in folders)
        counts[name] = keys.group_by(list(key)).aggregate([]).num_rows
    return counts


@cache
def people(folder: Path) -> Mapping[str, int]:
    """Entity of ours → how many of its records are active after this night."""
    named = {"students": "Student_id", "teachers": "Teacher_id", "staff": "Staff_id", "schools": "School_id", "sections": "Section_id"}
    counts = {name: len(_keys(folder, name)[column].unique()) for name, column in named.items()}
    return counts | {"enrollments": records(folder)["enrollments"]}


def _keys(folder: Path, name: str) -> pa.Table:
    options = pa.csv.ConvertOptions(include_columns=FILES[name], column_types=dict.fromkeys(FILES[name], pa.string()), strings_can_be_null=False)
    return pa.csv.read_csv(folder / f"{name}.csv", parse_options=pa.csv.ParseOptions(newlines_in_values=True), convert_options=options)
