"""The rows of OneRoster's files are sorted into the tables of a roster: who is a student, which org is a school, who teaches and who learns.

Every row keeps its line number. What belongs to no table stays behind in the table of its file, which rejects it; its key counts as seen
in every table that it could have meant (law 1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.findings import finding
from sftp_ingest.model import LONGEST_TEAM, Frames, Roster
from sftp_ingest.roster import delta, guardians, manifest, values
from sftp_ingest.roster.arrow import TEXT, Mask, array_of, is_in
from sftp_ingest.roster.contract import Contract
from sftp_ingest.roster.court import distinct_ids
from sftp_ingest.roster.desk import Desk, as_sent, listed, lower, mapped

ROLES: Mapping[str, str] = {
    "student": "students",
    "teacher": "teachers",
    **dict.fromkeys(
        ("administrator", "aide", "proctor", "counselor", "principal", "siteadministrator", "districtadministrator", "systemadministrator"), "staff"
    ),
    **dict.fromkeys(("guardian", "parent", "relative"), "contacts"),
}
"""Role of a person → the table that he belongs to (contract 4.2)."""

PEOPLE = ("students", "teachers", "staff", "contacts")

MEMBERS: Mapping[str, str] = {"student": "enrollments", "teacher": "section_teachers", "administrator": "", "proctor": "", "aide": ""}
"""Role in a class → table; the blank ones are of the format and of no roster."""

ORGS: Mapping[str, str] = {"school": "schools", **dict.fromkeys(("district", "local", "state", "national", "department"), "")}
"""Type of an org → table."""

GRADES: Mapping[str, str] = {
    **{f"{year:02}": str(year) for year in range(1, 14)},
    "kg": "Kindergarten", "pk": "PreKindergarten", "tk": "TransitionalKindergarten", "it": "InfantToddler", "pr": "Preschool", "ug": "Ungraded",
}  # fmt: skip
"""The format's own codes for grades (contract 4.2)."""

GENDERS: Mapping[str, str] = {"male": "M", "female": "F", "other": "X", "unspecified": ""}
FLAGS: Mapping[str, str] = {"true": "Y", "false": "N"}

CORE_OF_CLEVERS = ("courses", "terms")
"""Tables that Clever itself asks for (contract 4.5); without them a class has no course or term, and is a class all the same."""

OF_WHOLE_FILES = ("file_missing", "file_without_rows", "file_gone")
"""Findings that say nothing of a file of changes: there may have been none."""

PRIMARY, FURTHER = "0", "1"
"""Rank of a section's teacher, and of a person's role: these sort as they count."""

NO_LINE = -1
"""In place of a line number: the key stands in no row of the file."""

_ENABLED = ("", "true", "yes", "y", "t", "1", "false", "no", "n", "f", "0")


def sort(frames: Frames, contract: Contract, now: Roster, *, strict: bool) -> Frames:
    """The frames of the files as those of the tables that are judged, with what the manifest and each row's status say."""
    tables = dict(frames.tables)
    files = {table.file: name for name, table in contract.tables.items() if not table.of and not table.pairs}
    sent = [file for file, name in files.items() if name in tables]
    said, found = manifest.read(tables.pop("manifest", None), list(files), sent, strict=strict)
    desk = Desk(contract, now, strict, tables, dict(frames.unread), dict(frames.rows), [*found, *frames.findings], dict(frames.faulty))
    _heed_manifest(desk, said, files)
    _in_words(desk)
    _take_roles(desk, said.version)
    for name in list(desk.tables):
        _drop_ended(desk, name)
    _spell(desk)
    others = _sort_orgs(desk)
    if "users" in tables:
        desk.links = _sort_users(desk, others)
    if "memberships" in tables:
        _sort_memberships(desk)
    _tell_unknown(desk)
    noted = pd.DataFrame({name: pd.array([record[at] for record in desk.records], dtype=TEXT) for at, name in enumerate(("entity", "id", "other"))})
    aside = {"links": desk.links, delta.DELTA: pd.DataFrame({"table": pd.array(sorted(desk.delta), dtype=TEXT)}), delta.ENDED: noted}
    # a file that tells only changes has the form of no other night's
    partial = {contract.tables[name].file for name in desk.delta}
    shapes = {file: shape for file, shape in frames.shapes.items() if file not in partial}
    return replace(
        frames,
        tables=tables,
        findings=tuple(desk.findings),
        unread=desk.unread,
        rows=desk.rows,
        aside=aside,
        shapes=shapes,
        faulty=desk.faulty,
    )


# ---------------------------------------------------------------- which files say what


def _heed_manifest(desk: Desk, said: manifest.Manifest, files: Mapping[str, str]) -> None:
    """Leave out what is said to be absent, and make room for files that tell only changes."""
    tables, contract = desk.tables, desk.contract
    partial = any(said.mode(file) == "delta" for file in files)
    for file, name in files.items():
        mode = said.mode(file)
        if mode == "absent":
            tables.pop(name, None)
        if mode == "delta" or (partial and name not in tables and mode != "bulk"):
            desk.delta.add(name)
            desk.findings = [each for each in desk.findings if each.file.lower() != file.lower() or each.code not in OF_WHOLE_FILES]
        elif mode == "absent" and contract.tables[name].core and not any(each.code == "file_missing" and each.file == file for each in desk.findings):
            desk.findings.append(finding("file_missing", file, hint="the manifest says that it is absent", strict=desk.strict))
        if name in CORE_OF_CLEVERS and name not in tables and desk.strict:
            desk.findings.append(finding("file_missing", file, strict=True))
    if not partial:
        return
    if not any(len(desk.standing(entity)) for entity in ("schools", "students")):
        desk.findings.append(finding("delta_without_roster", manifest.FILE, strict=desk.strict))
    for name in desk.delta:
        table = contract.tables[name]
        nothing = _of_another_file(pd.DataFrame({column: pd.array([None], dtype=TEXT) for column in table.key}))
        if name not in tables and table.core:
            columns = [each.column for each in table.fields if not each.drop]
            tables[name] = pd.DataFrame({column: pd.array([], dtype=TEXT) for column in dict.fromkeys(columns)}, index=pd.Index([], dtype="int64", name="line"))
            desk.rows[name] = 0
        if name in tables:  # whoever is not named may be anybody: all that stand are still there
            desk.unread[name] = pd.concat([desk.unread.get(name, nothing.iloc[:0]), nothing])


def _in_words(desk: Desk) -> None:
    """Give cells of the files that are sorted the format's words for the district's own: a role decides where a row belongs."""
    for name, frame in desk.tables.items():
        table = desk.contract.tables[name]
        words = {each.column: dict(each.values) for each in table.fields if table.sorts and each.values and each.column in frame.columns}
        if words:
            desk.tables[name] = frame.assign(**{column: _meant(frame[column], meant) for column, meant in words.items()})


def _meant(cells: pd.Series, words: Mapping[str, str]) -> pd.Series:
    return pd.Series(pd.array(mapped(array_of(cells), lambda text: words.get(text, text)), dtype=TEXT), index=cells.index)


def _take_roles(desk: Desk, version: str) -> None:
    """Read a userProfiles.csv with the columns of roles.csv as that; refuse people of whom nothing says what they are."""
    tables = desk.tables
    profiles = tables.pop("userprofiles", None)
    unread = desk.unread.pop("userprofiles", None)
    if profiles is not None and unread is not None and "role" in profiles.columns and "roles" not in tables:
        tables["roles"], desk.unread["roles"], desk.rows["roles"] = profiles, unread, desk.rows.pop("userprofiles")
        found = finding(
            "header_misspelt", desk.contract.tables["userprofiles"].file, "role", (1,), hint="its columns are those of roles.csv", strict=desk.strict
        )
        desk.findings.append(found)
    users = tables.get("users")
    if users is None or "role" in users.columns or "roles" in tables or "users" in desk.delta:
        return
    if version == "1.2" or (not version and "primary_org" in users.columns):
        desk.findings.append(finding("file_missing", desk.contract.tables["roles"].file, strict=desk.strict))
    else:
        desk.findings.append(finding("header_missing", desk.contract.tables["users"].file, "role", (1,), strict=desk.strict))
    tables.pop("users")


# ---------------------------------------------------------------- what a row says of itself


def _is(cells: pa.Array, *words: str) -> Mask:
    return is_in(cells, pa.array(words, pa.string()))


def _drop_ended(desk: Desk, name: str) -> None:
    """Take out the rows that say that their record has ended: by status, or by enabledUser (contract 4.2).

    Of a whole file that is as if they were not in it; of changes it is noted. `inactive` is the word of OneRoster 1.0.
    """
    frame = desk.tables[name]
    status, enabled = lower(frame, "status"), lower(frame, "enabled")
    for column, cells, known in (("status", status, ("", "active", "tobedeleted", "inactive")), ("enabledUser", enabled, _ENABLED)):
        wrong = ~_is(cells, *known)
        if wrong.any():
            desk.find("value_unknown", name, column, wrong, frame)
    ended = _is(status, "tobedeleted", "inactive") | _is(enabled, "false", "no", "n", "f", "0")
    if not ended.any():
        return
    gone, desk.tables[name] = frame[ended], frame[~ended]
    if not desk.contract.tables[name].sorts:  # of a file that is sorted the rows are counted whole
        desk.rows[name] -= int(ended.sum())
    key = [column for column in desk.contract.tables[name].key if column in frame.columns]
    if len(key) == 1 and name != "roles":  # who has lost one role may have others
        gone = gone[~is_in(array_of(gone[key[0]]), array_of(desk.tables[name][key[0]]))]
    desk.ended[name] = gone
    if name in desk.delta:
        _note_ended(desk, name, gone)


def _note_ended(desk: Desk, name: str, gone: pd.DataFrame) -> None:
    """Note what a row of changes ends; what it belongs to is not always known."""
    unplaced = np.zeros(len(gone), dtype=bool)
    if name in ("orgs", "sections"):
        desk.end(delta.OF_FILE[name][0], gone.iloc[:, _place(desk, name)].to_list())
    elif name == "demographics":
        desk.end(name, gone["user_id"].to_list())
    elif name == "users":
        ids = gone["user_id"]
        for entity in ("students", "teachers", "staff"):
            desk.end(entity, ids.to_list())
        held = desk.now.entities["contacts"]
        theirs = held[is_in(array_of(as_sent(held)["contact_id"]), array_of(ids))]
        desk.end("contacts", theirs["student_id"].to_list(), theirs["contact_id"].to_list())
    elif name == "roles":
        kinds = mapped(lower(gone, "role"), lambda role: ROLES.get(role, ""))
        alone = ~is_in(array_of(gone["user_id"]), array_of(desk.tables["users"]["user_id"])) if "users" in desk.tables else np.ones(len(gone), dtype=bool)
        for entity in ("students", "teachers"):
            desk.end(entity, gone.loc[_is(kinds, entity), "user_id"].to_list())
        unplaced = alone & ~_is(kinds, "students", "teachers")  # of staff with other schools, and of guardians, it is not known what is left
    elif name == "memberships":
        role = lower(gone, "role")
        for entity, word in (("enrollments", "student"), ("section_teachers", "teacher")):
            pairs = gone[_is(role, word, "")]
            desk.end(entity, pairs["section_id"].to_list(), pairs["user_id"].to_list())
        unplaced = _is(array_of(gone["section_id"]), "") | _is(array_of(gone["user_id"]), "")
    elif name in ("courses", "terms"):
        unplaced = ~unplaced
    if unplaced.any():
        desk.find("delta_unplaced", name, "sourcedId", unplaced, gone)


def _spell(desk: Desk) -> None:
    """Give cells of the format's own vocabulary the roster's spelling, which needs no warning; whatever else stands there is judged later."""
    own: Mapping[str, Callable[[str], str]] = {
        "flag": lambda text: FLAGS.get(text.lower(), text),
        "gender": lambda text: GENDERS.get(text.lower(), text),
        "grade": grades,
    }
    of_users = desk.contract.tables["students"]
    for name, frame in desk.tables.items():
        table = {"users": of_users, "orgs": desk.contract.tables["schools"]}.get(name, desk.contract.tables[name])
        spelt = {
            each.column: pd.Series(pd.array(mapped(array_of(frame[each.column]), own[each.type]), dtype=TEXT), index=frame.index)
            for each in table.fields
            if each.type in own and each.column in frame.columns
        }
        if name == "users" and "grade" in spelt:
            first = mapped(array_of(frame["grade"]), lambda text: _grade(text.split(",")[0].strip()))
            spelt["grade"] = pd.Series(pd.array(first, dtype=TEXT), index=frame.index)
        if spelt:
            desk.tables[name] = frame.assign(**spelt)


def _grade(text: str) -> str:
    return GRADES.get(text.lower(), text)


def grades(text: str) -> str:
    """A list of grades as Clever would write it: one as it is, several as the range from the lowest to the highest, or as sent where one means nothing."""
    parts = [_grade(part.strip()) for part in text.split(",") if part.strip()]
    if len(parts) < 2:
        return parts[0] if parts else ""
    if not all(part in values.GRADES for part in parts):
        return text
    ordered = sorted(parts, key=values.GRADES.index)
    return ordered[0] if ordered[0] == ordered[-1] else f"{ordered[0]}-{ordered[-1]}"


# ---------------------------------------------------------------- orgs


def _sort_orgs(desk: Desk) -> set[str]:
    """Schools to their table; what comes back are the orgs that are none: districts, departments and the like."""
    frame = desk.tables.get("orgs")
    if frame is None:
        return set()
    kind = lower(frame, "type")
    schools, known = _is(kind, "school"), _is(kind, *ORGS)
    unread = desk.unread["orgs"]
    lost = frame.loc[~known, ["school_id"]]
    number = array_of(frame["number"]) if "number" in frame.columns else pa.array([""] * len(frame), pa.string())
    numbered = frame.assign(number=pd.array(pc.if_else(pc.equal(number, ""), array_of(frame["school_id"]), number), dtype=TEXT))
    desk.put("schools", numbered[schools], {}, _together(unread, lost))
    desk.leave("orgs", frame[~known])
    return set(frame.loc[known & ~schools, "school_id"].to_list())


def _together(unread: pd.DataFrame, *lost: pd.DataFrame) -> pd.DataFrame:
    """Keys of rows that were not believed, by line; a blank part speaks for any value."""
    keys = pd.concat([unread, *(each.set_axis(list(unread.columns), axis=1) for each in lost)])
    return keys.mask(keys == "").drop_duplicates()


def _of_another_file(keys: pd.DataFrame) -> pd.DataFrame:
    """The keys without their lines, which are of another file's rows."""
    return keys.set_axis(pd.Index(np.full(len(keys), NO_LINE), name="line"), axis=0)


# ---------------------------------------------------------------- people


def _sort_users(desk: Desk, others: set[str]) -> pd.DataFrame:
    """Everybody to the tables of his roles; what comes back is who is whose guardian.

    One of whom a role could not be read is left out: what he has keeps its last good values.
    """
    users, roles = desk.tables["users"], desk.tables.get("roles")
    ids = array_of(users["user_id"])
    lost_roles = desk.unread["users"].iloc[:0]
    if roles is not None:
        known = _is(lower(roles, "role"), *ROLES)
        lost_roles = _of_another_file(_together(lost_roles, roles.loc[~known, ["user_id"]], desk.unread["roles"]))
        desk.leave("roles", roles[~known])
        _tell_unknown_people(desk, users, roles[known])
        roles = _in_order(roles[known])
    doubted = is_in(ids, array_of(lost_roles["user_id"]).drop_null())
    member = _memberships_of(desk, users, roles)
    nobody = ~doubted & ~np.any(list(member.values()), axis=0)
    unread = _together(desk.unread["users"], users.loc[nobody | doubted, ["user_id"]], lost_roles)
    for name in PEOPLE:
        here = member[name] & ~doubted
        frame = users[here]
        own = _of_kind(roles, name)
        frame = guardians.described(frame, own) if name == "contacts" else _at_schools(desk, frame, own, name, others)
        desk.put(name, frame, {"user_id": desk.contract.tables[name].key[0]}, unread)
    links = guardians.links_of(desk, users, users[member["students"] & ~doubted], users[member["contacts"] & ~doubted])
    desk.leave("users", users[nobody])
    return links


def _tell_unknown_people(desk: Desk, users: pd.DataFrame, roles: pd.DataFrame) -> None:
    """Leave out roles of people that no row of users.csv is of, be it one that could not be read or one that has ended.

    Where users.csv tells only changes, a changed role needs its person's row, and one of a whole roles.csv a person who is known.
    """
    known = [desk.named(users)]
    changed = "users" in desk.delta and "roles" in desk.delta
    if "users" in desk.delta:
        known += [] if changed else [desk.standing(name) for name in PEOPLE]
    elif desk.unread["users"]["user_id"].isna().any():
        return
    people = array_of(roles["user_id"])
    unknown = ~is_in(people, pa.concat_arrays(known))
    if not unknown.any():
        return
    if changed:
        desk.find("delta_unplaced", "roles", "sourcedId", unknown, roles)
        return
    found = desk.find("user_unknown", "roles", "userSourcedId", unknown, roles, distinct_ids(people, unknown, array_of(users["user_id"])))
    desk.leave_out(roles[unknown], found)


def _in_order(roles: pd.DataFrame) -> pd.DataFrame:
    """A person's primary role before his others, those as they are called, so that the order of rows means nothing."""
    several = roles.duplicated("user_id", keep=False).to_numpy()
    if not several.any():
        return roles
    rank = np.where(_is(lower(roles, "role_type"), "primary"), PRIMARY, FURTHER)
    by = roles.assign(rank=pd.array(rank.astype(str), dtype=TEXT))
    by = by.sort_values([column for column in ("user_id", "rank", "sourcedid", "role", "org") if column in by.columns], kind="stable")
    return by.drop(columns="rank")


def _of_kind(roles: pd.DataFrame | None, kind: str) -> pd.DataFrame | None:
    if roles is None:
        return None
    return roles[_is(lower(roles, "role"), *(role for role, table in ROLES.items() if table == kind))]


def _memberships_of(desk: Desk, users: pd.DataFrame, roles: pd.DataFrame | None) -> dict[str, Mask]:
    """Who belongs to which table: by roles.csv, else by the column; where only changes were sent, also by what he is now."""
    ids = array_of(users["user_id"])
    column = mapped(lower(users, "role"), lambda role: ROLES.get(role, ""))
    told = np.zeros(len(users), dtype=bool) if roles is None else is_in(ids, array_of(roles["user_id"]))
    member = {}
    for name in PEOPLE:
        own = _of_kind(roles, name)
        member[name] = _is(column, name) & ~told
        if own is not None:
            member[name] |= is_in(ids, array_of(own["user_id"]))
    if "roles" in desk.delta or ("users" in desk.delta and "role" not in users.columns):
        for name in PEOPLE:
            ended = pa.array([record[1] for record in desk.records if record[0] == name], pa.string())
            member[name] |= is_in(ids, desk.standing(name)) & ~is_in(ids, ended)
    return member


def _at_schools(desk: Desk, users: pd.DataFrame, roles: pd.DataFrame | None, name: str, others: set[str]) -> pd.DataFrame:
    """People with their school: the first that is one for students and teachers, a row for each for staff.

    An org that is not known to be something else counts as a school, so that a school whose own row is rejected moves nobody. Where only changes
    were sent, what an org is may not be told: one that is no school yet is passed over for one that is, and is the office of staff who are of it.
    """
    ids = array_of(users["user_id"])
    parts = [array_of(users[column]) for column in ("primary_org", "orgs") if column in users.columns]
    if roles is not None and "org" in roles.columns:
        first = roles if name == "staff" else roles.drop_duplicates("user_id")
        if name == "staff" and len(first):
            first = first.groupby("user_id", sort=False, as_index=False)["org"].agg(lambda each: ",".join(dict.fromkeys(each)))
        place = pc.index_in(ids, value_set=array_of(first["user_id"]))
        at_roles = array_of(first["org"]).take(place).fill_null("") if len(first) else pa.array([""] * len(ids), pa.string())
        parts = [*(pc.if_else(pc.equal(at_roles, ""), part, "") if name == "staff" else part for part in parts), at_roles]
    orgs = pc.binary_join_element_wise(*parts, ",") if parts else pa.array([""] * len(ids), pa.string())
    offices = others | _untold(desk, orgs)
    if name != "staff":
        return users.assign(school_id=pd.array(mapped(orgs, lambda text: _home(text, offices)), dtype=TEXT))
    theirs = [offices if stands else others for stands in is_in(ids, _of_the_office(desk.now))]
    schools = [[("district" if org in his else org) for org in listed(text)] or [""] for text, his in zip(orgs.to_pylist(), theirs, strict=True)]
    schools = [list(dict.fromkeys(each)) for each in schools]
    rows = np.repeat(np.arange(len(users)), [len(each) for each in schools])
    return users.iloc[rows].assign(school_id=pd.array([org for each in schools for org in each], dtype=TEXT))


def _untold(desk: Desk, orgs: pa.Array) -> set[str]:
    """The orgs among these lists that changes tell nothing of and that are no school now; none where all orgs were sent."""
    if "orgs" not in desk.delta:
        return set()
    known = [desk.standing("schools").to_pylist(), desk.unread["orgs"]["school_id"].dropna().to_list()]
    known += [desk.tables[name]["school_id"].to_list() for name in ("orgs", "schools") if name in desk.tables]
    return {org for text in pc.unique(orgs).to_pylist() for org in listed(text)}.difference(*known)


def _of_the_office(now: Roster) -> pa.Array:
    """The members of staff who are of the district's office now."""
    held = now.entities["staff"]
    held = held[held["active"].to_numpy(dtype=bool)]
    return array_of(held["sis_id"]).filter(pc.match_substring(array_of(held["school_ids"]), '"district"'))


def _home(text: str, others: set[str]) -> str:
    orgs = listed(text)
    return next((org for org in orgs if org not in others), orgs[0] if orgs else "")


# ---------------------------------------------------------------- classes and who is in them


def _sort_memberships(desk: Desk) -> None:
    """Who learns and who teaches, to a table each; the first teacher of a section is its primary one."""
    frame = desk.tables["memberships"]
    frame = _drop_members_that_ended(desk, frame)
    role = lower(frame, "role")
    known = _is(role, *MEMBERS)
    unread = _together(desk.unread["memberships"], frame.loc[~known, ["section_id", "user_id"]])
    learners, teachers = frame[_is(role, "student")], frame[_is(role, "teacher")]
    rank = np.where(_is(lower(teachers, "primary"), "true", "yes", "y", "t", "1"), PRIMARY, FURTHER)
    teachers = teachers.assign(rank=pd.array(rank.astype(str), dtype=TEXT))
    teachers = teachers.sort_values([column for column in ("section_id", "rank", "sourcedid", "user_id") if column in teachers.columns], kind="stable")
    desk.put("enrollments", learners, {"user_id": "student_id"}, unread)
    desk.put("section_teachers", teachers.drop(columns="rank").assign(primary=teachers["rank"]), {"user_id": "teacher_id"}, unread)
    desk.leave("memberships", frame[~known])
    _tell_teams(desk, frame, teachers)


def _drop_members_that_ended(desk: Desk, frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of a person or class that has ended end with it; that is no fault of the row's."""
    over = np.zeros(len(frame), dtype=bool)
    for name, column in (("users", "user_id"), ("sections", "section_id")):
        if name in desk.ended:
            over |= is_in(array_of(frame[column]), array_of(desk.ended[name].iloc[:, _place(desk, name)]))
    if over.any():
        desk.find("member_ended", "memberships", "", over, frame)
    return frame[~over]


def _place(desk: Desk, name: str) -> int:
    """Where the key stands among the columns of what has ended."""
    return list(desk.ended[name].columns).index(desk.contract.tables[name].key[0])


def _tell_teams(desk: Desk, frame: pd.DataFrame, teachers: pd.DataFrame) -> None:
    """Warn of sections without a teacher, and of those with too many."""
    many = teachers.groupby("section_id", sort=False).cumcount().to_numpy() >= LONGEST_TEAM if len(teachers) else np.zeros(0, dtype=bool)
    if many.any():
        desk.find("teachers_many", "memberships", "classSourcedId", many, teachers)
    sections, unread = desk.tables.get("sections"), desk.unread["section_teachers"]["section_id"]
    if sections is None or unread.isna().any():
        return
    ids = array_of(sections["section_id"])
    alone = ~is_in(ids, array_of(teachers["section_id"])) & ~is_in(ids, array_of(unread)) & ~_is(ids, "")
    if alone.any():
        desk.find("section_without_teacher", "sections", "sourcedId", alone, sections)


def _tell_unknown(desk: Desk) -> None:
    """Warn of courses and sessions that a class names and no row is of; in changes, of those that no class of tonight's names."""
    sections = desk.tables.get("sections")
    if sections is not None and "term_ref" in sections.columns:  # of several sessions the first counts
        first = mapped(array_of(sections["term_ref"]), lambda text: text.split(",")[0].strip())
        sections = desk.tables["sections"] = sections.assign(term_ref=pd.array(first, dtype=TEXT))
    for name, by, column, code in (("courses", "course_ref", "courseSourcedId", "course_unknown"), ("terms", "term_ref", "termSourcedIds", "term_unknown")):
        frame = desk.tables.get(name)
        if frame is None or sections is None or by not in sections.columns:
            continue
        cells = array_of(sections[by])
        if name in desk.delta:
            unplaced = ~is_in(array_of(frame[by]), cells)
            if unplaced.any():
                desk.find("delta_unplaced", name, "sourcedId", unplaced, frame)
            continue
        unread = desk.unread[name][by]
        unknown = ~is_in(cells, pa.concat_arrays([array_of(frame[by]), array_of(unread)])) & ~_is(cells, "")
        if unknown.any() and not unread.isna().any():
            shown = pc.unique(cells.filter(pa.array(unknown))).slice(0, 10).to_pylist()
            desk.find(code, "sections", column, unknown, sections, shown)
