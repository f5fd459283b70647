"""OneRoster's files, loose or in a folder, whole or in changes, become the roster that Clever's would; faults in them remove nobody."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftp_ingest import planning
from sftp_ingest.findings import Finding
from sftp_ingest.model import Roster
from sftp_ingest.planning import Plan, empty_roster
from sftp_ingest.roster import formats
from sftp_ingest.roster.sorting import grades
from tests.unit import districts
from tests.unit.districts import TOLERANT, applied, content, csv_of, planned, written
from tests.unit.rosters import Files, changes, crowd, manifest, membership, section, small, user, whole
from tests.unit.test_laws import QUICK, SPOILERS

VERSIONS = ("1.1", "1.2")


def plan_of(files: Files, now: Roster | None = None, *, folder: str = "", strict: bool = False, **raw: bytes | None) -> Plan:
    tables = {folder + name: whole(rows) for name, rows in files.items()}
    with TemporaryDirectory() as home:
        delivery = written(Path(home), tables, **{folder + name: data for name, data in raw.items()})
        return planning.plan(delivery, replace(TOLERANT, strict=strict), now or empty_roster())


def roster_of(files: Files) -> Roster:
    return applied(empty_roster(), plan_of(files))


@cache
def first_night(version: str = "1.1") -> Roster:
    return roster_of(small(version))


def codes(plan: Plan) -> set[str]:
    return {each.code for each in plan.findings}


def found(plan: Plan, code: str) -> Finding:
    return next(each for each in plan.findings if each.code == code)


def removed(plan: Plan) -> dict[str, int]:
    return {name: counts.deactivated for name, counts in plan.counts.items() if counts.deactivated}


def record(roster: Roster, entity: str, **key: str) -> dict[str, str]:
    frame = roster.entities[entity]
    return next(row for row in frame.to_dict("records") if all(row[name] == value for name, value in key.items()))


def put(table: str, row: int, **cells: str) -> Callable[[Files], None]:
    def spoil(files: Files) -> None:
        files[table][row] = files[table][row] | cells

    return spoil


# ---------------------------------------------------------------- whole deliveries


@pytest.mark.parametrize("version", VERSIONS)
def test_the_smallest_district_has_no_findings_and_every_entity(version: str) -> None:
    plan = plan_of(small(version))
    assert (plan.findings, plan.outcome) == ((), "successful")
    created = {name: counts.created for name, counts in plan.counts.items() if counts.created}
    assert created == {
        "schools": 2, "terms": 1, "courses": 2, "students": 6, "teachers": 2, "staff": 2, "sections": 3, "section_teachers": 4, "enrollments": 7, "contacts": 6,
    }  # fmt: skip


def test_both_versions_tell_the_same_district() -> None:
    assert content(roster_of(small("1.1"))) == content(roster_of(small("1.2")))


@pytest.mark.parametrize("folder", ["", "oneroster/", "oneroster11/", "oneroster12/", "OneRoster12/"])
@pytest.mark.parametrize("version", VERSIONS)
def test_files_lie_in_the_home_or_in_a_folder_of_the_format(folder: str, version: str) -> None:
    plan = plan_of(small(version), folder=folder)
    assert (plan.findings, plan.counts["students"].created) == ((), 6)


def test_file_names_in_other_capitals_are_read_and_told() -> None:
    plan = plan_of({name.upper(): rows for name, rows in small().items()})
    assert codes(plan) == {"file_name_case"}
    assert plan.counts["sections"].created == 3


def test_the_same_night_again_changes_nothing() -> None:
    for version in VERSIONS:
        assert plan_of(small(version), first_night(version)).outcome == "unchanged"


def test_the_roster_says_what_each_file_said() -> None:
    files = small("1.2")
    files["users"][0] |= {"metadata.stateId": "S1", "metadata.ext.Lunch": "A", "preferredGivenName": "Bo"}
    files["orgs"][1]["metadata.city"] = "Springfield"
    files["classes"][0] |= {"grades": "07", "subjects": "Science, Physics", "metadata.ext.room": "12"}
    files["enrollments"].append(membership("s1", "t2", "teacher", primary="false"))
    roster = roster_of(files)
    student = record(roster, "students", sis_id="0001")
    assert {name: student[name] for name in ("grade", "gender", "race", "hispanic_latino", "dob", "state_id", "ext", "sis_school_id")} == {
        "grade": "7", "gender": "F", "race": "Caucasian", "hispanic_latino": "N", "dob": "2014-01-02", "state_id": "S1",
        "ext": '{"Lunch": "A"}', "sis_school_id": "0011",
    }  # fmt: skip
    assert student["preferred_first_name"] == ""  # sensitive, and this district does not name it
    assert (record(roster, "schools", school_id="0011")["number"], record(roster, "schools", school_id="0012")["number"]) == ("11", "0012")
    told = record(roster, "sections", section_id="s1")
    names = ("sis_name", "number", "sis_grade", "sis_subject", "period", "course_name", "course_number", "term_name", "term_start", "ext")
    assert [told[name] for name in names] == ["Math s1", "s1", "7", "Science, Physics", "1", "Math", "Math-1", "Year", "2026-08-17", '{"room": "12"}']
    assert record(roster, "courses", name="Math")["description"] == "All of Math"
    assert record(roster, "section_teachers", section_id="s1", teacher_id="t1")["position"] == "1"
    assert record(roster, "section_teachers", section_id="s1", teacher_id="t2")["position"] == "2"
    contact = record(roster, "contacts", student_id="0001")
    assert (contact["name"], contact["type"], contact["phone"], contact["sis_id"]) == ("First c1 Last c1", "Parent/Guardian", "2125550100", "c1")


def test_a_teacher_of_the_office_and_a_school_is_of_the_school_and_staff_of_the_office_of_all() -> None:
    roster = roster_of(small())
    assert record(roster, "teachers", sis_id="t2")["sis_school_id"] == "0012"
    assert record(roster, "staff", sis_id="p2")["school_id"] == "district"


def test_staff_at_several_schools_are_one_person() -> None:
    files = small()
    files["users"].append(user("p3", "aide", "0012, 0011"))
    assert record(roster_of(files), "staff", sis_id="p3")["school_ids"] == '["0011", "0012"]'
    files = small("1.2")
    files["users"].append({**user("p3", "", ""), "primaryOrgSourcedId": "0011"})
    files["roles"] += [
        {"sourcedId": f"p3:{at}", "userSourcedId": "p3", "roleType": kind, "role": "aide", "orgSourcedId": org}
        for at, (kind, org) in enumerate((("primary", "0011"), ("secondary", "0012")))
    ]
    for row in files["users"]:
        row.pop("role", None)
        row.pop("orgSourcedIds", None)
    assert record(roster_of(files), "staff", sis_id="p3")["school_ids"] == '["0011", "0012"]'


def test_who_has_two_roles_is_in_both_tables() -> None:
    files = small("1.2")
    files["roles"].append({"sourcedId": "t1:2", "userSourcedId": "t1", "roleType": "secondary", "role": "guardian", "orgSourcedId": "0011"})
    files["users"][0]["agentSourcedIds"] = "c1, t1"
    roster = roster_of(files)
    assert record(roster, "teachers", sis_id="t1")
    assert {row[1] for row in content(roster)["contacts"] if row[0] == "0001"} == {"c1", "t1"}


def test_a_guardian_may_name_the_student_or_be_named_by_him() -> None:
    one, other = small(), small()
    for row in other["users"]:
        if row["role"] == "student":
            row["agentSourcedIds"] = ""
        if row["role"] == "guardian":
            row["agentSourcedIds"] = f"{int(row['sourcedId'][1:]):04}"
    assert content(roster_of(one)) == content(roster_of(other))


def test_several_flags_are_two_or_more_races_and_a_word_goes_before_flags() -> None:
    files = small()
    files["demographics"][0]["asian"] = "true"
    files["demographics"][1] |= {"white": "false", "asian": "true"}
    files["demographics"][2]["metadata.race"] = "Unknown"
    roster = roster_of(files)
    assert [record(roster, "students", sis_id=f"000{number}")["race"] for number in (1, 2, 3, 4)] == ["Two or More Races", "Asian", "Unknown", "Caucasian"]


@pytest.mark.parametrize(
    ("sent", "read"), [("", ""), ("07", "7"), ("KG", "Kindergarten"), ("06,07,08", "6-8"), ("05, KG", "Kindergarten-5"), ("09,all", "09,all")]
)
def test_grades_of_a_class_are_a_range(sent: str, read: str) -> None:
    assert grades(sent) == read


@pytest.mark.parametrize("cells", [{"status": "tobedeleted"}, {"status": "inactive"}, {"enabledUser": "false"}, {"enabledUser": "FALSE"}])
def test_who_is_said_to_have_ended_leaves_with_his_memberships(cells: dict[str, str]) -> None:
    files = small()
    now = roster_of(files)
    put("users", 1, **cells)(files)
    plan = plan_of(files, now)
    assert removed(plan) == {"students": 1, "enrollments": 1, "contacts": 1}
    assert codes(plan) == {"member_ended"}


def test_further_files_of_the_format_are_passed_over_in_silence() -> None:
    plan = plan_of(small() | {"lineItems": [{"sourcedId": "1", "title": "Test"}], "results": [{"sourcedId": "1", "score": "5"}]})
    assert plan.findings == ()


# ---------------------------------------------------------------- which format


def test_the_format_of_the_greater_share_of_core_files_is_read_and_a_tie_is_clevers(tmp_path: Path) -> None:
    clever, oneroster = districts.small(), small()
    names = {}
    for name, files in {
        "clever": clever, "oneroster": oneroster, "both": clever | {key: rows for key, rows in oneroster.items() if key != "enrollments"},
        "most of one": oneroster | {"teachers": clever["teachers"]}, "changes": changes(users=oneroster["users"][:1]), "nothing": {"notes": [{"a": "b"}]},
    }.items():  # fmt: skip
        names[name] = formats.of(written(tmp_path / name, files)).NAME
    assert names == {
        "clever": "clever", "oneroster": "oneroster", "both": "clever", "most of one": "oneroster", "changes": "oneroster", "nothing": "clever",
    }  # fmt: skip


def test_files_of_the_other_format_are_unknown() -> None:
    plan = plan_of(small() | {"teachers": districts.small()["teachers"]})
    assert [(each.code, each.file) for each in plan.findings] == [("file_unknown", "teachers.csv")]


# ---------------------------------------------------------------- the manifest


@pytest.mark.parametrize(
    ("code", "data"),
    [
        ("manifest_missing", None),
        ("manifest_unreadable", b"nothing,here\n"),
        ("manifest_unreadable", b""),
        ("manifest_unreadable", bytes(range(256)) * 20),
        ("manifest_header", b"propertyName,val\nmanifest.version,1.0\noneroster.version,1.1\n"),
        ("manifest_header", b"manifest.version,1.0\noneroster.version,1.1\n"),
        ("manifest_version", b"propertyName,value\nmanifest.version,1\noneroster.version,1.1\n"),
        ("manifest_version", b"propertyName,value\nmanifest.version,\noneroster.version,1.1\n"),
        ("manifest_version", b"propertyName,value\nmanifest.version,1.0\noneroster.version,1.0\n"),
        ("manifest_mode", b"propertyName,value\nmanifest.version,1.0\noneroster.version,1.1\nfile.users,whole\n"),
        ("manifest_mode", b"propertyName,value\nmanifest.version,1.0\noneroster.version,1.1\nfile.users,\n"),
        ("manifest_mode", b"propertyName,value\nmanifest.version,1.0\noneroster.version,1.1\nfile.demographics,absent\n"),
        ("manifest_mode", b"propertyName,value\nmanifest.version,1.0\noneroster.version,1.1\nfile.roles,bulk\n"),
    ],
)
def test_a_fault_of_the_manifest_is_a_warning_and_a_refusal_for_the_strict(code: str, data: bytes | None) -> None:
    plan = plan_of(small(), manifest=data)
    assert codes(plan) == {code}
    assert plan.counts["students"].created == 6
    assert plan_of(small(), manifest=data, strict=True).outcome == "refused"


def test_blank_values_of_files_that_were_not_sent_and_quotes_and_capitals_are_no_fault() -> None:
    data = (
        b'"propertyName","value"\r\n"Manifest.Version","1.0"\r\n"oneroster.version","1.2.1"\r\nfile.scoreScales,\r\nfile.userProfiles,\r\nfile.Users,BULK\r\n'
    )
    assert plan_of(small(), manifest=data).findings == ()


@pytest.mark.parametrize("name", ["orgs", "users", "classes", "enrollments"])
def test_a_whole_delivery_without_a_core_file_is_refused(name: str) -> None:
    files = small()
    del files[name]
    plan = plan_of(files)
    assert (plan.outcome, found(plan, "file_missing").file) == ("refused", f"{name}.csv")
    files = small() | {"manifest": manifest(**{name: "absent"})}
    assert (plan_of(files).outcome, found(plan_of(files), "file_missing").file) == ("refused", f"{name}.csv")


def test_courses_and_sessions_may_be_missing_for_all_but_the_strict() -> None:
    files = small()
    now = roster_of(files)
    del files["courses"], files["academicSessions"], files["manifest"]
    assert plan_of(files, now).outcome == "unchanged"  # nothing is known of them tonight
    assert record(roster_of(files), "sections", section_id="s1")["course_name"] == ""
    assert plan_of(files, strict=True).outcome == "refused"


def test_nobody_is_believed_where_no_file_says_what_people_are() -> None:
    files = small("1.2")
    del files["roles"]
    assert (plan_of(files).outcome, found(plan_of(files), "file_missing").file) == ("refused", "roles.csv")
    files = small()
    for row in files["users"]:
        del row["role"]
    assert (plan_of(files).outcome, found(plan_of(files), "header_missing").column) == ("refused", "role")


# ---------------------------------------------------------------- misspelt headers in the wild


def renamed(files: Files, **names: str) -> Files:
    """The same with headers renamed in every file."""
    return {table: [{names.get(name, name): value for name, value in row.items()} for row in rows] for table, rows in files.items()}


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("grades", "grade"),
        ("agentSourcedIds", "agents"),
        ("termSourcedIds", "termSourcedId"),
        ("preferredGivenName", "prefferedGivenName"),
        ("dateLastModified", "dataLastModified"),
    ],
)
def test_a_header_misspelt_in_the_wild_is_read_and_told(right: str, wrong: str) -> None:
    files = small()
    for row in (*files["users"], *files["orgs"]):
        row |= {"dateLastModified": "2026-01-01"}
    for row in files["users"]:
        row |= {"preferredGivenName": "Bo"}
    plan = plan_of(renamed(files, **{right: wrong}))
    assert codes(plan) == {"header_misspelt"}
    assert found(plan, "header_misspelt").column == wrong
    assert content(applied(empty_roster(), plan)) == content(roster_of(files))


def test_extension_columns_of_another_vendor_are_extensions() -> None:
    files = small()
    for row in files["users"]:
        row["ext_tao_Mother"] = "Jo" if row["sourcedId"] == "0001" else ""
    plan = plan_of(files)
    assert found(plan, "header_misspelt").hint == "read as ext.tao_Mother"
    assert record(applied(empty_roster(), plan), "students", sis_id="0001")["ext"] == '{"tao_Mother": "Jo"}'


def test_user_profiles_with_the_columns_of_roles_are_read_as_roles() -> None:
    files = small("1.2")
    files["userprofiles"] = files.pop("roles")
    files["manifest"] = manifest("1.1")
    plan = plan_of(files)
    assert codes(plan) == {"file_name_case", "header_misspelt"}
    assert content(applied(empty_roster(), plan)) == content(roster_of(small("1.2")))


# ---------------------------------------------------------------- faults, each with the smallest file that causes it


@pytest.mark.parametrize(
    ("code", "file", "column", "lines", "spoil"),
    [
        ("kind_unknown", "users.csv", "role", (2,), put("users", 0, role="pupil")),
        ("kind_unknown", "users.csv", "role", (2,), put("users", 0, role="")),
        ("kind_unknown", "orgs.csv", "type", (3,), put("orgs", 1, type="academy")),
        ("kind_unknown", "enrollments.csv", "role", (5,), put("enrollments", 3, role="learner")),
        ("value_unknown", "users.csv", "status", (2,), put("users", 0, status="gone")),
        ("value_unknown", "users.csv", "enabledUser", (2,), put("users", 0, enabledUser="perhaps")),
        ("date_unreadable", "demographics.csv", "birthDate", (2,), put("demographics", 0, birthDate="soon")),
        ("value_malformed", "users.csv", "email", (2,), put("users", 0, email="none")),
        ("value_unknown", "users.csv", "grades", (2,), put("users", 0, grades="Freshman")),
        ("value_missing", "users.csv", "familyName", (2,), put("users", 0, familyName="")),
        ("school_unknown", "users.csv", "orgSourcedIds", (2,), put("users", 0, orgSourcedIds="11")),
        ("school_unknown", "classes.csv", "schoolSourcedId", (2,), put("classes", 0, schoolSourcedId="11")),
        ("section_unknown", "enrollments.csv", "classSourcedId", (5,), put("enrollments", 3, classSourcedId="s9")),
        ("student_unknown", "enrollments.csv", "userSourcedId", (5,), put("enrollments", 3, userSourcedId="0099")),
        ("teacher_unknown", "enrollments.csv", "userSourcedId", (2,), put("enrollments", 0, userSourcedId="t9")),
        ("course_unknown", "classes.csv", "courseSourcedId", (2,), put("classes", 0, courseSourcedId="Physics")),
        ("term_unknown", "classes.csv", "termSourcedIds", (2,), put("classes", 0, termSourcedIds="z")),
        ("contact_unknown", "users.csv", "agentSourcedIds", (2,), put("users", 0, agentSourcedIds="c1,c9")),
        ("contacts_many", "users.csv", "agentSourcedIds", (2,), put("users", 0, agentSourcedIds="c1,c2,c3,c4,c5,c6")),
        ("section_without_teacher", "classes.csv", "sourcedId", (5,), lambda files: files["classes"].append(section("s4", "0011", "Art"))),
        ("id_duplicate", "users.csv", "sourcedId", (18,), lambda files: files["users"].append(user("0001", "student", "0011"))),
        ("row_repeated", "enrollments.csv", "", (13,), lambda files: files["enrollments"].append(membership("s1", "0001", "student", sourcedId="again"))),
    ],
)
def test_a_fault_is_told_where_it_stands(code: str, file: str, column: str, lines: tuple[int, ...], spoil: Callable[[Files], None]) -> None:
    files = small()
    spoil(files)
    one = found(plan_of(files), code)
    assert (one.file, one.column, one.lines) == (file, column, lines)


def role(person: str, kind: str, **more: str) -> dict[str, str]:
    return {"sourcedId": f"{person}:{kind}", "status": "", "userSourcedId": person, "roleType": "secondary", "role": kind, "orgSourcedId": "0011"} | more


def test_a_role_of_a_person_who_was_not_sent_is_left_out_and_told() -> None:
    files = small("1.2")
    now = roster_of(files)
    files["roles"] += [role("0099", "student"), role("0098", "aide"), role("0099", "guardian")]
    plan = plan_of(files, now)
    assert [(each.code, each.severity, each.file, each.column, each.lines, each.values) for each in plan.findings] == [
        ("user_unknown", "reject", "roles.csv", "userSourcedId", (18, 19, 20), ("0099", "0098"))
    ]
    assert (plan.outcome, plan.rejections["roles.csv"].lines.tolist()) == ("unchanged", [18, 19, 20])


def test_a_role_of_a_person_whose_own_row_has_ended_or_cannot_be_read_is_no_fault_of_its_own() -> None:
    files = small("1.2")
    now = roster_of(files)
    files["users"][0]["status"] = "tobedeleted"
    lines = csv_of(whole(files["users"])).split(b"\n")
    lines[2] = lines[2].rsplit(b",", 3)[0]
    plan = plan_of(files, now, users=b"\n".join(lines))
    assert ("row_short" in codes(plan), "user_unknown" in codes(plan)) == (True, False)


def test_a_changed_role_that_comes_without_its_person_cannot_be_placed() -> None:
    now = first_night("1.2")
    plan = plan_of(changes("1.2", users=small("1.2")["users"][:1], roles=[role("0001", "student"), role("t1", "aide"), role("0099", "student")]), now)
    assert [(each.code, each.file, each.column, each.lines) for each in plan.findings] == [("delta_unplaced", "roles.csv", "sourcedId", (3, 4))]
    assert removed(plan) == {}
    files = small("1.2") | {"users": small("1.2")["users"][:1], "manifest": manifest("1.2", users="delta")}
    files["roles"].append(role("0099", "student"))
    assert found(plan_of(files, now), "user_unknown").lines == (18,)  # whom the changes do not name needs no row


def test_rows_of_a_person_without_a_known_role_name_that_as_their_cause() -> None:
    files = small()
    files["users"][1]["role"] = "pupil"
    plan = plan_of(files)
    follower = found(plan, "parent_rejected")
    assert (follower.file, follower.count, follower.cause) == ("enrollments.csv", 1, found(plan, "kind_unknown").label)


def test_a_row_that_cannot_be_read_counts_with_the_first_kind_of_its_file() -> None:
    files = small()
    lines = csv_of(files["users"]).split(b"\n")
    lines[2] = b"0002,true"
    plan = plan_of(files, users=b"\n".join(lines))
    assert found(plan, "row_short").left_out == {"students": 1, "enrollments": 1}
    assert found(plan, "parent_rejected").cause == found(plan, "row_short").label


def test_a_districts_own_words_for_roles_are_heard(tmp_path: Path) -> None:
    (tmp_path / "users.toml").write_text('[[fields]]\nname = "role"\nvalues = { "Pupil" = "student" }\n')
    files = small()
    for row in files["users"][:6]:
        row["role"] = "Pupil"
    with TemporaryDirectory() as home:
        plan = planning.plan(written(Path(home), files), replace(TOLERANT, contract=str(tmp_path)), empty_roster())
    assert (plan.findings, plan.counts["students"].created) == ((), 6)


def test_a_section_has_no_more_than_ten_teachers() -> None:
    files = small()
    crowd(files)
    plan = plan_of(files)
    assert found(plan, "teachers_many").count == 1
    assert plan.counts["section_teachers"].created == 4 + 9


# ---------------------------------------------------------------- law 1


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("table", ["orgs", "users", "classes", "enrollments", "courses", "academicSessions", "demographics", "roles"])
@settings(QUICK, max_examples=6)
@given(spoiler=st.sampled_from([*SPOILERS, "an unknown role", "the class is blank"]), place=st.integers(0, 99))
def test_a_rejected_row_removes_nobody(table: str, version: str, spoiler: str, place: int) -> None:
    files = small(version)
    if table not in files or (table, spoiler) == ("classes", "a section that is unknown"):
        return  # that row is valid: it says that a section left and another came
    now = first_night(version)
    lines = csv_of(files[table]).split(b"\n")
    victim = 1 + place % (len(lines) - 2)
    lines[victim] = spoilt(spoiler, lines[victim], lines[0].split(b","))
    plan = plan_of(files, now, **{table: b"\n".join(lines)})
    if plan.flowing is None:
        assert plan.outcome == "refused"
        return
    assert removed(plan) == {}


def spoilt(spoiler: str, line: bytes, header: list[bytes]) -> bytes:
    cells = line.split(b",")
    if spoiler in SPOILERS and not spoiler.startswith(("a required", "the id", "the school is")):
        return SPOILERS[spoiler](line, header)
    blank = {
        "a required cell is blank": b"familyName",
        "the id is blank": b"sourcedId",
        "the school is blank": b"schoolSourcedId",
        "the class is blank": b"classSourcedId",
    }
    column = blank.get(spoiler, b"role")
    if column in header and len(cells) == len(header):
        cells[header.index(column)] = b"??" if spoiler == "an unknown role" else b""
    return b",".join(cells)


@pytest.mark.parametrize(
    ("table", "column"), [("courses", "sourcedId"), ("academicSessions", "sourcedId"), ("demographics", "sourcedId"), ("roles", "role"), ("users", "role")]
)
def test_what_stands_in_a_rejected_row_of_another_file_keeps_its_last_good_values(table: str, column: str) -> None:
    files = small("1.1" if table == "users" else "1.2")
    now = roster_of(files)
    files[table][0][column] = ""
    plan = plan_of(files, now)
    assert plan.outcome == "unchanged"
    assert plan.findings


def test_a_class_has_one_primary_teacher_though_a_row_of_it_names_nobody() -> None:
    now, files = first_night(), small()
    files["enrollments"] = [membership("s1", "t2", "teacher"), *files["enrollments"][1:], membership("s1", "", "teacher")]
    team = {each: record(applied(now, plan_of(files, now)), "section_teachers", section_id="s1", teacher_id=each)["position"] for each in ("t1", "t2")}
    assert team == {"t1": "2", "t2": "1"}


def test_a_rejected_teacher_takes_nobody_elses_place() -> None:
    files = small()
    now = roster_of(files)
    files["enrollments"][2]["role"] = "??"  # the primary teacher of s3, where t2 is the second
    plan = plan_of(files, now)
    assert plan.outcome == "unchanged"


@settings(QUICK, max_examples=6)
@given(chance=st.randoms(use_true_random=False), version=st.sampled_from(VERSIONS))
def test_the_order_of_rows_means_nothing(chance, version: str) -> None:  # type: ignore[no-untyped-def]
    files = small(version)
    files["enrollments"] += [membership("s1", "t2", "teacher", primary="false"), membership("s2", "t1", "teacher", primary="false")]
    shuffled = copy.deepcopy(files)
    for name, rows in shuffled.items():
        if name != "manifest":
            chance.shuffle(rows)
    assert content(roster_of(files)) == content(roster_of(shuffled))


# ---------------------------------------------------------------- changes


def test_changes_for_a_district_without_a_roster_are_refused() -> None:
    plan = plan_of(changes(users=small()["users"]))
    assert plan.outcome == "refused"
    assert "delta_without_roster" in codes(plan)


@pytest.mark.parametrize("version", VERSIONS)
def test_all_files_as_changes_change_nothing(version: str) -> None:
    files = small(version)
    tables = {name: rows for name, rows in files.items() if name != "manifest"}
    plan = plan_of(changes(version=version, **tables), roster_of(files))
    assert (plan.findings, plan.outcome) == ((), "unchanged")


def test_a_change_touches_only_whom_it_names() -> None:
    now = first_night()
    plan = plan_of(changes(users=[user("0002", "student", "0012", grades="08", status="active", agentSourcedIds="c2"), user("0007", "student", "0011")]), now)
    assert plan.findings == ()
    assert {
        name: (counts.created, counts.updated, counts.deactivated)
        for name, counts in plan.counts.items()
        if counts.created + counts.updated + counts.deactivated
    } == {"students": (1, 1, 0)}
    after = applied(now, plan)
    assert (record(after, "students", sis_id="0002")["grade"], record(after, "students", sis_id="0002")["gender"]) == ("8", "F")


def test_a_change_of_role_less_people_is_of_what_they_are() -> None:
    now = first_night("1.2")
    row = small("1.2")["users"][0] | {"givenName": "New"}
    plan = plan_of(changes(version="1.2", users=[row]), now)
    assert plan.findings == ()
    assert plan.counts["students"].updated == 1


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("person", "entity"), [("t2", "teachers"), ("p2", "staff")])
def test_changed_people_of_the_district_office_are_believed_though_its_own_row_has_not_changed(version: str, person: str, entity: str) -> None:
    files, now = small(version), first_night(version)
    told = {"users": [row | {"givenName": "New"} for row in files["users"] if row["sourcedId"] == person]}
    if version == "1.2":
        told["roles"] = [row for row in files["roles"] if row["userSourcedId"] == person]
    plan = plan_of(changes(version, **told), now)
    assert plan.findings == ()
    assert record(applied(now, plan), entity, sis_id=person) == record(now, entity, sis_id=person) | {"first_name": "New"}


def test_a_changed_person_of_an_org_that_nothing_is_known_of_is_not_of_the_district_office() -> None:
    now = first_night()
    plan = plan_of(changes(users=[user("p1", "principal", "0013"), user("p3", "principal", "0013"), user("t1", "teacher", "0013")]), now)
    assert (codes(plan), sum(each.count for each in plan.findings)) == ({"school_unknown"}, 3)
    assert content(applied(now, plan)) == content(now)


def test_tobedeleted_ends_the_person_and_what_belongs_to_him() -> None:
    now = first_night()
    plan = plan_of(changes(users=[{"sourcedId": "0002", "status": "tobedeleted"}, {"sourcedId": "c1", "status": "tobedeleted"}]), now)
    assert removed(plan) == {"students": 1, "enrollments": 1, "contacts": 2}


def test_who_loses_one_of_two_roles_keeps_the_other() -> None:
    files = small("1.2")
    files["roles"].append({"sourcedId": "t1:2", "userSourcedId": "t1", "roleType": "secondary", "role": "aide", "orgSourcedId": "0011"})
    now = roster_of(files)
    person = next(row for row in files["users"] if row["sourcedId"] == "t1")
    teaches = next(row for row in files["roles"] if row["sourcedId"] == "t1:1")
    plan = plan_of(changes("1.2", users=[person], roles=[teaches | {"status": "tobedeleted"}, files["roles"][-1]]), now)
    assert removed(plan) == {"teachers": 1, "section_teachers": 2}
    assert record(applied(now, plan), "staff", sis_id="t1")["active"]


def test_tobedeleted_ends_a_membership_a_class_and_a_school() -> None:
    now = first_night()
    plan = plan_of(
        changes(enrollments=[membership("s3", "0001", "student", status="tobedeleted"), membership("s3", "t2", "teacher", status="tobedeleted")]), now
    )
    assert removed(plan) == {"enrollments": 1, "section_teachers": 1}
    plan = plan_of(changes(classes=[section("s3", "0011", "Art") | {"status": "tobedeleted"}]), now)
    assert removed(plan) == {"sections": 1, "courses": 1, "enrollments": 1, "section_teachers": 2}


def test_a_school_that_is_to_be_deleted_stays_while_people_and_classes_are_there() -> None:
    now, school = first_night(), small()["orgs"][2] | {"status": "tobedeleted"}
    plan = plan_of(changes(orgs=[school]), now)
    assert (removed(plan), found(plan, "parent_kept").count) == ({}, 1)
    leaving = [row | {"status": "tobedeleted"} for row in small()["users"] if "0012" in row["orgSourcedIds"]]
    plan = plan_of(changes(orgs=[school], users=leaving, classes=[section("s2", "0012", "Math") | {"status": "tobedeleted"}]), now)
    assert (removed(plan)["schools"], codes(plan)) == (1, set())


def test_what_a_change_ends_is_told_by_its_id_wherever_the_columns_stand() -> None:
    now = first_night()
    ends = {"classCode": "s1", "title": "s1"} | section("s3", "0011", "Art") | {"classCode": "s1", "status": "tobedeleted"}
    assert next(iter(ends.values())) == "s1"
    after = applied(now, plan_of(changes(classes=[ends]), now))
    assert [record(after, "sections", section_id=each)["active"] for each in ("s1", "s3")] == [True, False]


def test_new_members_of_a_standing_class_need_not_name_the_others() -> None:
    now = first_night()
    rows = [membership("s1", "0002", "student"), membership("s1", "t2", "teacher", primary="false"), membership("s9", "0001", "student")]
    plan = plan_of(changes(enrollments=rows), now)
    assert [(each.code, each.values) for each in plan.findings] == [("section_unknown", ("s9",))]
    after = applied(now, plan)
    assert record(after, "section_teachers", section_id="s1", teacher_id="t2")["position"] == "2"
    assert (plan.counts["enrollments"].created, removed(plan)) == (1, {})


def test_a_new_primary_teacher_takes_the_first_place() -> None:
    now = first_night()
    after = applied(now, plan_of(changes(enrollments=[membership("s1", "t2", "teacher")]), now))
    assert [record(after, "section_teachers", section_id="s1", teacher_id=each)["position"] for each in ("t2", "t1")] == ["1", "2"]


@pytest.mark.parametrize(
    "told",
    [{"users": [{"sourcedId": "t1", "status": "tobedeleted"}]}, {"enrollments": [membership("s3", "t1", "teacher", status="tobedeleted")]}],
    ids=["the person", "the membership"],
)
def test_the_next_teacher_takes_the_place_of_a_primary_one_who_ends(told: Files) -> None:
    now = first_night()
    after = applied(now, plan_of(changes(**told), now))
    assert record(after, "section_teachers", section_id="s3", teacher_id="t2")["position"] == "1"
    assert not record(after, "section_teachers", section_id="s3", teacher_id="t1")["active"]
    assert record(after, "sections", section_id="s3")["name"] == "Art - Last t2 - 1"


def test_demographics_that_are_to_be_deleted_leave_blanks_and_the_student() -> None:
    now = first_night()
    plan = plan_of(changes(demographics=[{"sourcedId": "0002", "status": "tobedeleted", "birthDate": "", "sex": "", "white": ""}]), now)
    assert (plan.findings, plan.counts["students"].updated, removed(plan)) == ((), 1, {})
    told = {each: record(applied(now, plan), "students", sis_id=each) for each in ("0001", "0002")}
    assert [(told[each]["dob"], told[each]["gender"], told[each]["race"]) for each in told] == [("2014-01-02", "F", "Caucasian"), ("", "", "")]
    assert told["0002"]["grade"] == "7"


def test_a_changed_class_keeps_the_course_that_was_not_sent_again() -> None:
    now = first_night()
    plan = plan_of(changes(classes=[section("s1", "0011", "Math") | {"title": "New"}]), now)
    assert plan.findings == ()
    told = record(applied(now, plan), "sections", section_id="s1")
    assert (told["sis_name"], told["course_name"], told["term_name"]) == ("New", "Math", "Year")


def test_a_changed_course_that_no_class_is_sent_with_cannot_be_placed() -> None:
    now = first_night()
    plan = plan_of(changes(courses=[small()["courses"][0] | {"title": "Maths"}]), now)
    assert (plan.outcome, codes(plan)) == ("unchanged", {"delta_unplaced"})


def test_a_changed_guardian_changes_the_contact_of_every_child_and_a_named_list_is_whole() -> None:
    files = small()
    files["users"][1]["agentSourcedIds"] = "c1,c2"
    now = roster_of(files)
    plan = plan_of(changes(users=[user("c1", "guardian", "d", phone="2125550199")]), now)
    assert (plan.counts["contacts"].updated, removed(plan)) == (2, {})
    plan = plan_of(changes(users=[user("0002", "student", "0012", grades="07", agentSourcedIds="c1")]), now)
    assert removed(plan) == {"contacts": 1}
    plan = plan_of(changes(users=[user("0002", "student", "0012", grades="07")]), now)
    assert removed(plan) == {}


def test_limits_hold_changes_too(tmp_path: Path) -> None:
    now = roster_of(small(students=60))
    ended = [{"sourcedId": f"{number:04}", "status": "tobedeleted"} for number in range(1, 41)]
    plan = planned(tmp_path, changes(users=ended), now, settings=districts.Settings())
    assert plan.outcome == "on_hold"


@QUICK
@given(spoiler=st.sampled_from(list(SPOILERS)), place=st.integers(0, 99), table=st.sampled_from(["orgs", "users", "classes", "enrollments", "courses"]))
def test_a_spoilt_change_removes_nothing(spoiler: str, place: int, table: str) -> None:
    files, now = small(), first_night()
    lines = csv_of(files[table]).split(b"\n")
    victim = 1 + place % (len(lines) - 2)
    lines[victim] = spoilt(spoiler, lines[victim], lines[0].split(b","))
    plan = plan_of(changes(**{table: files[table]}), now, **{table: b"\n".join(lines)})
    assert plan.flowing is None or removed(plan) == {}
