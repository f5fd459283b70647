"""The laws of the comparison, as properties over made-up districts."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from sftp_ingest.model import ENTITIES, Roster
from sftp_ingest.planning import Plan, empty_roster
from tests.unit.districts import Files, applied, content, csv_of, enrollment, planned, section, small, student

SECTIONS = ("s1", "s2", "s3")
# no shrinking: each example is a whole night, and the districts are small as they are
QUICK = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=[Phase.explicit, Phase.reuse, Phase.generate])


@st.composite
def districts(draw: st.DrawFn) -> Files:
    """A valid district of up to eight students, drawn from ten, each in some of three sections, with changing cells and contacts."""
    files = small(0)
    files["students"], files["enrollments"] = [], []
    for number in sorted(draw(st.sets(st.integers(1, 10), min_size=1, max_size=8))):
        cells = {
            "School_id": draw(st.sampled_from(["0011", "0012"])),
            "Grade": draw(st.sampled_from(["6", "7"])),
            "ext.house": draw(st.sampled_from(["", "Red"])),
        }
        for contact in range(draw(st.integers(1, 2))):
            files["students"].append(student(number, **told_contact(f"c{number}-{contact}", draw(st.sampled_from(["", "Kim", "Lee"]))), **cells))
        for each in sorted(draw(st.sets(st.sampled_from(SECTIONS), min_size=1))):
            files["enrollments"].append(enrollment(each, number))
    files["sections"] = [section(each, draw(st.sampled_from(["0011", "0012"])), draw(st.sampled_from(["t1", "t2"])), "Math") for each in SECTIONS]
    for row in files["sections"]:
        row["Teacher_2_id"] = draw(st.sampled_from(["", "t1", "t2"]))
    return files


def told_contact(sis_id: str, name: str) -> dict[str, str]:
    """The cells of a contact; all blank without a name, as a contact that is told and not named stays what he was."""
    return {"Contact_sis_id": sis_id, "Contact_name": name} if name else {"Contact_sis_id": "", "Contact_name": "", "Contact_phone": "", "Contact_type": ""}


def plan_of(files: Files, now: Roster | None = None, **raw: bytes | None) -> Plan:
    with TemporaryDirectory() as folder:
        return planned(Path(folder), files, now, **raw)


def roster_of(files: Files) -> Roster:
    return applied(empty_roster(), plan_of(files))


@QUICK
@given(districts(), districts())
def test_applying_the_change_set_gives_tonights_roster(before: Files, after: Files) -> None:
    now = roster_of(before)
    assert content(applied(now, plan_of(after, now))) == content(roster_of(after))


@QUICK
@given(districts(), districts(), districts())
def test_who_left_and_returns_is_the_old_record_again(first: Files, second: Files, third: Files) -> None:
    now = roster_of(first)
    for files in (second, third):
        now = applied(now, plan_of(files, now))
    assert content(now) == content(roster_of(third))
    for name, entity in ENTITIES.items():
        keys = now.entities[name][list(entity.key)]
        assert not keys.duplicated().any(), name


@QUICK
@given(districts())
def test_the_same_night_again_changes_nothing(files: Files) -> None:
    plan = plan_of(files, roster_of(files))
    assert plan.outcome == "unchanged"
    assert plan.flowing is not None and plan.flowing.empty


@QUICK
@given(districts(), districts(), st.randoms(use_true_random=False))
def test_the_order_of_rows_means_nothing(before: Files, after: Files, chance: random.Random) -> None:
    now = roster_of(before)
    shuffled = copy.deepcopy(after)
    for rows in shuffled.values():
        chance.shuffle(rows)
    one, other = plan_of(after, now), plan_of(shuffled, now)
    assert one.flowing is not None and other.flowing is not None
    for name in one.flowing.changes:
        assert one.flowing.changes[name].to_dict("list") == other.flowing.changes[name].to_dict("list"), name
        assert one.flowing.before[name].to_dict("list") == other.flowing.before[name].to_dict("list"), name


Spoiler = Callable[[bytes, list[bytes]], bytes]


def without_cell(column: str) -> Spoiler:
    def spoil(line: bytes, header: list[bytes]) -> bytes:
        cells = line.split(b",")
        if column.encode() in header:
            cells[header.index(column.encode())] = b""
        return b",".join(cells)

    return spoil


SPOILERS: dict[str, Spoiler] = {
    "a required cell is blank": without_cell("Last_name"),
    "the id is blank": without_cell("Student_id"),
    "the school is blank": without_cell("School_id"),
    "a cell is missing": lambda line, _: line.rsplit(b",", 1)[0],
    "half the row is missing": lambda line, _: b",".join(line.split(b",")[:1]),
    "a comma too many in front": lambda line, _: b"x," + line,
    "a quote is never closed": lambda line, _: line.replace(b",", b',"', 1),
    "a NUL in the first cell": lambda line, _: b"\0" + line,
    "bytes of no encoding": lambda line, _: line.replace(b"0", b"\x81", 1),
    "the school lost its zeros": lambda line, _: line.replace(b"0011", b"11", 1).replace(b"0012", b"12", 1),
    "a section that is unknown": lambda line, _: line.replace(b"s1", b"s9").replace(b"s2", b"s9"),
}


@pytest.mark.parametrize("spoiler", SPOILERS)
@pytest.mark.parametrize("table", ["students", "teachers", "sections", "enrollments", "schools"])
@settings(QUICK, max_examples=3)
@given(files=districts(), chance=st.randoms(use_true_random=False))
def test_a_rejected_row_removes_nobody(table: str, spoiler: str, files: Files, chance: random.Random) -> None:
    """Whatever is done to one row of a file: nothing at all is deactivated by it."""
    if (table, spoiler) == ("sections", "a section that is unknown"):
        return  # that row is valid: it says that a section left and another came
    now = roster_of(files)
    lines = csv_of(files[table]).split(b"\n")
    victim = chance.randrange(1, len(lines) - 1)
    lines[victim] = SPOILERS[spoiler](lines[victim], lines[0].split(b","))
    plan = plan_of(files, now, **{table: b"\n".join(lines)})
    if plan.flowing is None:
        assert plan.outcome == "refused"
        return
    removed = {name: frame[frame["operation"] == "deactivated"].to_dict("records") for name, frame in plan.flowing.changes.items()}
    assert not any(removed.values()), removed


def test_a_change_of_section_is_one_move(tmp_path: Path) -> None:
    files = small()
    now = roster_of(files)
    files["sections"].append(section("s4", "0011", "t1", "Math"))
    files["enrollments"][0] = enrollment("s4", 1)
    plan = planned(tmp_path, files, now)
    counts = plan.counts["enrollments"]
    assert (counts.moved, counts.created, counts.deactivated) == (1, 0, 0)
    assert plan.flowing is not None
    move = plan.flowing.changes["enrollments"].to_dict("records")[0]
    assert (move["from_section_id"], move["section_id"], move["student_id"]) == ("s1", "s4", "0001")


def test_a_move_pairs_sections_of_one_course_first(tmp_path: Path) -> None:
    files = small()
    files["sections"] += [section("a-art", "0011", "t1", "Art"), section("z-math", "0011", "t1", "Math")]
    files["enrollments"] += [enrollment("a-art", 3), enrollment("z-math", 5)]
    now = roster_of(files)
    files["enrollments"] = [row for row in files["enrollments"] if row["Student_id"] != "0001"] + [enrollment("a-art", 1), enrollment("z-math", 1)]
    plan = planned(tmp_path, files, now)
    assert plan.flowing is not None
    moves = plan.flowing.changes["enrollments"]
    assert set(zip(moves["from_section_id"], moves["section_id"], strict=True)) == {("s1", "z-math"), ("s3", "a-art")}


def test_a_student_of_another_school_moved(tmp_path: Path) -> None:
    files = small()
    now = roster_of(files)
    files["students"][0]["School_id"] = "0012"
    files["enrollments"] = [row for row in files["enrollments"] if row["Student_id"] != "0001"] + [enrollment("s2", 1)]
    counts = planned(tmp_path, files, now).counts["students"]
    assert (counts.moved, counts.updated) == (1, 0)


def test_a_school_stays_while_rejected_rows_keep_people_in_it(tmp_path: Path) -> None:
    """One lost zero in schools.csv: nobody leaves, nobody's school closes, and the report says so."""
    files = small()
    now = roster_of(files)
    files["schools"][1]["School_id"] = "12"
    plan = planned(tmp_path, files, now)
    assert {name: counts.deactivated for name, counts in plan.counts.items() if counts.deactivated} == {}
    assert "parent_kept" in {each.code for each in plan.findings}


def test_a_row_may_refer_to_a_record_that_stands_although_its_own_row_was_rejected(tmp_path: Path) -> None:
    files = small()
    now = roster_of(files)
    files["teachers"][0]["Last_name"] = ""
    files["sections"][0]["Course_name"] = "Algebra"
    plan = planned(tmp_path, files, now)
    assert plan.counts["teachers"].rejected == 1
    assert plan.counts["sections"].rejected == 0
    assert plan.counts["sections"].updated == 1


def test_who_left_takes_his_enrollments_along_even_if_they_were_sent(tmp_path: Path) -> None:
    files = small()
    now = roster_of(files)
    files["students"] = files["students"][1:]
    plan = planned(tmp_path, files, now)
    assert plan.counts["students"].deactivated == 1
    assert plan.counts["enrollments"].deactivated == 2
    assert plan.counts["contacts"].deactivated == 1


def test_composite_keys_that_read_alike_when_joined_are_two_records(tmp_path: Path) -> None:
    files = small(2)
    files["sections"] = [section("a", "0011", "t1", "Math"), section("ab", "0011", "t1", "Math")]
    files["students"] = [student(1, Student_id="bc"), student(2, Student_id="c")]
    files["enrollments"] = [{"School_id": "0011", "Section_id": "a", "Student_id": "bc"}, {"School_id": "0011", "Section_id": "ab", "Student_id": "c"}]
    now = roster_of(files)
    files["enrollments"] = [{"School_id": "0011", "Section_id": "ab", "Student_id": "c"}, {"School_id": "0011", "Section_id": "ab", "Student_id": "bc"}]
    counts = planned(tmp_path, files, now).counts["enrollments"]
    assert (counts.moved, counts.unchanged, counts.created) == (1, 1, 0)


def test_a_teacher_who_stays_only_because_of_a_rejected_row_makes_room_for_tonights() -> None:
    now = roster_of(small())
    files = small()
    files["sections"][0] |= {"Teacher_id": "t2"}
    files["sections"].insert(1, section("s1", "0011", "t1", "Art"))
    plan = plan_of(files, now)
    after = applied(now, plan)
    team = {row["teacher_id"]: row["position"] for row in after.entities["section_teachers"].to_dict("records") if row["section_id"] == "s1"}
    assert ({each.code for each in plan.findings}, team) == ({"id_duplicate"}, {"t2": "1", "t1": "2"})
    assert plan_of(files, after).outcome == "unchanged"
    files["teachers"] = files["teachers"][1:]
    files["sections"] = [row | {"Teacher_id": "t2"} for row in files["sections"]]
    assert removed_teachers(plan_of(files, after)) == {("s1", "t1"), ("s3", "t1")}, "who leaves makes no room, but goes"


def removed_teachers(plan: Plan) -> set[tuple[str, str]]:
    assert plan.flowing is not None
    links = plan.flowing.changes["section_teachers"]
    return {(row["section_id"], row["teacher_id"]) for row in links.to_dict("records") if row["operation"] == "deactivated"}


def test_a_file_that_was_not_sent_says_nothing_of_its_people(tmp_path: Path) -> None:
    files = small()
    files["staff"] = [{"School_id": "0011", "Staff_id": "p1", "Staff_email": "p@example.org", "First_name": "P", "Last_name": "Q"}]
    now = roster_of(files)
    del files["staff"]
    plan = planned(tmp_path, files, now)
    assert plan.outcome == "unchanged"
    assert plan.counts["staff"].existing == 1


def test_password_columns_and_unnamed_sensitive_columns_are_never_in_a_roster(tmp_path: Path) -> None:
    files = small()
    for row in files["students"]:
        row |= {"Password": "hunter2", "Frl_status": "Free"}
    assert "hunter2" not in repr(content(roster_of(files)))
    assert "Free" not in repr(content(roster_of(files)))


def at_two_schools() -> Files:
    """The small district with a member of staff at both schools, and one at the second."""
    files = small()
    cells = {"Staff_email": "p@example.org", "First_name": "P", "Last_name": "Q"}
    files["staff"] = [{"School_id": school, "Staff_id": person, **cells} for school, person in (("0011", "p1"), ("0012", "p1"), ("0012", "p2"))]
    return files


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("wrong", [{"First_name": ""}, {"School_id": "77"}, {"Staff_id": ""}])
def test_staff_lose_no_school_and_are_not_moved_through_a_rejected_row(row: int, wrong: dict[str, str]) -> None:
    now = roster_of(at_two_schools())
    files = at_two_schools()
    files["staff"][row] |= wrong
    plan = plan_of(files, now)
    assert content(applied(now, plan)) == content(now)
    assert plan.counts["staff"].rejected == 1


def test_staff_lose_no_school_that_stays_though_its_own_row_is_missing() -> None:
    now = roster_of(at_two_schools())
    files = at_two_schools()
    files["schools"] = files["schools"][:1]
    plan = plan_of(files, now)
    assert content(applied(now, plan)) == content(now)
    assert "parent_kept" in {each.code for each in plan.findings}


def test_staff_stay_with_the_district_though_the_row_that_says_so_was_rejected() -> None:
    def of_the_district(**cells: str) -> Files:
        files = at_two_schools()
        files["staff"][1] |= {"School_id": "district"} | cells
        return files

    now = roster_of(of_the_district())
    assert content(applied(now, plan_of(of_the_district(First_name=""), now))) == content(now)


def test_staff_of_whom_a_row_was_rejected_leave_a_school_that_leaves() -> None:
    now = roster_of(at_two_schools())
    files = {name: [row for row in rows if row.get("School_id") != "0012"] for name, rows in at_two_schools().items()}
    files["staff"].append(at_two_schools()["staff"][1])
    plan = plan_of(files, now)
    assert ("school_unknown", "staff.csv") in {(each.code, each.file) for each in plan.findings}
    staff = applied(now, plan).entities["staff"].set_index("sis_id")
    assert (staff.loc["p1", "school_id"], staff.loc["p1", "school_ids"]) == ("0011", '["0011"]')


def of_two_rows(**second: str) -> Files:
    """The small district; its first student tells of one contact in two rows, the second of which has these cells in place of the first's."""
    files = small()
    files["students"][0]["Contact_email"] = "kim@example.org"
    files["students"].insert(1, files["students"][0] | {f"Contact_{name}": text for name, text in second.items()})
    for each in files["students"][2:]:
        each["Contact_email"] = ""
    return files


@pytest.mark.parametrize("second", [{"phone": "", "email": ""}, {"email": "", "type": "Secondary"}, {"phone": "2125550199"}, {"type": "Secondary"}])
@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("wrong", [{"Last_name": ""}, {"School_id": "77"}])
def test_a_contact_loses_nothing_through_a_rejected_row(second: dict[str, str], row: int, wrong: dict[str, str]) -> None:
    now = roster_of(of_two_rows(**second))
    files = of_two_rows(**second)
    files["students"][row] |= wrong
    plan = plan_of(files, now)
    assert plan.counts["students"].rejected == 1
    assert content(applied(now, plan)) == content(now)


def test_a_contact_loses_no_phone_on_a_night_with_a_row_without_a_student() -> None:
    now = roster_of(of_two_rows(phone="", email=""))
    files = of_two_rows(phone="", email="")
    files["students"][0]["Student_id"] = ""
    assert content(applied(now, plan_of(files, now))) == content(now)


def test_a_contact_of_another_student_ends_what_he_had_though_a_row_was_rejected() -> None:
    now = roster_of(of_two_rows())
    files = of_two_rows()
    files["students"][0]["Last_name"] = ""
    files["students"][3]["Contact_phone"] = ""
    contact = applied(now, plan_of(files, now)).entities["contacts"].set_index("student_id").loc["0003"]
    assert contact["phone"] == ""


@pytest.mark.parametrize("slipped", ["Jane Roe", "Roe", "jane.roe1@example.org", "2014-01-02", "1/2/2014"])
def test_what_slipped_into_a_column_of_ids_and_looks_like_none_is_not_shown(slipped: str) -> None:
    files = small()
    files["students"][0] |= {"School_id": slipped}
    files["sections"][0] |= {"Teacher_2_id": slipped}
    files["enrollments"][1] |= {"Student_id": slipped}
    files["enrollments"][2] |= {"Section_id": slipped}
    plan = plan_of(files)
    assert {"school_unknown", "coteacher_unknown", "student_unknown", "section_unknown"} <= {each.code for each in plan.findings}
    assert slipped not in repr(plan.findings)
    assert [each.hint for each in plan.findings if each.code == "school_unknown"] == ["what stands there does not look like an id, and is not shown"]


def test_an_unknown_id_without_a_digit_is_shown_where_ids_have_none() -> None:
    files = small()
    for rows in (files["schools"], *(files[name] for name in ("teachers", "students", "sections", "enrollments"))):
        for row in rows:
            row["School_id"] = {"0011": "ELM", "0012": "OAK"}[row["School_id"]]
    files["students"][0] |= {"School_id": "ASH"}
    assert [each.values for each in plan_of(files).findings if each.code == "school_unknown"] == [("ASH",)]
