"""OneRoster's files, 1.1 and 1.2, become the roster that they describe; contract 4, and 4.5 for how they map to Clever's words.

`prepare` sorts the rows of users.csv, orgs.csv and enrollments.csv into the tables that are judged, each with its line number, so that the
findings name the district's own lines. `assemble` joins what OneRoster keeps in files of its own: courses, sessions, demographics, guardians.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.model import ENTITIES, LONGEST_TEAM, Assembled, Frames, Roster, Verdict
from sftp_ingest.roster import delta
from sftp_ingest.roster.arrow import TEXT, Mask, Places, array_of, is_in, key_of, places_of
from sftp_ingest.roster.contract import Contract
from sftp_ingest.roster.desk import as_sent
from sftp_ingest.roster.records import COURSE_COLUMNS, TERM_COLUMNS, first_of, records_of, rows_of, sections_of, shaped, staff_of, with_schools_kept
from sftp_ingest.roster.sorting import PRIMARY, sort

NAME = "oneroster"

RACES: Mapping[str, str] = {
    "americanindianoralaskanative": "American Indian",
    "asian": "Asian",
    "blackorafricanamerican": "Black or African American",
    "nativehawaiianorotherpacificislander": "Hawaiian or Other Pacific Islander",
    "white": "Caucasian",
}
"""Column of demographics.csv → Clever's word (contract 1.6.3)."""


TWO_OR_MORE = "demographicracetwoormoreraces"

DEMOGRAPHICS = (
    "dob", "gender", "race", "hispanic_latino", "ell_status", "frl_status", "iep_status", "gifted_status", "section_504_status",
    "disability_status", "disability_type", "disability_code",
)  # fmt: skip


def prepare(frames: Frames, contract: Contract, now: Roster, *, strict: bool) -> Frames:
    """The files' rows in the tables that are judged; `now` is what changes are changes to."""
    return sort(frames, contract, now, strict=strict)


def assemble(verdict: Verdict, contract: Contract, now: Roster) -> Assembled:
    """The wanted roster. Where only changes were sent, they lie over what the district has now, so that all of it is a snapshot."""
    changes = delta.Changes.of(verdict.aside)
    tables = verdict.tables
    entities = {name: records_of(name, contract.tables[name], tables[name]) for name in ("schools", "students", "teachers", "enrollments")}
    entities["staff"] = staff_of(contract.tables["staff"], tables["staff"])
    sections, terms, courses = _sections(verdict, contract, now)
    entities |= {"sections": sections, "terms": terms, "courses": courses}
    seen = _seen(verdict, changes, now)
    entities["section_teachers"] = _section_teachers(tables["section_teachers"], seen.get("section_teachers"), changes, now)
    entities["contacts"] = _contacts(verdict, changes, now)
    entities = delta.laid_over(entities, changes, now, seen)
    if "section_teachers" in changes.entities:
        entities["section_teachers"] = _closed_up(entities["section_teachers"], now)
    entities["students"] = _with_demographics(entities["students"], verdict, changes, now)
    entities["staff"] = with_schools_kept(entities, seen, now)
    # what came in files that only Clever's format has is not spoken of
    covered = {name: frozenset({""}) for name in ENTITIES if "source" in ENTITIES[name].values or name == "section_teachers"}
    return Assembled(Roster({name: entities[name] for name in ENTITIES if name in entities}), seen, covered)


# ---------------------------------------------------------------- what stands in a file of its own


def _joined(
    frame: pd.DataFrame, by: str, other: pd.DataFrame | None, columns: tuple[str, ...], doubted: Mask, key: str, held: pd.DataFrame
) -> dict[str, pd.Series]:
    """The columns of the other file's row that `by` names; of a row that is doubted what is held now under the record's own key.

    So nothing changes because a row of the other file was rejected.
    """
    names = array_of(frame[by])
    at = places_of(names, array_of(other[by])) if other is not None else np.full(len(frame), -1, dtype=np.int32)
    standing = places_of(array_of(frame[key]), array_of(held.iloc[:, 0]))
    kept = doubted & (at < 0) & (standing >= 0)
    joined = {}
    for column in columns:
        told = _taken(other, column, at)
        if kept.any():
            told = pc.if_else(pa.array(kept), _taken(held, column, standing), told)
        joined[column] = pd.Series(pd.array(told, dtype=TEXT), index=frame.index)
    return joined


def _taken(frame: pd.DataFrame | None, column: str, at: Places) -> pa.Array:
    """The column's cells at these places, blank where there is no place or no column."""
    if frame is None or column not in frame.columns or not len(frame):
        return pa.repeat("", len(at))
    return array_of(frame[column]).take(pa.array(at, mask=at < 0)).fill_null("")


def _doubted(cells: pa.Array, table: str, verdict: Verdict) -> Mask:
    """Which cells may name a row of the table that could not be believed, or that was not sent tonight."""
    doubted: Mask = pc.not_equal(cells, "").to_numpy(zero_copy_only=False)
    if table not in verdict.tables or table in delta.Changes.of(verdict.aside).files:
        return doubted
    seen = verdict.seen[table].iloc[:, 0]
    return doubted if seen.isna().any() else is_in(cells, array_of(seen))


def _sections(verdict: Verdict, contract: Contract, now: Roster) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Sections with their course and term, and these two, which are told apart by what is said of them, as Clever's are."""
    frame, held = verdict.tables["sections"], _active(now, "sections")
    held = held.assign(course_description=_description(held, now))
    told: dict[str, pd.Series] = {}
    for table, by, columns in (("courses", "course_ref", (*COURSE_COLUMNS, "course_description")), ("terms", "term_ref", TERM_COLUMNS)):
        if by not in frame.columns:
            frame = frame.assign(**{by: pd.array(pa.repeat("", len(frame)), dtype=TEXT)})
        doubted = _doubted(array_of(frame[by]), table, verdict)
        told |= _joined(frame, by, verdict.tables.get(table), columns, doubted, "section_id", held)
    frame = frame.assign(**told)
    sections, terms, courses = sections_of([(contract.tables["sections"], frame)])
    return sections.assign(**{column: frame[column].array for column in (*COURSE_COLUMNS, *TERM_COLUMNS)}), terms, courses


def _description(sections: pd.DataFrame, now: Roster) -> pd.arrays.ArrowExtensionArray:
    courses = now.entities["courses"]
    return pd.array(_taken(courses, "description", places_of(array_of(sections["course_id"]), array_of(courses["course_id"]))), dtype=TEXT)


def _with_demographics(students: pd.DataFrame, verdict: Verdict, changes: delta.Changes, now: Roster) -> pd.DataFrame:
    """Students with what demographics.csv says of them."""
    other = verdict.tables.get("demographics")
    if other is not None:
        other = other.assign(race=_race(other))
    by = students.assign(user_id=students["sis_id"])
    doubted = _doubted(array_of(by["user_id"]), "demographics", verdict)
    if "students" in changes.entities:  # of a student who was not named nothing has changed
        doubted |= ~is_in(array_of(by["user_id"]), array_of(verdict.tables["students"]["student_id"]))
    doubted &= ~is_in(array_of(by["user_id"]), array_of(changes.ended("demographics")["id"]))
    joined = _joined(by, "user_id", other, DEMOGRAPHICS, doubted, "sis_id", _active(now, "students"))
    return students.assign(**{column: joined[column].array for column in DEMOGRAPHICS})


def _race(frame: pd.DataFrame) -> pd.Series:
    """The word that was sent, else that of the single flag that is set (contract 4.5)."""
    flags = {word: pc.equal(array_of(frame[column]), "Y").to_numpy(zero_copy_only=False) for column, word in RACES.items() if column in frame.columns}
    count = np.sum(list(flags.values()), axis=0) if flags else np.zeros(len(frame), dtype=np.int64)
    several = count > 1
    if TWO_OR_MORE in frame.columns:
        several |= pc.equal(array_of(frame[TWO_OR_MORE]), "Y").to_numpy(zero_copy_only=False)
    word = np.select([several, *flags.values()], ["Two or More Races", *flags], default="") if len(frame) else np.array([], dtype=str)
    told = pa.array(word.astype(str), pa.string())
    if "race" in frame.columns:
        sent = array_of(frame["race"])
        told = pc.if_else(pc.equal(sent, ""), told, sent)
    return pd.Series(pd.array(told, dtype=TEXT), index=frame.index)


# ---------------------------------------------------------------- who belongs together


def _section_teachers(frame: pd.DataFrame, seen: pd.DataFrame | None, changes: delta.Changes, now: Roster) -> pd.DataFrame:
    """One row a section and teacher: the primary one first, the others as their enrollments are called.

    The rows come in that order. Where not all rows of a section can be read, or only changes were sent, who has a place keeps it.
    """
    position = frame.groupby("section_id", sort=False).cumcount().to_numpy() + 1 if len(frame) else np.zeros(0, dtype=np.int64)
    links = frame[["section_id", "teacher_id"]].assign(position=pd.array(position.astype(str), dtype=TEXT))
    partial = "section_teachers" in changes.entities
    if partial or (seen is not None and len(seen)):
        doubted = np.ones(len(frame), dtype=bool)
        if not partial and seen is not None and not seen["section_id"].isna().any():
            doubted = is_in(array_of(frame["section_id"]), array_of(seen["section_id"]))
        teams = _teams(frame[doubted], changes, now)
        rows = [(section, teacher, str(place)) for section, team in teams.items() for teacher, place in team.items()]
        kept = pd.DataFrame({name: pd.array([row[at] for row in rows], dtype=TEXT) for at, name in enumerate(links.columns)})
        if not partial:  # of those who were not named it is not for this row to say that they stay
            named = frame.loc[doubted, ["section_id", "teacher_id"]]
            kept = kept.merge(named, on=["section_id", "teacher_id"])
        links = pd.concat([links[~doubted], kept], ignore_index=True)
    links = links[links["position"].astype("int64").to_numpy() <= LONGEST_TEAM]
    return shaped(ENTITIES["section_teachers"].columns, links, len(links))


def _teams(frame: pd.DataFrame, changes: delta.Changes, now: Roster) -> dict[str, dict[str, int]]:
    """Section → teacher → place, of the sections in the frame: those who have a place keep it, others come behind; a primary one changes with the first."""
    ended = changes.ended("section_teachers")
    gone = set(zip(ended["id"].to_list(), ended["other"].to_list(), strict=True))
    held = _active(now, "section_teachers")
    held = held[is_in(array_of(held["section_id"]), array_of(frame["section_id"]))]
    teams: dict[str, dict[str, int]] = {}
    for section, teacher, place in zip(held["section_id"].to_list(), held["teacher_id"].to_list(), held["position"].to_list(), strict=True):
        if (section, teacher) not in gone:
            teams.setdefault(section, {})[teacher] = int(place)
    for section, teacher, rank in zip(frame["section_id"].to_list(), frame["teacher_id"].to_list(), frame["primary"].to_list(), strict=True):
        team = teams.setdefault(section, {})
        if teacher not in team:
            team[teacher] = next(place for place in range(1, len(team) + 2) if place not in team.values())
        if rank == PRIMARY and team[teacher] != 1:
            first = next((each for each, place in team.items() if place == 1), teacher)
            team[first], team[teacher] = team[teacher], 1
    return teams


def _closed_up(links: pd.DataFrame, now: Roster) -> pd.DataFrame:
    """The links, in which those behind a teacher whom changes end come one place forward, so that a section with teachers has a primary one."""
    held = _active(now, "section_teachers")
    theirs, ours = (key_of([array_of(frame["section_id"]), array_of(frame["teacher_id"])]) for frame in (held, links))
    ended = array_of(held["section_id"]).filter(pa.array(~is_in(theirs, ours)))
    shorter = is_in(array_of(links["section_id"]), ended)
    if not shorter.any():
        return links
    behind = links[shorter].assign(place=links.loc[shorter, "position"].astype("int64"))
    behind = behind.sort_values(["section_id", "place", "teacher_id"])
    place = behind.groupby("section_id", sort=False).cumcount().to_numpy() + 1
    closed = behind.drop(columns="place").assign(position=pd.array(place.astype(str), dtype=TEXT))
    return pd.concat([links[~shorter], closed], ignore_index=True)


def _contacts(verdict: Verdict, changes: delta.Changes, now: Roster) -> pd.DataFrame:
    """One row a student and guardian, with what the guardian's own row says; in changes, else what is known of him now."""
    entity = ENTITIES["contacts"]
    people, links = verdict.tables["contacts"], verdict.aside["links"]
    pupils = array_of(verdict.tables["students"]["student_id"])
    people = people.assign(sis_id=people["contact_id"].mask(people["contact_id"].str.startswith("~"), ""))  # `~` begins an id of our own
    if "contacts" in changes.entities:
        held = as_sent(_active(now, "contacts"))
        again = held[is_in(array_of(held["contact_id"]), array_of(people["contact_id"]))]
        links = pd.concat([links, again[["student_id", "contact_id"]]], ignore_index=True).drop_duplicates(ignore_index=True)
        known = held[~is_in(array_of(held["contact_id"]), array_of(people["contact_id"]))].drop_duplicates("contact_id")
        people = rows_of([people, known.drop(columns=["student_id", "active"])])
        pupils = pa.concat_arrays([pupils, array_of(_active(now, "students")["sis_id"])])
    at = places_of(array_of(links["contact_id"]), array_of(people["contact_id"]))
    believed = (at >= 0) & is_in(array_of(links["student_id"]), pupils)
    links, at = links[believed], at[believed]
    columns = {name: pd.Series(pd.array(_taken(people, name, at), dtype=TEXT)) for name in entity.values if name != "source"}
    return shaped(entity.columns, columns | {"student_id": links["student_id"], "contact_id": links["contact_id"]}, len(links))


# ---------------------------------------------------------------- keys of rejected rows


def _seen(verdict: Verdict, changes: delta.Changes, now: Roster) -> dict[str, pd.DataFrame]:
    """Keys by entity. A rejected row of users.csv may have been a student with contacts, or the contact of any student."""
    seen: dict[str, pd.DataFrame] = {}
    for name in ("schools", "students", "teachers", "staff", "sections", "enrollments", "section_teachers"):
        key = list(ENTITIES[name].key)
        seen[name] = verdict.seen[name].set_axis(key, axis=1)
    people, students = (verdict.seen[name].iloc[:, 0].array for name in ("contacts", "students"))
    held = _active(now, "contacts")  # where contacts are not merged, they have ids of their own beside those that were sent
    theirs = held[is_in(array_of(held["sis_id"]), array_of(verdict.seen["contacts"].iloc[:, 0]).drop_null())]
    seen["contacts"] = first_of(
        [
            theirs[["student_id", "contact_id"]],
            pd.DataFrame({"student_id": students, "contact_id": pd.array(np.full(len(students), None), dtype=TEXT)}),
            pd.DataFrame({"student_id": pd.array(np.full(len(people), None), dtype=TEXT), "contact_id": people}),
        ]
    )
    return {name: frame for name, frame in seen.items() if name not in changes.entities}


def _active(now: Roster, name: str) -> pd.DataFrame:
    """The records that stand now."""
    held = now.entities[name]
    return held[held["active"].to_numpy(dtype=bool)]
