"""A night of which a part waits leaves a roster as if that part had not been sent, what is derived included; released, it is as if nothing had waited."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings

from sftp_ingest.config import Settings
from sftp_ingest.model import ENTITIES, Assembled, Derivations, Limits, Roster
from sftp_ingest.planning import Plan, empty_roster
from sftp_ingest.roster import derive
from tests.unit.districts import TOLERANT, Files, applied, content, enrollment, planned, section, small, student, without

STRICTEST = Settings(limits=Limits(records=1, removed_share=0, updated_share=0))
REMOVALS = Settings(limits=Limits(records=1, removed_share=0, updated_share=2))
OFTEN = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.reuse, Phase.generate])

SECTIONS = ("s1", "s2", "s3", "s4", "s5")
SCHOOLS = ("0011", "0012", "0013")


@st.composite
def districts(draw: st.DrawFn) -> Files:
    """A valid district in which everything may be another than in another one, its schools as well."""
    files = small(0)
    schools = sorted(draw(st.sets(st.sampled_from(SCHOOLS), min_size=2)))
    at = st.sampled_from(schools)
    files["schools"] = [{"School_id": school, "School_name": f"School {school}", "School_number": school} for school in schools]
    teachers = sorted(draw(st.sets(st.sampled_from(["t1", "t2", "t3", "t4"]), min_size=1)))
    files["teachers"] = [
        {"School_id": draw(at), "Teacher_id": each, "First_name": "Ada", "Last_name": draw(st.sampled_from(["Lovelace", "King"])), "Teacher_email": ""}
        for each in teachers
    ]
    taught = sorted(draw(st.sets(st.sampled_from(SECTIONS), min_size=1)))
    files["sections"] = []
    for each in taught:
        team = draw(st.permutations([*teachers, ""]))
        lead, second = [*(name for name in team if name), ""][:2]
        row = section(each, draw(at), lead, draw(st.sampled_from(["Math", "Art"]))) | {"Teacher_2_id": draw(st.sampled_from(["", second]))}
        files["sections"].append(row)
    files["students"], files["enrollments"] = [], []
    where = {row["Section_id"]: row["School_id"] for row in files["sections"]}
    for number in sorted(draw(st.sets(st.integers(1, 9), min_size=2, max_size=8))):
        files["students"].append(student(number, School_id=draw(at), Grade=draw(st.sampled_from(["6", "7", "8"]))))
        for each in sorted(draw(st.sets(st.sampled_from(taught)))):
            files["enrollments"].append(enrollment(each, number) | {"School_id": where[each]})
    for each in taught:  # none of them is empty
        if not any(row["Section_id"] == each for row in files["enrollments"]):
            files["enrollments"].append(enrollment(each, int(files["students"][0]["Student_id"])) | {"School_id": where[each]})
    return files


def night(files: Files, now: Roster | None = None, limits: Settings = TOLERANT, approved: str = "") -> Plan:
    with TemporaryDirectory() as folder:
        return planned(Path(folder), files, now, settings=limits, approved=approved)


def roster_of(files: Files) -> Roster:
    return applied(empty_roster(), night(files))


def keys(plan: Plan, name: str) -> set[str]:
    """Who of an entity waits."""
    return set() if plan.waiting is None or name not in plan.waiting.changes else set(plan.waiting.changes[name][ENTITIES[name].key[0]])


def assert_sound(roster: Roster) -> None:
    """Nobody is in what has left, nobody's school is not one of his schools, and no section has two primary teachers."""
    active = {name: frame[frame["active"].to_numpy(dtype=bool)] for name, frame in roster.entities.items()}
    ids = {name: set(active[name][ENTITIES[name].key[0]]) for name in ("schools", "students", "teachers", "sections", "terms", "courses")}
    assert set(active["enrollments"]["section_id"]) | set(active["section_teachers"]["section_id"]) <= ids["sections"]
    assert set(active["enrollments"]["student_id"]) | set(active["contacts"]["student_id"]) <= ids["students"]
    assert set(active["section_teachers"]["teacher_id"]) <= ids["teachers"]
    for column, parent in (("school_id", "schools"), ("course_id", "courses"), ("term_id", "terms")):
        assert set(active["sections"][column]) - {""} <= ids[parent]
    for name in ("students", "teachers"):
        for school, schools in zip(active[name]["school_id"], active[name]["school_ids"], strict=True):
            assert school in ids["schools"]
            assert school in json.loads(schools)
    primary = active["section_teachers"][(active["section_teachers"]["position"] == "1").to_numpy(dtype=bool)]
    assert not primary["section_id"].duplicated().any()


def assert_derived_from_itself(roster: Roster, held: Plan) -> None:
    """What is derived is what follows from the records that are there, but for the records that wait, which are as they were."""
    there = {name: frame[frame["active"].to_numpy(dtype=bool)].drop(columns="active").reset_index(drop=True) for name, frame in roster.entities.items()}
    del there["contacts"]
    derived = derive.derive(Assembled(Roster(there), {}), empty_roster(), Derivations()).roster.entities
    for name, columns in derive.FILLED.items():
        stand, key = ~there[name][ENTITIES[name].key[0]].isin(keys(held, name)).to_numpy(dtype=bool), [ENTITIES[name].key[0], *columns]
        assert there[name].loc[stand, key].to_dict("records") == derived[name].loc[stand, key].to_dict("records"), name
    for name, column in (("courses", "course_id"), ("terms", "term_id")):
        assert set(there[name][column]) == set(there["sections"][column]), name


@pytest.mark.parametrize("limits", [STRICTEST, REMOVALS], ids=["everything", "removals"])
@OFTEN
@given(before=districts(), after=districts())
def test_nothing_is_derived_from_what_waits_and_a_release_leaves_no_trace_of_the_hold(limits: Settings, before: Files, after: Files) -> None:
    now = roster_of(before)
    held = night(after, now, limits)
    assume(held.hold is not None)
    assert held.hold is not None
    beside = applied(now, held)
    assert_sound(beside)
    assert_derived_from_itself(beside, held)
    again = night(after, beside, limits)
    assert again.hold is not None
    assert (again.hold.digest, again.hold.scope) == (held.hold.digest, held.hold.scope)
    assert again.flowing is not None and again.flowing.empty
    released = night(after, beside, limits, held.hold.digest)
    assert released.hold is None
    assert content(applied(beside, released)) == content(roster_of(after))


# ---------------------------------------------------------------- by example


def records(roster: Roster, name: str) -> dict[str, dict[str, str]]:
    """The active records of an entity, by id."""
    frame = roster.entities[name]
    return {row[ENTITIES[name].key[0]]: row for row in frame[frame["active"].to_numpy(dtype=bool)].to_dict("records")}


def held_and_released(before: Files, after: Files, limits: Settings = STRICTEST) -> tuple[Plan, Roster, Roster]:
    """The night that holds a part, the roster that it leaves, and that after the release."""
    now = roster_of(before)
    plan = night(after, now, limits)
    assert plan.hold is not None
    beside = applied(now, plan)
    return plan, beside, applied(beside, night(after, beside, limits, plan.hold.digest))


def test_a_section_keeps_the_grade_of_students_whose_change_waits() -> None:
    before, after = small(), small()
    for row in after["students"]:
        row["Grade"] = "8"
    plan, beside, released = held_and_released(before, after)
    assert plan.hold is not None and plan.hold.scope == {"students": 6}
    assert [each.entity for each in plan.hold.reasons] == ["students"], "that sections change as well follows from it"
    assert {row["grade"] for row in records(beside, "sections").values()} == {"7"}
    assert {row["grade"] for row in records(released, "sections").values()} == {"8"}


def test_a_section_keeps_the_grade_of_students_who_wait_to_leave() -> None:
    before = small()
    before["students"][1]["Grade"] = "8"
    after = without(before, {4, 6})
    plan, beside, released = held_and_released(before, after)
    assert plan.hold is not None and plan.hold.scope == {"students": 2, "enrollments": 2, "contacts": 2}
    assert (records(beside, "sections")["s2"]["grade"], records(released, "sections")["s2"]["grade"]) == ("7", "8")


def test_a_section_keeps_the_name_of_a_teacher_whose_change_waits_and_is_told_anew_in_all_else() -> None:
    before, after = small(), small()
    for row in after["teachers"]:
        row["Last_name"] = "King"
    for files in (before, after):
        files["teachers"].append(dict(small()["teachers"][0], Teacher_id="t3"))
        files["sections"] += [section(each, "0011", "t3", "Art") for each in ("s4", "s5", "s6")]
        files["enrollments"] += [enrollment(each, 1) for each in ("s4", "s5", "s6")]
    after["sections"][0]["Period"] = "3"
    plan, beside, released = held_and_released(before, after, Settings(limits=Limits(records=1, updated_share=0.6)))
    assert plan.hold is not None and plan.hold.scope == {"teachers": 2}
    assert records(beside, "sections")["s1"]["name"] == "Math - Lovelace - 3"
    assert records(released, "sections")["s1"]["name"] == "Math - King - 3"


def test_a_student_keeps_the_school_of_an_enrollment_that_waits_to_end_beside_one_that_comes() -> None:
    before = small(12)
    before["enrollments"] += [enrollment("s2", number) for number in (1, 3)]
    after = small(12)
    _, beside, released = held_and_released(before, after)
    assert records(beside, "students")["0001"]["school_ids"] == '["0011", "0012"]'
    assert records(released, "students")["0001"]["school_ids"] == '["0011"]'


def test_a_new_section_is_told_by_what_does_not_wait_and_the_release_of_what_was_seen_changes_it() -> None:
    """Each night after the first, the new section would change with what waits: were it told as waiting, what was seen could not be released."""
    before, after = small(), small()
    for row in after["students"]:
        row["Grade"] = "8"
    after["sections"] += [section(each, "0011", "t1", "Art") for each in ("s4", "s5")]
    after["enrollments"] += [enrollment(each, number) for each in ("s4", "s5") for number in (1, 3)]
    plan, beside, released = held_and_released(before, after)
    assert (records(beside, "sections")["s4"]["grade"], records(released, "sections")["s4"]["grade"]) == ("7", "8")
    again = night(after, beside, STRICTEST)
    assert plan.hold is not None and again.hold is not None
    assert (again.hold.scope, again.hold.digest) == (plan.hold.scope, plan.hold.digest)
    assert again.counts["sections"].waiting == 0
    assert again.counts["sections"].unchanged == 5


def test_a_course_that_only_waiting_sections_name_waits_with_them() -> None:
    before, after = small(), small()
    for row in after["sections"]:
        row["Course_name"] = "Algebra"
    plan, beside, released = held_and_released(before, after)
    assert plan.hold is not None and plan.hold.scope == {"sections": 3, "courses": 3}
    assert {row["name"] for row in records(beside, "courses").values()} == {"Math", "Art"}
    assert {row["name"] for row in records(released, "courses").values()} == {"Algebra"}


def test_nobody_comes_to_a_school_that_waits_to_exist() -> None:
    """Two schools and all sections get other ids. A student of a third, who is sent to one of the new ones, would be there as his section waits."""
    before, after = small(), small()
    for files in (before, after):
        files["schools"].append({"School_id": "0013", "School_name": "School 0013", "School_number": "0013"})
        files["students"].append(student(7, School_id="0013"))
    for name in ("schools", "teachers", "students", "sections", "enrollments"):
        for row in after[name]:
            row["School_id"] = {"0011": "1011", "0012": "1012"}.get(row["School_id"], row["School_id"])
    for row in after["sections"] + after["enrollments"]:
        row["Section_id"] = "x" + row["Section_id"]
    after["sections"].append(section("x4", "0013", "t1", "Math"))
    after["enrollments"].append(enrollment("x4", 7) | {"School_id": "0013"})
    after["students"][-1]["School_id"] = "1011"
    plan, beside, released = held_and_released(before, after, REMOVALS)
    assert plan.hold is not None and {each.kind for each in plan.hold.reasons} == {"rekeyed"}
    assert_sound(beside)
    assert content(beside) == content(roster_of(before))
    assert content(released) == content(roster_of(after))
