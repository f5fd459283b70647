"""Whose derived columns may be others once few records were told anew, and what they are then: nobody else has to be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.model import ENTITIES, Assembled, Derivations, Roster
from sftp_ingest.roster import derive, shelf
from sftp_ingest.roster.arrow import TEXT, Encoded, Mask, array_of, encoded, first_ones, groups, is_in, joined, more_than_once, places_of
from sftp_ingest.roster.layers import Layers, Positions
from sftp_ingest.roster.records import shaped

_NOWHERE: Positions = np.zeros(0, dtype=np.int64)

_NOBODY = "\0"
"""In place of a grade, what no cell is."""

_LINKS: Mapping[str, tuple[str, str]] = {"students": ("enrollments", "student_id"), "teachers": ("section_teachers", "teacher_id")}
"""People → their memberships, and the column of these that names them."""

_NEEDED: Mapping[str, tuple[str, ...]] = {
    "students": ("sis_id", "school_id", "school_ids", "sis_school_id", "grade"),
    "teachers": ("sis_id", "school_id", "school_ids", "sis_school_id", "last_name"),
    "enrollments": ("section_id", "student_id"),
    "section_teachers": ("section_id", "teacher_id", "position"),
}
"""The columns that anything is derived from. Of people there are many others, and they cost most."""

_HELD_OF_SECTIONS = ("section_id", "school_id", "grade", "source")
"""What a section's derived columns may hang on of the night before."""


@dataclass(frozen=True)
class Wanted:
    """An entity as it is to be: of the records `held`, those that `stays` masks were sent once more, and those at `goes` were not, or told anew.

    `new` is what was told anew, in all columns of the entity.
    """

    held: Layers
    stays: Mask
    goes: Positions
    new: pd.DataFrame

    def staying(self, column: str, texts: pa.Array) -> Mask:
        """Which of the records held stay, and have one of the texts in the column."""
        return self.held.among(column, texts) & self.stays

    def staying_with(self, column: str, other: str, texts: pa.Array) -> pa.Array:
        """What stands in the column of those records that stay, and have one of the texts in the other."""
        return self.held.distinct(column, self.staying(other, texts))

    def has(self, column: str, texts: pa.Array) -> Mask:
        """Which of the texts stand in the column of any record that is to be."""
        return is_in(texts, pa.concat_arrays(self.standing(column, self.staying(column, texts))))

    def standing(self, column: str, at: Mask) -> list[pa.Array]:
        """What stands in the column of the records held at the places, each text once, and of the new ones."""
        return [self.held.distinct(column, at), array_of(self.new[column])]

    def concerned(self, column: str) -> pa.Array:
        """What stands in the column of the records that go, and of the new ones."""
        return pc.unique(pa.concat_arrays([self.held.take(column, self.goes), array_of(self.new[column])]))

    def cells(self, column: str, *at: Mask) -> pa.Array:
        """The column of the records held at the first of the places, then of the new ones, then of those held at all other places."""
        first, *others = (self.held.take(column, np.flatnonzero(each)) for each in at)
        return pa.concat_arrays([first, array_of(self.new[column]), *others])

    def frame(self, columns: Sequence[str], *at: Mask) -> pd.DataFrame:
        """The columns, each as `cells` gives it."""
        return pd.DataFrame({column: pd.array(self.cells(column, *at), dtype=TEXT) for column in columns}, copy=False)

    def whole(self, columns: Sequence[str]) -> pd.DataFrame:
        """All records that are to be."""
        return self.frame(columns, self.stays)


def derived(wanted: Mapping[str, Wanted], staff: Layers, switches: Derivations) -> dict[str, pd.DataFrame]:
    """Students, teachers and sections of which a derived column is another than it was, and all new ones, as they are to be.

    Besides them all terms and courses. What is derived of a record hangs on nothing but: his own row; for people, on the schools of their
    sections, and where several of these have equally many, on how many students each of the sections has; for sections, on the grades of
    their students and the last name of their teacher.
    """
    students, teachers, sections, enrollments, teaching = (wanted[name] for name in ("students", "teachers", "sections", "enrollments", "section_teachers"))
    told_anew, joined = sections.concerned("section_id"), enrollments.concerned("section_id")
    renamed, regraded = teachers.concerned("sis_id"), _regraded(students)
    lessons = [told_anew, joined, teaching.concerned("section_id")]
    lessons.append(teaching.staying_with("section_id", "teacher_id", renamed))
    lessons.append(enrollments.staying_with("section_id", "student_id", regraded))
    touched = {name: _people(wanted, name, told_anew, joined, switches) for name in _LINKS}
    touched["sections"] = sections.staying("section_id", pa.concat_arrays(lessons))
    part, held = _needed(wanted, touched)
    held["staff"] = staff.frame
    if "staff" in wanted:  # of whom nothing is derived; that they were sent is all that counts
        part["staff"] = wanted["staff"].new
    found = derive.derive(Assembled(Roster(part), {}), Roster(held), switches).roster.entities
    whole = {name: found[name] for name in ("schools", "terms", "courses")}
    return whole | {name: _in_full(wanted[name], found[name], name, at) for name, at in touched.items()}


def _people(wanted: Mapping[str, Wanted], name: str, told_anew: pa.Array, joined: pa.Array, switches: Derivations) -> Mask:
    """People who stay as they were sent, and whose schools may be others: who came to a section or left one, and who is in one that was told anew.

    In a section that somebody else came to or left, they are those who have sections at several schools.
    """
    people, (link, column) = wanted[name], _LINKS[name]
    links = wanted[link]
    beside = pa.concat_arrays([links.staying_with(column, "section_id", told_anew), links.concerned(column)])
    several = people.stays & _has_several_schools(people.held, wanted["sections"].held, switches)
    among = links.staying("section_id", joined) & links.held.among(column, people.held.distinct("sis_id", several))
    return people.staying("sis_id", pa.concat_arrays([beside, links.held.distinct(column, among)]))


def _needed(wanted: Mapping[str, Wanted], touched: Mapping[str, Mask]) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
    """The part of what is to be from which everything is derived of those that are touched, and these as they are held.

    They come first, and the new ones behind them. What would be derived of all others is not right, for not all of their memberships are there.
    """
    sections = wanted["sections"]
    looked_at = sections.cells("section_id", touched["sections"])
    theirs = {name: wanted[link].staying(column, wanted[name].cells("sis_id", touched[name])) for name, (link, column) in _LINKS.items()}
    attended = [each for name, (link, _) in _LINKS.items() for each in wanted[link].standing("section_id", theirs[name])]
    beside = sections.staying("section_id", pa.concat_arrays(attended)) & ~touched["sections"]
    schools = sections.frame(("section_id", "school_id"), touched["sections"], beside)
    tied = [_of_several_schools(wanted[link], column, theirs[name], schools) for name, (link, column) in _LINKS.items()]
    counted = {"students": pa.concat_arrays([looked_at, *tied]), "teachers": looked_at}

    part = {name: wanted[name].whole(ENTITIES[name].columns) for name in ("schools", "terms", "courses")}
    held = {name: wanted[name].held.frame for name in ("schools", "terms", "courses")}
    for name, (link, column) in _LINKS.items():
        people, links = wanted[name], wanted[link]
        others = links.staying("section_id", counted[name]) & ~theirs[name]
        if name == "students":
            part[name], part[link] = _with_grades_beside(people, touched[name], links, theirs[name], others)
        else:
            colleagues = people.staying("sis_id", links.held.distinct(column, others)) & ~touched[name]
            part[name], part[link] = people.frame(_NEEDED[name], touched[name], colleagues), links.frame(_NEEDED[link], theirs[name], others)
        held[name] = people.held.rows(_NEEDED[name], np.flatnonzero(touched[name]))
        held[link] = links.held.rows(ENTITIES[link].columns, _NOWHERE)
    part["sections"] = sections.frame(ENTITIES["sections"].columns, touched["sections"], beside)
    held["sections"] = sections.held.rows(_HELD_OF_SECTIONS, np.flatnonzero(touched["sections"]))
    return part, held


def _with_grades_beside(students: Wanted, touched: Mask, links: Wanted, theirs: Mask, others: Mask) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Students who are touched and their memberships, and behind them those of all others in their sections, of whom nothing counts but the grade.

    One student stands for all of a grade, in all of their memberships: where one student in a hundred moves, half of a district's sit beside him.
    """
    grades = joined(students.held.encoded("grade", students.stays))
    grade_of = np.full(len(students.stays) + 1, len(grades.texts), dtype=np.int32)  # the last of which is nobody's
    grade_of[:-1][students.stays] = grades.places
    names = pa.array([f"\0{text}" for text in (*grades.texts.to_pylist(), _NOBODY)], pa.string())  # no id has this character
    behind = [Encoded(names, grade_of[students.held.places_of("sis_id", ids.texts)][ids.places]) for ids in links.held.coded("student_id", others)]

    def beside_them(column: str, others: list[Encoded]) -> pa.Array:
        return joined([*links.held.encoded(column, theirs), encoded(array_of(links.new[column])), *others]).cells

    cells = {"student_id": shelf.put(beside_them("student_id", behind))}
    del behind  # of millions of memberships, none should be there once more than it must
    cells["section_id"] = shelf.put(beside_them("section_id", links.held.encoded("section_id", others)))
    beside = shaped(_NEEDED["students"], {"sis_id": pd.Series(names[:-1], dtype=TEXT), "grade": pd.Series(grades.texts, dtype=TEXT)}, len(grades.texts))
    people = pd.concat([students.frame(_NEEDED["students"], touched), beside], ignore_index=True)
    return people, pd.DataFrame({column: pd.array(each, dtype=pd.ArrowDtype(each.type)) for column, each in cells.items()}, copy=False)


def _has_several_schools(people: Layers, sections: Layers, switches: Derivations) -> Mask:
    """Whose list of schools is longer than one; everybody's may be, where the list is not derived, or a section has no school that it would tell."""
    if not switches.schools or (sections.active & sections.among("school_id", pa.array([""]))).any():
        return np.ones(len(people.active), dtype=bool)
    return people.which("school_ids", lambda lists: pc.match_substring(lists, '", "').to_numpy(zero_copy_only=False))


def _regraded(students: Wanted) -> pa.Array:
    """The students whose grade is another than it was, or who had none or have none any more."""
    told = (students.held.rows(("sis_id", "grade"), students.goes), students.new)
    before, tonight = (dict(zip(frame["sis_id"].to_list(), frame["grade"].to_list(), strict=True)) for frame in told)
    return pa.array([each for each in before | tonight if before.get(each) != tonight.get(each)], pa.string())


def _of_several_schools(links: Wanted, column: str, at: Mask, sections: pd.DataFrame) -> pa.Array:
    """The sections of those people, among those with these memberships, who have sections at several schools."""
    person, section = encoded(links.cells(column, at)), links.cells("section_id", at)
    place = places_of(section, array_of(sections["section_id"]))
    school = encoded(array_of(sections["school_id"]).take(pa.array(place, mask=place < 0)).fill_null(""))
    first = first_ones(groups([person, school]))
    once_a_school = person.places[first].astype(np.int64)
    chosen = np.isin(person.places, once_a_school[more_than_once(once_a_school)])
    return pc.unique(section.filter(pa.array(chosen)))


def _in_full(wanted: Wanted, found: pd.DataFrame, name: str, at: Mask) -> pd.DataFrame:
    """All columns of those records at the places of which a derived one is another than it was, and of the new ones."""
    places = np.flatnonzero(at)
    others = np.zeros(len(places), dtype=bool)
    for column in derive.FILLED[name]:
        derived = array_of(found[column]).slice(0, len(places))
        others |= pc.not_equal(derived, wanted.held.take(column, places)).to_numpy(zero_copy_only=False)
    told = np.concatenate((others, np.ones(len(wanted.new), dtype=bool)))
    there = np.zeros(len(at), dtype=bool)
    there[places[others]] = True
    rows = wanted.frame(ENTITIES[name].columns, there)
    return rows.assign(**{column: found[column].array[: len(told)][told] for column in derive.FILLED[name]})
