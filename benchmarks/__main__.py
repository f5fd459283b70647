"""Measures all contenders of a size in turns, prints the table, and writes it with JSON and a picture to `benchmarks/results`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks import crowd, districts, nights, reading, results, sftp
from benchmarks.measure import PEERS_PYTHON, ROOT, Case, take_turns


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Measure, print and write."""
    asked = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    asked.add_argument("--size", choices=districts.SIZES, default="M")
    asked.add_argument("--rounds", type=int, default=3, help="how many turns each contender has; fewer than three are only for trying")
    asked.add_argument(
        "--only", choices=("nights", "reading", "sftp", "crowd"), help="one family, of which the last two are run only so; then nothing is written"
    )
    options = asked.parse_args()
    students = districts.SIZES[options.size]
    with tempfile.TemporaryDirectory(prefix="sftp-ingest-bench-") as folder, ExitStack() as open_until_done:
        scratch = Path(folder)
        if options.only == "crowd":
            rows = take_turns(crowd.cases(open_until_done.enter_context(crowd.scene(scratch))), options.size, options.rounds, _tell)
            print(crowd.table(rows, options.rounds))
            return
        if options.only == "sftp":
            made = districts.make(scratch / "nights", students)
            at, sites = open_until_done.enter_context(sftp.scene(scratch, made / "night-1"))
            rows = take_turns(sftp.cases(at, sites), options.size, options.rounds, _tell)
            print(sftp.table(rows, students, options.rounds))
            return
        warm = districts.make(scratch / "warm", 50) / "night-1"
        made = districts.make(scratch / "nights", students, 2)
        cases: list[Case] = []
        if options.only != "reading":
            cases += nights.cases(open_until_done.enter_context(nights.scene(scratch, made)), warm)
        if options.only != "nights":
            cases += reading.cases(scratch, students, made / "night-1", warm)
        rows = take_turns(cases, options.size, options.rounds, _tell)
        found = results.told(rows, options.size, students, options.rounds, districts.rows(made / "night-1"))
    print(results.table(found))
    if not options.only:
        written = results.write(ROOT / "benchmarks" / "results", found)
        subprocess.run([PEERS_PYTHON, "-m", "benchmarks.plot", str(written)], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
