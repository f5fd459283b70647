"""Districts as numbers, one NumPy record a person: the first night, and the nights after."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftp_ingest.sample.words import BANDS, FIRST, FLAGS, GENDERS, LANGUAGES, LAST, LUNCHES, MIDDLE, PERIODS, POSTS, RACES, STREETS, TITLES, TOWNS, UNITS

Numbers = NDArray[Any]

_STUDENTS_A_SCHOOL = 600
_STUDENTS_A_TEACHER = 16
_SEATS = 25
_PYRAMID = (0, 0, 1, 2)  # thirteen grades fill two elementary, one middle and one high school alike

_EDITED, _LEFT, _ADDED, _MOVED_SCHOOL, _MOVED_SECTION, _RETURNED = 0.006, 0.002, 0.002, 0.001, 0.003, 0.1

_PUPIL = np.dtype(
    [("serial", "i4"), ("school", "i2"), ("grade", "i1"), ("born", "i4"), ("first", "i1"), ("middle", "i1"), ("last", "i1"), ("family", "i1")]
    + [(trait, "i1") for trait in ("gender", "race", "hispanic", "language", "ell", "frl", "iep", "street", "unit", "town")]
    + [("house", "i2"), ("phone", "i4"), ("mail", "i2"), ("touched", "i2"), ("seats", "i4", (PERIODS,))]
)  # fmt: skip
"""Words are positions in the lists of `words`; `family` is the last name of the contacts; `born` counts days since 1970;
`mail` counts changes of the address; `touched` is the night of the last change; `seats` are sections, one a period."""

_ADULT = np.dtype([("serial", "i4"), ("school", "i2"), ("first", "i1"), ("middle", "i1"), ("last", "i1"), ("title", "i1")])
_SECTION = np.dtype([("school", "i2"), ("period", "i1"), ("grade", "i1"), ("teacher", "i4"), ("second", "i4")])


@dataclass(frozen=True)
class District:
    """A district on one night. Sections of school s in period p are `first[s] + p * parallel[s]` and the `parallel[s] - 1` after it, by rising grade."""

    bands: Numbers
    first: Numbers
    parallel: Numbers
    sections: Numbers
    teachers: Numbers
    staff: Numbers
    pupils: Numbers
    gone: Numbers
    next_serial: int


# ---------------------------------------------------------------- the first night


def founded(students: int, rng: np.random.Generator) -> District:
    """The district on its first night."""
    schools = max(len(_PYRAMID), students // _STUDENTS_A_SCHOOL)
    bands = np.resize(_PYRAMID, schools)
    shares = np.cumsum(rng.uniform(0.9, 1.1, schools))
    enrolled = np.diff(np.rint(shares / shares[-1] * students).astype(int), prepend=0)
    parallel = np.maximum(2, -(-enrolled // _SEATS))
    first = np.cumsum(parallel * PERIODS) - parallel * PERIODS
    pupils = _newcomers(rng, np.arange(students), np.repeat(np.arange(schools), enrolled), bands)
    pupils["seats"] = _first_seats(rng, pupils, enrolled, parallel, first)
    faculty = np.maximum(2, enrolled // _STUDENTS_A_TEACHER)
    return District(
        bands=bands,
        first=first,
        parallel=parallel,
        sections=_timetable(pupils, parallel, faculty),
        teachers=_adults(rng, np.repeat(np.arange(schools), faculty), len(TITLES)),
        staff=_office(rng, schools),
        pupils=pupils,
        gone=pupils[:0],
        next_serial=students,
    )


def _newcomers(rng: np.random.Generator, serials: Numbers, schools: Numbers, bands: Numbers) -> Numbers:
    """Students of the given schools with everything but their seats."""
    count = len(serials)
    pupils = np.zeros(count, _PUPIL)
    pupils["serial"], pupils["school"] = serials, schools
    low, high = np.array(BANDS)[bands[schools]].T
    pupils["grade"] = rng.integers(low, high + 1)
    # Kindergarten of 2026 was born from September 2020 to August 2021.
    pupils["born"] = (np.datetime64("2020-09") - 12 * pupils["grade"].astype("m8[M]")).astype("M8[D]").astype(int) + rng.integers(0, 365, count)
    for trait, words in (
        ("first", FIRST), ("middle", MIDDLE), ("last", LAST), ("gender", GENDERS), ("race", RACES), ("hispanic", FLAGS), ("language", LANGUAGES),
        ("ell", FLAGS), ("frl", LUNCHES), ("iep", FLAGS), ("street", STREETS), ("unit", UNITS), ("town", TOWNS),
    ):  # fmt: skip
        pupils[trait] = rng.integers(0, len(words), count)
    pupils["family"] = pupils["last"]
    pupils["house"] = rng.integers(1, 2_000, count)
    pupils["phone"] = rng.integers(0, 7_000_000, count)
    return pupils


def _first_seats(rng: np.random.Generator, pupils: Numbers, enrolled: Numbers, parallel: Numbers, first: Numbers) -> Numbers:
    """One section a period: in every period a school's students stand in line by grade, shuffled within it, and are cut into even classes."""
    seats = np.empty((len(pupils), PERIODS), "i4")
    school = np.repeat(np.arange(len(enrolled)), enrolled)
    place = np.arange(len(pupils)) - np.repeat(np.cumsum(enrolled) - enrolled, enrolled)
    for period in range(PERIODS):
        line = np.argsort(pupils["school"] * 16.0 + pupils["grade"] + rng.random(len(pupils)))
        seats[line, period] = first[school] + period * parallel[school] + place * parallel[school] // enrolled[school]
    return seats


def _timetable(pupils: Numbers, parallel: Numbers, faculty: Numbers) -> Numbers:
    """All sections; within a period no teacher of a school is the first teacher of two."""
    sections = np.zeros(int(parallel.sum()) * PERIODS, _SECTION)
    school = np.repeat(np.arange(len(parallel)), parallel * PERIODS)
    place = np.arange(len(sections)) - np.repeat(np.cumsum(parallel * PERIODS) - parallel * PERIODS, parallel * PERIODS)
    seats = pupils["seats"].ravel()
    grades = np.bincount(seats, weights=np.repeat(pupils["grade"], PERIODS)) / np.bincount(seats)
    period, beside = np.divmod(place, parallel[school])
    desk, staffroom = (beside + period) % faculty[school], (np.cumsum(faculty) - faculty)[school]
    sections["school"], sections["period"], sections["grade"] = school, period, np.rint(grades)
    sections["teacher"] = staffroom + desk
    sections["second"] = np.where(np.arange(len(sections)) % 10 == 3, staffroom + (desk + 1) % faculty[school], -1)
    return sections


def _adults(rng: np.random.Generator, schools: Numbers, titles: int) -> Numbers:
    adults = np.zeros(len(schools), _ADULT)
    adults["serial"], adults["school"] = np.arange(len(schools)), schools
    for trait, words in (("first", len(FIRST)), ("middle", len(MIDDLE)), ("last", len(LAST)), ("title", titles)):
        adults[trait] = rng.integers(0, words, len(schools))
    return adults


def _office(rng: np.random.Generator, schools: int) -> Numbers:
    """Every post once a school; the first technician also serves the second school, on a row of its own."""
    staff = _adults(rng, np.repeat(np.arange(schools), len(POSTS)), len(POSTS))
    staff["title"] = np.resize(np.arange(len(POSTS)), len(staff))
    twice = staff[len(POSTS) - 1 : len(POSTS)].copy()
    twice["school"] = 1
    return np.concatenate([staff, twice])


# ---------------------------------------------------------------- the nights after


def grown(district: District, night: int, rng: np.random.Generator) -> tuple[District, dict[str, int]]:
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
    teachers["last"][renamed] = (teachers["last"][renamed] + 1) % len(LAST)
    teachers["title"][retitled] = (teachers["title"][retitled] + 2) % len(TITLES)

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


def _without(idle: Numbers, taken: Numbers) -> Numbers:
    return idle[~np.isin(idle, taken)]


def _spared(line: Numbers, seats: Numbers, sizes: Numbers, wanted: int) -> Numbers:
    """The first `wanted` in line whose sections can all spare them; takes them off `sizes`."""
    chosen: list[int] = []
    for one in line:
        if len(chosen) == wanted:
            break
        if (sizes[seats[one]] > 1).all():
            sizes[seats[one]] -= 1
            chosen.append(one)
    return np.array(chosen, int)


def _switched(line: Numbers, pupils: Numbers, sizes: Numbers, district: District, wanted: int) -> Numbers:
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


def _late_seats(rng: np.random.Generator, district: District, pupils: Numbers) -> Numbers:
    """Seats for those who come later: in every period a section where their grade sits."""
    school = pupils["school"][:, None]
    low, high = np.array(BANDS)[district.bands[pupils["school"]]].T[:, :, None]
    share = (pupils["grade"][:, None] - low + rng.random((len(pupils), PERIODS))) / (high - low + 1)
    parallel = district.parallel[school]
    return np.asarray(district.first[school] + np.arange(PERIODS) * parallel + (share * parallel).astype(int))


def _edit(rng: np.random.Generator, pupils: Numbers, edited: Numbers, bands: Numbers, night: int) -> None:
    """Gives each of them, in turn, another e-mail, last name, grade or address; the turn starts elsewhere every night."""
    mail, last, grade, address = (edited[(np.arange(len(edited)) + night) % 4 == turn] for turn in range(4))
    pupils["mail"][mail] += 1
    pupils["last"][last] = (pupils["last"][last] + rng.integers(1, len(LAST), len(last))) % len(LAST)
    top = np.array(BANDS)[bands[pupils["school"][grade]], 1]
    pupils["grade"][grade] += np.where(pupils["grade"][grade] < top, 1, -1).astype("i1")
    pupils["house"][address] += rng.integers(1, 100, len(address)).astype("i2")
