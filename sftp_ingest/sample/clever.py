"""A district as the six files of Clever's format: numbers become columns of text, a slice of rows at a time."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.roster.written import Columns, alike, glued
from sftp_ingest.sample.district import District, Numbers
from sftp_ingest.sample.words import (
    BANDS,
    CONTACT_TYPES,
    CONTACTS,
    COURSES,
    FIRST,
    FLAGS,
    GENDERS,
    GRADES,
    HOUSES,
    KINDS,
    LANGUAGES,
    LAST,
    LUNCHES,
    MIDDLE,
    OFFICES,
    PERIODS,
    PHONE_TYPES,
    POSTS,
    RACES,
    RELATIONSHIPS,
    STREETS,
    SUBJECTS,
    TERM_ENDS,
    TERMS,
    TITLES,
    TOWNS,
    UNITS,
    ZIPS,
)

File = tuple[str, int, Callable[[slice], Columns]]
"""Name without `.csv`, records, and the way from a slice of the records to their rows."""


def files(district: District) -> tuple[File, ...]:
    """Clever's five core files and staff.csv (contract 1.4)."""
    faculty, timetable, pupils = district.teachers, district.sections, district.pupils
    numbers = section_numbers(timetable)
    ids = section_id(timetable, numbers)
    return (
        ("schools", len(district.bands), partial(schools, district.bands)),
        ("teachers", len(faculty), lambda part: teachers(faculty[part])),
        ("students", len(pupils), lambda part: _students(pupils[part])),
        ("staff", len(district.staff), lambda part: staff(district.staff[part])),
        ("sections", len(timetable), lambda part: sections(timetable[part], ids[part], numbers[part], faculty)),
        ("enrollments", len(pupils), lambda part: enrollments(pupils[part], timetable, ids)),
    )


def _worded(words: Sequence[str], numbers: Numbers) -> Any:
    return pa.array(words, pa.string()).take(pa.array(numbers))


def _digits(numbers: Numbers, width: int = 0) -> Any:
    text = pc.cast(pa.array(numbers), pa.string())
    return pc.utf8_lpad(text, width, "0") if width else text


def _slugs(names: Iterable[str]) -> tuple[str, ...]:
    """Names as they are written in addresses: the plain letters, accents taken off."""
    return tuple("".join(each for each in unicodedata.normalize("NFD", name.lower()) if each in "abcdefghijklmnopqrstuvwxyz") for name in names)


_FIRST_SLUGS, _LAST_SLUGS = _slugs(FIRST), _slugs(LAST)


def school_id(schools: Numbers) -> Any:
    """The ids of the schools: four digits, the first ones with leading zeros."""
    return _digits(schools.astype("i4") + 12, 4)


def section_numbers(sections: Numbers) -> Any:
    """Their numbers, counted through the district."""
    return _digits(np.arange(len(sections)) + 345, 6)


def section_id(sections: Numbers, numbers: Any) -> Any:
    """The ids of the sections: school and number."""
    return glued(school_id(sections["school"]), "-", numbers)


def teacher_id(teachers: Numbers) -> Any:
    """The ids of the teachers."""
    return _digits(teachers["serial"] * 3 + 4_012, 7)


def _student_id(pupils: Numbers) -> Any:
    return _digits(pupils["serial"] * 7 + 123_456, 9)


def schools(bands: Numbers, part: slice) -> Columns:
    """Rows of schools.csv; the schools are those of the slice."""
    at, band = np.arange(len(bands))[part], bands[part]
    low, high = np.array(BANDS)[band].T
    ids, count = school_id(at), len(at)
    return {
        "School_id": ids,
        "School_name": glued(_worded(LAST, at * 5 % len(LAST)), alike(" ", count), _worded(KINDS, band)),
        "School_number": _digits(at + 12),
        "State_id": _digits(at * 10 + 2_500_120, 8),
        "Low_grade": _worded(GRADES, low),
        "High_grade": _worded(GRADES, high),
        "Principal": glued(_worded(FIRST, at * 3 % len(FIRST)), " ", _worded(LAST, at * 11 % len(LAST))),
        "Principal_email": glued("principal.", ids, "@schools.example.org"),
        "School_address": glued(_digits(at * 7 % 900 + 1), " ", _worded(STREETS, at % len(STREETS)), " St"),
        "School_city": _worded(TOWNS, at % len(TOWNS)),
        "School_state": alike("MA", count),
        "School_zip": _worded(ZIPS, at % len(ZIPS)),
        "School_phone": glued("(413) 555-", _digits(at % 10_000, 4)),
    }


def teachers(teachers: Numbers) -> Columns:
    """Rows of teachers.csv."""
    first, number = _worded(_FIRST_SLUGS, teachers["first"]), _digits(teachers["serial"] + 1)
    return {
        "School_id": school_id(teachers["school"]),
        "Teacher_id": teacher_id(teachers),
        "Teacher_number": number,
        "State_teacher_id": _digits(teachers["serial"] + 800_000, 8),
        "Teacher_email": glued(first, ".", number, "@teachers.example.org"),
        "First_name": _worded(FIRST, teachers["first"]),
        "Middle_name": _worded(MIDDLE, teachers["middle"]),
        "Last_name": _worded(LAST, teachers["last"]),
        "Title": _worded(TITLES, teachers["title"]),
        "Username": glued("t.", first, number),
    }


def staff(staff: Numbers) -> Columns:
    """Rows of staff.csv."""
    number = _digits(staff["serial"] + 1)
    slug = glued(_worded(_FIRST_SLUGS, staff["first"]), ".", _worded(_LAST_SLUGS, staff["last"]), number)
    return {
        "School_id": school_id(staff["school"]),
        "Staff_id": _digits(staff["serial"] + 71, 6),
        "Staff_email": glued(slug, "@staff.example.org"),
        "First_name": _worded(FIRST, staff["first"]),
        "Last_name": _worded(LAST, staff["last"]),
        "Department": _worded(OFFICES, staff["title"]),
        "Title": _worded(POSTS, staff["title"]),
        "Username": glued("s.", slug),
    }


def sections(sections: Numbers, ids: Any, numbers: Any, teachers: Numbers) -> Columns:
    """Rows of sections.csv."""
    course_at = sections["grade"].astype(int) * PERIODS + sections["period"]
    course, period = _worded(COURSES, course_at), _digits(sections["period"] + 1)
    term = ((sections["grade"] >= BANDS[2][0]) & (sections["period"] >= 4)).astype(int)
    second = pc.if_else(pa.array(sections["second"] >= 0), teacher_id(teachers[sections["second"]]), "")
    return {
        "School_id": school_id(sections["school"]),
        "Section_id": ids,
        "Teacher_id": teacher_id(teachers[sections["teacher"]]),
        "Teacher_2_id": second,
        "Name": glued(course, " - ", period),
        "Section_number": numbers,
        "Grade": _worded(GRADES, sections["grade"]),
        "Course_name": course,
        "Course_number": _digits(course_at + 4_000, 5),
        "Period": period,
        "Subject": _worded(SUBJECTS, sections["period"]),
        "Term_name": _worded(TERMS, term),
        "Term_start": alike("08/17/2026", len(sections)),
        "Term_end": _worded(TERM_ENDS, term),
    }


def _students(pupils: Numbers) -> Columns:
    """A row for every contact, and one for a student without any: the pupils are repeated first, so the rows of one are alike."""
    contacts = CONTACTS[pupils["serial"] % len(CONTACTS)]
    rows = np.maximum(contacts, 1)
    nth = np.arange(rows.sum()) - np.repeat(np.cumsum(rows) - rows, rows)
    return student(np.repeat(pupils, rows)) | contact(np.repeat(pupils, rows), nth, np.repeat(contacts > 0, rows))


def student(rows: Numbers) -> Columns:
    """The columns of students.csv that are the student's own."""
    first, number = _worded(_FIRST_SLUGS, rows["first"]), _digits(rows["serial"] + 1)
    again = pc.if_else(pa.array(rows["mail"] > 0), glued(".", _digits(rows["mail"])), "")
    return {
        "School_id": school_id(rows["school"]),
        "Student_id": _student_id(rows),
        "Student_number": number,
        "State_id": _digits(rows["serial"] * np.int64(3) + 5_000_000_000),
        "Last_name": _worded(LAST, rows["last"]),
        "Middle_name": _worded(MIDDLE, rows["middle"]),
        "First_name": _worded(FIRST, rows["first"]),
        "Grade": _worded(GRADES, rows["grade"]),
        "Gender": _worded(GENDERS, rows["gender"]),
        "Graduation_year": _digits(2039 - rows["grade"].astype(int)),
        "DOB": pc.strftime(pa.array(rows["born"], pa.date32()), format="%m/%d/%Y"),
        "Race": _worded(RACES, rows["race"]),
        "Hispanic_Latino": _worded(FLAGS, rows["hispanic"]),
        "Home_language": _worded(LANGUAGES, rows["language"]),
        "Ell_status": _worded(FLAGS, rows["ell"]),
        "Frl_status": _worded(LUNCHES, rows["frl"]),
        "IEP_status": _worded(FLAGS, rows["iep"]),
        "Student_street": glued(_digits(rows["house"]), " ", _worded(STREETS, rows["street"]), " St", _worded(UNITS, rows["unit"])),
        "Student_city": _worded(TOWNS, rows["town"]),
        "Student_state": alike("MA", len(rows)),
        "Student_zip": _worded(ZIPS, rows["town"]),
        "Student_email": glued(first, ".", number, again, "@students.example.org"),
        "Username": glued(first, number),
        "ext.house": _worded(HOUSES, rows["serial"] % len(HOUSES)),
    }


def contact_id(rows: Numbers, nth: Numbers) -> Any:
    """The ids of each student's nth contact; never a student's, as OneRoster has one kind of id for all people."""
    return _digits(rows["serial"].astype("i8") * 3 + nth + 500_030_012)


def contact(rows: Numbers, nth: Numbers, present: Numbers) -> Columns:
    """The columns of students.csv that are a contact's: of each student in his row the nth, where he is present."""
    serial = rows["serial"].astype("i8") * 3 + nth
    first = (serial * 7 + 5) % len(FIRST)
    number = rows["phone"] + nth
    columns = {
        "Contact_relationship": _worded(RELATIONSHIPS, nth),
        "Contact_type": _worded(CONTACT_TYPES, nth),
        "Contact_name": glued(_worded(FIRST, first), " ", _worded(LAST, rows["family"])),
        "Contact_phone": glued(_digits(number // 10_000 + 201), "555", _digits(number % 10_000, 4)),
        "Contact_phone_type": _worded(PHONE_TYPES, nth),
        "Contact_email": glued(_worded(_FIRST_SLUGS, first), ".", _digits(serial + 1), "@families.example.org"),
        "Contact_sis_id": contact_id(rows, nth),
    }
    return {name: pc.if_else(pa.array(present), column, "") for name, column in columns.items()}


def enrollments(pupils: Numbers, sections: Numbers, section_ids: Any) -> Columns:
    """Rows of enrollments.csv: of each student one a period."""
    seats = pupils["seats"].ravel()
    return {
        "School_id": school_id(sections["school"][seats]),
        "Section_id": section_ids.take(pa.array(seats)),
        "Student_id": _student_id(pupils).take(pa.array(np.repeat(np.arange(len(pupils)), PERIODS))),
    }
