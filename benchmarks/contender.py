"""What the process of one contender does: get ready, do its work once against the clock, and print the figures; needs nothing but Python.

A contender is a generator function. What it does before its first `yield` (imports, connections, a warm-up) is not in its seconds; its
work lies between that `yield` and the next one, or its end. A second `yield` gives what it tells of its work.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Told:
    """What a contender tells of its work: the seconds of its stages, and how many faults it found in the files."""

    stages: Mapping[str, float] = field(default_factory=dict)
    found: int = 0


Contender = Callable[..., Iterator[Told | None]]

FILES: Mapping[str, tuple[str, ...]] = {
    "schools": ("School_id",),
    "teachers": ("Teacher_id",),
    "staff": ("School_id", "Staff_id"),
    "students": ("Student_id", "Contact_sis_id"),
    "sections": ("Section_id",),
    "enrollments": ("Section_id", "Student_id"),
}
"""File → the columns that tell its rows apart: a student has a row for each contact, and of a contact without an id the cell is blank."""


def be_one(contenders: Mapping[str, Contender]) -> None:
    """Be the contender that the command line names, and print its seconds, its peak resident megabytes and what it tells as the last line."""
    running = contenders[sys.argv[1]](**json.loads(sys.argv[2]))
    next(running)
    begun = time.perf_counter()
    told = next(running, None) or Told()
    seconds = time.perf_counter() - begun
    print(json.dumps({"seconds": seconds, "megabytes": _peak_megabytes(), **asdict(told)}), flush=True)
    os._exit(0)  # what a library does while Python ends, threads that outlive it among them, is not measured


def _peak_megabytes() -> float:
    """The kernel's high-water mark of this program alone; that of `getrusage` begins with the memory of whoever started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
