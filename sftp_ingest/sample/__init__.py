"""Makes school districts that do not exist: the same arguments give the same files, byte for byte, night after night.

A district is kept as numbers and becomes text only a slice of rows at a time, so a million students cost a few hundred MB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from sftp_ingest.errors import ConfigError
from sftp_ingest.roster import written
from sftp_ingest.sample import clever, oneroster
from sftp_ingest.sample import faults as wrong
from sftp_ingest.sample.clever import File
from sftp_ingest.sample.district import founded, grown
from sftp_ingest.sample.words import PERIODS

Progress = Callable[[str, int, int], None]
"""Told after every slice: the file (`night-1/students.csv`), the records written so far, and in all (of enrollments.csv, the students)."""

Format = Literal["clever", "oneroster"]

SMALLEST = 20
"""Fewer students cannot fill four schools and still lose one every night."""

_SLICE = 50_000


@dataclass(frozen=True)
class Night:
    """One night's folder and how many distinct records it holds, faults not counted in.

    `story` counts the students that this night `added`, `left`, `returned`, `edited`, `moved_school` and `moved_section`
    against the night before (one student is in one of them; all are 0 on night 1), `teachers_edited`, and `faults` put in.
    """

    folder: Path
    students: int
    teachers: int
    sections: int
    enrollments: int
    story: Mapping[str, int]


def write(
    folder: Path,
    *,
    students: int,
    nights: int = 1,
    seed: int = 0,
    faults: bool = False,
    fault_share: float = 0.0,
    wrong_column: str = "",
    format: Format = "clever",
    oneroster_version: str = "1.1",
    progress: Progress | None = None,
) -> tuple[Night, ...]:
    """Writes `folder/night-1/` and so on, each a whole delivery of one format, and returns one `Night` for each.

    Every reference resolves, every section has a student, and about 1 % of the students change from night to night.
    From night 3 on, some who left the night before are back, as they were. Rows that do not change keep their order.
    The same district in Clever's format and in OneRoster's is the same roster.

    With `faults`, these thirteen are put into the last night; the students hit are here since an earlier night and not otherwise changed:
    in students.csv a blank Last_name, a cell too few, an unquoted comma, a School_id without its leading zeros,
    an unknown grade, a date that is none, a quote not doubled inside a quoted contact name, and a last line of commas only;
    in sections.csv an unknown Teacher_id and a Section_id used twice; in teachers.csv a teacher again, at another school;
    in enrollments.csv an unknown section and an unknown student.

    With `fault_share`, that share of all rows of the last night's students.csv and enrollments.csv (in OneRoster of users.csv, roles.csv,
    demographics.csv and enrollments.csv) has a fault, of every kind some.
    With `wrong_column`, every cell of that column of the last night's students.csv is wrong.

    Raises ConfigError where `students` is below 20, `nights` below 1 or `seed` below 0, `fault_share` is no share, `wrong_column` is not
    one that can be wrong, `oneroster_version` is unknown, or `faults` or `wrong_column`, which
    are about the rows and columns of Clever's files, are wanted in OneRoster.
    """
    _check(students, nights, seed, fault_share, wrong_column)
    if oneroster_version not in oneroster.VERSIONS:
        raise ConfigError(f"oneroster_version must be one of {', '.join(oneroster.VERSIONS)}, not {oneroster_version}")
    if format != "clever" and (faults or wrong_column):
        raise ConfigError("faults and wrong_column are about rows and columns of Clever's files; for OneRoster there is fault_share")
    if faults and (fault_share or wrong_column):
        raise ConfigError("faults counts its faults by hand; it cannot be joined with fault_share or wrong_column")
    made = []
    district = founded(students, np.random.default_rng((seed, 1)))
    story = dict.fromkeys(("added", "left", "returned", "edited", "moved_school", "moved_section", "teachers_edited", "faults"), 0)
    for number in range(1, nights + 1):
        if number > 1:
            district, changes = grown(district, number, np.random.default_rng((seed, number)))
            story |= changes
        place, last = folder / f"night-{number}", number == nights
        files = clever.files(district) if format == "clever" else oneroster.files(district, oneroster_version)
        spoil = partial(wrong.scattered, format=format, share=fault_share, wrong_column=wrong_column, seed=(seed, number))
        story["faults"] = _save(place, files, spoil if last and (fault_share or wrong_column) else None, progress)
        if faults and last:
            story["faults"] = wrong.spoil(place, district, number)
        pupils = len(district.pupils)
        made.append(Night(place, pupils, len(district.teachers), len(district.sections), pupils * PERIODS, dict(story)))
    return tuple(made)


def _check(students: int, nights: int, seed: int, fault_share: float, wrong_column: str) -> None:
    for name, value, least in (("students", students, SMALLEST), ("nights", nights, 1), ("seed", seed, 0)):
        if value < least:
            raise ConfigError(f"{name} must be at least {least}, not {value}")
    if not 0 <= fault_share <= 1:
        raise ConfigError(f"fault_share must be between 0 and 1, not {fault_share}")
    if wrong_column and wrong_column not in wrong.WRONG_CELLS:
        raise ConfigError(f"wrong_column must be one of {', '.join(wrong.WRONG_CELLS)}, not {wrong_column}")


def _save(folder: Path, files: Iterable[File], spoil: wrong.Spoiler | None, progress: Progress | None) -> int:
    """Writes the files; the number of rows that got a fault."""
    folder.mkdir(parents=True, exist_ok=True)
    spoilt = 0
    for name, count, render in files:
        with (folder / f"{name}.csv").open("wb") as file:
            for start in range(0, count, _SLICE):
                columns = render(slice(start, start + _SLICE))
                if start == 0:
                    file.write(written.header(columns))
                lines, hit = spoil(name, start, columns) if spoil else (written.lines(columns), 0)
                file.write(written.joined(lines))
                spoilt += hit
                if progress:
                    progress(f"{folder.name}/{name}.csv", min(start + _SLICE, count), count)
    return spoilt
