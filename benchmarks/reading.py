"""Loading and validating a district: ours beside parsing alone, pandera used plainly, and frictionless, on the same files in one run.

Three states of one made-up district: without a fault, with a realistic share of faults of every kind, and with one column wrong in
every row. Contenders take turns, each in a process of its own; printed are medians, and ratios to parsing alone with pyarrow.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

STATES: Mapping[str, tuple[str, ...]] = {
    "no fault": (),
    "0.2 % faults": ("--fault-share", "0.002"),
    "a wrong column": ("--wrong-column", "Last_name"),
}
FILES = ("schools", "teachers", "students", "sections", "enrollments")


def parse(folder: Path) -> object:
    """The floor: every file through pyarrow, every column as text."""
    import pyarrow as pa
    import pyarrow.csv as pacsv

    tables = []
    for name in FILES:
        path = folder / f"{name}.csv"
        header = path.open(encoding="utf-8").readline().strip().split(",")
        tables.append(
            pacsv.read_csv(
                path,
                parse_options=pacsv.ParseOptions(invalid_row_handler=lambda row: "skip"),
                convert_options=pacsv.ConvertOptions(column_types={each: pa.string() for each in header}, strings_can_be_null=False),
            )
        )
    return tables


def ours(folder: Path) -> object:
    """What a sync run does before it compares: load, validate, every finding with its lines."""
    from sftp_ingest.intake import inbox
    from sftp_ingest.roster import contract, loader, validator

    rules = contract.keeping(contract.load(), ())
    now = datetime.now(UTC)
    return validator.validate(loader.load(inbox.as_delivery(folder, now), rules), rules, today=now.date())


def plain_pandera(folder: Path) -> object:
    """The contract's rules as anybody would write them: pandas text columns, one schema a file, `isin` for references, failures collected."""
    import pandas as pd
    import pandera.pandas as pa

    from sftp_ingest.roster import contract, values

    rules = contract.keeping(contract.load(), ())
    ids: dict[str, set[str]] = {}
    failures = 0
    for name in FILES:
        table = rules.tables[name]
        frame = pd.read_csv(folder / f"{name}.csv", dtype=str, keep_default_na=False, on_bad_lines="skip")
        columns = {}
        for each in table.fields:
            if each.name not in frame.columns:
                continue
            checks = [pa.Check.str_length(min_value=1)] if each.required else []
            pattern = each.pattern or values.PATTERNS.get(each.type, "")
            if pattern:
                checks.append(pa.Check.str_matches(rf"^(?:{pattern})?$"))
            checks += [pa.Check.isin(ids[of.table]) for of in table.references if of.column == each.column and not of.optional and of.table in ids]
            columns[each.name] = pa.Column(str, checks, unique=each.unique)
        try:
            pa.DataFrameSchema(columns).validate(frame, lazy=True)
        except pa.errors.SchemaErrors as faults:
            failures += len(faults.failure_cases)
        if len(table.key) == 1:
            ids[name] = set(frame[next(each.name for each in table.fields if each.column == table.key[0])])
    return failures


def frictionless(folder: Path) -> object:
    """A package with the contract's required cells, patterns, keys and references, as frictionless validates it."""
    import frictionless as fr

    with fr.system.use_context(trusted=True):
        return fr.Package.from_descriptor(json.loads((folder / "datapackage.json").read_text(encoding="utf-8")), basepath=str(folder)).validate(
            limit_errors=1_000_000
        )


CONTENDERS: Mapping[str, Callable[[Path], object]] = {
    "pyarrow, parsing alone": parse,
    "sftp_ingest, load and validate": ours,
    "pandera, used plainly": plain_pandera,
    "frictionless": frictionless,
}


def made(folder: Path, students: int, *arguments: str) -> Path:
    """One night of a made-up district, with its data package."""
    subprocess.run([sys.executable, "-m", "sftp_ingest", "sample", str(folder), "--students", str(students), *arguments], check=True, capture_output=True)
    describe(folder / "night-1")
    return folder / "night-1"


def describe(folder: Path) -> None:
    """Write the contract as a data package, for frictionless."""
    from sftp_ingest.roster import contract, values

    resources = []
    for name in FILES:
        table = contract.load().tables[name]
        header = (folder / f"{name}.csv").open(encoding="utf-8").readline().strip().split(",")
        by_name = {each.name: each for each in table.fields}
        spelt = {each.column: each.name for each in table.fields}
        fields: list[dict[str, Any]] = []
        for column in header:
            field = by_name.get(column)
            pattern = (field.pattern or values.PATTERNS.get(field.type, "")) if field else ""
            constraints = {"required": True} if field and field.required else {}
            fields.append({"name": column, "type": "string", "constraints": constraints | ({"pattern": pattern} if pattern else {})})
        schema: dict[str, Any] = {"fields": fields}
        if not table.repeat:
            schema["primaryKey"] = [spelt[each] for each in table.key]
        schema["foreignKeys"] = [
            {"fields": [spelt[each.column]], "reference": {"resource": each.table, "fields": [f"{each.table.removesuffix('s').capitalize()}_id"]}}
            for each in table.references
            if not each.optional and each.table != "students"  # a student has several rows, which frictionless takes for no key
        ]
        resources.append({"name": name, "path": f"{name}.csv", "schema": schema})
    (folder / "datapackage.json").write_text(json.dumps({"name": "district", "resources": resources}), encoding="utf-8")


def timed(python: str, name: str, warm: Path, folder: Path) -> tuple[float, float]:
    """Seconds and peak megabytes of one contender in a fresh process, start-up not counted in the seconds."""
    done = subprocess.run([python, __file__, "--one", name, str(warm), str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    return told["seconds"], told["megabytes"]


def one(name: str, warm: Path, folder: Path) -> None:
    """Be a contender: once on a few rows, for what is imported and built on the way, then for the figures."""
    CONTENDERS[name](warm)
    begun = time.perf_counter()
    CONTENDERS[name](folder)
    seconds = time.perf_counter() - begun
    print(json.dumps({"seconds": seconds, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def main() -> None:
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--students", type=int, default=100_000)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--peers", default="", help="the Python that has frictionless; without it that peer is left out")
    asked.add_argument("--one", nargs=3, metavar=("CONTENDER", "WARM", "FOLDER"), help=argparse.SUPPRESS)
    options = asked.parse_args()
    if options.one:
        return one(options.one[0], Path(options.one[1]), Path(options.one[2]))
    print(
        f"{options.students:,} students, medians of {options.rounds}; Python {platform.python_version()}, {os.cpu_count()} processors, {platform.machine()}\n"
    )
    print(f"{'':18}{'':34}{'seconds':>9}{'x parse':>9}{'peak MB':>9}{'x parse':>9}")
    with tempfile.TemporaryDirectory(prefix="sftp-ingest-bench-") as scratch:
        warm = made(Path(scratch) / "warm", 50)
        for state, arguments in STATES.items():
            night = made(Path(scratch) / state, options.students, *arguments)
            figures: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTENDERS if name != "frictionless" or options.peers}
            for _ in range(options.rounds):
                for name, found in figures.items():
                    found.append(timed(options.peers if name == "frictionless" else sys.executable, name, warm, night))
            base = [statistics.median(each) for each in zip(*figures["pyarrow, parsing alone"], strict=True)]
            for name, found in figures.items():
                seconds, peak = (statistics.median(each) for each in zip(*found, strict=True))
                print(f"{state:18}{name:34}{seconds:>9.2f}{seconds / base[0]:>9.1f}{peak:>9,.0f}{peak / base[1]:>9.1f}")
    return None


if __name__ == "__main__":
    main()
