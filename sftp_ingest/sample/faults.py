"""Faults, put into a district's files: a dozen by hand, or a share of all rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.roster.written import Columns, glued, lines, quoted
from sftp_ingest.sample.clever import school_id
from sftp_ingest.sample.district import District
from sftp_ingest.sample.words import CONTACTS

Spoiler = Callable[[str, int, Columns], tuple[Any, int]]
"""File, place of its first record, columns → the lines, some of them wrong, and how many."""

WRONG_CELLS: Mapping[str, str] = {
    **dict.fromkeys(("School_id", "Grade", "Gender", "Graduation_year", "DOB", "Hispanic_Latino"), "?"),
    **dict.fromkeys(("Student_email", "Contact_phone", "Contact_email"), "?"),
    **dict.fromkeys(("Student_id", "Last_name", "First_name"), ""),
}
"""Columns of students.csv that can be wrong, and how: blank, or a text that begins with ? and is another in every student's row."""

_Row = dict[str, str]
_MARK = "\x00"  # stands where raw text goes that the writer would have quoted


def _line(row: Iterable[str], raw: str = "") -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue().replace(_MARK, raw)


def _with(row: _Row, column: str, cell: str, raw: str = "") -> str:
    return _line((row | {column: cell}).values(), raw)


def _nicknamed(row: _Row) -> str:
    first, last = row["Contact_name"].split(" ", 1)
    return _with(row, "Contact_name", _MARK, f'"{first} "Sunny" {last}"')


_STUDENT_FAULTS: tuple[Callable[[_Row], str], ...] = (
    lambda row: _with(row, "Last_name", ""),
    lambda row: _line(list(row.values())[:-1]),
    lambda row: _with(row, "Student_city", _MARK, f"{row['Student_city']}, North"),
    lambda row: _with(row, "School_id", row["School_id"].lstrip("0")),
    lambda row: _with(row, "Grade", "Freshman"),
    lambda row: _with(row, "DOB", "13/32/2014"),
    _nicknamed,
)


def spoil(folder: Path, district: District, night: int) -> int:
    """Puts the faults into the files; the number of them. The students hit have one row each, lie apart, and go to schools with a leading zero."""
    pupils = district.pupils
    contacts = CONTACTS[pupils["serial"] % len(CONTACTS)]
    fit = np.flatnonzero((contacts == 1) & (pupils["touched"] < night) & (pupils["school"] < 900))
    victims = fit[np.linspace(0, len(fit) - 1, len(_STUDENT_FAULTS)).astype(int)]
    lines = np.cumsum(np.maximum(contacts, 1))  # a student's last line, the header being line 0
    students, sections, teachers, enrollments = (folder / f"{name}.csv" for name in ("students", "sections", "teachers", "enrollments"))
    section, teacher, seat = _first_row(sections), _first_row(teachers), _first_row(enrollments)
    return (
        _change(students, dict(zip(lines[victims].tolist(), _STUDENT_FAULTS, strict=True)))
        + _change(sections, {4: lambda row: _with(row, "Teacher_id", "9999999")})
        + _append(students, _line([""] * len(_first_row(students))))
        + _append(sections, _with(section, "Name", "Study Hall"))
        + _append(teachers, _with(teacher, "School_id", school_id(np.array([1]))[0].as_py()))
        + _append(enrollments, _with(seat, "Section_id", "9999-999999"), _with(seat, "Student_id", "000000001"))
    )


def _first_row(path: Path) -> _Row:
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.DictReader(file))


def _append(path: Path, *lines: str) -> int:
    with path.open("a", encoding="utf-8", newline="") as file:
        file.writelines(lines)
    return len(lines)


def _change(path: Path, faults: Mapping[int, Callable[[_Row], str]]) -> int:
    """Rewrites the numbered lines, the header being line 0."""
    aside = path.with_name(f".{path.name}")
    with path.open(encoding="utf-8", newline="") as old, aside.open("w", encoding="utf-8", newline="") as new:
        columns: list[str] = []
        for number, line in enumerate(old):
            cells = next(csv.reader([line])) if number in faults or not columns else []
            columns = columns or cells
            new.write(faults[number](dict(zip(columns, cells, strict=True))) if number in faults else line)
    aside.replace(path)
    return len(faults)


# ---------------------------------------------------------------- faults in a share of all rows


def scattered(name: str, start: int, columns: Columns, *, format: str, share: float, wrong_column: str, seed: tuple[int, ...]) -> tuple[Any, int]:
    """The lines of some rows of a file, that share of them with a fault and every cell of the wrong column wrong, and how many have one.

    Same arguments, same faults. In a format's files of people and of enrollments only; kinds of fault are equally common.
    """
    clean = lines(columns)
    if name not in _CELL_FAULTS[format]:
        return clean, 0
    count = len(clean)
    rng = np.random.default_rng((*seed, len(name), start))
    cells = [each for each in _CELL_FAULTS[format][name] if each[0] in columns]  # OneRoster 1.2 has taken some from users.csv
    texts = _LINE_FAULTS[format][name]
    kind = np.where(rng.random(count) < share, rng.integers(0, len(cells) + len(texts), count), -1)
    if wrong_column and name == "students":
        wrong = WRONG_CELLS[wrong_column]
        columns = columns | {wrong_column: glued(wrong, columns["Student_number"]) if wrong else pa.repeat(pa.scalar(""), count)}
    for at, (column, spoil) in enumerate(cells):
        columns = columns | {column: pc.if_else(pa.array(kind == at), spoil(columns[column]), columns[column])}
    text = lines(columns)
    for at, line in enumerate(texts, start=len(cells)):
        mask = pa.array(kind == at)
        text = pc.replace_with_mask(text, mask, line({header: column.filter(mask) for header, column in columns.items()}))
    return text, pc.sum(pc.not_equal(text, clean)).as_py() or 0


def _unquoted(columns: Columns, column: str, cells: Any) -> Any:
    """The lines with raw cells in one column, whatever they hold."""
    return glued(*(cells if header == column else quoted(each) for header, each in columns.items()), between=",")


def _short(columns: Columns) -> Any:
    return lines(dict(list(columns.items())[:-1]))


def _always(cell: str) -> Callable[[Any], Any]:
    return lambda cells: pa.scalar(cell)


def _without_zeros(cells: Any) -> Any:
    return pc.utf8_ltrim(cells, characters="0")


def _where_filled(cell: str) -> Callable[[Any], Any]:
    return lambda cells: pc.if_else(pc.equal(cells, ""), cells, cell)


def _with_north(column: str) -> Callable[[Columns], Any]:
    return lambda columns: _unquoted(columns, column, glued(columns[column], ", North"))


def _with_rear(column: str) -> Callable[[Columns], Any]:
    return lambda columns: _unquoted(columns, column, glued('"', columns[column], ' "rear" 2"'))


_CELL_FAULTS: Mapping[str, Mapping[str, tuple[tuple[str, Callable[[Any], Any]], ...]]] = {
    "clever": {
        "students": (
            ("Last_name", _always("")),
            ("School_id", _without_zeros),
            ("Grade", _always("Freshman")),
            ("DOB", _always("13/32/2014")),
            ("Student_email", _always("none")),
        ),
        "enrollments": (("Section_id", _always("9999-999999")), ("Student_id", _always("000000001")), ("School_id", _without_zeros)),
    },
    "oneroster": {
        "users": (
            ("familyName", _always("")),
            ("orgSourcedIds", _without_zeros),
            ("grades", _where_filled("Freshman")),
            ("email", _where_filled("none")),
            ("role", _always("pupil")),
        ),
        "roles": (("role", _always("pupil")), ("orgSourcedId", _without_zeros)),
        "demographics": (("birthDate", _always("13/32/2014")), ("sex", _always("?"))),
        "enrollments": (
            ("classSourcedId", _always("9999-999999")),
            ("userSourcedId", _always("000000001")),
            ("schoolSourcedId", _without_zeros),
            ("role", _always("pupil")),
        ),
    },
}
_LINE_FAULTS: Mapping[str, Mapping[str, tuple[Callable[[Columns], Any], ...]]] = {
    "clever": {"students": (_short, _with_north("Student_city"), _with_rear("Student_street")), "enrollments": (_short,)},
    "oneroster": {
        "users": (_short, _with_north("metadata.city"), _with_rear("metadata.street")),
        **dict.fromkeys(("roles", "demographics", "enrollments"), (_short,)),
    },
}
