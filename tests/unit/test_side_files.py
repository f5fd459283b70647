"""Clever's side files: what is added by hand, extension fields, preferred staff, admins and attendance (contract 1.7 and 1.9)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sftp_ingest.model import Roster
from sftp_ingest.planning import Plan, empty_roster
from tests.unit.districts import Files, applied, content, enrollment, planned, section, small

STAFF = {"School_id": "0011", "Staff_id": "p1", "Staff_email": "p1@example.org", "First_name": "Pat", "Last_name": "Sent", "Title": "Nurse"}


def custom() -> Files:
    """What a district adds by hand: one student, one teacher, and a section of that teacher with two students."""
    return {
        "customstudents/students": [{"School_id": "0011", "Student_id": "x1", "Last_name": "Hand", "First_name": "Made"}],
        "customteachers/teachers": [{"School_id": "0011", "Teacher_id": "xt", "First_name": "By", "Last_name": "Hand", "Teacher_email": "x@example.org"}],
        "customsections/sections": [section("xs", "0011", "xt", "Chess") | {"Name": "Chess club", "Subject": "other"}],
        "customsections/enrollments": [enrollment("xs", 1), {"School_id": "0011", "Section_id": "xs", "Student_id": "x1"}],
        "customcontacts/contacts": [
            {"Contact_id": "xc", "Student_id": "0001", "First_name": "Gran", "Last_name": "Hand", "Type": "Family", "Phone": "2125550199"}
        ],
    }


def night(folder: Path, files: Files, now: Roster | None = None, before: Plan | None = None, **raw: bytes | None) -> Plan:
    return planned(folder, files, now, before=before.shapes if before else None, **raw)


def after(plan: Plan, now: Roster | None = None) -> Roster:
    return applied(now or empty_roster(), plan)


def record(roster: Roster, entity: str, **key: str | bool) -> dict[str, Any]:
    """The one record with these cells."""
    found = [row for row in roster.entities[entity].to_dict("records") if all(row[name] == value for name, value in key.items())]
    assert len(found) == 1, found
    return found[0]


def removed(plan: Plan) -> dict[str, int]:
    return {name: counts.deactivated for name, counts in plan.counts.items() if counts.deactivated}


def codes(plan: Plan) -> set[tuple[str, str]]:
    return {(each.code, each.file) for each in plan.findings}


# ---------------------------------------------------------------- added by hand


def test_what_is_added_by_hand_is_in_the_roster_and_says_so(tmp_path: Path) -> None:
    roster = after(night(tmp_path, small() | custom()))
    assert record(roster, "students", sis_id="x1")["source"] == "custom"
    teacher = record(roster, "teachers", sis_id="xt")
    assert (teacher["source"], teacher["number"]) == ("custom", "xt")
    assert record(roster, "sections", section_id="xs")["source"] == "custom"
    assert len(roster.entities["enrollments"]) == 7 + 2
    contact = record(roster, "contacts", contact_id="xc")
    assert (contact["name"], contact["student_id"], contact["source"]) == ("Gran Hand", "0001", "custom")
    assert record(roster, "section_teachers", section_id="xs")["teacher_id"] == "xt"


def test_the_same_night_again_with_side_files_changes_nothing(tmp_path: Path) -> None:
    first = night(tmp_path / "1", small() | custom())
    assert night(tmp_path / "2", small() | custom(), after(first), first).outcome == "unchanged"


@pytest.mark.parametrize("left_out", [*custom(), "all"])
def test_a_side_file_that_was_not_sent_tonight_removes_nobody(tmp_path: Path, left_out: str) -> None:
    first = night(tmp_path / "1", small() | custom())
    files = small() | ({} if left_out == "all" else custom())
    files.pop(left_out, None)
    plan = night(tmp_path / "2", files, after(first), first)
    assert removed(plan) == {}
    assert {each for each in codes(plan) if each[0] == "file_gone"} == {("file_gone", f"{name}.csv") for name in custom() if left_out in ("all", name)}
    assert content(after(plan, after(first))) == content(after(first))


def test_after_a_night_without_it_the_next_night_still_misses_the_side_file(tmp_path: Path) -> None:
    first = night(tmp_path / "1", small() | custom())
    second = night(tmp_path / "2", small(), after(first), first)
    third = night(tmp_path / "3", small(), after(second, after(first)), second)
    assert ("file_gone", "customstudents/students.csv") in codes(third)
    assert removed(third) == {}


def test_attendance_that_was_sent_once_is_not_missed_on_any_other_night(tmp_path: Path) -> None:
    told = {"attendance": b"Attendance_date,Attendance_status,Student_id\n2026-11-20,absent,0001\n"}
    first = night(tmp_path / "1", small() | custom(), **told)
    assert "attendance.csv" in first.shapes
    assert codes(night(tmp_path / "2", small() | custom(), after(first), first)) == codes(first)


def test_a_side_file_with_a_header_alone_removes_all_that_came_from_it_and_nobody_else(tmp_path: Path) -> None:
    first = night(tmp_path / "1", small() | custom())
    empty = {"customstudents/students": b"School_id,Student_id,Last_name,First_name\n"}
    files = small() | custom()
    files["customsections/enrollments"] = files["customsections/enrollments"][:1]
    plan = night(tmp_path / "2", files, after(first), first, **empty)
    assert removed(plan) == {"students": 1, "enrollments": 1}
    assert ("file_emptied", "customstudents/students.csv") in codes(plan)


def test_a_record_of_the_sis_goes_before_one_added_by_hand_be_its_row_valid_or_not(tmp_path: Path) -> None:
    files = small() | custom()
    files["customstudents/students"].append({"School_id": "0012", "Student_id": "0002", "Last_name": "Own", "First_name": "Own"})
    roster = after(night(tmp_path / "1", files))
    assert record(roster, "students", sis_id="0002")["last_name"] == "Last2"
    files["students"][1]["Last_name"] = ""
    plan = night(tmp_path / "2", files, roster)
    assert record(after(plan, roster), "students", sis_id="0002")["last_name"] == "Last2"
    assert ("record_overridden", "customstudents/students.csv") in codes(plan)


def test_a_section_added_by_hand_may_have_a_teacher_of_the_sis_and_misses_one_that_nobody_has(tmp_path: Path) -> None:
    files = small() | custom()
    files["customsections/sections"][0]["Teacher_id"] = "t1"
    files["customsections/sections"].append(section("xs2", "0011", "nobody", "Go") | {"Name": "Go", "Subject": "other"})
    plan = night(tmp_path, files)
    assert ("teacher_unknown", "customsections/sections.csv") in codes(plan)
    assert plan.counts["sections"].created == 4


def test_who_is_added_by_hand_and_later_comes_from_the_sis_is_one_record(tmp_path: Path) -> None:
    first = night(tmp_path / "1", small() | custom())
    files = small() | custom()
    files["students"].append(files["students"][0] | {"Student_id": "x1", "Contact_sis_id": "cx"})
    plan = night(tmp_path / "2", files, after(first), first)
    assert (plan.counts["students"].updated, plan.counts["students"].created) == (1, 0)
    assert record(after(plan, after(first)), "students", sis_id="x1")["source"] == ""


# ---------------------------------------------------------------- enrolled by hand in a section of the SIS


def enrolled_by_hand(*students: int) -> Files:
    """Students whom a district adds by hand to a section of its SIS, in which only students of even numbers are."""
    return {"customsections/enrollments": [enrollment("s2", each) for each in students]}


def source_of(roster: Roster, section_id: str, student_id: str) -> tuple[str, bool]:
    """Where an enrollment came from, and whether it is there."""
    found = record(roster, "enrollments", section_id=section_id, student_id=student_id)
    return found["source"], found["active"]


def test_who_is_enrolled_by_hand_in_a_section_of_the_sis_stays_until_the_file_is_sent_without_him(tmp_path: Path) -> None:
    first = night(tmp_path / "1", small() | enrolled_by_hand(1, 3))
    roster = after(first)
    assert {row["source"] for row in roster.entities["enrollments"].to_dict("records")} == {"", "custom"}
    assert json.loads(record(roster, "students", sis_id="0001")["school_ids"]) == ["0011", "0012"]
    made = first
    for number in ("2", "3"):
        made = night(tmp_path / number, small(), roster, made)
        assert ("file_gone", "customsections/enrollments.csv") in codes(made)
        assert content(after(made, roster)) == content(roster)
        roster = after(made, roster)
    made = night(tmp_path / "4", small() | enrolled_by_hand(3), roster, made)
    assert removed(made) == {"enrollments": 1}
    roster = after(made, roster)
    assert [source_of(roster, "s2", each) for each in ("0001", "0003")] == [("custom", False), ("custom", True)]
    assert json.loads(record(roster, "students", sis_id="0001")["school_ids"]) == ["0011"]


@pytest.mark.parametrize("strict", [False, True])
def test_a_section_in_which_all_are_enrolled_by_hand_is_not_without_students_on_a_night_without_that_file(strict: bool, tmp_path: Path) -> None:
    files = small()
    files["sections"].append(section("s4", "0011", "t1", "Go"))
    first = planned(tmp_path / "1", files | {"customsections/enrollments": [enrollment("s4", 1)]}, strict=strict)
    second = planned(tmp_path / "2", files, after(first), strict=strict, before=first.shapes)
    assert "section_without_students" not in {each.code for each in (*first.findings, *second.findings)}
    emptied = {"customsections/enrollments": b"School_id,Section_id,Student_id\n"}
    third = planned(tmp_path / "3", files, after(second, after(first)), strict=strict, before=second.shapes, **emptied)
    assert ("section_without_students", "sections.csv") in codes(third)


def test_a_file_of_enrollments_by_hand_with_a_header_alone_ends_them_and_no_others(tmp_path: Path) -> None:
    first = night(tmp_path / "1", small() | enrolled_by_hand(1, 3))
    plan = night(tmp_path / "2", small(), after(first), first, **{"customsections/enrollments": b"School_id,Section_id,Student_id\n"})
    assert removed(plan) == {"enrollments": 2}


def test_an_enrollment_of_the_sis_ends_although_there_are_some_by_hand_in_the_section(tmp_path: Path) -> None:
    first = night(tmp_path / "1", small() | enrolled_by_hand(1))
    files = small()
    files["enrollments"].remove(enrollment("s2", 2))
    plan = night(tmp_path / "2", files, after(first), first)
    assert removed(plan) == {"enrollments": 1}
    assert source_of(after(plan, after(first)), "s2", "0002") == ("", False)


def test_an_enrollment_that_both_files_have_is_one_of_the_sis_and_ends_with_it(tmp_path: Path) -> None:
    both = small() | enrolled_by_hand(1, 2)
    first = night(tmp_path / "1", both)
    assert ("record_overridden", "customsections/enrollments.csv") in codes(first)
    roster = after(first)
    assert source_of(roster, "s2", "0002") == ("", True)
    taken = small()
    taken["enrollments"].append(enrollment("s2", 1))
    second = night(tmp_path / "2", taken, roster, first)
    assert (second.counts["enrollments"].updated, removed(second)) == (1, {})
    roster = after(second, roster)
    assert source_of(roster, "s2", "0001") == ("", True)
    third = night(tmp_path / "3", small(), roster, second)
    assert removed(third) == {"enrollments": 1}
    assert source_of(after(third, roster), "s2", "0001") == ("", False)


@pytest.mark.parametrize("left", ["student", "section"])
def test_who_is_enrolled_by_hand_leaves_with_his_section_or_as_a_student(left: str, tmp_path: Path) -> None:
    first = night(tmp_path / "1", small() | enrolled_by_hand(1))
    files = small()
    if left == "student":
        files["students"] = files["students"][1:]
    else:
        files["sections"].pop(1)
    gone = ("Student_id", "0001") if left == "student" else ("Section_id", "s2")
    files["enrollments"] = [row for row in files["enrollments"] if row[gone[0]] != gone[1]]
    plan = night(tmp_path / "2", files, after(first), first)
    assert source_of(after(plan, after(first)), "s2", "0001") == ("custom", False)


def test_a_section_by_hand_that_the_sis_has_taken_over_has_the_teachers_of_the_sis_and_keeps_who_is_in_it_by_hand(tmp_path: Path) -> None:
    first = night(tmp_path / "1", small() | custom())
    files = small()
    files["sections"].append(section("xs", "0011", "t1", "Chess"))
    files["enrollments"].append(enrollment("xs", 3))
    plan = night(tmp_path / "2", files, after(first), first)
    assert removed(plan) == {"section_teachers": 1}
    roster = after(plan, after(first))
    assert record(roster, "section_teachers", section_id="xs", active=True)["teacher_id"] == "t1"
    assert record(roster, "sections", section_id="xs")["name"] == "Chess - Lovelace"
    assert [source_of(roster, "xs", each) for each in ("0001", "0003", "x1")] == [("custom", True), ("", True), ("custom", True)]


# ---------------------------------------------------------------- extension fields


def test_extension_fields_are_added_and_the_sis_goes_before_them(tmp_path: Path) -> None:
    files = small()
    files["students"][0]["ext.house"] = "Fox"
    files["extensionfields/students_ext"] = [{"sis_id": "0001", "ext.house": "Owl", "ext.bus": "7"}, {"sis_id": "0002", "ext.house": "", "ext.bus": "8"}]
    files["extensionfields/schools_ext"] = [{"sis_id": "0011", "region": "North"}]
    roster = after(night(tmp_path, files))
    assert json.loads(record(roster, "students", sis_id="0001")["ext"]) == {"bus": "7", "house": "Fox"}
    assert json.loads(record(roster, "students", sis_id="0002")["ext"]) == {"bus": "8"}
    assert json.loads(record(roster, "schools", school_id="0011")["ext"]) == {"region": "North"}


def test_extension_fields_stay_when_their_file_is_not_sent(tmp_path: Path) -> None:
    files = small()
    files["students"][0]["ext.house"] = "Fox"
    files["extensionfields/students_ext"] = [{"sis_id": "0001", "ext.bus": "7"}]
    first = night(tmp_path / "1", files)
    del files["extensionfields/students_ext"]
    files["students"][0]["ext.house"] = "Owl"
    plan = night(tmp_path / "2", files, after(first), first)
    assert json.loads(record(after(plan, after(first)), "students", sis_id="0001")["ext"]) == {"bus": "7", "house": "Owl"}


def test_an_extension_of_nobody_is_told(tmp_path: Path) -> None:
    files = small() | {"extensionfields/students_ext": [{"sis_id": "9999", "ext.bus": "7"}]}
    plan = night(tmp_path, files)
    assert ("student_unknown", "extensionfields/students_ext.csv") in codes(plan)
    assert plan.counts["students"].created == 6


# ---------------------------------------------------------------- staff


def test_a_person_at_several_schools_or_in_the_whole_district_is_one_of_the_staff(tmp_path: Path) -> None:
    rows = [
        STAFF,
        STAFF | {"School_id": "0012"},
        STAFF | {"Staff_id": "p2", "School_id": "district"},
        STAFF | {"Staff_id": "p3", "School_id": "DEFAULT_DISTRICT_OFFICE"},
    ]
    plan = night(tmp_path, small() | {"staff": rows})
    assert [each for each in plan.findings if each.severity != "warn"] == []
    roster = after(plan)
    assert json.loads(record(roster, "staff", sis_id="p1")["school_ids"]) == ["0011", "0012"]
    assert json.loads(record(roster, "staff", sis_id="p2")["school_ids"]) == ["district"]
    assert json.loads(record(roster, "staff", sis_id="p3")["school_ids"]) == ["DEFAULT_DISTRICT_OFFICE"]


def test_preferred_staff_go_before_staff_and_both_before_admins(tmp_path: Path) -> None:
    admin = {"School_id": "0011", "Staff_id": "p1", "Admin_email": "a@example.org", "First_name": "Pat", "Last_name": "Admin"}
    files = small() | {
        "staff": [STAFF, STAFF | {"Staff_id": "p2"}],
        "admins": [admin, admin | {"Staff_id": "p3"}],
        "preferred-sis-data/staff": [STAFF | {"Last_name": "Preferred"}],
    }
    plan = night(tmp_path, files)
    roster = after(plan)
    assert {row["sis_id"]: (row["last_name"], row["source"]) for row in roster.entities["staff"].to_dict("records")} == {
        "p1": ("Preferred", "preferred"),
        "p2": ("Sent", ""),
        "p3": ("Admin", "admins"),
    }
    assert ("file_deprecated", "admins.csv") in codes(plan)


def test_a_file_in_the_wrong_place_is_told_where_it_would_be_read(tmp_path: Path) -> None:
    plan = night(tmp_path, small() | {"students_ext": [{"sis_id": "0001", "ext.bus": "7"}]})
    (found,) = [each for each in plan.findings if each.code == "file_unknown"]
    assert "extensionfields/students_ext.csv" in found.hint


# ---------------------------------------------------------------- attendance


def absence(student: str, day: str, status: str = "Absent", **more: str) -> dict[str, str]:
    return {"Attendance_date": day, "Attendance_status": status, "Student_id": student} | more


def test_attendance_is_told_in_additions_and_never_removed(tmp_path: Path) -> None:
    files = small() | {"attendance": [absence("0001", "2026-02-21T00:00:00Z"), absence("0002", "2026-02-20", "tardy")]}
    roster = after(night(tmp_path / "1", files))
    first = record(roster, "attendance", student_id="0001")
    assert (first["date"], first["status"], first["type"]) == ("2026-02-21", "absent", "daily")
    files["attendance"] = [absence("0003", "2026-02-21"), absence("0001", "02/21/2026", "present")]
    plan = night(tmp_path / "2", files, roster)
    counts = plan.counts["attendance"]
    assert (counts.created, counts.updated, counts.deactivated) == (1, 1, 0)
    roster = after(plan, roster)
    assert len(roster.entities["attendance"]) == 3
    assert record(roster, "attendance", student_id="0001")["status"] == "present"
    assert plan.hold is None


def test_attendance_of_another_date_than_it_had_is_corrected(tmp_path: Path) -> None:
    files = small() | {"attendance": [absence("0001", "2026-02-20", Attendance_id="a1"), absence("0002", "2026-02-20", Attendance_id="a2")]}
    roster = after(night(tmp_path / "1", files))
    files["attendance"] = [absence("0001", "2026-02-10", Attendance_id="a1")]
    plan = night(tmp_path / "2", files, roster)
    counts = plan.counts["attendance"]
    assert (counts.created, counts.updated, counts.deactivated) == (0, 1, 0)
    assert record(after(plan, roster), "attendance", attendance_id="a1")["date"] == "2026-02-10"


def test_attendance_of_a_section_is_of_that_section(tmp_path: Path) -> None:
    rows = [absence("0001", "2026-02-21", Section_id="s1", Attendance_id="a1"), absence("0001", "2026-02-21", Section_id="s3", Attendance_id="a2")]
    roster = after(night(tmp_path, small() | {"attendance": rows}))
    assert {row["attendance_id"]: (row["section_id"], row["type"]) for row in roster.entities["attendance"].to_dict("records")} == {
        "a1": ("s1", "section"),
        "a2": ("s3", "section"),
    }


def test_the_same_attendance_again_changes_nothing_and_neither_does_none(tmp_path: Path) -> None:
    files = small() | {"attendance": [absence("0001", "2026-02-21"), absence("0001", "2026-02-21")]}
    first = night(tmp_path / "1", files)
    roster = after(first)
    assert night(tmp_path / "2", files, roster, first).outcome == "unchanged"
    del files["attendance"]
    plan = night(tmp_path / "3", files, roster, first)
    assert plan.outcome == "unchanged"
    assert removed(plan) == {}


def test_attendance_of_a_student_whom_nobody_knows_is_left_out(tmp_path: Path) -> None:
    plan = night(tmp_path, small() | {"attendance": [absence("9999", "2026-02-21"), absence("0001", "2026-02-21")]})
    assert ("student_unknown", "attendance.csv") in codes(plan)
    assert plan.counts["attendance"].created == 1


# ---------------------------------------------------------------- attendance


def test_attendance_of_one_id_or_of_one_day_is_told_where_rows_differ_and_where_they_are_repeated(tmp_path: Path) -> None:
    header = b"Attendance_date,Attendance_status,Student_id,Section_id,Excuse_code,Attendance_id\n"
    rows = [
        b"2026-11-20,absent,0001,,,A1", b"2026-11-20,absent,0002,,,A1", b"11/20/2026,Absent,0001,,,A1",
        b"2026-11-20,absent,0003,,,", b"2026-11-20,tardy,0003,,,", b"2026-11-20,tardy,0003,s1,,", b"2026-11-21,tardy,0003,,,", b"2026-11-20,absent,0003,,,",
    ]  # fmt: skip
    plan = night(tmp_path, small(), attendance=header + b"\n".join([*rows, b""]))
    told = {(each.code, each.column): (each.count, each.lines) for each in plan.findings if each.code in ("id_duplicate", "row_repeated")}
    assert told == {("id_duplicate", "Attendance_id"): (1, (3,)), ("id_duplicate", "Student_id"): (1, (6,)), ("row_repeated", ""): (2, (4, 9))}
    assert plan.counts["attendance"].created == 4
    assert plan.counts["attendance"].rejected == 2
    kept = {(row["student_id"], row["section_id"], row["date"]): row["status"] for row in after(plan).entities["attendance"].to_dict("records")}
    assert kept[("0003", "", "2026-11-20")] == "absent"
