"""Records under the roster's names become OneRoster's CSV files, 1.1 and 1.2: for the export of a district and for made-up ones (contract 4)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.errors import ConfigError
from sftp_ingest.model import Roster
from sftp_ingest.roster.export import Export, File, active, column, ext_columns, looked_up
from sftp_ingest.roster.written import Columns, alike, glued

VERSIONS = ("1.1", "1.2")

DISTRICT = "district"
"""The id of the organisation above all schools; staff of all schools belong to it."""

_SLICE = 50_000

_DATED = ("sourcedId", "status", "dateLastModified")
_USERS = {
    "1.1": (
        *_DATED, "enabledUser", "orgSourcedIds", "role", "username", "userIds", "givenName", "familyName", "middleName", "identifier", "email", "sms",
        "phone", "agentSourcedIds", "grades", "password",
    ),
    "1.2": (
        *_DATED, "enabledUser", "username", "userIds", "givenName", "familyName", "middleName", "identifier", "email", "sms", "phone", "agentSourcedIds",
        "grades", "password", "userMasterIdentifier", "preferredGivenName", "preferredMiddleName", "preferredFamilyName", "primaryOrgSourcedId", "pronouns",
    ),
}  # fmt: skip
_ORGS = (*_DATED, "name", "type", "identifier", "parentSourcedId")
_SESSIONS = (*_DATED, "title", "type", "startDate", "endDate", "parentSourcedId", "schoolYear")
_COURSES = (*_DATED, "schoolYearSourcedId", "title", "courseCode", "grades", "orgSourcedId", "subjects", "subjectCodes")
_CLASSES = (
    *_DATED, "title", "grades", "courseSourcedId", "classCode", "classType", "location", "schoolSourcedId", "termSourcedIds", "subjects", "subjectCodes",
    "periods",
)  # fmt: skip
_ENROLLMENTS = (*_DATED, "classSourcedId", "schoolSourcedId", "userSourcedId", "role", "primary", "beginDate", "endDate")
_RACES: Mapping[str, str] = {
    "americanIndianOrAlaskaNative": "American Indian",
    "asian": "Asian",
    "blackOrAfricanAmerican": "Black or African American",
    "nativeHawaiianOrOtherPacificIslander": "Hawaiian or Other Pacific Islander",
    "white": "Caucasian",
    "demographicRaceTwoOrMoreRaces": "Two or More Races",
}
_DEMOGRAPHICS = (
    *_DATED, "birthDate", "sex", *_RACES, "hispanicOrLatinoEthnicity", "countryOfBirthCode", "stateOfBirthAbbreviation", "cityOfBirth",
    "publicSchoolResidenceStatus",
)  # fmt: skip
_ROLES = (*_DATED, "userSourcedId", "roleType", "role", "beginDate", "endDate", "orgSourcedId", "userProfileSourcedId")
_PROFILES = (*_DATED, "userSourcedId", "profileType", "vendorId", "applicationId", "description", "credentialType", "username", "password")

FILES: Mapping[str, tuple[str, ...]] = {
    "1.1": (
        "academicSessions", "categories", "classes", "classResources", "courses", "courseResources", "demographics", "enrollments", "lineItems", "orgs",
        "resources", "results", "users",
    ),
    "1.2": (
        "academicSessions", "categories", "classes", "classResources", "courses", "courseResources", "demographics", "enrollments",
        "lineItemLearningObjectiveIds", "lineItems", "lineItemScoreScales", "orgs", "resources", "resultLearningObjectiveIds", "results", "resultScoreScales",
        "roles", "scoreScales", "userProfiles", "userResources", "users",
    ),
}  # fmt: skip
"""Every file that a manifest speaks of, by version."""

_SCHOOL_METADATA: Mapping[str, str] = {
    "stateId": "state_id", "lowGrade": "low_grade", "highGrade": "high_grade", "principal": "principal", "principalEmail": "principal_email",
    "address": "address", "city": "city", "state": "state", "zip": "zip", "phone": "phone",
}  # fmt: skip
_PERSON_METADATA: Mapping[str, str] = {
    "stateId": "state_id", "title": "title", "department": "department", "staffRole": "staff_role", "graduationYear": "graduation_year",
    "homeLanguage": "home_language", "street": "street", "city": "city", "state": "state", "zip": "zip", "unweightedGpa": "unweighted_gpa",
    "weightedGpa": "weighted_gpa", "contactType": "type", "relationship": "relationship", "phoneType": "phone_type", "otherPhones": "other_phones",
}  # fmt: skip
_PREFERRED: Mapping[str, str] = {"First": "preferred_first_name", "Middle": "preferred_middle_name", "Last": "preferred_last_name"}
_DEMOGRAPHIC_METADATA: Mapping[str, str] = {
    "ellStatus": "ell_status", "frlStatus": "frl_status", "iepStatus": "iep_status", "giftedStatus": "gifted_status",
    "section504Status": "section_504_status", "disabilityStatus": "disability_status", "disabilityType": "disability_type",
    "disabilityCode": "disability_code",
}  # fmt: skip

COURSE = ("course_name", "course_number")
TERM = ("term_name", "term_start", "term_end")

_LADDER = ("IT", "Preschool", "PK", "TK", "KG", *(f"{year:02}" for year in range(1, 14)))
_CODES: Mapping[str, str] = {
    "InfantToddler": "IT", "PreKindergarten": "PK", "TransitionalKindergarten": "TK", "Kindergarten": "KG", "Ungraded": "UG",
    **{str(year): f"{year:02}" for year in range(1, 14)},
}  # fmt: skip
"""CEDS codes of Clever's grades; Preschool, PostGraduate and Other have none that means nothing else, and are written as they stand."""


# ---------------------------------------------------------------- single files


def manifest(version: str, present: Iterable[str]) -> Columns:
    """manifest.csv: the named files are whole, all others absent (contract 4.3)."""
    there = set(present)
    told = {"manifest.version": "1.0", "oneroster.version": version}
    told |= {f"file.{name}": "bulk" if name in there else "absent" for name in FILES[version]}
    told |= {"source.systemName": "sftp-ingest", "source.systemCode": "sftp-ingest"}
    return {"propertyName": pa.array(list(told), pa.string()), "value": pa.array(list(told.values()), pa.string())}


def district_org(extensions: Sequence[str]) -> Columns:
    """The row of orgs.csv that is no school."""
    return orgs({"school_id": pa.array([DISTRICT]), "name": pa.array(["District"])}, extensions, kind="district", parent="")


def orgs(schools: Columns, extensions: Sequence[str], *, kind: str = "school", parent: str = DISTRICT) -> Columns:
    """Rows of orgs.csv; `extensions` are the names of the extension columns that the file has."""
    count = _count(schools)
    given = {
        "sourcedId": schools["school_id"],
        "name": schools["name"],
        "type": alike(kind, count),
        "identifier": schools.get("number"),
        "parentSourcedId": alike(parent, count),
    }
    return _shaped(_ORGS, given, count) | _metadata(schools, _SCHOOL_METADATA, extensions)


def users(people: Columns, role: str, schools: Any, version: str, extensions: Sequence[str], *, agents: Any = None) -> Columns:
    """Rows of users.csv. `schools` has the ids of each one's schools, the home school first, joined by commas; `agents` those of his contacts."""
    count = _count(people)
    given = {
        "sourcedId": people["sis_id"],
        "enabledUser": alike("true", count),
        "orgSourcedIds": schools,
        "primaryOrgSourcedId": pc.replace_substring_regex(schools, ",.*$", ""),
        "role": alike(role, count),
        "username": people.get("username"),
        "givenName": people.get("first_name"),
        "familyName": people.get("last_name"),
        "middleName": people.get("middle_name"),
        "identifier": people.get("number"),
        "email": people.get("email"),
        "phone": people.get("phone"),
        "agentSourcedIds": agents,
        "grades": _coded(people["grade"], _grade) if "grade" in people else None,
        "preferredGivenName": people.get("preferred_first_name"),
        "preferredMiddleName": people.get("preferred_middle_name"),
        "preferredFamilyName": people.get("preferred_last_name"),
    }
    preferred = {f"preferred{part}Name": name for part, name in _PREFERRED.items()} if version == "1.1" else {}
    return _shaped(_USERS[version], given, count) | _metadata(people, {**_PERSON_METADATA, **preferred}, extensions)


def guardians(contacts: Columns, version: str, extensions: Sequence[str]) -> Columns:
    """Rows of users.csv of contacts, one a person; the last word of a full name is the family name."""
    names = contacts["name"]
    first = pc.utf8_rtrim_whitespace(pc.replace_substring_regex(names, r"[^ ]*$", ""))
    last = pc.replace_substring_regex(names, r"^.* ", "")
    # where more than one space stands between two parts, only the whole name comes back as it was
    whole = pc.not_equal(glued(first, last, between=" "), names)
    told = contacts | {
        "sis_id": contacts["contact_id"],
        "first_name": pc.if_else(whole, "", first),
        "last_name": pc.if_else(whole, names, last),
    }
    return users(told, "guardian", alike(DISTRICT, _count(contacts)), version, extensions)


def roles(user_ids: Any, role: str, schools: Any) -> Columns:
    """Rows of roles.csv (1.2): one a person and school, the first of them primary."""
    parts = pc.split_pattern(schools, ",")
    at = pc.list_parent_indices(parts)
    count = pc.list_value_length(parts).to_numpy(zero_copy_only=False).astype(np.int64)
    nth = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    people = user_ids.take(at)
    given = {
        "sourcedId": glued(people, ":", pc.cast(pa.array(nth + 1), pa.string())),
        "userSourcedId": people,
        "roleType": pc.if_else(pa.array(nth == 0), "primary", "secondary"),
        "role": alike(role, len(at)),
        "orgSourcedId": pc.list_flatten(parts),
    }
    return _shaped(_ROLES, given, len(at))


def profiles(people: Columns) -> Columns:
    """Rows of userProfiles.csv (1.2): the log-in names; passwords are never written."""
    named = pc.not_equal(people["username"], "")
    ids, names = people["sis_id"].filter(named), people["username"].filter(named)
    count = len(ids)
    given = {
        "sourcedId": glued(ids, ":profile"),
        "userSourcedId": ids,
        "profileType": alike("district", count),
        "vendorId": alike(DISTRICT, count),
        "credentialType": alike("username", count),
        "username": names,
    }
    return _shaped(_PROFILES, given, count)


def demographics(students: Columns) -> Columns:
    """Rows of demographics.csv; a race that has no flag is told in words."""
    count = _count(students)
    race = students.get("race", alike("", count))
    flagged = pc.is_in(race, value_set=pa.array(list(_RACES.values()), pa.string()))
    given = {
        "sourcedId": students["sis_id"],
        "birthDate": students.get("dob"),
        "sex": _coded(students["gender"], lambda text: {"M": "male", "F": "female", "X": "other"}.get(text, text)) if "gender" in students else None,
        "hispanicOrLatinoEthnicity": _coded(students["hispanic_latino"], lambda text: {"Y": "true", "N": "false"}.get(text, text))
        if "hispanic_latino" in students
        else None,
    }
    given |= {flag: pc.if_else(flagged, pc.if_else(pc.equal(race, word), "true", "false"), "") for flag, word in _RACES.items()}
    words = {"metadata.race": pc.if_else(flagged, "", race)}
    return _shaped(_DEMOGRAPHICS, given, count) | _metadata(students, _DEMOGRAPHIC_METADATA, ()) | words


def sessions(sections: Columns) -> Columns:
    """academicSessions.csv: every distinct term of the sections once."""
    terms, count = _distinct(sections, TERM)
    end = pc.if_else(pc.equal(terms["term_end"], ""), terms["term_start"], terms["term_end"])
    given = {
        "sourcedId": terms["id"],
        "title": terms["term_name"],
        "type": alike("term", count),
        "startDate": terms["term_start"],
        "endDate": terms["term_end"],
        "schoolYear": pc.utf8_slice_codeunits(end, 0, 4),
    }
    return _shaped(_SESSIONS, given, count)


def courses(sections: Columns) -> Columns:
    """courses.csv: every distinct course of the sections once, with the description that its first section has."""
    told, count = _distinct(sections, COURSE)
    given = {
        "sourcedId": told["id"],
        "title": told["course_name"],
        "courseCode": told["course_number"],
        "orgSourcedId": alike(DISTRICT, count),
        "metadata.description": told.get("course_description"),
    }
    return _shaped((*_COURSES, "metadata.description"), given, count)


def classes(sections: Columns, extensions: Sequence[str]) -> Columns:
    """Rows of classes.csv."""
    count = _count(sections)
    given = {
        "sourcedId": sections["section_id"],
        "title": sections.get("sis_name"),
        "grades": _coded(sections["sis_grade"], _grades) if "sis_grade" in sections else None,
        "courseSourcedId": _ids(sections, COURSE),
        "classCode": sections.get("number"),
        "classType": alike("scheduled", count),
        "schoolSourcedId": sections["school_id"],
        "termSourcedIds": _ids(sections, TERM),
        "subjects": sections.get("sis_subject"),
        "periods": sections.get("period"),
    }
    return _shaped(_CLASSES, given, count) | _metadata(sections, {}, extensions)


def seats(section_ids: Any, student_ids: Any, school_ids: Any) -> Columns:
    """Rows of enrollments.csv that are students'."""
    count = len(section_ids)
    given = {
        "sourcedId": glued(section_ids, student_ids, between=":"),
        "classSourcedId": section_ids,
        "schoolSourcedId": school_ids,
        "userSourcedId": student_ids,
        "role": alike("student", count),
        "primary": alike("false", count),
    }
    return _shaped(_ENROLLMENTS, given, count)


def desks(section_ids: Any, teacher_ids: Any, school_ids: Any, positions: Any) -> Columns:
    """Rows of enrollments.csv that are teachers': ids in the order of their positions, the first primary."""
    count = len(section_ids)
    given = {
        "sourcedId": glued(section_ids, ":teacher-", pc.utf8_lpad(positions, 2, "0")),
        "classSourcedId": section_ids,
        "schoolSourcedId": school_ids,
        "userSourcedId": teacher_ids,
        "role": alike("teacher", count),
        "primary": pc.if_else(pc.equal(positions, "1"), "true", "false"),
    }
    return _shaped(_ENROLLMENTS, given, count)


def role_of_staff(version: str) -> str:
    """What a person of staff is called in the version."""
    return "administrator" if version == "1.1" else "siteAdministrator"


def _count(columns: Columns) -> int:
    return len(next(iter(columns.values())))


def _shaped(header: Sequence[str], given: Mapping[str, Any], count: int) -> Columns:
    """The columns of the header; what is not given is blank, what the header does not have is left out."""
    blank = alike("", count)
    return {name: blank if given.get(name) is None else given[name] for name in header}


def _metadata(records: Columns, names: Mapping[str, str], extensions: Sequence[str]) -> Columns:
    blank = alike("", _count(records))
    told = {f"metadata.{name}": records.get(source, blank) for name, source in names.items()}
    return told | {f"metadata.ext.{name}": records.get(f"ext.{name}", blank) for name in extensions}


def _coded(cells: Any, meaning: Callable[[str], str]) -> Any:
    """The cells in OneRoster's spelling; every distinct text is looked at once."""
    encoded = cells.dictionary_encode()
    return pa.array([meaning(text) for text in encoded.dictionary.to_pylist()], pa.string()).take(encoded.indices)


def _grade(text: str) -> str:
    return _CODES.get(text, text)


def _grades(text: str) -> str:
    """A grade as its code, and a range of grades as the list of theirs."""
    low, dash, high = text.partition("-")
    if dash and {_grade(low), _grade(high)} <= set(_LADDER):
        return ",".join(_LADDER[_LADDER.index(_grade(low)) : _LADDER.index(_grade(high)) + 1]) or text
    return _grade(text)


def _keys(sections: Columns, columns: Sequence[str]) -> Any:
    """One text a section that tells its course, or its term, from every other; blank where it has none."""
    blank = alike("", _count(sections))
    cells = [sections.get(name, blank) for name in columns]
    lengths = [pc.cast(pc.binary_length(each), pa.string()) for each in cells]
    nothing = pc.equal(glued(*cells), "")
    return pc.if_else(nothing, "", glued(*lengths, *cells, between=":"))


def _ids(sections: Columns, columns: Sequence[str]) -> Any:
    return _coded(_keys(sections, columns), _digest)


def _digest(key: str) -> str:
    return hashlib.blake2b(key.encode(), digest_size=10).hexdigest() if key else ""


def _distinct(sections: Columns, columns: Sequence[str]) -> tuple[Columns, int]:
    """The sections' cells, one row a distinct course or term, in the order of the ids, and how many there are."""
    blank = alike("", _count(sections))
    keys = _ids(sections, columns)
    ids = pc.unique(keys)
    ids = ids.filter(pc.not_equal(ids, ""))
    ids = ids.take(pc.sort_indices(ids))
    first = pc.index_in(ids, value_set=keys)
    told = {name: sections.get(name, blank).take(first) for name in (*columns, "course_description")}
    return told | {"id": ids}, len(ids)


# ---------------------------------------------------------------- a whole roster


def oneroster(roster: Roster, version: str) -> Export:
    """The files of OneRoster's format. The sources of records cannot be told in it, and attendance is no part of it.

    Raises ConfigError where the version is unknown, or where ids are such that users.csv cannot hold all people.
    """
    if version not in VERSIONS:
        raise ConfigError(f"the version of OneRoster must be one of {', '.join(VERSIONS)}, not {version}")
    tables = active(roster)
    named = {name: _named(tables[name]) for name in ("schools", "students", "teachers", "staff", "sections")}
    contacts, differing = _people_of(tables["contacts"])
    _check_ids([named["students"]["sis_id"], named["teachers"]["sis_id"], named["staff"]["sis_id"], contacts["contact_id"]], named["schools"]["school_id"])
    extensions = sorted({name for kind in ("students", "teachers", "staff") for name in _extensions(named[kind])})
    sections = named["sections"] | {"course_description": _description(tables)}
    agents = _agents(tables["contacts"], named["students"]["sis_id"])
    people = (
        (named["teachers"], "teacher", named["teachers"]["sis_school_id"]),
        (named["staff"], role_of_staff(version), _schools_of(named["staff"])),
        (named["students"], "student", named["students"]["sis_school_id"]),
        (contacts | {"sis_id": contacts["contact_id"]}, "guardian", alike(DISTRICT, len(contacts["contact_id"]))),
    )

    def all_users() -> Iterator[Columns]:
        for told, role, schools in people[:2]:
            yield users(told, role, schools, version, extensions)
        for part in _slices(len(tables["students"])):
            told, _, schools = people[2]
            yield users(_sliced(told, part), "student", schools[part], version, extensions, agents=agents[part])
        for part in _slices(len(contacts["contact_id"])):
            yield guardians(_sliced(contacts, part), version, extensions)

    def all_enrollments() -> Iterator[Columns]:
        links, joined = tables["section_teachers"], tables["enrollments"]
        section_ids = column(links, "section_id")
        schools = looked_up(section_ids, named["sections"]["section_id"], named["sections"]["school_id"])
        yield desks(section_ids, column(links, "teacher_id"), schools, column(links, "position"))
        for part in _slices(len(joined)):
            yield seats(*(column(joined, name)[part] for name in ("section_id", "student_id", "school_id")))

    of_schools, of_sections = _extensions(named["schools"]), _extensions(named["sections"])
    given: dict[str, Callable[[], Iterable[Columns]]] = {
        "orgs": lambda: (district_org(of_schools), orgs(named["schools"], of_schools)),
        "users": all_users,
        "academicSessions": lambda: (sessions(sections),),
        "courses": lambda: (courses(sections),),
        "classes": lambda: (classes(_sliced(sections, part), of_sections) for part in _slices(len(tables["sections"]))),
        "enrollments": all_enrollments,
        "demographics": lambda: (demographics(_sliced(named["students"], part)) for part in _slices(len(tables["students"]))),
    }
    if version == "1.2":
        given["roles"] = lambda: (roles(told["sis_id"], role, schools) for told, role, schools in people)
        given["userProfiles"] = lambda: (profiles(told) for told, role, _ in people if role != "guardian")
    listed = manifest(version, given)
    files = [File("manifest.csv", lambda: (listed,)), *(File(f"{name}.csv", blocks) for name, blocks in given.items())]
    return Export(tuple(files), {"contacts": differing} if differing else {})


def _slices(count: int) -> Iterator[slice]:
    """Slices of so many rows; one that is empty where there are none, for the header's sake."""
    return (slice(start, start + _SLICE) for start in range(0, max(count, 1), _SLICE))


def _sliced(columns: Columns, part: slice) -> Columns:
    return {name: cells[part] for name, cells in columns.items()}


def _named(table: pa.Table) -> Columns:
    """The records' columns, each in one piece, and their extension columns."""
    found = {name: column(table, name) for name in table.column_names}
    return found | ext_columns(found["ext"], "ext.")


def _extensions(columns: Columns) -> list[str]:
    return [name.removeprefix("ext.") for name in columns if name.startswith("ext.")]


def _people_of(contacts: pa.Table) -> tuple[Columns, int]:
    """Contacts as persons, and how many of a student's differ from what another student's record says of the same person."""
    ids = column(contacts, "contact_id")
    first = pc.index_in(ids, value_set=ids)
    same = pa.repeat(pa.scalar(True), len(ids))
    for name in ("name", "type", "relationship", "phone", "phone_type", "other_phones", "email"):
        cells = column(contacts, name)
        same = pc.and_(same, pc.equal(cells, cells.take(first)))
    chosen = pc.unique(first)
    return {name: column(contacts, name).take(chosen) for name in contacts.column_names}, len(ids) - int(pc.sum(same).as_py() or 0)


def _agents(contacts: pa.Table, student_ids: Any) -> Any:
    """Of each student, the ids of his contacts joined by commas."""
    grouped = contacts.group_by("student_id", use_threads=False).aggregate([("contact_id", "list")])
    return looked_up(student_ids, column(grouped, "student_id"), pc.binary_join(column(grouped, "contact_id_list"), ","))


def _schools_of(staff: Columns) -> Any:
    """Of each person, the ids of his schools joined by commas, the home school first."""
    return _coded(staff["school_ids"], lambda text: ",".join(json.loads(text)) if text else DISTRICT)


def _description(tables: Mapping[str, pa.Table]) -> Any:
    told = tables["courses"]
    return looked_up(column(tables["sections"], "course_id"), column(told, "course_id"), column(told, "description"))


def _check_ids(people: Sequence[Any], schools: Any) -> None:
    """All people share one kind of id in OneRoster, and lists of ids are joined by commas."""
    ids = pa.concat_arrays(people)
    twice = len(ids) - len(pc.unique(ids))
    if twice:
        raise ConfigError(f"{twice:,} ids are used for two kinds of people, which OneRoster's users.csv cannot tell apart; export in Clever's format")
    commas = int(pc.sum(pc.match_substring(pa.concat_arrays([ids, schools]), ",")).as_py() or 0)
    if commas:
        raise ConfigError(f"{commas:,} ids hold a comma, which OneRoster's lists of ids cannot tell; export in Clever's format")
