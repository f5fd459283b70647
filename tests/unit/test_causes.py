"""Findings name the cause: how many records of every entity it leaves out, and what likely lies behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sftp_ingest.config import Settings
from sftp_ingest.findings import Finding
from sftp_ingest.planning import Plan, empty_roster
from tests.unit.districts import Files, applied, enrollment, planned, section, small, student

FORM = "where 9 stands for a digit, a for a letter"


def of(plan: Plan, code: str, file: str = "") -> Finding:
    return next(each for each in plan.findings if each.code == code and file in ("", each.file))


# ---------------------------------------------------------------- how far a cause reaches


def test_a_cause_counts_the_records_of_every_entity_that_follow_it(tmp_path: Path) -> None:
    files = small(20)
    for row in files["students"][:4]:
        row["Last_name"] = ""
    root = of(planned(tmp_path, files), "value_missing")
    assert root.left_out == {"students": 4, "contacts": 4, "enrollments": 5}


def test_a_section_that_is_left_out_takes_its_teachers_and_enrollments_along(tmp_path: Path) -> None:
    files = small(6)
    files["sections"][0] |= {"School_id": "77", "Teacher_2_id": "t2"}
    for row in files["sections"][1:]:
        row["Teacher_2_id"] = ""
    root = of(planned(tmp_path, files), "school_unknown")
    assert root.left_out == {"sections": 1, "section_teachers": 2, "enrollments": 3}


def test_a_student_with_one_good_row_is_not_left_out_by_another(tmp_path: Path) -> None:
    files = small(6)
    files["students"].append(student(2, Last_name="", Contact_sis_id="c-other"))
    root = of(planned(tmp_path, files), "value_missing")
    assert root.left_out == {"contacts": 1}


def test_rows_without_an_id_count_one_by_one(tmp_path: Path) -> None:
    files = small(6)
    for row in files["students"][:3]:
        row["Student_id"] = ""
    assert of(planned(tmp_path, files), "value_missing").left_out["students"] == 3


def test_enrollments_of_a_student_whose_row_could_not_be_read_follow_that_row(tmp_path: Path) -> None:
    files = small(6)
    lines = [",".join(files["students"][0]), *(",".join(row.values()) for row in files["students"])]
    lines[2] = "0012,0002,Doe"
    plan = planned(tmp_path, files, students="\n".join([*lines, ""]).encode())
    root, follower = of(plan, "row_short"), of(plan, "parent_rejected")
    assert (follower.cause, follower.count) == (root.label, 1)
    assert root.left_out == {"students": 1, "enrollments": 1}
    assert "student_unknown" not in {each.code for each in plan.findings}


def test_attendance_has_no_id_and_counts_by_rows(tmp_path: Path) -> None:
    files = small(6)
    files["attendance"] = [
        {"Student_id": student_id, "Attendance_date": f"2026-02-{day}", "Attendance_status": "Absent"}
        for day, student_id in ((20, "9999"), (21, "9999"), (21, "0001"))
    ]
    assert of(planned(tmp_path, files), "student_unknown", "attendance.csv").left_out == {"attendance": 2}


def test_a_student_of_a_side_file_who_is_told_in_the_main_file_too_is_not_left_out(tmp_path: Path) -> None:
    files = small(6)
    side = [row | {"Last_name": ""} for row in (files["students"][0], student(77))]
    plan = planned(tmp_path, files | {"customstudents/students": side})
    assert of(plan, "value_missing").left_out["students"] == 1


def test_a_warning_leaves_nobody_out(tmp_path: Path) -> None:
    files = small(6)
    files["students"][0]["Grade"] = "Multiple"
    assert [each.left_out for each in planned(tmp_path, files).findings] == [{}]


FAULTS = {
    "students": [{"Last_name": ""}, {"First_name": ""}, {"School_id": "77"}],
    "sections": [{"Teacher_id": "t9"}, {"Teacher_id": ""}, {"School_id": "77"}],
    "teachers": [{"Last_name": ""}],
    "enrollments": [{"Section_id": "s9"}, {"Student_id": "9999"}, {"School_id": ""}],
}


@st.composite
def faulty(draw: st.DrawFn) -> Files:
    """A district with several rows a student now and then, some of whose rows have a fault."""
    files = small(draw(st.integers(2, 8)))
    files["students"] += [student(number, Contact_sis_id=f"x{number}") for number in draw(st.sets(st.integers(1, 2)))]
    files["teachers"].append(dict(files["teachers"][0], Teacher_id="t3"))
    files["sections"] += [section("s4", "0012", "t3", "Art"), section("s5", "0012", "t3", "Art")]
    files["enrollments"] += [enrollment(each, number) for each in ("s4", "s5") for number in (1, 2)]
    for table, faults in FAULTS.items():
        for place in sorted(draw(st.sets(st.integers(0, len(files[table]) - 1), max_size=3))):
            files[table][place] = files[table][place] | draw(st.sampled_from(faults))
    return files


def recounted(files: Files) -> dict[str, dict[str, int]]:
    """Label → entity → records left out, by one plain walk over all rows."""
    told: dict[str, dict[tuple[str, ...], set[str]]] = {}
    rejected: dict[str, dict[str, str]] = {"schools": {}, "teachers": {}, "sections": {}, "students": {}}
    believed: dict[str, set[str]] = {"schools": {"0011", "0012"}, "teachers": set(), "sections": set(), "students": set()}
    required = {"students": ("Last_name", "First_name"), "sections": ("Teacher_id",), "teachers": ("Last_name",), "enrollments": ("School_id",)}
    references = {
        "students": [("School_id", "schools")],
        "teachers": [("School_id", "schools")],
        "sections": [("School_id", "schools"), ("Teacher_id", "teachers")],
        "enrollments": [("School_id", "schools"), ("Section_id", "sections"), ("Student_id", "students")],
    }

    def cause(table: str, row: dict[str, str]) -> str:
        for column in required[table]:
            if not row[column]:
                return f"value_missing|{table}.csv|{column}"
        for column, parent in references[table]:
            if row[column] not in believed[parent]:
                if row[column] in rejected[parent]:
                    return rejected[parent][row[column]]
                alike = sorted(each[column] for each in files[table] if each[column] in ("9999", "77", "s9", "t9"))
                return f"{parent[:-1]}_unknown|{table}.csv|{column}|{alike[0]}"
        return ""

    def records(table: str, row: dict[str, str]) -> Iterator[tuple[str, tuple[str, ...]]]:
        if table == "students":
            yield "students", (row["Student_id"],)
            yield "contacts", (row["Student_id"], row["Contact_sis_id"])
        elif table == "sections":
            yield "sections", (row["Section_id"],)
            if row["Teacher_id"]:
                yield "section_teachers", (row["Section_id"], row["Teacher_id"])
        elif table == "teachers":
            yield "teachers", (row["Teacher_id"],)
        else:
            yield "enrollments", (row["Section_id"], row["Student_id"])

    for table in ("teachers", "students", "sections", "enrollments"):
        keys = {"teachers": "Teacher_id", "students": "Student_id", "sections": "Section_id"}
        for row in files[table]:
            why = cause(table, row)
            for entity, key in records(table, row):
                told.setdefault(entity, {}).setdefault(key, set()).add(why)
            if table in keys and why:
                rejected[table].setdefault(row[keys[table]], why)
        if table in keys:
            believed[table] = {row[keys[table]] for row in files[table] if not cause(table, row)}
    counts: dict[str, dict[str, int]] = {}
    for entity, whys in told.items():
        for why in whys.values():
            for each in why if "" not in why else ():
                counts.setdefault(each, {}).setdefault(entity, 0)
                counts[each][entity] += 1
    return counts


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(faulty())
def test_what_is_left_out_is_what_a_plain_recount_of_all_rows_gives(files: Files) -> None:
    with TemporaryDirectory() as folder:
        plan = planned(Path(folder), files)
    assert {each.label: dict(each.left_out) for each in plan.findings if each.left_out} == recounted(files)


# ---------------------------------------------------------------- ids that nobody has


def schools(files: Files, ids: dict[str, str]) -> Files:
    """The district with a school for every key, one student in each, who names it as the value says."""
    files["schools"] = [{"School_id": each, "School_name": f"School {each}", "School_number": each} for each in ("0011", "0012", *ids)]
    files["students"] += [student(number, School_id=wrong) for number, wrong in enumerate(ids.values(), start=100)]
    return files


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        ({f"00{number}": f"{number}" for number in range(20, 30)}, "10 of 10 unknown ids are known with leading zeros put back"),
        ({f"{number}": f"00{number}" for number in range(20, 30)}, "10 of 10 unknown ids are known with leading zeros taken off"),
        ({f"ab{number}": f"AB{number}" for number in range(20, 30)}, "10 of 10 unknown ids are known in another case"),
        ({f"1-{number}": f"1 {number}" for number in range(20, 30)}, "10 of 10 unknown ids are known in another spelling"),
        ({f"{number}": f"SCH-{number}" for number in range(20, 30)}, "10 of 10 unknown ids are known with SCH- in front taken off"),
        ({f"SCH-{number}": f"{number}" for number in range(20, 30)}, "10 of 10 unknown ids are known with SCH- put in front"),
        ({f"{number}": f"{number}.0" for number in range(20, 30)}, "10 of 10 unknown ids are known with .0 at the end taken off"),
        ({f"{number}-x": f"{number}" for number in range(20, 30)}, "10 of 10 unknown ids are known with -x put at the end"),
    ],
)
def test_unknown_ids_that_one_rule_makes_known_are_one_cause_that_tells_the_rule(ids: dict[str, str], reason: str, tmp_path: Path) -> None:
    found = of(planned(tmp_path, schools(small(6), ids)), "school_unknown")
    assert (found.hint, found.count) == (reason, 10)
    assert found.values == tuple(sorted(ids.values()))


def test_the_share_of_evidence_is_told_and_a_rule_for_the_smaller_part_is_not(tmp_path: Path) -> None:
    ids = {f"00{number}": f"{number}" for number in range(20, 26)}
    files = schools(small(6), ids)
    files["students"] += [student(number, School_id=f"gone-{number}") for number in range(200, 204)]
    plan = planned(tmp_path / "most", files)
    told = {each.values: each.hint for each in plan.findings if each.code == "school_unknown"}
    assert told == {tuple(ids.values()): "6 of 10 unknown ids are known with leading zeros put back"} | {(f"gone-{number}",): "" for number in range(200, 204)}
    files["students"] += [student(number, School_id=f"gone-{number}") for number in range(204, 209)]
    plan = planned(tmp_path / "few", files)
    assert {each.hint for each in plan.findings if each.code == "school_unknown"} == {*(f"{known} is known" for known in ids), ""}


def test_an_id_that_may_be_either_of_two_is_not_guessed(tmp_path: Path) -> None:
    files = small(6)
    files["schools"] += [{"School_id": each, "School_name": each, "School_number": each} for each in ("007", "0007")]
    files["students"][0]["School_id"] = "7"
    assert of(planned(tmp_path, files), "school_unknown").hint == ""


def test_students_whose_enrollments_lost_the_zeros_are_one_finding_with_its_reason(tmp_path: Path) -> None:
    files = small(20)
    for row in files["enrollments"]:
        row["Student_id"] = row["Student_id"].lstrip("0")
    found = of(planned(tmp_path, files), "student_unknown")
    assert found.hint == "20 of 20 unknown ids are known with leading zeros put back"
    assert found.left_out == {"enrollments": 21}


def test_records_that_were_there_and_are_not_sent_tonight_are_told_as_such(tmp_path: Path) -> None:
    before = planned(tmp_path / "before", small(20))
    files = small(20)
    files["students"] = files["students"][:5]
    found = of(planned(tmp_path / "cut", files, applied(empty_roster(), before)), "student_unknown")
    assert found.hint == "15 of 15 unknown ids are known from the nights before, and were not sent tonight"
    files = small(20)
    del files["schools"][1]
    found = of(planned(tmp_path / "school", files, applied(empty_roster(), before)), "school_unknown")
    assert found.hint == "it is known from the nights before, and was not sent tonight"


def test_records_that_lost_their_zeros_tonight_are_told_as_such_though_the_old_ids_still_stand(tmp_path: Path) -> None:
    before = planned(tmp_path / "before", small(20))
    files = small(20)
    for row in files["students"]:
        row["Student_id"] = row["Student_id"].lstrip("0")
    found = of(planned(tmp_path / "tonight", files, applied(empty_roster(), before)), "student_unknown")
    assert found.hint == "20 of 20 unknown ids are known with leading zeros taken off"


# ---------------------------------------------------------------- ids that changed


def rekeyed(folder: Path, first: Files, second: Files, entity: str) -> str:
    """The evidence of the entity's hold on the second night."""
    now = applied(empty_roster(), planned(folder / "first", first))
    plan = planned(folder / "second", second, now, settings=Settings())
    assert plan.hold is not None
    (reason,) = (each for each in plan.hold.reasons if each.entity == entity and each.kind == "rekeyed")
    assert reason.evidence in reason.sentence
    return reason.evidence


def renamed(files: Files, column: str, step: Callable[[str], str]) -> Files:
    return {name: [row | {column: step(row[column])} if column in row else row for row in rows] for name, rows in files.items()}


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (lambda each: each.lstrip("0"), "without leading zeros"),
        (lambda each: "0" + each, "with leading zeros"),
        (lambda each: "X-" + each, "with X- in front"),
        (lambda each: each + ".0", "with .0 at the end"),
    ],
)
def test_people_whose_ids_changed_are_known_again_and_the_rule_is_told(step: Callable[[str], str], told: str, tmp_path: Path) -> None:
    files = small(60)
    evidence = rekeyed(tmp_path, files, renamed(files, "Student_id", step), "students")
    assert evidence == f"60 of 60 are the same people by name and birth date; the new ids are the old ones {told}"


def test_people_known_again_under_ids_without_a_rule_are_told_with_their_share(tmp_path: Path) -> None:
    files = small(60)
    second = renamed(files, "Student_id", lambda each: str(7919 * int(each) % 9973))
    for row in second["students"][:6]:
        row["Last_name"] = "Other"
    assert rekeyed(tmp_path, files, second, "students") == "54 of 60 are the same people by name and birth date"


def test_where_no_name_is_the_same_the_ids_alone_are_evidence(tmp_path: Path) -> None:
    files = small(60)
    second = renamed(renamed(files, "Student_id", lambda each: "X-" + each), "Last_name", lambda each: each + "a")
    assert rekeyed(tmp_path, files, second, "students") == "60 of 60 new ids are old ones with X- in front"


def test_other_people_in_place_of_those_who_left_are_told_as_such(tmp_path: Path) -> None:
    files = small(60)
    second = renamed(renamed(files, "Student_id", lambda each: str(7919 * int(each) % 9973)), "Last_name", lambda each: each + "a")
    evidence = rekeyed(tmp_path, files, second, "students")
    assert evidence == "none of the old people is found among the new by name and birth date or student number or state id or e-mail"


def test_twins_under_one_name_are_not_paired(tmp_path: Path) -> None:
    files = small(60)
    for row in files["students"][:10]:
        row |= {"Last_name": "Same", "First_name": "Same"}
    assert rekeyed(tmp_path, files, renamed(files, "Student_id", lambda each: each.lstrip("0")), "students").startswith("50 of 60 are the same people")


def test_sections_are_known_again_by_name_teacher_and_period(tmp_path: Path) -> None:
    files = small(60)
    files["sections"] = [section(f"s{number}", "0011", "t1", f"Math {number}") | {"Name": f"Math {number}", "Period": "2"} for number in range(1, 31)]
    files["enrollments"] = [enrollment("s1", number) | {"Section_id": f"s{number % 30 + 1}"} for number in range(1, 61)]
    evidence = rekeyed(tmp_path, files, renamed(files, "Section_id", lambda each: "2026-" + each), "sections")
    assert evidence == "30 of 30 are the same sections by name, teacher and period; the new ids are the old ones with 2026- in front"


def test_evidence_names_nobody(tmp_path: Path) -> None:
    files = small(60)
    evidence = rekeyed(tmp_path, files, renamed(files, "Student_id", lambda each: "n" + each), "students")
    assert "Last" not in evidence
    assert "First" not in evidence
    assert "2014" not in evidence


# ---------------------------------------------------------------- columns under another name, or in another place


def columns_renamed(files: Files, table: str, **names: str) -> Files:
    """The district in which columns of one table have other names, in their places."""
    return files | {table: [{names.get(column, column): cell for column, cell in row.items()} for row in files[table]]}


@pytest.mark.parametrize(
    ("column", "name", "evidence"),
    [
        ("Last_name", "Surname", f"the names are alike, it stands in the same place, its cells look as they did before (aaaa99, {FORM})"),
        ("Last_name", "Lastname", f"the names are alike, it stands in the same place, its cells look as they did before (aaaa99, {FORM})"),
        ("First_name", "Vorname", f"it stands in the same place, its cells look as they did before (aaaaa99, {FORM})"),
    ],
)
def test_a_column_with_another_name_than_yesterday_is_recognised(column: str, name: str, evidence: str, tmp_path: Path) -> None:
    files = small(60)
    before = planned(tmp_path / "first", files).shapes
    plan = planned(tmp_path / "second", columns_renamed(files, "students", **{column: name}), before=before)
    assert plan.outcome == "refused"
    root = of(plan, "header_missing")
    assert (root.column, root.hint) == (column, f"{name} may be it under another name: {evidence}")
    assert {each.cause for each in plan.findings if each != root} == {root.label}, "all else that is said of the two columns follows from it"


def test_without_a_history_a_name_or_the_cells_are_evidence_enough(tmp_path: Path) -> None:
    plan = planned(tmp_path, columns_renamed(small(60), "students", Last_name="Surname", DOB="Born"))
    assert of(plan, "header_missing").hint == "Surname may be it under another name: the names are alike"


def test_an_optional_column_that_was_always_sent_is_recognised_by_its_cells(tmp_path: Path) -> None:
    files = small(60)
    before = planned(tmp_path / "first", files).shapes
    plan = planned(tmp_path / "second", columns_renamed(files, "students", DOB="Born"), before=before)
    evidence = f"it stands in the same place, its cells look as they did before (9999-99-99, {FORM}), 100% of its cells are what the column holds (birth date)"
    assert of(plan, "header_gone").hint == f"Born may be it under another name: {evidence}"


def test_a_new_column_beside_a_missing_one_is_not_taken_for_it(tmp_path: Path) -> None:
    files = small(60)
    files["students"] = [{column: cell for column, cell in row.items() if column != "Last_name"} | {"Locker": "open"} for row in files["students"]]
    assert of(planned(tmp_path, files), "header_missing").hint == ""


def test_a_column_that_holds_the_cells_of_another_says_so(tmp_path: Path) -> None:
    files = small(60)
    for number, row in enumerate(files["students"]):
        row |= {"Grade": f"s{number}@example.org", "Student_email": "7"}
    plan = planned(tmp_path, files)
    assert of(plan, "value_unknown").hint == "100% of these cells look like those of Student_email, 6 columns to the right"


def test_ids_that_nobody_has_are_not_taken_for_grades(tmp_path: Path) -> None:
    files = small(60)
    for row in files["students"]:
        row["School_id"] = "0007"
    assert of(planned(tmp_path, files), "school_unknown").hint == ""


def test_columns_that_moved_by_one_are_told(tmp_path: Path) -> None:
    files = small(60)
    for number, row in enumerate(files["students"]):
        row |= {"Grade": "", "DOB": "7", "Contact_name": "2014-01-02", "Contact_phone": f"Parent {number}", "Contact_type": "2125550100"}
    found = of(planned(tmp_path, files), "date_unreadable")
    assert found.column == "DOB"
    assert found.hint == "100% of these cells look like those of Grade, 1 column to the left; 3 columns hold what belongs 1 column to the left"


def test_rows_whose_cells_moved_are_recognised_among_many_that_are_right(tmp_path: Path) -> None:
    files = small(60)
    for row in files["students"][:5]:
        row |= {"Grade": "2014-01-02", "DOB": "7"}
    found = next(each for each in planned(tmp_path, files).findings if each.column == "Grade")
    assert found.count == 5
    assert found.hint.startswith("100% of these cells look like those of DOB, 1 column to the right")


def test_cells_that_look_like_nothing_known_have_no_hint(tmp_path: Path) -> None:
    files = small(60)
    for row in files["students"]:
        row["Grade"] = "Multiple"
    assert of(planned(tmp_path, files), "value_unknown").hint == ""
