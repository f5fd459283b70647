"""Contenders take turns, each in a process of its own; every turn gives figures, and what is told are medians."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parent.parent
OURS_PYTHON = sys.executable
PEERS_PYTHON = str(Path(__file__).resolve().parent / ".peers" / "bin" / "python")

Kind = Literal["floor", "ours", "peer"]

_SAMPLE_SECONDS = 0.02


@dataclass(frozen=True)
class Figure:
    """One turn: seconds of the work alone and of the whole process with its start-up, megabytes, the seconds of stages, and the faults found.

    `process` is the peak of the contender's own process; `tree` that of it and its children together, sampled, shared pages counted once.
    Without children the two are the same. A PostgreSQL server is nobody's child and in neither.
    """

    seconds: float
    wall: float
    process: float
    tree: float
    stages: Mapping[str, float] = field(default_factory=dict)
    found: int = 0


@dataclass(frozen=True)
class Case:
    """A contender in one group (a database, or a state of the files): each turn gives a figure for each of its nights.

    `base` says that others are compared with it: "parse", or "load" into the group's database. In sizes not in `sizes` it has no turn.
    """

    group: str
    kind: Kind
    name: str
    turn: Callable[[int], Mapping[str, Figure]]
    base: str = ""
    sizes: tuple[str, ...] = ("S", "M", "L", "XL")


@dataclass
class Row:
    """A case on one of its nights, with the figures of every turn; without any, it did not run at this size, or came to no end."""

    case: Case
    night: str
    figures: list[Figure] = field(default_factory=list)
    out_of_memory: bool = False

    def median(self, of: str) -> float:
        """The median over the turns of one of a figure's numbers."""
        median: float = statistics.median(getattr(each, of) for each in self.figures)
        return median

    def stages(self) -> dict[str, float]:
        """The median of every stage."""
        return {name: statistics.median(each.stages.get(name, 0.0) for each in self.figures) for name in self.figures[0].stages} if self.figures else {}


def take_turns(cases: Sequence[Case], size: str, rounds: int, progress: Callable[[str], None]) -> list[Row]:
    """Every case once a round, each round beginning with another one, so that none is always first or always after the same.

    A peer that the kernel ends because the machine has no more memory has no further turn; anything else that fails ends the benchmark.
    """
    rows: dict[tuple[str, str], dict[str, Row]] = {(each.group, each.name): {} for each in cases}
    ready = [each for each in cases if size in each.sizes]
    for number in range(rounds):
        first = number * len(ready) // rounds
        for case in (*ready[first:], *ready[:first]):
            told = rows[case.group, case.name]
            if any(each.out_of_memory for each in told.values()):
                continue
            try:
                figures = case.turn(number)
            except OutOfMemory:
                if case.kind != "peer":
                    raise
                told[""] = Row(case, "", out_of_memory=True)
                progress(f"round {number + 1}  {case.group:38}{case.name:40}out of memory")
                continue
            for night, figure in figures.items():
                told.setdefault(night, Row(case, night)).figures.append(figure)
                progress(f"round {number + 1}  {case.group:38}{case.name:40}{night:12}{figure.seconds:8.2f} s")
    for case in cases:
        if not rows[case.group, case.name]:
            rows[case.group, case.name][""] = Row(case, "")
    return [row for nights in rows.values() for row in nights.values()]


class OutOfMemory(SystemExit):
    """The kernel ended a contender, which it does where the machine has no more memory."""


def run(python: str, module: str, contender: str, environment: Mapping[str, str] | None = None, **arguments: str) -> Figure:
    """One contender's work in a fresh process. Ends the benchmark where it fails; raises OutOfMemory where the kernel killed it."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begun = time.perf_counter()
        process = subprocess.Popen(
            [python, "-m", f"benchmarks.{module}", contender, json.dumps(arguments)],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdout=out,
            stderr=err,
        )
        sampled = [0.0]
        over = threading.Event()
        sampler = threading.Thread(target=_watch, args=(process.pid, over, sampled))
        sampler.start()
        code = process.wait()
        wall = time.perf_counter() - begun
        over.set()
        sampler.join()
        out.seek(0)
        err.seek(0)
        if code == -signal.SIGKILL:
            raise OutOfMemory(f"{contender} was killed by the kernel")
        if code:
            raise SystemExit(f"{contender} ended with {code}:\n{err.read()[-3000:].decode(errors='replace')}")
        told = json.loads(out.read().splitlines()[-1])
    return Figure(told["seconds"], wall, told["megabytes"], max(told["megabytes"], sampled[0]), told["stages"], told["found"])


def _watch(pid: int, over: threading.Event, peak: list[float]) -> None:
    """Keep the peak of a process and its children together, while it has children."""
    while not over.wait(_SAMPLE_SECONDS):
        tree = _tree(pid)
        if len(tree) > 1:
            peak[0] = max(peak[0], sum(map(_megabytes, tree)))


def _tree(pid: int) -> list[int]:
    """A process and all that came of it."""
    found = [pid]
    with contextlib.suppress(OSError):
        for told in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in told.read_text(encoding="ascii").split():
                found += _tree(int(child))
    return found


def _megabytes(pid: int) -> float:
    """What a process has in memory, of pages that it shares its part; 0 where it has just ended."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int(Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").partition("\nPss:")[2].split()[0]) / 1024
    return 0.0
