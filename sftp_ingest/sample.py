"""Makes school districts that do not exist: the same arguments give the same files, byte for byte, night after night.

A district is kept as numbers, one NumPy record a person, and becomes text only a slice of rows at a time,
so a million students cost a few hundred MB. pyarrow's own CSV writer quotes every text it is given;
the lines are therefore joined here, in Arrow, with quotes only where a cell needs them.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sftp_ingest.errors import ConfigError

Progress = Callable[[str, int, int], None]
"""Told after every slice: the file (`night-1/students.csv`), the records written so far, and in all (of enrollments.csv, the students)."""

SMALLEST = 20
"""Fewer students cannot fill four schools and still lose one every night."""

_Numbers = NDArray[Any]
_Columns = dict[str, Any]  # header → Arrow array of text; pyarrow has no types of its own

_SLICE = 50_000
_STUDENTS_A_SCHOOL = 600
_STUDENTS_A_TEACHER = 16
_SEATS = 25
_PERIODS = 6
_BANDS = ((0, 5), (6, 8), (9, 12))  # lowest and highest grade of elementary, middle and high schools
_PYRAMID = (0, 0, 1, 2)  # thirteen grades fill two elementary, one middle and one high school alike
_KINDS = ("Elementary School", "Middle School", "High School")

_EDITED, _LEFT, _ADDED, _MOVED_SCHOOL, _MOVED_SECTION, _RETURNED = 0.006, 0.002, 0.002, 0.001, 0.003, 0.1

_FIRST = (
    "Olivia", "Liam", "Emma", "Noah", "Ava", "Oliver", "Sophia", "Elijah", "Mateo", "Mia", "Lucas", "Amelia", "José", "Zoë", "Renée", "André",
    "Siobhán", "Aaliyah", "DeShawn", "Jean-Luc", "Xóchitl", "Ming", "Priya", "Arjun", "Fatima", "Omar", "Søren", "Björn", "Łukasz", "Ngọc", "María",
    "Juan", "Anne-Marie", "Chloé", "Ibrahim", "Grace", "Hannah", "Ezra", "Ruth", "Sana",
)  # fmt: skip
_LAST = (
    "Smith", "Johnson", "Williams", "Brown", "Jones", "García", "Miller", "Davis", "Rodríguez", "Martínez", "Hernández", "López", "González",
    "Wilson", "Anderson", "Thomas", "Taylor", "Moore", "Lee", "Pérez", "White", "Sánchez", "Clark", "Lewis", "Walker", "Young", "King", "Wright",
    "Torres", "Nguyễn", "Hill", "Green", "Adams", "Baker", "Rivera", "Campbell", "O'Brien", "D'Angelo", "N'Diaye", "Smith-Jones",
    "Müller-Lüdenscheidt", "Kowalczyk", "Åberg", "Çelik", "Ó'Súilleabháin", "Okafor", "Kim", "Patel",
)  # fmt: skip
_MIDDLE = ("", "", "", "A", "Marie", "Lee", "J.", "Élise")
_STREETS = (
    "Oak", "Maple", "Cedar", "Pine", "Elm", "Washington", "Lake", "Hill", "Main", "Park", "View", "Walnut", "Spring", "North", "Church", "Willow",
)  # fmt: skip
_UNITS = (*[""] * 14, ", Apt 3", ", Apt 12B", ", Unit 7, rear", ' "Garden House"')
_TOWNS = ("Springfield", "Riverside", "Franklin", "Greenfield", "Bristol", "Clinton", "Fairview", "Salem")
_ZIPS = ("01103", "02790", "02038", "01301", "02780", "01510", "01020", "01970")
_GRADES = ("Kindergarten", *(str(grade) for grade in range(1, 13)))
_GENDERS = (*("M", "F") * 12, "X", "")
_RACES = (
    *("Caucasian", "Black or African American", "Asian", "Two or More Races") * 3,
    "American Indian", "Hawaiian or Other Pacific Islander", "Unknown", "",
)  # fmt: skip
_FLAGS = ("N", "N", "N", "N", "N", "Y", "")
_LANGUAGES = (*["English"] * 9, "Spanish", "Spanish", "Vietnamese", "Arabic", "Portuguese", "Somali", "")
_LUNCHES = ("Paid", "Paid", "Free", "Reduced", "")
_HOUSES = ("Heron", "Otter", "Fox", "Owl")
_TITLES = ("Teacher", "Teacher", "Lead Teacher", "Teacher, Special Education", "")
_OFFICES = ("Front Office", "Counseling", "Technology")
_POSTS = ("Secretary", "Counselor", "Technician")

_CONTACTS = np.array((1, 1, 1, 2, 1, 1, 1, 1, 0, 1, 1, 3, 1, 1, 1, 2, 1, 1, 1, 1))  # of every twenty students; 24 rows
_RELATIONSHIPS = ("Parent", "Parent", "Grandparent")
_CONTACT_TYPES = ("Parent/Guardian", "Secondary", "Emergency")
_PHONE_TYPES = ("Cell", "Work", "Home")

_SUBJECTS = ("english/language arts", "math", "science", "social studies", "arts and music", "PE and health")
_COURSES = (
    *(f"{subject} {grade or 'K'}" for grade in range(6) for subject in ("Reading", "Math", "Science", "Communities", "Art, Music and Dance", "Gym")),
    *(f"{subject} {grade}" for grade in range(6, 9) for subject in ("English", "Math", "Science", "Geography", "Art, Studio", "Health")),
    *("English 9", "Algebra I", "Biology", "World History", 'Band "Blue"', "Physical Education 9"),
    *("English 10", "Geometry", "Chemistry", "Civics", 'Band "Gold"', "Physical Education 10"),
    *("English 11", "Algebra II", "Physics", "US History", "Painting, Drawing", "Health 11"),
    *("English 12", 'AP Calculus "AB"', "Earth Science", "Economics", "Theater", "Physical Education 12"),
)
"""One course a grade and period: `grade * _PERIODS + period`."""

_TERMS = ("Full Year", "Fall Semester")
_TERM_ENDS = ("06/11/2027", "12/18/2026")

_PUPIL = np.dtype(
    [("serial", "i4"), ("school", "i2"), ("grade", "i1"), ("born", "i4"), ("first", "i1"), ("middle", "i1"), ("last", "i1"), ("family", "i1")]
    + [(trait, "i1") for trait in ("gender", "race", "hispanic", "language", "ell", "frl", "iep", "street", "unit", "town")]
    + [("house", "i2"), ("phone", "i4"), ("mail", "i2"), ("touched", "i2"), ("seats", "i4", (_PERIODS,))]
)  # fmt: skip
"""Words are positions in the lists above; `family` is the last name of the contacts; `born` counts days since 1970;
`mail` counts changes of the address; `touched` is the night of the last change; `seats` are sections, one a period."""

_ADULT = np.dtype([("serial", "i4"), ("school", "i2"), ("first", "i1"), ("middle", "i1"), ("last", "i1"), ("title", "i1")])
_SECTION = np.dtype([("school", "i2"), ("period", "i1"), ("grade", "i1"), ("teacher", "i4"), ("second", "i4")])


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


@dataclass(frozen=True)
class _District:
    """A district on one night. Sections of school s in period p are `first[s] + p * parallel[s]` and the `parallel[s] - 1` after it, by rising grade."""

    bands: _Numbers
    first: _Numbers
    parallel: _Numbers
    sections: _Numbers
    teachers: _Numbers
    staff: _Numbers
    pupils: _Numbers
    gone: _Numbers
    next_serial: int


def write(
    folder: Path,
    *,
    students: int,
    nights: int = 1,
    seed: int = 0,
    faults: bool = False,
    progress: Progress | None = None,
) -> tuple[Night, ...]:
    """Writes `folder/night-1/` and so on, each a whole delivery of six Clever files, and returns one `Night` for each.

    Every reference resolves, every section has a student, and about 1 % of the students change from night to night.
    From night 3 on, some who left the night before are back, as they were. Rows that do not change keep their order.

    With `faults`, these thirteen are put into the last night; the students hit are here since an earlier night and not otherwise changed:
    in students.csv a blank Last_name, a cell too few, an unquoted comma, a School_id without its leading zeros,
    an unknown grade, a date that is none, a quote not doubled inside a quoted contact name, and a last line of commas only;
    in sections.csv an unknown Teacher_id and a Section_id used twice; in teachers.csv a teacher again, at another school;
    in enrollments.csv an unknown section and an unknown student.

    Raises ConfigError where `students` is below 20, `nights` below 1 or `seed` below 0.
    """
    for name, value, least in (("students", students, SMALLEST), ("nights", nights, 1), ("seed", seed, 0)):
        if value < least:
            raise ConfigError(f"{name} must be at least {least}, not {value}")
    written = []
    district = _founded(students, np.random.default_rng((seed, 1)))
    story = dict.fromkeys(("added", "left", "returned", "edited", "moved_school", "moved_section", "teachers_edited", "faults"), 0)
    for number in range(1, nights + 1):
        if number > 1:
            district, changes = _grown(district, number, np.random.default_rng((seed, number)))
            story |= changes
        place = folder / f"night-{number}"
        _save(place, district, progress)
        if faults and number == nights:
            story["faults"] = _spoil(place, district, number)
        pupils = len(district.pupils)
        written.append(Night(place, pupils, len(district.teachers), len(district.sections), pupils * _PERIODS, dict(story)))
    return tuple(written)


# ---------------------------------------------------------------- the first night


def _founded(students: int, rng: np.random.Generator) -> _District:
    schools = max(len(_PYRAMID), students // _STUDENTS_A_SCHOOL)
    bands = np.resize(_PYRAMID, schools)
    shares = np.cumsum(rng.uniform(0.9, 1.1, schools))
    enrolled = np.diff(np.rint(shares / shares[-1] * students).astype(int), prepend=0)
    parallel = np.maximum(2, -(-enrolled // _SEATS))
    first = np.cumsum(parallel * _PERIODS) - parallel * _PERIODS
    pupils = _newcomers(rng, np.arange(students), np.repeat(np.arange(schools), enrolled), bands)
    pupils["seats"] = _first_seats(rng, pupils, enrolled, parallel, first)
    faculty = np.maximum(2, enrolled // _STUDENTS_A_TEACHER)
    return _District(
        bands=bands,
        first=first,
        parallel=parallel,
        sections=_timetable(pupils, parallel, faculty),
        teachers=_adults(rng, np.repeat(np.arange(schools), faculty), len(_TITLES)),
        staff=_office(rng, schools),
        pupils=pupils,
        gone=pupils[:0],
        next_serial=students,
    )


def _newcomers(rng: np.random.Generator, serials: _Numbers, schools: _Numbers, bands: _Numbers) -> _Numbers:
    """Students of the given schools with everything but their seats."""
    count = len(serials)
    pupils = np.zeros(count, _PUPIL)
    pupils["serial"], pupils["school"] = serials, schools
    low, high = np.array(_BANDS)[bands[schools]].T
    pupils["grade"] = rng.integers(low, high + 1)
    # Kindergarten of 2026 was born from September 2020 to August 2021.
    pupils["born"] = (np.datetime64("2020-09") - 12 * pupils["grade"].astype("m8[M]")).astype("M8[D]").astype(int) + rng.integers(0, 365, count)
    for trait, words in (
        ("first", _FIRST), ("middle", _MIDDLE), ("last", _LAST), ("gender", _GENDERS), ("race", _RACES), ("hispanic", _FLAGS), ("language", _LANGUAGES),
        ("ell", _FLAGS), ("frl", _LUNCHES), ("iep", _FLAGS), ("street", _STREETS), ("unit", _UNITS), ("town", _TOWNS),
    ):  # fmt: skip
        pupils[trait] = rng.integers(0, len(words), count)
    pupils["family"] = pupils["last"]
    pupils["house"] = rng.integers(1, 2_000, count)
    pupils["phone"] = rng.integers(0, 7_000_000, count)
    return pupils


def _first_seats(rng: np.random.Generator, pupils: _Numbers, enrolled: _Numbers, parallel: _Numbers, first: _Numbers) -> _Numbers:
    """One section a period: in every period a school's students stand in line by grade, shuffled within it, and are cut into even classes."""
    seats = np.empty((len(pupils), _PERIODS), "i4")
    school = np.repeat(np.arange(len(enrolled)), enrolled)
    place = np.arange(len(pupils)) - np.repeat(np.cumsum(enrolled) - enrolled, enrolled)
    for period in range(_PERIODS):
        line = np.argsort(pupils["school"] * 16.0 + pupils["grade"] + rng.random(len(pupils)))
        seats[line, period] = first[school] + period * parallel[school] + place * parallel[school] // enrolled[school]
    return seats


def _timetable(pupils: _Numbers, parallel: _Numbers, faculty: _Numbers) -> _Numbers:
    """All sections; within a period no teacher of a school is the first teacher of two."""
    sections = np.zeros(int(parallel.sum()) * _PERIODS, _SECTION)
    school = np.repeat(np.arange(len(parallel)), parallel * _PERIODS)
    place = np.arange(len(sections)) - np.repeat(np.cumsum(parallel * _PERIODS) - parallel * _PERIODS, parallel * _PERIODS)
    seats = pupils["seats"].ravel()
    grades = np.bincount(seats, weights=np.repeat(pupils["grade"], _PERIODS)) / np.bincount(seats)
    period, beside = np.divmod(place, parallel[school])
    desk, staffroom = (beside + period) % faculty[school], (np.cumsum(faculty) - faculty)[school]
    sections["school"], sections["period"], sections["grade"] = school, period, np.rint(grades)
    sections["teacher"] = staffroom + desk
    sections["second"] = np.where(np.arange(len(sections)) % 10 == 3, staffroom + (desk + 1) % faculty[school], -1)
    return sections


def _adults(rng: np.random.Generator, schools: _Numbers, titles: int) -> _Numbers:
    adults = np.zeros(len(schools), _ADULT)
    adults["serial"], adults["school"] = np.arange(len(schools)), schools
    for trait, words in (("first", len(_FIRST)), ("middle", len(_MIDDLE)), ("last", len(_LAST)), ("title", titles)):
        adults[trait] = rng.integers(0, words, len(schools))
    return adults


def _office(rng: np.random.Generator, schools: int) -> _Numbers:
    """Every post once a school; the first technician also serves the second school, on a row of its own."""
    staff = _adults(rng, np.repeat(np.arange(schools), len(_POSTS)), len(_POSTS))
    staff["title"] = np.resize(np.arange(len(_POSTS)), len(staff))
    twice = staff[len(_POSTS) - 1 : len(_POSTS)].copy()
    twice["school"] = 1
    return np.concatenate([staff, twice])


# ---------------------------------------------------------------- the nights after


def _grown(district: _District, night: int, rng: np.random.Generator) -> tuple[_District, dict[str, int]]:
    """The district one night later, and what was done to it. No student is touched twice in a night."""
    pupils, bands = district.pupils.copy(), district.bands
    sizes = np.bincount(pupils["seats"].ravel(), minlength=len(district.sections))
    idle = rng.permutation(len(pupils))

    def some(share: float) -> int:
        return max(1, round(share * len(pupils)))

    leaving = _spared(idle, pupils["seats"], sizes, some(_LEFT))
    idle = _without(idle, leaving)

    # A school that loses a leaver and a mover at once could lose a tenth of its enrollments where schools are tiny.
    mobile = idle[(np.bincount(bands)[bands] > 1)[pupils["school"][idle]]]
    calm = ~np.isin(pupils["school"][mobile], pupils["school"][leaving])
    moving = _spared(np.concatenate([mobile[calm], mobile[~calm]]), pupils["seats"], sizes, some(_MOVED_SCHOOL))
    idle = _without(idle, moving)
    for one in moving:
        others = np.flatnonzero(bands == bands[pupils["school"][one]])
        pupils["school"][one] = rng.choice(others[others != pupils["school"][one]])
    pupils["seats"][moving] = _late_seats(rng, district, pupils[moving])

    switching = _switched(idle, pupils, sizes, district, some(_MOVED_SECTION))
    idle = _without(idle, switching)

    edited = idle[: some(_EDITED)]
    _edit(rng, pupils, edited, bands, night)

    for touched in (moving, switching, edited):
        pupils["touched"][touched] = night
    returned = district.gone[: max(1, round(_RETURNED * len(district.gone)))].copy()
    arrivals = some(_ADDED)
    schools = pupils["school"][rng.integers(0, len(pupils), arrivals)]
    added = _newcomers(rng, district.next_serial + np.arange(arrivals), schools, bands)
    added["seats"] = _late_seats(rng, district, added)
    for fresh in (returned, added):
        fresh["touched"] = night

    teachers = district.teachers.copy()
    renamed, *retitled = rng.choice(len(teachers), 1 + night % 2, replace=False)
    teachers["last"][renamed] = (teachers["last"][renamed] + 1) % len(_LAST)
    teachers["title"][retitled] = (teachers["title"][retitled] + 2) % len(_TITLES)

    grown = replace(
        district,
        teachers=teachers,
        pupils=np.concatenate([np.delete(pupils, leaving), returned, added]),
        gone=district.pupils[leaving],
        next_serial=district.next_serial + arrivals,
    )
    return grown, {
        "added": len(added),
        "left": len(leaving),
        "returned": len(returned),
        "edited": len(edited),
        "moved_school": len(moving),
        "moved_section": len(switching),
        "teachers_edited": 1 + len(retitled),
    }


def _without(idle: _Numbers, taken: _Numbers) -> _Numbers:
    return idle[~np.isin(idle, taken)]


def _spared(line: _Numbers, seats: _Numbers, sizes: _Numbers, wanted: int) -> _Numbers:
    """The first `wanted` in line whose sections can all spare them; takes them off `sizes`."""
    chosen: list[int] = []
    for one in line:
        if len(chosen) == wanted:
            break
        if (sizes[seats[one]] > 1).all():
            sizes[seats[one]] -= 1
            chosen.append(one)
    return np.array(chosen, int)


def _switched(line: _Numbers, pupils: _Numbers, sizes: _Numbers, district: _District, wanted: int) -> _Numbers:
    """The first `wanted` in line whose fullest section can spare them; seats them in the one beside it."""
    chosen: list[int] = []
    for one in line:
        if len(chosen) == wanted:
            break
        seats, school = pupils["seats"][one], pupils["school"][one]
        period = int(np.argmax(sizes[seats]))
        here = seats[period]
        if sizes[here] > 1:
            last = district.first[school] + (period + 1) * district.parallel[school] - 1
            there = here + 1 if here < last else here - 1
            sizes[here] -= 1
            sizes[there] += 1
            seats[period] = there
            chosen.append(one)
    return np.array(chosen, int)


def _late_seats(rng: np.random.Generator, district: _District, pupils: _Numbers) -> _Numbers:
    """Seats for those who come later: in every period a section where their grade sits."""
    school = pupils["school"][:, None]
    low, high = np.array(_BANDS)[district.bands[pupils["school"]]].T[:, :, None]
    share = (pupils["grade"][:, None] - low + rng.random((len(pupils), _PERIODS))) / (high - low + 1)
    parallel = district.parallel[school]
    return np.asarray(district.first[school] + np.arange(_PERIODS) * parallel + (share * parallel).astype(int))


def _edit(rng: np.random.Generator, pupils: _Numbers, edited: _Numbers, bands: _Numbers, night: int) -> None:
    """Gives each of them, in turn, another e-mail, last name, grade or address; the turn starts elsewhere every night."""
    mail, last, grade, address = (edited[(np.arange(len(edited)) + night) % 4 == turn] for turn in range(4))
    pupils["mail"][mail] += 1
    pupils["last"][last] = (pupils["last"][last] + rng.integers(1, len(_LAST), len(last))) % len(_LAST)
    top = np.array(_BANDS)[bands[pupils["school"][grade]], 1]
    pupils["grade"][grade] += np.where(pupils["grade"][grade] < top, 1, -1).astype("i1")
    pupils["house"][address] += rng.integers(1, 100, len(address)).astype("i2")


# ---------------------------------------------------------------- numbers become text


def _save(folder: Path, district: _District, progress: Progress | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    teachers, sections, pupils = district.teachers, district.sections, district.pupils
    numbers = _digits(np.arange(len(sections)) + 345, 6)
    section_ids = _glued(_school_id(sections["school"]), "-", numbers)
    files: tuple[tuple[str, int, Callable[[slice], _Columns]], ...] = (
        ("schools", len(district.bands), partial(_schools, district.bands)),
        ("teachers", len(teachers), lambda part: _teachers(teachers[part])),
        ("students", len(pupils), lambda part: _students(pupils[part])),
        ("staff", len(district.staff), lambda part: _staff(district.staff[part])),
        ("sections", len(sections), lambda part: _sections(sections[part], section_ids[part], numbers[part], teachers)),
        ("enrollments", len(pupils), lambda part: _enrollments(pupils[part], sections, section_ids)),
    )
    for name, count, render in files:
        with (folder / f"{name}.csv").open("wb") as file:
            for start in range(0, count, _SLICE):
                columns = render(slice(start, start + _SLICE))
                if start == 0:
                    file.write((",".join(columns) + "\n").encode())
                file.write(_text(columns))
                if progress:
                    progress(f"{folder.name}/{name}.csv", min(start + _SLICE, count), count)


def _text(columns: _Columns) -> Any:
    """The rows as one buffer of UTF-8."""
    lines = _glued(_glued(*(_quoted(column) for column in columns.values()), between=","), "\n")
    return pc.binary_join(pa.ListArray.from_arrays([0, len(lines)], lines), "")[0].as_buffer()


def _quoted(text: Any) -> Any:
    unsafe = pc.or_(pc.match_substring(text, ","), pc.match_substring(text, '"'))
    if not pc.any(unsafe).as_py():
        return text
    return pc.if_else(unsafe, _glued('"', pc.replace_substring(text, '"', '""'), '"'), text)


def _glued(*parts: Any, between: str = "") -> Any:
    return pc.binary_join_element_wise(*parts, between)


def _worded(words: Sequence[str], numbers: _Numbers) -> Any:
    return pa.array(words, pa.string()).take(pa.array(numbers))


def _alike(word: str, count: int) -> Any:
    return pa.repeat(pa.scalar(word), count)


def _digits(numbers: _Numbers, width: int = 0) -> Any:
    text = pc.cast(pa.array(numbers), pa.string())
    return pc.utf8_lpad(text, width, "0") if width else text


def _slugs(names: Iterable[str]) -> tuple[str, ...]:
    """Names as they are written in addresses: the plain letters, accents taken off."""
    return tuple("".join(each for each in unicodedata.normalize("NFD", name.lower()) if each in "abcdefghijklmnopqrstuvwxyz") for name in names)


_FIRST_SLUGS, _LAST_SLUGS = _slugs(_FIRST), _slugs(_LAST)


def _school_id(schools: _Numbers) -> Any:
    return _digits(schools.astype("i4") + 12, 4)


def _teacher_id(teachers: _Numbers) -> Any:
    return _digits(teachers["serial"] * 3 + 4_012, 7)


def _student_id(pupils: _Numbers) -> Any:
    return _digits(pupils["serial"] * 7 + 123_456, 9)


def _schools(bands: _Numbers, part: slice) -> _Columns:
    at, band = np.arange(len(bands))[part], bands[part]
    low, high = np.array(_BANDS)[band].T
    ids, count = _school_id(at), len(at)
    return {
        "School_id": ids,
        "School_name": _glued(_worded(_LAST, at * 5 % len(_LAST)), _alike(" ", count), _worded(_KINDS, band)),
        "School_number": _digits(at + 12),
        "State_id": _digits(at * 10 + 2_500_120, 8),
        "Low_grade": _worded(_GRADES, low),
        "High_grade": _worded(_GRADES, high),
        "Principal": _glued(_worded(_FIRST, at * 3 % len(_FIRST)), " ", _worded(_LAST, at * 11 % len(_LAST))),
        "Principal_email": _glued("principal.", ids, "@schools.example.org"),
        "School_address": _glued(_digits(at * 7 % 900 + 1), " ", _worded(_STREETS, at % len(_STREETS)), " St"),
        "School_city": _worded(_TOWNS, at % len(_TOWNS)),
        "School_state": _alike("MA", count),
        "School_zip": _worded(_ZIPS, at % len(_ZIPS)),
        "School_phone": _glued("(413) 555-", _digits(at % 10_000, 4)),
    }


def _teachers(teachers: _Numbers) -> _Columns:
    first, number = _worded(_FIRST_SLUGS, teachers["first"]), _digits(teachers["serial"] + 1)
    return {
        "School_id": _school_id(teachers["school"]),
        "Teacher_id": _teacher_id(teachers),
        "Teacher_number": number,
        "State_teacher_id": _digits(teachers["serial"] + 800_000, 8),
        "Teacher_email": _glued(first, ".", number, "@teachers.example.org"),
        "First_name": _worded(_FIRST, teachers["first"]),
        "Middle_name": _worded(_MIDDLE, teachers["middle"]),
        "Last_name": _worded(_LAST, teachers["last"]),
        "Title": _worded(_TITLES, teachers["title"]),
        "Username": _glued("t.", first, number),
    }


def _staff(staff: _Numbers) -> _Columns:
    number = _digits(staff["serial"] + 1)
    slug = _glued(_worded(_FIRST_SLUGS, staff["first"]), ".", _worded(_LAST_SLUGS, staff["last"]), number)
    return {
        "School_id": _school_id(staff["school"]),
        "Staff_id": _digits(staff["serial"] + 71, 6),
        "Staff_email": _glued(slug, "@staff.example.org"),
        "First_name": _worded(_FIRST, staff["first"]),
        "Last_name": _worded(_LAST, staff["last"]),
        "Department": _worded(_OFFICES, staff["title"]),
        "Title": _worded(_POSTS, staff["title"]),
        "Username": _glued("s.", slug),
    }


def _sections(sections: _Numbers, ids: Any, numbers: Any, teachers: _Numbers) -> _Columns:
    course_at = sections["grade"].astype(int) * _PERIODS + sections["period"]
    course, period = _worded(_COURSES, course_at), _digits(sections["period"] + 1)
    term = ((sections["grade"] >= _BANDS[2][0]) & (sections["period"] >= 4)).astype(int)
    second = pc.if_else(pa.array(sections["second"] >= 0), _teacher_id(teachers[sections["second"]]), "")
    return {
        "School_id": _school_id(sections["school"]),
        "Section_id": ids,
        "Teacher_id": _teacher_id(teachers[sections["teacher"]]),
        "Teacher_2_id": second,
        "Name": _glued(course, " - ", period),
        "Section_number": numbers,
        "Grade": _worded(_GRADES, sections["grade"]),
        "Course_name": course,
        "Course_number": _digits(course_at + 4_000, 5),
        "Period": period,
        "Subject": _worded(_SUBJECTS, sections["period"]),
        "Term_name": _worded(_TERMS, term),
        "Term_start": _alike("08/17/2026", len(sections)),
        "Term_end": _worded(_TERM_ENDS, term),
    }


def _students(pupils: _Numbers) -> _Columns:
    """A row for every contact, and one for a student without any: the pupils are repeated first, so the rows of one are alike."""
    contacts = _CONTACTS[pupils["serial"] % len(_CONTACTS)]
    rows = np.maximum(contacts, 1)
    nth = np.arange(rows.sum()) - np.repeat(np.cumsum(rows) - rows, rows)
    return _student(np.repeat(pupils, rows)) | _contact(np.repeat(pupils, rows), nth, np.repeat(contacts > 0, rows))


def _student(rows: _Numbers) -> _Columns:
    first, number = _worded(_FIRST_SLUGS, rows["first"]), _digits(rows["serial"] + 1)
    again = pc.if_else(pa.array(rows["mail"] > 0), _glued(".", _digits(rows["mail"])), "")
    return {
        "School_id": _school_id(rows["school"]),
        "Student_id": _student_id(rows),
        "Student_number": number,
        "State_id": _digits(rows["serial"] * np.int64(3) + 5_000_000_000),
        "Last_name": _worded(_LAST, rows["last"]),
        "Middle_name": _worded(_MIDDLE, rows["middle"]),
        "First_name": _worded(_FIRST, rows["first"]),
        "Grade": _worded(_GRADES, rows["grade"]),
        "Gender": _worded(_GENDERS, rows["gender"]),
        "Graduation_year": _digits(2039 - rows["grade"].astype(int)),
        "DOB": pc.strftime(pa.array(rows["born"], pa.date32()), format="%m/%d/%Y"),
        "Race": _worded(_RACES, rows["race"]),
        "Hispanic_Latino": _worded(_FLAGS, rows["hispanic"]),
        "Home_language": _worded(_LANGUAGES, rows["language"]),
        "Ell_status": _worded(_FLAGS, rows["ell"]),
        "Frl_status": _worded(_LUNCHES, rows["frl"]),
        "IEP_status": _worded(_FLAGS, rows["iep"]),
        "Student_street": _glued(_digits(rows["house"]), " ", _worded(_STREETS, rows["street"]), " St", _worded(_UNITS, rows["unit"])),
        "Student_city": _worded(_TOWNS, rows["town"]),
        "Student_state": _alike("MA", len(rows)),
        "Student_zip": _worded(_ZIPS, rows["town"]),
        "Student_email": _glued(first, ".", number, again, "@students.example.org"),
        "Username": _glued(first, number),
        "ext.house": _worded(_HOUSES, rows["serial"] % len(_HOUSES)),
    }


def _contact(rows: _Numbers, nth: _Numbers, present: _Numbers) -> _Columns:
    serial = rows["serial"].astype("i8") * 3 + nth
    first = (serial * 7 + 5) % len(_FIRST)
    number = rows["phone"] + nth
    columns = {
        "Contact_relationship": _worded(_RELATIONSHIPS, nth),
        "Contact_type": _worded(_CONTACT_TYPES, nth),
        "Contact_name": _glued(_worded(_FIRST, first), " ", _worded(_LAST, rows["family"])),
        "Contact_phone": _glued(_digits(number // 10_000 + 201), "555", _digits(number % 10_000, 4)),
        "Contact_phone_type": _worded(_PHONE_TYPES, nth),
        "Contact_email": _glued(_worded(_FIRST_SLUGS, first), ".", _digits(serial + 1), "@families.example.org"),
        "Contact_sis_id": _digits(serial + 30_012, 9),
    }
    return {name: pc.if_else(pa.array(present), column, "") for name, column in columns.items()}


def _enrollments(pupils: _Numbers, sections: _Numbers, section_ids: Any) -> _Columns:
    seats = pupils["seats"].ravel()
    return {
        "School_id": _school_id(sections["school"][seats]),
        "Section_id": section_ids.take(pa.array(seats)),
        "Student_id": _student_id(pupils).take(pa.array(np.repeat(np.arange(len(pupils)), _PERIODS))),
    }


# ---------------------------------------------------------------- faults, put into the text

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


def _spoil(folder: Path, district: _District, night: int) -> int:
    """Puts the faults into the files; the number of them. The students hit have one row each, lie apart, and go to schools with a leading zero."""
    pupils = district.pupils
    contacts = _CONTACTS[pupils["serial"] % len(_CONTACTS)]
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
        + _append(teachers, _with(teacher, "School_id", _school_id(np.array([1]))[0].as_py()))
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
