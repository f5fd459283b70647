"""The rows of OneRoster's files are sorted into the tables of a roster: who is a student, which org is a school, who teaches and who learns.

Every row keeps its line number. What belongs to no table stays behind in the table of its file, which rejects it; its key counts as seen
in every table that it could have meant (law 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.findings import SAMPLE_LINES, Finding, finding
from sftp_ingest.model import ENTITIES, Frames, Rejections, Roster
from sftp_ingest.roster import contacts, delta, manifest, values
from sftp_ingest.roster.arrow import TEXT, Mask, array_of, is_in
from sftp_ingest.roster.contract import Contract
from sftp_ingest.roster.court import distinct_ids, joined

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

CONTACT_TYPES: Mapping[str, tuple[str, str]] = {
    "guardian": ("Parent/Guardian", "Other"),
    "parent": ("Parent/Guardian", "Parent"),
    "relative": ("Family", "Other"),
}
"""Role of a guardian → type and relationship, for files that have no columns for them."""

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

LONGEST_TEAM = 10
"""A section has as many teachers as Clever's sections.csv has columns for them."""

_ENABLED = ("", "true", "yes", "y", "t", "1", "false", "no", "n", "f", "0")


@dataclass
class _Sorting:
    """One delivery while it is sorted; `ended` are the ids that its rows say have ended, by table as read."""

    contract: Contract
    now: Roster
    strict: bool
    tables: dict[str, pd.DataFrame]
    unread: dict[str, pd.DataFrame]
    rows: dict[str, int]
    findings: list[Finding]
    faulty: dict[str, Rejections]
    delta: set[str] = field(default_factory=set)
    ended: dict[str, pd.DataFrame] = field(default_factory=dict)
    records: list[tuple[str, str, str]] = field(default_factory=list)
    links: pd.DataFrame = field(default_factory=lambda: _link_frame([], []))

    def find(self, code: str, table: str, column: str, at: Mask, frame: pd.DataFrame, values: Iterable[str] = ()) -> Finding:
        lines = [int(line) for line in frame.index[np.flatnonzero(at)[:SAMPLE_LINES]]]
        shown = [value[:40] for value in values]
        found = finding(code, self.contract.tables[table].file, column, lines, count=int(at.sum()), values=shown, strict=self.strict)
        self.findings.append(found)
        return found

    def leave_out(self, frame: pd.DataFrame, cause: Finding) -> None:
        """Note that these rows of a file are read into no table, for what was found in them."""
        lines = frame.index.to_numpy(dtype=np.int64)
        ours = Rejections(lines, np.zeros(len(lines), dtype=np.int32), (cause.label,))
        others = self.faulty.get(cause.file)
        self.faulty[cause.file] = joined([others, ours] if others is not None else [ours])

    def put(self, name: str, frame: pd.DataFrame, renamed: Mapping[str, str], unread: pd.DataFrame) -> None:
        """Give the table its rows, under its own columns, and the keys of those that could not be read."""
        table = self.contract.tables[name]
        frame = frame.rename(columns=dict(renamed))
        self.tables[name] = frame[[column for column in frame.columns if column in table.columns or (table.ext and column.startswith("ext."))]]
        self.unread[name] = unread.set_axis(list(table.key), axis=1)
        self.rows[name] = len(frame)

    def leave(self, name: str, frame: pd.DataFrame) -> None:
        """Leave behind, in the table of a file, the rows that belong nowhere."""
        if len(frame):
            self.tables[name] = frame
        else:
            self.tables.pop(name)

    def end(self, entity: str, ids: Iterable[str], others: Iterable[str] | None = None) -> None:
        """Note what has ended, for the snapshot that changes lead to."""
        ids = list(ids)
        self.records.extend(zip([entity] * len(ids), ids, others if others is not None else [""] * len(ids), strict=True))

    def standing(self, entity: str) -> pa.Array:
        """The ids that stand now; of contacts the guardians' own."""
        held = self.now.entities[entity]
        held = held[held["active"].to_numpy(dtype=bool)]
        return array_of(as_sent(held)["contact_id"] if entity == "contacts" else held[ENTITIES[entity].key[0]])


def sort(frames: Frames, contract: Contract, now: Roster, *, strict: bool) -> Frames:
    """The frames of the files as those of the tables that are judged, with what the manifest and each row's status say."""
    tables = dict(frames.tables)
    files = {table.file: name for name, table in contract.tables.items() if not table.of and not table.pairs}
    sent = [file for file, name in files.items() if name in tables]
    said, found = manifest.read(tables.pop("manifest", None), list(files), sent, strict=strict)
    sorting = _Sorting(contract, now, strict, tables, dict(frames.unread), dict(frames.rows), [*found, *frames.findings], dict(frames.faulty))
    _heed_manifest(sorting, said, files)
    _in_words(sorting)
    _take_roles(sorting, said.version)
    for name in list(sorting.tables):
        _drop_ended(sorting, name)
    _spell(sorting)
    others = _sort_orgs(sorting)
    if "users" in tables:
        sorting.links = _sort_users(sorting, others)
    if "memberships" in tables:
        _sort_memberships(sorting)
    _tell_unknown(sorting)
    noted = pd.DataFrame({name: pd.array([record[at] for record in sorting.records], dtype=TEXT) for at, name in enumerate(("entity", "id", "other"))})
    aside = {"links": sorting.links, delta.DELTA: pd.DataFrame({"table": pd.array(sorted(sorting.delta), dtype=TEXT)}), delta.ENDED: noted}
    # a file that tells only changes has the form of no other night's
    partial = {contract.tables[name].file for name in sorting.delta}
    shapes = {file: shape for file, shape in frames.shapes.items() if file not in partial}
    return replace(
        frames,
        tables=tables,
        findings=tuple(sorting.findings),
        unread=sorting.unread,
        rows=sorting.rows,
        aside=aside,
        shapes=shapes,
        faulty=sorting.faulty,
    )


# ---------------------------------------------------------------- which files say what


def _heed_manifest(sorting: _Sorting, said: manifest.Manifest, files: Mapping[str, str]) -> None:
    """Leave out what is said to be absent, and make room for files that tell only changes."""
    tables, contract = sorting.tables, sorting.contract
    partial = any(said.mode(file) == "delta" for file in files)
    for file, name in files.items():
        mode = said.mode(file)
        if mode == "absent":
            tables.pop(name, None)
        if mode == "delta" or (partial and name not in tables and mode != "bulk"):
            sorting.delta.add(name)
            sorting.findings = [each for each in sorting.findings if each.file.lower() != file.lower() or each.code not in OF_WHOLE_FILES]
        elif mode == "absent" and contract.tables[name].core and not any(each.code == "file_missing" and each.file == file for each in sorting.findings):
            sorting.findings.append(finding("file_missing", file, hint="the manifest says that it is absent", strict=sorting.strict))
        if name in CORE_OF_CLEVERS and name not in tables and sorting.strict:
            sorting.findings.append(finding("file_missing", file, strict=True))
    if not partial:
        return
    if not any(len(sorting.standing(entity)) for entity in ("schools", "students")):
        sorting.findings.append(finding("delta_without_roster", manifest.FILE, strict=sorting.strict))
    for name in sorting.delta:
        table = contract.tables[name]
        nothing = _of_another_file(pd.DataFrame({column: pd.array([None], dtype=TEXT) for column in table.key}))
        if name not in tables and table.core:
            columns = [each.column for each in table.fields if not each.drop]
            tables[name] = pd.DataFrame({column: pd.array([], dtype=TEXT) for column in dict.fromkeys(columns)}, index=pd.Index([], dtype="int64", name="line"))
            sorting.rows[name] = 0
        if name in tables:  # whoever is not named may be anybody: all that stand are still there
            sorting.unread[name] = pd.concat([sorting.unread.get(name, nothing.iloc[:0]), nothing])


def _in_words(sorting: _Sorting) -> None:
    """Give cells of the files that are sorted the format's words for the district's own: a role decides where a row belongs."""
    for name, frame in sorting.tables.items():
        table = sorting.contract.tables[name]
        words = {each.column: dict(each.values) for each in table.fields if table.sorts and each.values and each.column in frame.columns}
        if words:
            sorting.tables[name] = frame.assign(**{column: _meant(frame[column], meant) for column, meant in words.items()})


def _meant(cells: pd.Series, words: Mapping[str, str]) -> pd.Series:
    return pd.Series(pd.array(_mapped(array_of(cells), lambda text: words.get(text, text)), dtype=TEXT), index=cells.index)


def _take_roles(sorting: _Sorting, version: str) -> None:
    """Read a userProfiles.csv with the columns of roles.csv as that; refuse people of whom nothing says what they are."""
    tables = sorting.tables
    profiles = tables.pop("userprofiles", None)
    unread = sorting.unread.pop("userprofiles", None)
    if profiles is not None and unread is not None and "role" in profiles.columns and "roles" not in tables:
        tables["roles"], sorting.unread["roles"], sorting.rows["roles"] = profiles, unread, sorting.rows.pop("userprofiles")
        found = finding(
            "header_misspelt", sorting.contract.tables["userprofiles"].file, "role", (1,), hint="its columns are those of roles.csv", strict=sorting.strict
        )
        sorting.findings.append(found)
    users = tables.get("users")
    if users is None or "role" in users.columns or "roles" in tables or "users" in sorting.delta:
        return
    if version == "1.2" or (not version and "primary_org" in users.columns):
        sorting.findings.append(finding("file_missing", sorting.contract.tables["roles"].file, strict=sorting.strict))
    else:
        sorting.findings.append(finding("header_missing", sorting.contract.tables["users"].file, "role", (1,), strict=sorting.strict))
    tables.pop("users")


# ---------------------------------------------------------------- what a row says of itself


def _lower(frame: pd.DataFrame, column: str) -> pa.Array:
    """The column's cells in lower case, blank where the file does not have it."""
    return pc.utf8_lower(array_of(frame[column])) if column in frame.columns else pa.array([""] * len(frame), pa.string())


def _is(cells: pa.Array, *words: str) -> Mask:
    return is_in(cells, pa.array(words, pa.string()))


def _drop_ended(sorting: _Sorting, name: str) -> None:
    """Take out the rows that say that their record has ended: by status, or by enabledUser (contract 4.2).

    Of a whole file that is as if they were not in it; of changes it is noted. `inactive` is the word of OneRoster 1.0.
    """
    frame = sorting.tables[name]
    status, enabled = _lower(frame, "status"), _lower(frame, "enabled")
    for column, cells, known in (("status", status, ("", "active", "tobedeleted", "inactive")), ("enabledUser", enabled, _ENABLED)):
        wrong = ~_is(cells, *known)
        if wrong.any():
            sorting.find("value_unknown", name, column, wrong, frame)
    ended = _is(status, "tobedeleted", "inactive") | _is(enabled, "false", "no", "n", "f", "0")
    if not ended.any():
        return
    gone, sorting.tables[name] = frame[ended], frame[~ended]
    if not sorting.contract.tables[name].sorts:  # of a file that is sorted the rows are counted whole
        sorting.rows[name] -= int(ended.sum())
    key = [column for column in sorting.contract.tables[name].key if column in frame.columns]
    if len(key) == 1 and name != "roles":  # who has lost one role may have others
        gone = gone[~is_in(array_of(gone[key[0]]), array_of(sorting.tables[name][key[0]]))]
    sorting.ended[name] = gone
    if name in sorting.delta:
        _note_ended(sorting, name, gone)


def _note_ended(sorting: _Sorting, name: str, gone: pd.DataFrame) -> None:
    """Note what a row of changes ends; what it belongs to is not always known."""
    unplaced = np.zeros(len(gone), dtype=bool)
    if name in ("orgs", "sections"):
        sorting.end(delta.OF_FILE[name][0], gone.iloc[:, _place(sorting, name)].to_list())
    elif name == "demographics":
        sorting.end(name, gone["user_id"].to_list())
    elif name == "users":
        ids = gone["user_id"]
        for entity in ("students", "teachers", "staff"):
            sorting.end(entity, ids.to_list())
        held = sorting.now.entities["contacts"]
        theirs = held[is_in(array_of(as_sent(held)["contact_id"]), array_of(ids))]
        sorting.end("contacts", theirs["student_id"].to_list(), theirs["contact_id"].to_list())
    elif name == "roles":
        kinds = _mapped(_lower(gone, "role"), lambda role: ROLES.get(role, ""))
        alone = ~is_in(array_of(gone["user_id"]), array_of(sorting.tables["users"]["user_id"])) if "users" in sorting.tables else np.ones(len(gone), dtype=bool)
        for entity in ("students", "teachers"):
            sorting.end(entity, gone.loc[_is(kinds, entity), "user_id"].to_list())
        unplaced = alone & ~_is(kinds, "students", "teachers")  # of staff with other schools, and of guardians, it is not known what is left
    elif name == "memberships":
        role = _lower(gone, "role")
        for entity, word in (("enrollments", "student"), ("section_teachers", "teacher")):
            pairs = gone[_is(role, word, "")]
            sorting.end(entity, pairs["section_id"].to_list(), pairs["user_id"].to_list())
        unplaced = _is(array_of(gone["section_id"]), "") | _is(array_of(gone["user_id"]), "")
    elif name in ("courses", "terms"):
        unplaced = ~unplaced
    if unplaced.any():
        sorting.find("delta_unplaced", name, "sourcedId", unplaced, gone)


def _mapped(cells: pa.Array, meaning: Callable[[str], str | None]) -> pa.Array:
    """Every cell's meaning; each distinct text is looked at once."""
    encoded = cells.dictionary_encode()
    return pa.array([meaning(text) or "" for text in encoded.dictionary.to_pylist()], pa.string()).take(encoded.indices)


def _spell(sorting: _Sorting) -> None:
    """Give cells of the format's own vocabulary the roster's spelling, which needs no warning; whatever else stands there is judged later."""
    own: Mapping[str, Callable[[str], str]] = {
        "flag": lambda text: FLAGS.get(text.lower(), text),
        "gender": lambda text: GENDERS.get(text.lower(), text),
        "grade": grades,
    }
    of_users = sorting.contract.tables["students"]
    for name, frame in sorting.tables.items():
        table = {"users": of_users, "orgs": sorting.contract.tables["schools"]}.get(name, sorting.contract.tables[name])
        spelt = {
            each.column: pd.Series(pd.array(_mapped(array_of(frame[each.column]), own[each.type]), dtype=TEXT), index=frame.index)
            for each in table.fields
            if each.type in own and each.column in frame.columns
        }
        if name == "users" and "grade" in spelt:
            first = _mapped(array_of(frame["grade"]), lambda text: _grade(text.split(",")[0].strip()))
            spelt["grade"] = pd.Series(pd.array(first, dtype=TEXT), index=frame.index)
        if spelt:
            sorting.tables[name] = frame.assign(**spelt)


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


def _sort_orgs(sorting: _Sorting) -> set[str]:
    """Schools to their table; what comes back are the orgs that are none: districts, departments and the like."""
    frame = sorting.tables.get("orgs")
    if frame is None:
        return set()
    kind = _lower(frame, "type")
    schools, known = _is(kind, "school"), _is(kind, *ORGS)
    unread = sorting.unread["orgs"]
    lost = frame.loc[~known, ["school_id"]]
    number = array_of(frame["number"]) if "number" in frame.columns else pa.array([""] * len(frame), pa.string())
    numbered = frame.assign(number=pd.array(pc.if_else(pc.equal(number, ""), array_of(frame["school_id"]), number), dtype=TEXT))
    sorting.put("schools", numbered[schools], {}, _together(unread, lost))
    sorting.leave("orgs", frame[~known])
    return set(frame.loc[known & ~schools, "school_id"].to_list())


def _together(unread: pd.DataFrame, *lost: pd.DataFrame) -> pd.DataFrame:
    """Keys of rows that were not believed, by line; a blank part speaks for any value."""
    keys = pd.concat([unread, *(each.set_axis(list(unread.columns), axis=1) for each in lost)])
    return keys.mask(keys == "").drop_duplicates()


def _of_another_file(keys: pd.DataFrame) -> pd.DataFrame:
    """The keys without their lines, which are of another file's rows."""
    return keys.set_axis(pd.Index(np.full(len(keys), NO_LINE), name="line"), axis=0)


# ---------------------------------------------------------------- people


def _sort_users(sorting: _Sorting, others: set[str]) -> pd.DataFrame:
    """Everybody to the tables of his roles; what comes back is who is whose guardian.

    One of whom a role could not be read is left out: what he has keeps its last good values.
    """
    users, roles = sorting.tables["users"], sorting.tables.get("roles")
    ids = array_of(users["user_id"])
    lost_roles = sorting.unread["users"].iloc[:0]
    if roles is not None:
        known = _is(_lower(roles, "role"), *ROLES)
        lost_roles = _of_another_file(_together(lost_roles, roles.loc[~known, ["user_id"]], sorting.unread["roles"]))
        sorting.leave("roles", roles[~known])
        _tell_unknown_people(sorting, users, roles[known])
        roles = _in_order(roles[known])
    doubted = is_in(ids, array_of(lost_roles["user_id"]).drop_null())
    member = _memberships_of(sorting, users, roles)
    nobody = ~doubted & ~np.any(list(member.values()), axis=0)
    unread = _together(sorting.unread["users"], users.loc[nobody | doubted, ["user_id"]], lost_roles)
    for name in PEOPLE:
        here = member[name] & ~doubted
        frame = users[here]
        own = _of_kind(roles, name)
        frame = _guardians(frame, own) if name == "contacts" else _at_schools(sorting, frame, own, name, others)
        sorting.put(name, frame, {"user_id": sorting.contract.tables[name].key[0]}, unread)
    links = _link(sorting, users, users[member["students"] & ~doubted], users[member["contacts"] & ~doubted])
    sorting.leave("users", users[nobody])
    return links


def _tell_unknown_people(sorting: _Sorting, users: pd.DataFrame, roles: pd.DataFrame) -> None:
    """Leave out roles of people that no row of users.csv is of, be it one that could not be read or one that has ended.

    Where users.csv tells only changes, a changed role needs its person's row, and one of a whole roles.csv a person who is known.
    """
    ids, unread = array_of(users["user_id"]), sorting.unread["users"]["user_id"]
    known = [ids, array_of(unread).drop_null(), *([array_of(sorting.ended["users"]["user_id"])] if "users" in sorting.ended else [])]
    changed = "users" in sorting.delta and "roles" in sorting.delta
    if "users" in sorting.delta:
        known += [] if changed else [sorting.standing(name) for name in PEOPLE]
    elif unread.isna().any():
        return
    people = array_of(roles["user_id"])
    unknown = ~is_in(people, pa.concat_arrays(known))
    if not unknown.any():
        return
    if changed:
        sorting.find("delta_unplaced", "roles", "sourcedId", unknown, roles)
        return
    found = sorting.find("user_unknown", "roles", "userSourcedId", unknown, roles, distinct_ids(people, unknown, ids))
    sorting.leave_out(roles[unknown], found)


def _in_order(roles: pd.DataFrame) -> pd.DataFrame:
    """A person's primary role before his others, those as they are called, so that the order of rows means nothing."""
    several = roles.duplicated("user_id", keep=False).to_numpy()
    if not several.any():
        return roles
    rank = np.where(_is(_lower(roles, "role_type"), "primary"), PRIMARY, FURTHER)
    by = roles.assign(rank=pd.array(rank.astype(str), dtype=TEXT))
    by = by.sort_values([column for column in ("user_id", "rank", "sourcedid", "role", "org") if column in by.columns], kind="stable")
    return by.drop(columns="rank")


def _of_kind(roles: pd.DataFrame | None, kind: str) -> pd.DataFrame | None:
    if roles is None:
        return None
    return roles[_is(_lower(roles, "role"), *(role for role, table in ROLES.items() if table == kind))]


def _memberships_of(sorting: _Sorting, users: pd.DataFrame, roles: pd.DataFrame | None) -> dict[str, Mask]:
    """Who belongs to which table: by roles.csv, else by the column; where only changes were sent, also by what he is now."""
    ids = array_of(users["user_id"])
    column = _mapped(_lower(users, "role"), lambda role: ROLES.get(role, ""))
    told = np.zeros(len(users), dtype=bool) if roles is None else is_in(ids, array_of(roles["user_id"]))
    member = {}
    for name in PEOPLE:
        own = _of_kind(roles, name)
        member[name] = _is(column, name) & ~told
        if own is not None:
            member[name] |= is_in(ids, array_of(own["user_id"]))
    if "roles" in sorting.delta or ("users" in sorting.delta and "role" not in users.columns):
        for name in PEOPLE:
            ended = pa.array([record[1] for record in sorting.records if record[0] == name], pa.string())
            member[name] |= is_in(ids, sorting.standing(name)) & ~is_in(ids, ended)
    return member


def _at_schools(sorting: _Sorting, users: pd.DataFrame, roles: pd.DataFrame | None, name: str, others: set[str]) -> pd.DataFrame:
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
    offices = others | _untold(sorting, orgs)
    if name != "staff":
        return users.assign(school_id=pd.array(_mapped(orgs, lambda text: _home(text, offices)), dtype=TEXT))
    theirs = [offices if stands else others for stands in is_in(ids, _of_the_office(sorting.now))]
    schools = [[("district" if org in his else org) for org in _listed(text)] or [""] for text, his in zip(orgs.to_pylist(), theirs, strict=True)]
    schools = [list(dict.fromkeys(each)) for each in schools]
    rows = np.repeat(np.arange(len(users)), [len(each) for each in schools])
    return users.iloc[rows].assign(school_id=pd.array([org for each in schools for org in each], dtype=TEXT))


def _untold(sorting: _Sorting, orgs: pa.Array) -> set[str]:
    """The orgs among these lists that changes tell nothing of and that are no school now; none where all orgs were sent."""
    if "orgs" not in sorting.delta:
        return set()
    known = [sorting.standing("schools").to_pylist(), sorting.unread["orgs"]["school_id"].dropna().to_list()]
    known += [sorting.tables[name]["school_id"].to_list() for name in ("orgs", "schools") if name in sorting.tables]
    return {org for text in pc.unique(orgs).to_pylist() for org in _listed(text)}.difference(*known)


def _of_the_office(now: Roster) -> pa.Array:
    """The members of staff who are of the district's office now."""
    held = now.entities["staff"]
    held = held[held["active"].to_numpy(dtype=bool)]
    return array_of(held["sis_id"]).filter(pc.match_substring(array_of(held["school_ids"]), '"district"'))


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _home(text: str, others: set[str]) -> str:
    orgs = _listed(text)
    return next((org for org in orgs if org not in others), orgs[0] if orgs else "")


def _guardians(users: pd.DataFrame, roles: pd.DataFrame | None) -> pd.DataFrame:
    """Guardians in the words of contacts."""
    role = _lower(users, "role")
    if roles is not None and len(roles):
        first = roles.drop_duplicates("user_id")
        place = pc.index_in(array_of(users["user_id"]), value_set=array_of(first["user_id"]))
        role = pc.coalesce(_lower(first, "role").take(place), role)
    names = [array_of(users[column]) for column in ("first_name", "last_name") if column in users.columns]
    told: dict[str, pa.Array] = {"name": pc.utf8_trim_whitespace(pc.binary_join_element_wise(*names, " "))} if names else {}
    for at, column in enumerate(("type", "relationship")):
        if column not in users.columns:
            told[column] = _mapped(role, {word: said[at] for word, said in CONTACT_TYPES.items()}.get)
    if "sms" in users.columns:
        sms = array_of(users["sms"])
        phone = array_of(users["phone"]) if "phone" in users.columns else sms
        told["phone"] = pc.if_else(pc.equal(phone, ""), sms, phone)
    return users.assign(**{column: pd.Series(pd.array(cells, dtype=TEXT), index=users.index) for column, cells in told.items()})


# ---------------------------------------------------------------- guardians of students


def _link(sorting: _Sorting, users: pd.DataFrame, students: pd.DataFrame, guardians: pd.DataFrame) -> pd.DataFrame:
    """Student and guardian, each pair once: whom a student's agentSourcedIds name, and whose a guardian's do."""
    children, agents = _agents(students)
    parents, wards = _agents(guardians)
    pupils = array_of(students["user_id"])
    people = array_of(guardians["user_id"])
    if "users" in sorting.delta:
        pupils = pa.concat_arrays([pupils, sorting.standing("students")])
        people = pa.concat_arrays([people, sorting.standing("contacts")])
    _tell_unknown_agents(sorting, users, students, agents)
    theirs, his = pa.array(is_in(agents, people)), pa.array(is_in(wards, pupils))
    links = _link_frame(
        [*children.filter(theirs).to_pylist(), *wards.filter(his).to_pylist()], [*agents.filter(theirs).to_pylist(), *parents.filter(his).to_pylist()]
    )
    links = links.drop_duplicates(ignore_index=True)
    several = pc.value_counts(array_of(links["student_id"]))
    many = is_in(array_of(students["user_id"]), several.field("values").filter(pc.greater(several.field("counts"), contacts.MOST)))
    if many.any():
        sorting.find("contacts_many", "users", "agentSourcedIds", many, students)
    if "users" in sorting.delta:
        _end_links(sorting, children, links)
    return links


def _agents(people: pd.DataFrame) -> tuple[pa.Array, pa.Array]:
    """Whose row it is, and whom it names, a pair for each name."""
    ids = array_of(people["user_id"])
    if "agents" not in people.columns:
        return ids.slice(0, 0), ids.slice(0, 0)
    lists = pc.split_pattern(array_of(people["agents"]), ",")
    named = pc.utf8_trim_whitespace(pc.list_flatten(lists))
    there = pc.not_equal(named, "")
    return ids.take(pc.list_parent_indices(lists)).filter(there), named.filter(there)


def _tell_unknown_agents(sorting: _Sorting, users: pd.DataFrame, students: pd.DataFrame, agents: pa.Array) -> None:
    """Warn of guardians that no row of users.csv is of, be it one that could not be read or one that has ended."""
    unread = sorting.unread["users"]["user_id"]
    if unread.isna().any() or not len(agents):
        return
    known = [array_of(users["user_id"]), array_of(unread), *([array_of(sorting.ended["users"]["user_id"])] if "users" in sorting.ended else [])]
    missing = agents.filter(pa.array(~is_in(agents, pa.concat_arrays(known))))
    if not len(missing):
        return
    gone = set(missing.to_pylist())
    named = np.array([not gone.isdisjoint(_listed(text)) for text in students["agents"].to_list()], dtype=bool)
    sorting.find("contact_unknown", "users", "agentSourcedIds", named, students)


def _end_links(sorting: _Sorting, children: pa.Array, links: pd.DataFrame) -> None:
    """A student whose changed row names guardians has these and no others; one whose row names none keeps those that he has."""
    held = sorting.now.entities["contacts"]
    held = held[held["active"].to_numpy(dtype=bool) & is_in(array_of(held["student_id"]), pc.unique(children))]
    stay = set(zip(links["student_id"].to_list(), links["contact_id"].to_list(), strict=True))
    sent = zip(held["student_id"].to_list(), as_sent(held)["contact_id"].to_list(), strict=True)
    left = held[np.array([pair not in stay for pair in sent], dtype=bool)]
    sorting.end("contacts", left["student_id"].to_list(), left["contact_id"].to_list())


def as_sent(contacts: pd.DataFrame) -> pd.DataFrame:
    """Contacts that stand now under the ids that were sent: where they are not merged, they have others of their own."""
    sent = array_of(contacts["sis_id"])
    return contacts.assign(contact_id=pd.array(pc.if_else(pc.equal(sent, ""), array_of(contacts["contact_id"]), sent), dtype=TEXT))


def _link_frame(students: Sequence[str], contacts: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame({"student_id": pd.array(list(students), dtype=TEXT), "contact_id": pd.array(list(contacts), dtype=TEXT)})


# ---------------------------------------------------------------- classes and who is in them


def _sort_memberships(sorting: _Sorting) -> None:
    """Who learns and who teaches, to a table each; the first teacher of a section is its primary one."""
    frame = sorting.tables["memberships"]
    frame = _drop_members_that_ended(sorting, frame)
    role = _lower(frame, "role")
    known = _is(role, *MEMBERS)
    unread = _together(sorting.unread["memberships"], frame.loc[~known, ["section_id", "user_id"]])
    learners, teachers = frame[_is(role, "student")], frame[_is(role, "teacher")]
    rank = np.where(_is(_lower(teachers, "primary"), "true", "yes", "y", "t", "1"), PRIMARY, FURTHER)
    teachers = teachers.assign(rank=pd.array(rank.astype(str), dtype=TEXT))
    teachers = teachers.sort_values([column for column in ("section_id", "rank", "sourcedid", "user_id") if column in teachers.columns], kind="stable")
    sorting.put("enrollments", learners, {"user_id": "student_id"}, unread)
    sorting.put("section_teachers", teachers.drop(columns="rank").assign(primary=teachers["rank"]), {"user_id": "teacher_id"}, unread)
    sorting.leave("memberships", frame[~known])
    _tell_teams(sorting, frame, teachers)


def _drop_members_that_ended(sorting: _Sorting, frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of a person or class that has ended end with it; that is no fault of the row's."""
    over = np.zeros(len(frame), dtype=bool)
    for name, column in (("users", "user_id"), ("sections", "section_id")):
        if name in sorting.ended:
            over |= is_in(array_of(frame[column]), array_of(sorting.ended[name].iloc[:, _place(sorting, name)]))
    if over.any():
        sorting.find("member_ended", "memberships", "", over, frame)
    return frame[~over]


def _place(sorting: _Sorting, name: str) -> int:
    """Where the key stands among the columns of what has ended."""
    return list(sorting.ended[name].columns).index(sorting.contract.tables[name].key[0])


def _tell_teams(sorting: _Sorting, frame: pd.DataFrame, teachers: pd.DataFrame) -> None:
    """Warn of sections without a teacher, and of those with too many."""
    many = teachers.groupby("section_id", sort=False).cumcount().to_numpy() >= LONGEST_TEAM if len(teachers) else np.zeros(0, dtype=bool)
    if many.any():
        sorting.find("teachers_many", "memberships", "classSourcedId", many, teachers)
    sections, unread = sorting.tables.get("sections"), sorting.unread["section_teachers"]["section_id"]
    if sections is None or unread.isna().any():
        return
    ids = array_of(sections["section_id"])
    alone = ~is_in(ids, array_of(teachers["section_id"])) & ~is_in(ids, array_of(unread)) & ~_is(ids, "")
    if alone.any():
        sorting.find("section_without_teacher", "sections", "sourcedId", alone, sections)


def _tell_unknown(sorting: _Sorting) -> None:
    """Warn of courses and sessions that a class names and no row is of; in changes, of those that no class of tonight's names."""
    sections = sorting.tables.get("sections")
    if sections is not None and "term_ref" in sections.columns:  # of several sessions the first counts
        first = _mapped(array_of(sections["term_ref"]), lambda text: text.split(",")[0].strip())
        sections = sorting.tables["sections"] = sections.assign(term_ref=pd.array(first, dtype=TEXT))
    for name, by, column, code in (("courses", "course_ref", "courseSourcedId", "course_unknown"), ("terms", "term_ref", "termSourcedIds", "term_unknown")):
        frame = sorting.tables.get(name)
        if frame is None or sections is None or by not in sections.columns:
            continue
        cells = array_of(sections[by])
        if name in sorting.delta:
            unplaced = ~is_in(array_of(frame[by]), cells)
            if unplaced.any():
                sorting.find("delta_unplaced", name, "sourcedId", unplaced, frame)
            continue
        unread = sorting.unread[name][by]
        unknown = ~is_in(cells, pa.concat_arrays([array_of(frame[by]), array_of(unread)])) & ~_is(cells, "")
        if unknown.any() and not unread.isna().any():
            shown = pc.unique(cells.filter(pa.array(unknown))).slice(0, 10).to_pylist()
            sorting.find(code, "sections", column, unknown, sections, shown)
