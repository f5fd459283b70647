"""A district as OneRoster's files: what stands in Clever's columns, under the roster's names, as the export writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.roster import contract, export_oneroster
from sftp_ingest.roster.export_oneroster import DISTRICT, VERSIONS
from sftp_ingest.roster.written import Columns, alike
from sftp_ingest.sample import clever
from sftp_ingest.sample.clever import File
from sftp_ingest.sample.district import District, Numbers
from sftp_ingest.sample.words import CONTACTS

__all__ = ["VERSIONS", "files"]

_EXTENSIONS = ("house",)
_DATES = ("dob", "term_start", "term_end")
_Kind = tuple[int, Callable[[slice], Columns]]
"""How many records of one kind a file has, and the way to their rows."""


def files(district: District, version: str) -> tuple[File, ...]:
    """OneRoster's files in the version, manifest first (contract 4.1)."""
    tables = contract.load("clever").tables
    teachers, sections, pupils = district.teachers, district.sections, district.pupils
    numbers = clever.section_numbers(sections)
    ids = clever.section_id(sections, numbers)
    second = sections[sections["second"] >= 0]
    staff = district.staff[np.unique(district.staff["serial"], return_index=True)[1]]
    offices = _offices(district.staff)

    def told(name: str, columns: Columns) -> Columns:
        return _under_roster_names(tables[name], columns)

    def some_teachers(part: slice) -> Columns:
        return told("teachers", clever.teachers(teachers[part]))

    def some_staff(part: slice) -> Columns:
        return told("staff", clever.staff(staff[part]))

    def some_pupils(part: slice) -> Columns:
        return told("students", clever.student(pupils[part]))

    def some_contacts(part: slice) -> Columns:
        rows, nth = _with_contacts(pupils[part])
        return told("students", clever.contact(rows, nth, np.ones(len(rows), bool))) | {"contact_id": clever.contact_id(rows, nth)}

    def some_sections(part: slice) -> Columns:
        return told("sections", clever.sections(sections[part], ids[part], numbers[part], teachers))

    def users(people: Callable[[slice], Columns], role: str, schools: Callable[[Columns, slice], Any], agents: bool = False) -> Callable[[slice], Columns]:
        def render(part: slice) -> Columns:
            columns = people(part)
            contacts = _contact_ids(pupils[part]) if agents else None
            return export_oneroster.users(columns, role, schools(columns, part), version, _EXTENSIONS, agents=contacts)

        return render

    def home(columns: Columns, part: slice) -> Any:
        return columns["sis_school_id"]

    def desks(position: int, some: Numbers, some_ids: Any, role: str) -> Callable[[slice], Columns]:
        def render(part: slice) -> Columns:
            count = len(some[part])
            teacher_ids = clever.teacher_id(teachers[some[role][part]])
            return export_oneroster.desks(some_ids[part], teacher_ids, clever.school_id(some["school"][part]), alike(str(position), count))

        return render

    def seats(part: slice) -> Columns:
        columns = clever.enrollments(pupils[part], sections, ids)
        return export_oneroster.seats(columns["Section_id"], columns["Student_id"], columns["School_id"])

    role = export_oneroster.role_of_staff(version)
    people: tuple[tuple[int, Callable[[slice], Columns], str, Callable[[Columns, slice], Any]], ...] = (
        (len(teachers), some_teachers, "teacher", home),
        (len(staff), some_staff, role, lambda columns, part: offices[part]),
        (len(pupils), some_pupils, "student", home),
    )
    everything = slice(None)
    given: dict[str, tuple[_Kind, ...]] = {
        "orgs": (
            (1, lambda part: export_oneroster.district_org(())),
            (len(district.bands), lambda part: export_oneroster.orgs(told("schools", clever.schools(district.bands, part)), ())),
        ),
        "users": (
            *((count, users(some, name, schools, agents=name == "student")) for count, some, name, schools in people),
            (len(pupils), lambda part: export_oneroster.guardians(some_contacts(part), version, _EXTENSIONS)),
        ),
        "academicSessions": ((1, lambda part: export_oneroster.sessions(some_sections(everything))),),
        "courses": ((1, lambda part: export_oneroster.courses(some_sections(everything))),),
        "classes": ((len(sections), lambda part: export_oneroster.classes(some_sections(part), ())),),
        "enrollments": (
            (len(sections), desks(1, sections, ids, "teacher")),
            (len(second), desks(2, second, ids.filter(pa.array(sections["second"] >= 0)), "second")),
            (len(pupils), seats),
        ),
        "demographics": ((len(pupils), lambda part: export_oneroster.demographics(some_pupils(part))),),
    }
    if version == "1.2":
        given["roles"] = (
            *((count, _roles(some, name, schools)) for count, some, name, schools in people),
            (len(pupils), _roles(some_contacts, "guardian", lambda columns, part: alike(DISTRICT, len(columns["contact_id"])), key="contact_id")),
        )
        given["userProfiles"] = tuple((count, _profiles(some)) for count, some, _, _ in people)
    listed = export_oneroster.manifest(version, given)
    return (("manifest", 1, lambda part: listed), *((name, sum(count for count, _ in kinds), _stacked(kinds)) for name, kinds in given.items()))


def _roles(some: Callable[[slice], Columns], role: str, schools: Callable[[Columns, slice], Any], key: str = "sis_id") -> Callable[[slice], Columns]:
    def render(part: slice) -> Columns:
        columns = some(part)
        return export_oneroster.roles(columns[key], role, schools(columns, part))

    return render


def _profiles(some: Callable[[slice], Columns]) -> Callable[[slice], Columns]:
    return lambda part: export_oneroster.profiles(some(part))


def _stacked(kinds: Sequence[_Kind]) -> Callable[[slice], Columns]:
    """The way to the rows of records of several kinds, counted as if they stood one below the other."""

    def render(part: slice) -> Columns:
        blocks, above = [], 0
        for count, some in kinds:
            start, stop = max(part.start - above, 0), min(part.stop - above, count)
            if start < stop:
                blocks.append(some(slice(start, stop)))
            above += count
        return {name: pa.concat_arrays([block[name] for block in blocks]) for name in blocks[0]}

    return render


def _under_roster_names(table: contract.Table, columns: Columns) -> Columns:
    """Clever's columns under the names of the roster, dates as it has them."""
    found = {name: cells for name, cells in columns.items() if name.startswith("ext.")}
    for each in table.fields:
        if each.name in columns:
            cells = columns[each.name]
            found[each.to] = pc.replace_substring_regex(cells, r"^(\d\d)/(\d\d)/(\d{4})$", r"\3-\1-\2") if each.to in _DATES else cells
    return found


def _with_contacts(pupils: Numbers) -> tuple[Numbers, Numbers]:
    """Every pupil once a contact, and which of his contacts it is."""
    count = CONTACTS[pupils["serial"] % len(CONTACTS)]
    return np.repeat(pupils, count), np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)


def _contact_ids(pupils: Numbers) -> Any:
    """Of every pupil, the ids of his contacts joined by commas."""
    count = CONTACTS[pupils["serial"] % len(CONTACTS)]
    rows, nth = _with_contacts(pupils)
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(count)]), pa.int32()), clever.contact_id(rows, nth)), ",")


def _offices(staff: Numbers) -> Any:
    """Of every person of staff, in the order of serials, the ids of his schools joined by commas."""
    schools: Mapping[int, list[str]] = {serial: [] for serial in np.unique(staff["serial"]).tolist()}
    for serial, school in zip(staff["serial"].tolist(), clever.school_id(staff["school"]).to_pylist(), strict=True):
        schools[serial].append(school)
    return pa.array([",".join(each) for each in schools.values()], pa.string())
