"""What is derived from the files: by example, and as laws over made-up districts."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis.strategies as st
import pandas as pd
import pytest
from hypothesis import given, settings

from sftp_ingest import config
from sftp_ingest.model import ENTITIES, Assembled, Derivations, Limits, Roster
from sftp_ingest.planning import Plan, empty_roster
from sftp_ingest.roster import derive
from sftp_ingest.roster.arrow import TEXT
from tests.unit.districts import TOLERANT, Files, applied, content, csv_of, enrollment, planned, section, small, student
from tests.unit.test_laws import QUICK, SPOILERS

ALL_OFF = Derivations(**{each.name: False for each in fields(Derivations)})
SCHOOLS = ("0011", "0012", "0013")


def plan_of(files: Files, now: Roster | None = None, switches: Derivations = Derivations(), *, strict: bool = False, **raw: bytes | None) -> Plan:
    with TemporaryDirectory() as folder:
        return planned(Path(folder), files, now, settings=replace(TOLERANT, derive=switches), strict=strict, **raw)


def roster_of(files: Files, switches: Derivations = Derivations()) -> Roster:
    return applied(empty_roster(), plan_of(files, None, switches))


Records = dict[tuple[str, ...], dict[str, str]]


def records(roster: Roster, name: str) -> Records:
    """The active records of an entity, by key."""
    frame = roster.entities[name]
    return {tuple(row[column] for column in ENTITIES[name].key): row for row in frame[frame["active"].to_numpy(dtype=bool)].to_dict("records")}


def three_schools() -> Files:
    """No sections yet: schools 0011 to 0013, teachers t1 and t2, students 1 to 9, sent for 0011 where odd and 0012 where even."""
    files = small(9)
    files["schools"].append({"School_id": "0013", "School_name": "School 0013", "School_number": "0013"})
    files["sections"], files["enrollments"] = [], []
    return files


def teach(files: Files, section_id: str, school: str, *students: int, teacher: str = "t1", **cells: str) -> None:
    files["sections"].append(section(section_id, school, teacher, "Math") | {"Teacher_2_id": ""} | cells)
    files["enrollments"] += [enrollment(section_id, number) | {"School_id": school} for number in students]


def school_of(files: Files, person: str = "0001", name: str = "students") -> tuple[str, list[str]]:
    found = records(roster_of(files), name)[(person,)]
    return found["school_id"], json.loads(found["school_ids"])


# ---------------------------------------------------------------- schools


def test_a_student_is_of_the_school_where_he_has_most_sections() -> None:
    files = three_schools()
    teach(files, "a", "0011", 1, 2, 3, 4)
    teach(files, "b", "0013", 1)
    teach(files, "c", "0013", 1)
    assert school_of(files) == ("0013", ["0011", "0013"])
    assert records(roster_of(files), "students")[("0001",)]["sis_school_id"] == "0011"


def test_of_tied_schools_counts_the_one_whose_sections_of_his_have_most_students() -> None:
    files = three_schools()
    teach(files, "a", "0011", 1, 2)
    teach(files, "b", "0013", 1, 2, 3)
    teach(files, "z", "0011", 4, 5, 6, 7, 8)  # not his
    assert school_of(files) == ("0013", ["0011", "0013"])


def test_of_schools_that_are_tied_in_all_counts_the_one_that_was_sent_and_else_the_smallest_id() -> None:
    files = three_schools()
    teach(files, "a", "0012", 1, 2)
    teach(files, "b", "0013", 1, 2)
    teach(files, "c", "0011", 3)
    roster = records(roster_of(files), "students")
    assert roster[("0001",)]["school_id"] == "0012", "sent was 0011, where he has no section"
    files["students"][0]["School_id"] = "0013"
    assert school_of(files) == ("0013", ["0012", "0013"])


def test_without_sections_the_sent_school_stands() -> None:
    files = three_schools()
    teach(files, "a", "0012", 2)
    assert school_of(files) == ("0011", ["0011"])


def test_a_teacher_is_of_the_school_where_he_has_most_sections_those_he_helps_in_among_them() -> None:
    files = three_schools()
    teach(files, "a", "0011", 1, teacher="t1")
    teach(files, "b", "0013", 1, teacher="t2", Teacher_2_id="t1")
    teach(files, "c", "0013", 1, teacher="t2", Teacher_2_id="t1")
    assert school_of(files, "t1", "teachers") == ("0013", ["0011", "0013"])
    assert school_of(files, "t2", "teachers") == ("0013", ["0013"])


def test_a_school_that_stays_only_because_of_rejected_rows_stays_in_the_lists_of_those_whose_rows_may_still_give_it() -> None:
    files = three_schools()
    for section_id, school, number in (("a", "0011", 2), ("b", "0012", 2), ("c", "0011", 1)):
        teach(files, section_id, school, number)
    now = roster_of(files)
    files["schools"][0]["School_id"] = "11"
    files["sections"][0]["School_id"], files["sections"][1]["School_id"] = "0012", "0011"
    spoilt = applied(now, plan_of(files, now))
    assert ("0011",) in records(spoilt, "schools")
    assert json.loads(records(spoilt, "students")[("0002",)]["school_ids"]) == ["0011", "0012"]


def test_who_has_a_new_primary_school_moved() -> None:
    files = three_schools()
    teach(files, "a", "0011", 1, 2)
    now = roster_of(files)
    teach(files, "b", "0013", 1)
    teach(files, "c", "0013", 1)
    assert plan_of(files, now).counts["students"].moved == 1


# ---------------------------------------------------------------- sections


@pytest.mark.parametrize(
    ("course", "name", "period", "told"),
    [
        ("Algebra", "sent", "3", "Algebra - Lovelace - 3"),
        ("Algebra", "sent", "", "Algebra - Lovelace"),
        ("", "sent", "3", "sent"),
        ("", "", "3", "Lovelace - 3"),
        ("", "", "", "Lovelace"),
    ],
)
def test_a_section_is_named_by_course_teacher_and_period(course: str, name: str, period: str, told: str) -> None:
    files = three_schools()
    teach(files, "a", "0011", 1, Course_name=course, Name=name, Period=period)
    found = records(roster_of(files), "sections")[("a",)]
    assert (found["name"], found["sis_name"]) == (told, name)


def test_a_section_keeps_its_name_while_the_row_of_its_teacher_cannot_be_read() -> None:
    files = three_schools()
    teach(files, "a", "0011", 1, 2, Period="3")
    now = roster_of(files)
    files["teachers"][0]["Last_name"] = ""
    plan = plan_of(files, now)
    assert plan.counts["teachers"].rejected == 1
    assert plan.outcome == "unchanged"


@pytest.mark.parametrize(
    ("grades", "sent", "told"),
    [
        (["7", "8", "8"], "7", "8"),
        (["8", "7"], "9", "7"),
        (["1", "Kindergarten"], "", "Kindergarten"),
        (["10", "9"], "", "9"),
        (["", "", "9"], "8", "9"),
        (["", ""], "8", "8"),
        (["", ""], "", ""),
    ],
)
def test_a_section_is_of_the_commonest_grade_of_its_students(grades: Sequence[str], sent: str, told: str) -> None:
    files = three_schools()
    for row, grade in zip(files["students"], grades, strict=False):
        row["Grade"] = grade
    teach(files, "a", "0011", *range(1, len(grades) + 1), Grade=sent)
    found = records(roster_of(files), "sections")[("a",)]
    assert (found["grade"], found["sis_grade"]) == (told, sent)


def test_a_subject_that_is_not_clevers_is_guessed_and_the_sent_one_stays_readable() -> None:
    files = three_schools()
    for section_id, subject, course in (("a", "Science", "Algebra"), ("b", "Core", "Algebra"), ("c", "Core", "Mystery"), ("d", "", "Biology")):
        teach(files, section_id, "0011", 1, Subject=subject, Course_name=course)
    found = records(roster_of(files), "sections")
    assert [found[(each,)]["subject"] for each in "abcd"] == ["science", "math", "other", "science"]
    assert found[("b",)]["sis_subject"] == "Core"


# ---------------------------------------------------------------- switched off


@pytest.mark.parametrize("switch", [each.name for each in fields(Derivations)])
def test_each_switch_of_a_district_works_from_its_configuration(switch: str, tmp_path: Path) -> None:
    """Of all that is derived, only what is switched off in [districts.springfield.derive] is as it was sent."""
    (tmp_path / "sftp-ingest.toml").write_text(f"[defaults.limits]\nrecords = 1000000\n[districts.springfield.derive]\n{switch} = false\n")
    chosen = config.load(tmp_path / "sftp-ingest.toml", {}).settings("springfield")
    files = three_schools()
    files["students"].append(student(1, Contact_phone="2125550199"))
    teach(files, "a", "0013", 1, Name="sent", Grade="9", Subject="Core")
    with_it, without, as_sent = (
        applied(empty_roster(), planned(tmp_path / "files", files, settings=each)) for each in (TOLERANT, chosen, replace(TOLERANT, derive=ALL_OFF))
    )
    shown = {
        "primary_school": lambda roster: records(roster, "students")[("0001",)]["school_id"],
        "schools": lambda roster: records(roster, "students")[("0001",)]["school_ids"],
        "section_name": lambda roster: records(roster, "sections")[("a",)]["name"],
        "section_grade": lambda roster: records(roster, "sections")[("a",)]["grade"],
        "subject": lambda roster: records(roster, "sections")[("a",)]["subject"],
        "course": lambda roster: (records(roster, "sections")[("a",)]["course_id"], sorted(records(roster, "courses"))),
        "term": lambda roster: (records(roster, "sections")[("a",)]["term_id"], sorted(records(roster, "terms"))),
        "contact_merge": lambda roster: sum(student_id == "0001" for student_id, _ in records(roster, "contacts")),
    }
    for name, show in shown.items():
        if (name, switch) != ("schools", "primary_school"):  # the list has the primary one, whichever that is
            assert show(without) == show(as_sent if name == switch else with_it), name
    assert show_all(shown, with_it) != show_all(shown, without)


def show_all(shown: Mapping[str, object], roster: Roster) -> list[object]:
    return [show(roster) for show in shown.values() if callable(show)]


def test_courses_that_are_switched_off_end_and_many_of_them_wait_for_a_person() -> None:
    few, many = three_schools(), three_schools()
    for number in range(1, 3):
        teach(few, f"s{number}", "0011", number, Course_name=f"Course {number}")
    for number in range(20):
        teach(many, f"s{number}", "0011", 1 + number % 9, Course_name=f"Course {number}")
    limited = replace(TOLERANT, limits=Limits(updated_share=2), derive=Derivations(course=False))
    for files, ended, waiting in ((few, 2, 0), (many, 0, 20)):
        with TemporaryDirectory() as folder:
            plan = planned(Path(folder), files, roster_of(files), settings=limited)
        assert (plan.counts["courses"].deactivated, plan.counts["courses"].waiting) == (ended, waiting)
        assert plan.counts["sections"].deactivated == 0


# ---------------------------------------------------------------- contacts


def contacts_of(files: Files, switches: Derivations = Derivations(), number: int = 1) -> list[dict[str, str]]:
    return [row for (student_id, _), row in sorted(records(roster_of(files, switches), "contacts").items()) if student_id == f"{number:04}"]


def test_rows_with_one_contact_sis_id_are_one_contact_with_several_phones() -> None:
    files = small()
    files["students"][0]["Contact_phone_type"] = "Cell"
    files["students"] += [student(1, Contact_phone="2125550199", Contact_phone_type="Work", Contact_type=""), student(1, Contact_phone="")]
    (contact,) = contacts_of(files)
    assert (contact["contact_id"], contact["phone"], contact["type"]) == ("c1", "2125550100", "Primary")
    assert json.loads(contact["other_phones"]) == [["2125550199", "Work"]]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"email": "k@example.org", "phone": "1"}, {"email": "k@example.org", "phone": "2"}, True),
        ({"email": "k@example.org"}, {"email": "l@example.org"}, False),
        ({"phone": "2125550100", "type": "Primary"}, {"phone": "2125550100", "type": "Emergency"}, True),
        ({"phone": "2125550100"}, {"phone": "2125550101"}, False),
        ({"type": "Primary"}, {"type": "Emergency"}, False),
        ({"sis_id": "c", "email": "k@example.org"}, {"sis_id": "d", "email": "k@example.org"}, False),
        ({"sis_id": "c", "name": "Kim"}, {"sis_id": "c", "name": "Kim Lee"}, True),
    ],
)
def test_a_contact_is_told_by_sis_id_else_name_and_email_else_name_and_phone_else_all(one: dict[str, str], other: dict[str, str], same: bool) -> None:
    blank = {"sis_id": "", "name": "Kim", "phone": "", "email": "", "type": ""}
    rows = [student(1, **{f"Contact_{column}": text for column, text in (blank | cells).items()}) for cells in (one, other)]
    files = small()
    files["students"][:1] = rows
    assert len(contacts_of(files)) == (1 if same else 2)
    assert len(contacts_of(files, Derivations(contact_merge=False))) == 2


@pytest.mark.parametrize("sis_id", ["shared", ""])
def test_siblings_share_a_contact_under_one_id(sis_id: str) -> None:
    files = small()
    for row in files["students"][:2]:
        row |= {"Contact_sis_id": sis_id, "Contact_name": "Kim"}
    (one,), (other,) = contacts_of(files, number=1), contacts_of(files, number=2)
    assert one["contact_id"] == other["contact_id"]


def test_a_contact_without_a_name_tonight_has_not_left() -> None:
    files = small()
    now = roster_of(files)
    files["students"][0]["Contact_name"] = ""
    plan = plan_of(files, now)
    assert "contact_incomplete" in {each.code for each in plan.findings}
    assert plan.counts["contacts"].deactivated == 0


def test_a_strict_district_leaves_a_contact_without_a_type_out_and_keeps_the_student() -> None:
    files = small()
    files["students"][0]["Contact_type"] = ""
    plan = plan_of(files, strict=True)
    assert (plan.counts["students"].created, plan.counts["contacts"].created) == (6, 5)
    assert plan_of(files).counts["contacts"].created == 6


def test_a_contact_keeps_the_phones_of_rows_that_cannot_be_read() -> None:
    files = small()
    files["students"].append(student(1, Contact_phone="2125550199"))
    now = roster_of(files)
    files["students"][-1]["Last_name"] = ""
    assert plan_of(files, now).outcome == "unchanged"
    del files["students"][-1]
    assert plan_of(files, now).counts["contacts"].updated == 1


def test_contacts_who_leave_trip_a_limit_of_their_own() -> None:
    files = small(30)
    now = roster_of(files)
    for row in files["students"][:12]:
        row |= {"Contact_name": "", "Contact_phone": "", "Contact_type": "", "Contact_sis_id": ""}
    with TemporaryDirectory() as folder:
        plan = planned(Path(folder), files, now, settings=replace(TOLERANT, limits=Limits()))
    assert plan.hold is not None
    assert [(each.entity, each.kind, each.count) for each in plan.hold.reasons] == [("contacts", "removed", 12)]
    assert plan.hold.scope == {"contacts": 12}


# ---------------------------------------------------------------- sources that were not delivered


def test_sections_of_a_source_that_was_not_delivered_count_as_they_stand() -> None:
    files = three_schools()
    teach(files, "a", "0011", 1)
    teach(files, "own", "0013", 1, 2)
    now = roster_of(files)
    by_hand = {}
    for name in ("sections", "enrollments"):
        own = (now.entities[name]["section_id"] == "own").to_numpy(dtype=bool)
        by_hand[name] = now.entities[name].assign(source=pd.array(["custom" if each else "" for each in own], dtype=TEXT))
    now = Roster(dict(now.entities) | by_hand)
    tonight = {name: frame.drop(columns="active") for name, frame in now.entities.items()}
    for name in ("sections", "enrollments", "section_teachers"):
        tonight[name] = tonight[name][(tonight[name]["section_id"] != "own").to_numpy(dtype=bool)].reset_index(drop=True)
    main_only = dict.fromkeys(("sections", "enrollments", "section_teachers"), frozenset({""}))
    for covered, told in ((main_only, ("0013", '["0011", "0013"]')), ({}, ("0011", '["0011"]'))):
        derived = derive.derive(Assembled(Roster(tonight), {}, covered), now, Derivations()).roster.entities["students"]
        assert (derived["school_id"][0], derived["school_ids"][0]) == told


# ---------------------------------------------------------------- laws


@st.composite
def districts(draw: st.DrawFn) -> Files:
    """A valid district of three schools: up to eight students in some of six sections, with changing grades, teachers and schools."""
    files = three_schools()
    files["students"] = []
    for number in sorted(draw(st.sets(st.integers(1, 9), min_size=2, max_size=8))):
        cells = {"School_id": draw(st.sampled_from(SCHOOLS)), "Grade": draw(st.sampled_from(["", "Kindergarten", "7", "8"]))}
        files["students"].append(student(number, **cells))
        for phone in range(draw(st.integers(0, 2))):
            files["students"].append(student(number, **cells, Contact_phone=f"212555020{phone}"))
    numbers = sorted({int(row["Student_id"]) for row in files["students"]})
    for section_id in ("s1", "s2", "s3", "s4", "s5", "s6"):
        members = draw(st.sets(st.sampled_from(numbers), min_size=1, max_size=4))
        cells = {"Teacher_2_id": draw(st.sampled_from(["", "t1", "t2"])), "Grade": draw(st.sampled_from(["", "9"])), "Name": draw(st.sampled_from(["", "N"]))}
        teach(files, section_id, draw(st.sampled_from(SCHOOLS)), *sorted(members), teacher=draw(st.sampled_from(["t1", "t2"])), **cells)
    return files


@QUICK
@given(districts(), st.randoms(use_true_random=False))
def test_the_order_of_rows_means_nothing(files: Files, chance: random.Random) -> None:
    told = content(roster_of(files))
    for rows in files.values():
        chance.shuffle(rows)
    assert content(roster_of(files)) == told


@QUICK
@given(districts())
def test_switched_off_all_that_is_derived_is_what_was_sent(files: Files) -> None:
    roster = roster_of(files, ALL_OFF)
    for name in ("students", "teachers"):
        for row in records(roster, name).values():
            assert (row["school_id"], json.loads(row["school_ids"])) == (row["sis_school_id"], [row["sis_school_id"]])
    for row in records(roster, "sections").values():
        assert [row[column] for column in ("name", "grade", "subject")] == [row[f"sis_{column}"] for column in ("name", "grade", "subject")]
        assert row["term_id"] == row["course_id"] == ""
    assert records(roster, "terms") == records(roster, "courses") == {}


@QUICK
@given(districts())
def test_what_is_derived_is_what_a_plain_count_gives(files: Files) -> None:
    roster = roster_of(files)
    sections = records(roster, "sections")
    students, teachers = records(roster, "students"), records(roster, "teachers")
    enrolled = list(records(roster, "enrollments"))
    size = {section_id: sum(each == section_id for each, _ in enrolled) for (section_id,) in sections}
    for people, links in ((students, enrolled), (teachers, list(records(roster, "section_teachers")))):
        for (person,), row in people.items():
            mine = [section_id for section_id, member in links if member == person]
            places = {sections[(each,)]["school_id"] for each in mine}

            def rank(school: str, mine: list[str] = mine, sent: str = row["sis_school_id"]) -> tuple[int, int, bool, str]:
                there = [each for each in mine if sections[(each,)]["school_id"] == school]
                return (-len(there), -sum(size[each] for each in there), school != sent, school)

            primary = min(places, key=rank) if places else row["sis_school_id"]
            assert (row["school_id"], json.loads(row["school_ids"])) == (primary, sorted(places | {primary}))
    order = ["Kindergarten", "7", "8"]
    for (section_id,), row in sections.items():
        grades = [students[(member,)]["grade"] for each, member in enrolled if each == section_id and students[(member,)]["grade"]]
        assert row["grade"] == (min(grades, key=lambda grade: (-grades.count(grade), order.index(grade))) if grades else row["sis_grade"])


@pytest.mark.parametrize("table", ["students", "teachers", "sections", "enrollments", "schools"])
@settings(QUICK, max_examples=25)
@given(files=districts(), later=districts(), same=st.booleans(), spoiler=st.sampled_from(sorted(SPOILERS)), chance=st.randoms(use_true_random=False))
def test_a_row_that_cannot_be_read_changes_nothing_that_would_have_stayed(
    table: str, files: Files, later: Files, same: bool, spoiler: str, chance: random.Random
) -> None:
    """Whatever is done to one row: where a derived value would be as it was without that fault, it is as it was with it."""
    now = roster_of(files)
    tonight = files if same else later
    lines = csv_of(tonight[table]).split(b"\n")
    victim = chance.randrange(1, len(lines) - 1)
    lines[victim] = SPOILERS[spoiler](lines[victim], lines[0].split(b","))
    plan = plan_of(tonight, now, **{table: b"\n".join(lines)})
    if plan.flowing is None or (table, spoiler) == ("sections", "a section that is unknown"):
        return  # refused; or a valid row that tells of another section
    spoilt, whole = applied(now, plan), applied(now, plan_of(tonight, now))
    for name, column in (("students", "school_id"), ("teachers", "school_id"), ("sections", "grade"), ("sections", "name")):
        before, after = records(now, name), records(whole, name)
        for key, row in records(spoilt, name).items():
            if key in before and key in after:
                assert row[column] == before[key][column] or after[key][column] != before[key][column], (name, key, column)
    open_schools = {school for (school,) in records(spoilt, "schools")}  # a school that no row names any more has left, and nobody stays there
    for name in ("students", "teachers"):
        before, after = records(now, name), records(whole, name)
        for key, row in records(spoilt, name).items():
            if key in before and key in after:
                was, would, told = (set(json.loads(each["school_ids"])) for each in (before[key], after[key], row))
                assert was & would & open_schools <= told, (name, key)
