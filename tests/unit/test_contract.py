"""A district's own rules laid over the format's: what they change, what they may not change, and the one sentence where they are wrong."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from sftp_ingest.errors import ContractError
from sftp_ingest.findings import Finding
from sftp_ingest.planning import Plan, empty_roster
from sftp_ingest.roster import contract, overlay
from tests.unit.districts import TOLERANT, Files, Rows, applied, content, csv_of, planned, ruled, section, small, student

EXAMPLE = Path(__file__).parents[2] / "examples" / "contract"


def under(folder: Path, files: Files, rules: dict[str, str], *, keep: tuple[str, ...] = (), **more: Any) -> Plan:
    """What the files would do under a district's own rules."""
    own = str(ruled(folder / "rules", **rules)) if rules else ""
    return planned(folder / "night", files, settings=replace(TOLERANT, contract=own, keep_sensitive=keep), **more)


def roster(plan: Plan) -> dict[str, list[tuple[str, ...]]]:
    return content(applied(empty_roster(), plan))


def renamed(rows: Rows, old: str, new: str) -> Rows:
    return [{new if name == old else name: value for name, value in row.items()} for row in rows]


def found(plan: Plan, code: str) -> list[Finding]:
    return [each for each in plan.findings if each.code == code]


def fields(*entries: str) -> str:
    return "".join(f"[[fields]]\n{entry}\n" for entry in entries)


def checks(*entries: str) -> str:
    return "".join(f'[[checks]]\nname = "Check {number}"\n{entry}\n' for number, entry in enumerate(entries, start=1))


# ---------------------------------------------------------------- columns


def test_a_renamed_column_gives_the_same_roster(tmp_path: Path) -> None:
    files = small()
    files["students"] = renamed(files["students"], "Student_id", "Stu-ID")
    assert under(tmp_path / "without", files, {}).outcome == "refused"
    plan = under(tmp_path / "with", files, {"students": fields('name = "Student_id"\nheaders = ["STU ID"]')})
    assert plan.findings == ()
    assert roster(plan) == roster(planned(tmp_path / "plain", small()))


def test_under_the_formats_own_name_it_is_still_read(tmp_path: Path) -> None:
    assert under(tmp_path, small(), {"students": fields('name = "Student_id"\nheaders = ["Stu_ID"]')}).findings == ()


def test_two_columns_that_mean_one_field_refuse_the_delivery(tmp_path: Path) -> None:
    files = small()
    files["students"] = [row | {"Stu_ID": row["Student_id"]} for row in files["students"]]
    plan = under(tmp_path, files, {"students": fields('name = "Student_id"\nheaders = ["Stu_ID"]')})
    assert plan.outcome == "refused"
    assert [each.column for each in found(plan, "header_duplicate")] == ["Stu_ID"]


def test_a_missing_column_tells_under_which_names_it_would_be_read(tmp_path: Path) -> None:
    files = small()
    files["students"] = renamed(files["students"], "Student_id", "Nr")
    (missing,) = found(under(tmp_path, files, {"students": fields('name = "Student_id"\nheaders = ["Stu_ID"]')}), "header_missing")
    assert (missing.column, missing.hint) == ("Student_id", "stu_id would be read as it")


def test_a_renamed_password_is_dropped_as_well(tmp_path: Path) -> None:
    files = small()
    files["students"] = [row | {"Pass": "hunter2"} for row in files["students"]]
    plan = under(tmp_path, files, {"students": fields('name = "Password"\nheaders = ["Pass"]')})
    assert plan.findings == ()
    assert "hunter2" not in repr(roster(plan))


def test_a_new_column_lands_in_ext_and_is_dropped_where_it_is_sensitive_and_not_kept(tmp_path: Path) -> None:
    files = small()
    files["students"] = [row | {"Lunch number": "4711"} for row in files["students"]]
    rules = fields('name = "Lunch number"\nto = "ext.lunch_number"\nsensitive = true')
    kept = under(tmp_path / "kept", files, {"students": rules}, keep=("ext.lunch_number",))
    assert kept.findings == ()
    assert kept.flowing is not None
    assert set(kept.flowing.changes["students"]["ext"]) == {json.dumps({"lunch_number": "4711"})}
    assert "4711" not in repr(roster(under(tmp_path / "dropped", files, {"students": rules})))
    files["students"] = renamed(files["students"], "Lunch number", "ext.lunch_number")
    assert "4711" not in repr(roster(under(tmp_path / "dropped under its own name", files, {"students": rules})))


def test_a_dropped_column_is_not_in_the_roster(tmp_path: Path) -> None:
    plan = under(tmp_path, small(), {"students": fields('name = "Grade"\ndrop = true')})
    assert plan.flowing is not None
    assert set(plan.flowing.changes["students"]["grade"]) == {""}


def test_a_further_required_column_refuses_where_it_is_missing_and_rejects_where_it_is_blank(tmp_path: Path) -> None:
    rules = {"students": fields('name = "State_id"\nconstraints = { required = true }')}
    assert [each.column for each in found(under(tmp_path / "missing", small(), rules), "header_missing")] == ["State_id"]
    files = small()
    files["students"] = [row | {"State_id": "" if number == 2 else str(number)} for number, row in enumerate(files["students"])]
    plan = under(tmp_path / "blank", files, rules)
    (blank,) = found(plan, "value_missing")
    assert (blank.severity, blank.column, blank.lines) == ("reject", "State_id", (4,))
    assert plan.counts["students"].rejected == 1


REQUIRED = [
    (table.name, field.name)
    for table in contract.load().tables.values()
    for field in table.fields
    if field.required and field.column not in table.key and table.name in (*small(), "staff")
]


@pytest.mark.parametrize(("table", "column"), REQUIRED)
def test_every_required_column_but_a_key_can_be_waived(table: str, column: str, tmp_path: Path) -> None:
    files = small()
    files["staff"] = [{"School_id": "0011", "Staff_id": "p1", "Staff_email": "p@example.org", "First_name": "P", "Last_name": "Q"}]
    rules = {table: fields(f'name = "{column}"\nconstraints = {{ required = false }}')}
    blank = {**files, table: [row | {column: ""} for row in files[table]]}
    absent = {**files, table: [{name: value for name, value in row.items() if name != column} for row in files[table]]}
    one, other = under(tmp_path / "blank", blank, rules), under(tmp_path / "absent", absent, rules)
    assert one.outcome == other.outcome == "successful"
    assert not found(other, "header_derived")
    assert not any(counts.rejected for plan in (one, other) for counts in plan.counts.values())
    assert roster(one) == roster(other)


# ---------------------------------------------------------------- values and constraints


def test_a_districts_words_are_read_as_it_says_and_tell_nothing(tmp_path: Path) -> None:
    files = small()
    for row in files["students"]:
        row["Grade"] = "Yr 2 "
    plan = under(tmp_path, files, {"students": fields('name = "Grade"\nvalues = { "Yr 2" = "2", "yr 2" = "3" }')})
    assert plan.findings == ()
    assert plan.flowing is not None
    assert set(plan.flowing.changes["students"]["grade"]) == {"2"}


def test_ids_can_be_mapped_on_both_sides_of_a_reference(tmp_path: Path) -> None:
    files = small()
    for name in ("schools", "teachers", "students", "sections", "enrollments"):
        files[name] = [row | {"School_id": {"0011": "High", "0012": "0012"}[row["School_id"]]} for row in files[name]]
    files["schools"][0]["School_number"] = "0011"
    rules = {name: fields('name = "School_id"\nvalues = { "High" = "0011" }') for name in files}
    plan = under(tmp_path, files, rules)
    assert plan.findings == ()
    assert roster(plan)["students"] == roster(planned(tmp_path / "plain", small()))["students"]


@pytest.mark.parametrize("line", ["High,High School", "High,High, School,0011", 'High,"High School,0011', "High,Hi\0gh,0011", ",,0011"])
def test_a_row_that_cannot_be_read_removes_nobody_though_its_id_is_mapped(line: str, tmp_path: Path) -> None:
    now = applied(empty_roster(), planned(tmp_path / "first", small()))
    lines = csv_of(small()["schools"]).decode().split("\n")
    lines[1] = line
    plan = under(tmp_path, small(), {"schools": fields('name = "School_id"\nvalues = { "High" = "0011" }')}, now=now, schools="\n".join(lines).encode())
    assert plan.flowing is not None
    assert not any((frame["operation"] == "deactivated").any() for frame in plan.flowing.changes.values())


@pytest.mark.parametrize(
    ("constraint", "bad", "good", "hint"),
    [
        ('pattern = "[0-9]{3}"', "12", "123", ""),
        ('enum = ["a", "b"]', "A", "a", "allowed are a, b"),
        ("minLength = 3", "ab", "äöü", "at least 3 characters"),
        ("maxLength = 3", "abcd", "äöü", "at most 3 characters"),
        ("minLength = 2, maxLength = 3", "a", "abc", "at least 2 and at most 3 characters"),
    ],
)
def test_a_constraint_warns_of_cells_that_do_not_meet_it(constraint: str, bad: str, good: str, hint: str, tmp_path: Path) -> None:
    files = small()
    for row, value in zip(files["students"], (bad, good, "", good, bad, good), strict=True):
        row["State_id"] = value
    plan = under(tmp_path, files, {"students": fields(f'name = "State_id"\nconstraints = {{ {constraint} }}')})
    (wrong,) = plan.findings
    assert (wrong.code, wrong.severity, wrong.column, wrong.count, wrong.lines, wrong.hint) == ("value_malformed", "warn", "State_id", 2, (2, 6), hint)


# ---------------------------------------------------------------- checks


@pytest.mark.parametrize(
    ("check", "cells", "failing"),
    [
        ('column = "State_id"\npattern = "[0-9]+"', ["1", "x", "", "22", "2 2", "3"], (3, 6)),
        ('column = "State_id"\nenum = ["1", "2"]', ["1", "x", "", "2", "12", "1"], (3, 6)),
        ('column = "State_id"\nminimum = 3', ["3", "2.9", "", "+4", "none", "1e9"], (3, 6, 7)),
        ('column = "State_id"\nmaximum = 3.5', ["3.5", "3.6", "", "-4", ".5", "007"], (3, 7)),
        ('column = "State_id"\nminimum = 1\nmaximum = 2', ["0", "1", "1.5", "2", "2.1", ""], (2, 6)),
        ('column = "State_id"\nunique = true', ["1", "2", "", "1", "", "3"], (2, 5)),
        ('column = "ext.Bus"\nminimum = 1', ["0", "1", "", "2", "3", "4"], (2,)),
        ('column = "DOB"\nminimum = 2010-01-01', ["2009-12-31", "1/1/2010", "", "20100101", "1/1/2009", "2010-01-02"], (2, 6)),
        ('compare = "Student_number >= State_id"', ["2", "1", "", "10", "x", "0"], (2, 5, 6)),
        ('compare = "Student_number != State_id"', ["1", "2", "", "1.0", "01", "3"], (2,)),
        ('compare = "Student_number==State_id"', ["1", "2", "", "1.0", "01", "3"], (3, 5, 6, 7)),
    ],
)
@pytest.mark.parametrize("severity", ["warn", "reject"])
def test_a_check_tells_exactly_the_cells_that_do_not_meet_it(check: str, cells: list[str], failing: tuple[int, ...], severity: str, tmp_path: Path) -> None:
    files = small()
    column = next(each for each in ("ext.Bus", "DOB", "State_id") if each in check)
    for row, cell in zip(files["students"], cells, strict=True):
        row |= {"Student_number": "1", column: cell}
    plan = under(tmp_path, files, {"students": checks(f'{check}\nseverity = "{severity}"\nadvice = "Ask Kim."')})
    (failed,) = found(plan, "check_failed")
    assert (failed.lines, failed.count, failed.severity, failed.values, failed.hint) == (failing, len(failing), severity, ("Check 1",), "Ask Kim.")
    assert plan.counts["students"].rejected == (len(failing) if severity == "reject" else 0)


def test_grades_are_compared_in_their_own_order(tmp_path: Path) -> None:
    files = small()
    files["schools"][0] |= {"Low_grade": "9", "High_grade": "12"}
    files["schools"][1] |= {"Low_grade": "1", "High_grade": "Kindergarten"}
    (failed,) = found(under(tmp_path, files, {"schools": checks('compare = "Low_grade <= High_grade"')}), "check_failed")
    assert failed.lines == (3,)


def test_dates_are_compared_however_they_are_written(tmp_path: Path) -> None:
    files = small()
    for row, end in zip(files["sections"], ("12/18/2026", "8/1/2026", "in summer"), strict=True):
        row["Term_end"] = end
    (failed,) = found(under(tmp_path, files, {"sections": checks('compare = "Term_end >= Term_start"')}), "check_failed")
    assert (failed.column, failed.lines) == ("Term_end", (3,))


def test_unique_means_one_record_in_however_many_rows(tmp_path: Path) -> None:
    files = small()
    for number, row in enumerate(files["students"]):
        row["State_id"] = str(number)
    files["students"] += [files["students"][0] | {"Contact_name": "Second", "Contact_sis_id": "c99"}]
    rules = {"students": fields('name = "State_id"\nconstraints = { unique = true }')}
    assert under(tmp_path / "one", files, rules).findings == ()
    files["students"][3]["State_id"] = "0"
    (shared,) = under(tmp_path / "two", files, rules).findings
    assert (shared.code, shared.severity, shared.values, shared.lines) == ("check_failed", "warn", ("State_id is unique",), (2, 5, 8))


def test_rows_without_a_key_are_each_a_record(tmp_path: Path) -> None:
    files = small()
    day = {"Attendance_date": "2026-11-20", "Attendance_status": "absent"}
    files["attendance"] = [day | {"Attendance_id": number, "Student_id": f"000{student}"} for student, number in enumerate(("1", "2", "1", ""), start=1)]
    (shared,) = found(under(tmp_path, files, {"attendance": checks('column = "Attendance_id"\nunique = true')}), "check_failed")
    assert shared.lines == (2, 4)


def test_two_checks_of_one_column_are_two_causes(tmp_path: Path) -> None:
    files = small()
    for row in files["students"]:
        row["State_id"] = "x"
    plan = under(tmp_path, files, {"students": checks('column = "State_id"\nminimum = 1', 'column = "State_id"\npattern = "y"')})
    assert len({each.label for each in found(plan, "check_failed")}) == 2


def test_a_check_of_a_column_that_was_not_sent_says_nothing(tmp_path: Path) -> None:
    rules = {"students": checks('column = "State_id"\nminimum = 1', 'compare = "Student_number > Grade"', 'compare = "Graduation_year > ext.Year"')}
    with pytest.raises(ContractError, match="cannot set a grade beside a string"):
        under(tmp_path / "wrong", small(), rules)
    rules = {"students": checks('column = "State_id"\nminimum = 1', 'compare = "Student_number > ext.Year"')}
    assert under(tmp_path / "right", small(), rules).findings == ()


def test_a_row_that_a_check_leaves_out_removes_nobody(tmp_path: Path) -> None:
    now = applied(empty_roster(), planned(tmp_path / "first", small()))
    files = small()
    files["sections"][0]["Term_end"] = "2026-01-01"
    files["schools"][1]["School_name"] = "Closed"
    rules = {
        "sections": checks('compare = "Term_end >= Term_start"\nseverity = "reject"'),
        "schools": checks('column = "School_name"\npattern = "School .*"\nseverity = "reject"'),
    }
    plan = under(tmp_path, files, rules, now=now)
    assert {each.severity for each in found(plan, "check_failed")} == {"reject"}
    assert plan.flowing is not None
    assert not any((frame["operation"] == "deactivated").any() for frame in plan.flowing.changes.values())


def test_no_finding_of_a_check_shows_a_cell(tmp_path: Path) -> None:
    files = small()
    for row in files["students"]:
        row |= {"Last_name": "Secret", "State_id": "Secret"}
    rules = fields('name = "State_id"\nconstraints = { enum = ["1"], maxLength = 2, unique = true }')
    assert "Secret" not in repr(under(tmp_path, files, {"students": rules + checks('column = "Last_name"\npattern = "[a-z]+"')}).findings)


# ---------------------------------------------------------------- the digest, the example


def test_the_digest_covers_the_districts_own_rules(tmp_path: Path) -> None:
    plain = contract.load()
    one = overlay.laid_over(plain, str(ruled(tmp_path / "one", students=fields('name = "Grade"\nvalues = { "Y2" = "2" }'))))
    same = overlay.laid_over(plain, str(ruled(tmp_path / "same", students=fields('name = "Grade"\nvalues = { "Y2" = "2" }'))))
    other = overlay.laid_over(plain, str(ruled(tmp_path / "other", students=fields('name = "Grade"\nvalues = { "Y2" = "3" }'))))
    assert overlay.laid_over(plain, "") == plain
    assert one.digest == same.digest
    assert len({plain.digest, one.digest, other.digest}) == 3


def test_the_example_does_what_it_says(tmp_path: Path) -> None:
    files = small()
    files["schools"] = [{name: value for name, value in row.items() if name != "School_number"} for row in files["schools"]]
    for number, row in enumerate(files["students"], start=1):
        row |= {"State_id": f"{number:010}", "Lunch number": f"L{number}", "Student_street": "Elm St 1", "Graduation_year": "2030", "Grade": "Soph"}
    files["students"] = renamed(files["students"], "Student_id", "Pupil number")
    for row in files["sections"]:
        row |= {"Term_end": "2026-12-18", "Period": "3"}
    settings = replace(TOLERANT, contract=str(EXAMPLE))
    plan = planned(tmp_path / "good", files, settings=settings)
    assert plan.findings == ()
    assert plan.flowing is not None
    people = plan.flowing.changes["students"]
    assert (set(people["grade"]), set(people["street"]), people["ext"].iloc[0]) == ({"10"}, {""}, '{"lunch_number": "L1"}')
    files["students"][0] |= {"State_id": "12", "Graduation_year": "2020", "Student_email": "a@example.org", "Lunch number": "123456789"}
    files["students"][1]["State_id"] = files["students"][2]["State_id"]
    files["students"].append(files["students"][3] | {"Pupil number": "0007", "State_id": ""})
    files["sections"][0] |= {"Term_start": "2026-01-07", "Term_end": "2025-12-18", "Period": "3(A)"}
    plan = planned(tmp_path / "bad", files, settings=settings)
    assert {(each.code, each.severity, each.column, each.lines) for each in plan.findings if each.code != "parent_rejected"} == {
        ("value_missing", "reject", "State_id", (8,)),
        ("value_malformed", "warn", "State_id", (2,)),
        ("value_malformed", "warn", "ext.lunch_number", (2,)),
        ("check_failed", "warn", "State_id", (3, 4)),
        ("check_failed", "warn", "Graduation_year", (2,)),
        ("check_failed", "warn", "Student_email", (2,)),
        ("check_failed", "reject", "Term_end", (2,)),
        ("check_failed", "warn", "Term_start", (2,)),
        ("check_failed", "warn", "Period", (2,)),
    }


# ---------------------------------------------------------------- rules that are wrong

WRONG = [
    ({"student": ""}, "student.toml: clever has no table student; students may be meant; known are schools"),
    ({"students": "fields = 3"}, "students.toml: fields must be entries that begin with [[fields]]"),
    ({"students": "[[field]]"}, "students.toml: the key field is unknown; fields may be meant; known are fields, checks"),
    ({"students": "core = false"}, "students.toml: the key core is unknown"),
    ({"students": "[[fields]"}, "students.toml is not TOML"),
    ({"students": fields("")}, "students.toml: an entry under fields has no name"),
    ({"students": fields("name = 3")}, "fields: name must be text"),
    ({"students": fields('name = "Last_nam"')}, 'Last_nam is no column of students.csv; a new one needs to = "ext.…"; last_name may be meant'),
    ({"students": fields('name = "Lunch"\nto = "lunch"')}, "Lunch: to must be ext. and a name"),
    ({"students": fields('name = "Lunch"\nto = "ext.lunch number"')}, "holds no space and no further period"),
    ({"students": fields('name = "Lunch"\nto = "ext.lunch"\ntype = "dat"')}, "the type dat is unknown; date may be meant"),
    ({"students": fields('name = "Grade"\ntype = "string"')}, "Grade: type cannot be said of a column of the format"),
    ({"students": fields('name = "Grade"', 'name = "grade"')}, "Grade has two entries under fields"),
    ({"students": fields('name = "Grade"\nheader = ["Year"]')}, "Grade: the key header is unknown; headers may be meant"),
    ({"students": fields('name = "Grade"\nheaders = "Year"')}, "Grade: headers must be a list of texts"),
    ({"students": fields('name = "Grade"\nheaders = [" "]')}, "Grade: headers holds a blank"),
    ({"students": fields('name = "Grade"\nheaders = ["DOB"]')}, "Grade: the header dob already means DOB"),
    ({"students": fields('name = "Grade"\nheaders = ["A"]', 'name = "DOB"\nheaders = ["a"]')}, "the header a already means Grade"),
    ({"students": fields('name = "Grade"\nvalues = { "a" = 9 }')}, "Grade: values must pair texts"),
    ({"students": fields('name = "Grade"\nvalues = { "" = "9" }')}, "Grade: values must pair texts"),
    ({"students": fields('name = "Grade"\nvalues = { "A" = "99" }')}, "Grade: values: A cannot stand for 99, which is no grade that the format knows"),
    ({"sections": fields('name = "Term_end"\nvalues = { "open" = "never" }')}, "Term_end: values: open cannot stand for never, which is no date"),
    ({"students": fields('name = "Contact_type"\nvalues = { "A" = "Friend" }')}, "A cannot stand for Friend, which is no contact type"),
    ({"students": fields('name = "Grade"\nconstraints = true')}, "Grade: constraints must be a table"),
    ({"students": fields('name = "Grade"\nconstraints = { require = true }')}, "Grade: constraints: the key require is unknown; required may be meant"),
    ({"students": fields('name = "Grade"\nconstraints = { required = "yes" }')}, "Grade: constraints: required must be true or false"),
    ({"students": fields('name = "Grade"\nconstraints = { pattern = "(" }')}, "Grade: constraints: pattern is no regular expression"),
    ({"students": fields('name = "Grade"\nconstraints = { pattern = "(?=a)" }')}, "Grade: constraints: pattern is no regular expression"),
    ({"students": fields('name = "Grade"\nconstraints = { enum = [] }')}, "Grade: constraints: enum allows nothing"),
    ({"students": fields('name = "Grade"\nconstraints = { minLength = 3, maxLength = 2 }')}, "minLength and maxLength must be"),
    ({"students": fields('name = "Student_id"\nconstraints = { required = false }')}, "Student_id: constraints: required cannot be false of a key"),
    ({"sections": fields('name = "Section_id"\nconstraints = { unique = false }')}, "Section_id: constraints: unique cannot be false of a key"),
    ({"students": fields('name = "Student_id"\ndrop = true')}, "Student_id: drop cannot be said of a key or a required column"),
    ({"students": fields('name = "Last_name"\ndrop = true')}, "Last_name: drop cannot be said of a key or a required column"),
    ({"students": fields('name = "Password"\ndrop = false')}, "Password: this column is never read"),
    ({"students": fields('name = "Frl_status"\nsensitive = false')}, "Frl_status: sensitive cannot be taken away"),
    ({"students": fields('name = "Frl_status"\nconstraints = { required = true }')}, "Frl_status, which is not kept; keep_sensitive must name frl_status"),
    ({"students": checks('column = "Frl_status"\nenum = ["Free"]')}, "Frl_status, which is not kept; keep_sensitive must name frl_status"),
    ({"enrollments": fields('name = "Seat"\nto = "ext.seat"')}, "Seat: enrollments.csv takes no ext. columns"),
    ({"students": "[[checks]]"}, "an entry under checks has no name"),
    ({"students": checks('column = "Grade"')}, "Check 1: a check has one of"),
    ({"students": checks('column = "Grade"\nenum = ["1"]\npattern = "1"')}, "Check 1: a check has one of"),
    ({"students": checks('colum = "Grade"\nenum = ["1"]')}, "Check 1: the key colum is unknown; column may be meant"),
    ({"students": checks('enum = ["1"]')}, "Check 1: column: nothing is no column of students.csv"),
    ({"students": checks('column = "Garde"\nenum = ["1"]')}, "Check 1: column: Garde is no column of students.csv; grade may be meant"),
    ({"students": checks('column = "Password"\npattern = "."')}, "Check 1: column: Password is never read"),
    ({"students": checks('column = "Grade"\nenum = ["1"]\nseverity = "refuse"')}, "Check 1: severity must be warn or reject"),
    ({"students": checks('column = "Grade"\nunique = false')}, "Check 1: unique can only be true"),
    ({"students": checks('column = "DOB"\nminimum = 3')}, "Check 1: minimum must be a date, as 2026-08-17 without quotes"),
    ({"students": checks('column = "State_id"\nmaximum = "3"')}, "Check 1: maximum must be a number"),
    ({"students": checks('column = "State_id"\nmaximum = nan')}, "Check 1: maximum must be a number"),
    ({"students": checks('column = "State_id"\nminimum = 3\nmaximum = 2')}, "Check 1: minimum is above maximum"),
    ({"students": checks('compare = "DOB"')}, "Check 1: compare must name two columns"),
    ({"students": checks('column = "DOB"\ncompare = "DOB > DOB"')}, "Check 1: column cannot be said beside compare"),
    ({"students": checks('compare = "DOB > Grade"')}, "Check 1: compare cannot set a date beside a grade"),
    ({"students": checks('column = "DOB"\nminimum = 2010-01-01') * 2}, "students.toml: two checks have the name Check 1"),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "sentence"), WRONG, ids=[sentence for _, sentence in WRONG])
def test_wrong_rules_are_told_in_one_sentence_with_file_and_key(rules: dict[str, str], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ContractError) as told:
        under(tmp_path, small(), rules)
    assert sentence in str(told.value)
    assert "\n" not in str(told.value)


def test_a_word_may_stand_for_whatever_its_column_takes_and_for_a_blank(tmp_path: Path) -> None:
    words = {"Grade": ("9th", "Other", ""), "DOB": ("8/31/2014", ""), "Gender": ("female",), "Student_city": ("anything",), "Home_language": ("Klingon",)}
    own = fields(
        *(f'name = "{name}"\nvalues = {{ {", ".join(f"w{at} = {json.dumps(each)}" for at, each in enumerate(told))} }}' for name, told in words.items())
    )
    assert overlay.rules("clever", str(ruled(tmp_path, students=own)), ()).tables["students"].columns["grade"].values[0] == ("w0", "9th")


def test_only_sensitive_columns_can_be_kept(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="keep_sensitive names shoe_size, which is no sensitive column; known are home_language"):
        under(tmp_path, small(), {}, keep=("frl_status", "shoe_size"))
    with pytest.raises(ContractError, match=r"names frl_stats, .* frl_status may be meant"):
        under(tmp_path, small(), {}, keep=("frl_stats",))
    own = {"students": fields('name = "Shoe size"\nto = "ext.shoe_size"\nsensitive = true')}
    assert under(tmp_path, small(), own, keep=("frl_status", "ext.shoe_size")).outcome == "successful"


def test_a_folder_that_is_none_or_empty_is_wrong(tmp_path: Path) -> None:
    for folder in (tmp_path / "nowhere", ruled(tmp_path / "empty")):
        with pytest.raises(ContractError, match=folder.name):
            overlay.laid_over(contract.load(), str(folder))


WORDS = st.sampled_from(
    ["", "Grade", "Student_id", "State_id", "ext.a", "ext.a b", "DOB", "9", "warn", "reject", "(", "DOB > DOB", "Grade == Grade", "ext.a < ext.b"]
)
LEAVES = WORDS | st.booleans() | st.integers(-2, 5) | st.floats() | st.dates() | st.datetimes() | st.none().map(lambda _: [])
THINGS = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=6)
ENTRIES = st.lists(
    st.dictionaries(st.sampled_from((*overlay.FIELD_KEYS, *overlay.CHECK_KEYS, "other")), THINGS, max_size=4).flatmap(
        lambda entry: st.builds(lambda name, column: {"name": name, "column": column} | entry, WORDS, WORDS)
    ),
    max_size=2,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.fixed_dictionaries({}, optional={"fields": ENTRIES | THINGS, "checks": ENTRIES | THINGS, "other": THINGS}))
def test_whatever_a_file_says_it_is_a_contract_or_one_sentence(told: dict[str, Any]) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "students.toml"
        file.write_text("\n".join(f"{key} = {toml(value)}" for key, value in told.items()), encoding="utf-8")
        tomllib.loads(file.read_text(encoding="utf-8"))
        try:
            made = overlay.laid_over(contract.load(), folder)
        except ContractError as fault:
            assert "students.toml" in str(fault)
        else:
            assert "student_id" in made.tables["students"].columns


def toml(value: Any) -> str:
    """The value in TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(toml(each) for each in value) + "]"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float):
        return str(value)
    return json.dumps(value)


def test_the_rules_of_one_night_hold_for_section_rows_of_their_own_file_only(tmp_path: Path) -> None:
    files = small()
    files["sections"].append(section("s4", "0011", "t1", "Bad"))
    files["students"].append(student(7))
    files["enrollments"].append({"School_id": "0011", "Section_id": "s4", "Student_id": "0007"})
    plan = under(tmp_path, files, {"sections": checks('column = "Course_name"\nenum = ["Math", "Art"]\nseverity = "reject"')})
    assert {name: counts.rejected for name, counts in plan.counts.items() if counts.rejected} == {"sections": 1, "enrollments": 1}
    (follower,) = found(plan, "parent_rejected")
    assert follower.cause == found(plan, "check_failed")[0].label
