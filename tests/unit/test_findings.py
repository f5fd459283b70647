"""Each finding of the catalogue, with the smallest file that causes it: code, place, and that nothing raises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest

from sftp_ingest.findings import CATALOGUE, Finding
from sftp_ingest.model import ColumnShape, FileShape, Roster
from sftp_ingest.planning import Plan, empty_roster
from sftp_ingest.roster import drift
from tests.unit import rosters
from tests.unit.districts import TOLERANT, Files, applied, csv_of, enrollment, planned, ruled, section, small, student, zipped

HEADER = b"School_id,Student_id,Last_name,First_name\n"


ADMINS = b"School_id,Staff_id,Admin_email,First_name,Last_name\n0011,a1,a@example.org,Ann,Admin\n"


@dataclass(frozen=True)
class Case:
    """`spoil` changes a good district; raw files go in place of its tables; `rules` are the district's own, as TOML by table."""

    code: str
    file: str
    column: str = ""
    lines: tuple[int, ...] = ()
    outcome: str = "successful"
    spoil: Callable[[Files], None] = lambda files: None
    raw: dict[str, bytes | None] = field(default_factory=dict)
    strict: bool = False
    before: dict[str, FileShape] | None = None
    after_first_night: bool = False
    rules: dict[str, str] = field(default_factory=dict)
    packed: bytes | None = None
    district: Callable[[], Files] = small

    def __str__(self) -> str:
        return f"{self.code}{'-strict' if self.strict else ''}-{self.file}"


def good(table: str) -> bytes:
    return csv_of(small()[table])


def replaced(table: str, line: int, text: str) -> dict[str, bytes | None]:
    """The table's file with one line replaced (1 is the header)."""
    lines = good(table).decode().split("\n")
    lines[line - 1] = text
    return {table: "\n".join(lines).encode()}


def put(table: str, row: int, **cells: str) -> Callable[[Files], None]:
    def spoil(files: Files) -> None:
        files[table][row] = files[table][row] | cells

    return spoil


def appended(table: str, *rows: dict[str, str]) -> Callable[[Files], None]:
    return lambda files: files[table].extend(rows)


def dropped(table: str, row: int) -> Callable[[Files], None]:
    def spoil(files: Files) -> None:
        del files[table][row]

    return spoil


def grown(students: int, **cells: str) -> Callable[[Files], None]:
    """The district with so many students, all with these cells."""

    def spoil(files: Files) -> None:
        files |= {name: small(students)[name] for name in ("students", "enrollments")}
        files["students"] = [row | cells for row in files["students"]]

    return spoil


def classes(sections: int, filled: int) -> Callable[[Files], None]:
    """The district with so many sections more, some of which have one student."""

    def spoil(files: Files) -> None:
        files["sections"] += [section(f"x{number}", "0011", "t1", "Math") for number in range(sections)]
        files["enrollments"] += [enrollment(f"x{number}", 1) for number in range(filled)]

    return spoil


def yesterday(table: str, **shapes: ColumnShape) -> dict[str, FileShape]:
    return {f"{table}.csv": FileShape((), rows=60, shapes=shapes)}


def classes_before(empty: float, size: float) -> dict[str, FileShape]:
    return {"sections.csv": FileShape((), rows=60, measures={drift.SECTIONS_EMPTY: empty, drift.CLASS_SIZE: size})}


LINE_3 = good("students").decode().split("\n")[2]
MANIFEST, USERS = (csv_of(rosters.small()[table]) for table in ("manifest", "users"))

CASES = [
    Case("file_missing", "sections.csv", outcome="refused", raw={"sections": None}),
    Case("file_empty", "teachers.csv", outcome="refused", raw={"teachers": b""}),
    Case("file_empty", "teachers.csv", outcome="refused", raw={"teachers": b"\n \n"}),
    Case("file_without_rows", "students.csv", outcome="refused", raw={"students": HEADER}),
    Case("file_without_rows", "staff.csv", raw={"staff": b"School_id,Staff_id,Staff_email,First_name,Last_name\n"}),
    Case("file_cut", "students.csv", lines=(7,), outcome="refused", raw={"students": good("students")[:-40]}),
    Case("file_cut", "students.csv", outcome="refused", raw={"students": good("students") + b"\0" * 4096}),
    Case(
        "file_cut", "enrollments.csv", lines=(8,), outcome="refused", raw={"enrollments": good("enrollments")[:-1]},
        before={"enrollments.csv": FileShape(("school_id", "section_id", "student_id"), terminated=True)},
    ),
    Case("file_unterminated", "enrollments.csv", lines=(8,), raw={"enrollments": good("enrollments")[:-1]}),
    Case("file_not_csv", "students.csv", lines=(1,), outcome="refused", raw={"students": b"PK\x03\x04 a spreadsheet"}),
    Case("file_not_csv", "students.csv", lines=(1,), outcome="refused", raw={"students": bytes(range(256)) * 20}),
    Case("file_not_csv", "students.csv", lines=(1,), outcome="refused", raw={"students": good("students").replace(b",", b";")}),
    Case("file_not_csv", "students.csv", lines=(1,), outcome="refused", raw={"students": b"<html><body>Log in first</body></html>\n"}),
    Case("archive_unreadable", "night.zip", outcome="refused", packed=b"PK\x03\x04 cut short"),
    Case("archive_too_large", "night.zip", outcome="refused", packed=zipped({"students.csv": b"a" * 3_000_000})),
    Case("archive_twin", "students.csv", packed=zipped({"students.csv": good("students")})),
    Case("file_gone", "staff.csv", before={"staff.csv": FileShape(("staff_id",))}),
    Case("file_twin", "Students.csv", raw={"Students": good("students")}),
    Case(
        "file_emptied", "customstudents/students.csv", raw={"customstudents/students": HEADER},
    ),
    Case("file_deprecated", "admins.csv", raw={"admins": ADMINS}),
    Case("file_deprecated", "admins.csv", outcome="refused", raw={"admins": ADMINS}, strict=True),
    Case("file_name_case", "Students.csv", raw={"students": None, "Students": good("students")}),
    Case("file_name_case", "Students.csv", outcome="refused", raw={"students": None, "Students": good("students")}, strict=True),
    Case("file_unknown", "grades.csv", raw={"grades": b"a,b\n1,2\n"}),
    Case("header_missing", "students.csv", "Last_name", (1,), "refused", raw={"students": good("students").replace(b"Last_name", b"Surname")}),
    Case("header_derived", "schools.csv", "School_number", (1,), raw={"schools": good("schools").replace(b"School_number", b"Nces_id")}),
    Case("header_derived", "schools.csv", "School_number", (1,), "refused", raw={"schools": good("schools").replace(b"ool_number", b"ool_no")}, strict=True),
    Case("header_duplicate", "students.csv", "Grade", (1,), "refused", raw={"students": good("students").replace(b"DOB", b"Grade")}),
    Case("header_unknown", "students.csv", "Shoe_size", (1,), raw={"students": good("students").replace(b"DOB", b"Shoe_size")}),
    Case("header_unknown", "students.csv", "Shoe_size", (1,), "refused", raw={"students": good("students").replace(b"DOB", b"Shoe_size")}, strict=True),
    Case("header_unnamed", "schools.csv", lines=(1,), raw={"schools": good("schools").replace(b"\n", b",\n")}),
    Case("header_gone", "students.csv", "Gender", (1,), before={"students.csv": FileShape(("student_id", "gender"))}),
    Case("encoding_guessed", "students.csv", lines=(3,), raw={"students": good("students").replace(b"Last2", "Müller".encode("cp1252"))}),
    Case("encoding_guessed", "students.csv", raw={"students": good("students").decode().encode("utf-16")}),
    Case("encoding_guessed", "students.csv", lines=(3,), outcome="refused", raw={"students": good("students").replace(b"Last2", b"\xe9")}, strict=True),
    Case("bytes_unreadable", "students.csv", lines=(3,), raw={"students": good("students").replace(b"Last2", b"Bad\x81")}),
    Case("nul_byte", "students.csv", lines=(3,), raw={"students": good("students").replace(b"Last2", b"La\x00st")}),
    Case("row_short", "students.csv", lines=(3,), raw=replaced("students", 3, "0012,0002,Doe")),
    Case("row_short", "students.csv", lines=(3,), outcome="refused", raw=replaced("students", 3, "0012,0002,Doe"), strict=True),
    Case("row_long", "students.csv", lines=(3,), raw=replaced("students", 3, LINE_3.replace("Last2", "Last, Jr."))),
    Case("row_trailing_commas", "students.csv", lines=tuple(range(2, 8)), raw={"students": good("students").replace(b"\n", b",, \n").replace(b",, ", b"", 1)}),
    Case("row_long", "students.csv", lines=(3,), raw=replaced("students", 3, LINE_3 + ",, ")),
    Case("row_huge", "students.csv", lines=(3,), raw=replaced("students", 3, LINE_3 + "," * 2_000_000)),
    Case("row_blank", "students.csv", lines=(8,), raw={"students": good("students") + b",,,,,,,,,\n"}),
    Case("quote_unescaped", "students.csv", lines=(3,), raw=replaced("students", 3, LINE_3.replace("First2", '"Thomas "Tom" Ford"'))),
    Case("quote_smart", "students.csv", lines=(3,), raw=replaced("students", 3, LINE_3.replace("First2", "“First, 2”"))),
    Case("quote_open", "students.csv", lines=(3,), raw=replaced("students", 3, LINE_3.replace("First2", '"First, 2'))),
    Case("value_missing", "students.csv", "Last_name", (3,), spoil=put("students", 1, Last_name="")),
    Case("value_missing", "students.csv", "Student_id", (3,), spoil=put("students", 1, Student_id=" ")),
    Case("value_unknown", "students.csv", "Grade", (3,), spoil=put("students", 1, Grade="Multiple")),
    Case("date_unreadable", "students.csv", "DOB", (3,), spoil=put("students", 1, DOB="02/29/2005")),
    Case("date_unreadable", "sections.csv", "Term_start", (2,), spoil=put("sections", 0, Term_start="soon")),
    Case("value_converted", "students.csv", "Grade", (3,), spoil=put("students", 1, Grade="KG")),
    Case("value_converted", "students.csv", "Contact_type", (3,), spoil=put("students", 1, Contact_type="Mother")),
    Case("value_excel_date", "students.csv", "Grade", (3,), spoil=put("students", 1, Grade="8-Jun")),
    Case("value_malformed", "teachers.csv", "Teacher_email", (2,), spoil=put("teachers", 0, Teacher_email="nobody at home")),
    Case(
        "check_failed", "students.csv", "State_id", (3,), spoil=lambda files: [row.update(State_id=row["Student_id"]) for row in files["students"]],
        rules={"students": '[[checks]]\nname = "No student is the second"\ncolumn = "State_id"\npattern = "00.[^2]"'},
    ),
    Case("grade_leading_zero", "students.csv", "Grade", (3,), spoil=put("students", 1, Grade="01"), strict=True),
    Case("contact_incomplete", "students.csv", "Contact_name", (3,), spoil=put("students", 1, Contact_name="")),
    Case("contact_type_missing", "students.csv", "Contact_type", (3,), spoil=put("students", 1, Contact_type="")),
    Case("contact_type_missing", "students.csv", "Contact_type", (3,), spoil=put("students", 1, Contact_type=""), strict=True),
    Case("contact_id_shared", "students.csv", "Contact_sis_id", (2, 3), spoil=put("students", 1, Contact_sis_id="c1")),
    Case("contacts_many", "students.csv", "Student_id", (3,), spoil=appended("students", *(student(2, Contact_sis_id=f"more{number}") for number in range(5)))),
    Case("id_rounded", "students.csv", "Student_id", (3,), "refused", spoil=put("students", 1, Student_id="1.00095E+08")),
    Case("id_duplicate", "sections.csv", "Section_id", (5,), spoil=appended("sections", section("s1", "0012", "t2", "Math"))),
    Case("id_duplicate", "students.csv", "Student_id", (8,), spoil=appended("students", student(2, School_id="0011"))),
    Case("row_repeated", "enrollments.csv", "", (9,), spoil=lambda files: files["enrollments"].append(files["enrollments"][0])),
    Case("rows_differ", "students.csv", "Student_id", (8,), spoil=appended("students", student(2, First_name="Other"))),
    Case("school_unknown", "students.csv", "School_id", (3,), spoil=put("students", 1, School_id="12")),
    Case("student_unknown", "enrollments.csv", "Student_id", (2,), spoil=put("enrollments", 0, Student_id="9999")),
    Case("section_unknown", "enrollments.csv", "Section_id", (2,), spoil=put("enrollments", 0, Section_id="s9")),
    Case("teacher_unknown", "sections.csv", "Teacher_id", (2,), spoil=put("sections", 0, Teacher_id="t9")),
    Case("staff_unknown", "extensionfields/staff_ext.csv", "Staff_id", (2,), raw={"extensionfields/staff_ext": b"Staff_id,ext.a\np9,1\n", "admins": ADMINS}),
    Case("record_overridden", "customstudents/students.csv", "Student_id", (2,), raw={"customstudents/students": HEADER + b"0011,0001,Own,Name\n"}),
    Case("coteacher_unknown", "sections.csv", "Teacher_2_id", (2,), spoil=lambda files: [row.update(Teacher_2_id="t9") for row in files["sections"][:1]]),
    Case("parent_rejected", "enrollments.csv", "Student_id", (3,), spoil=put("students", 1, Last_name="")),
    Case("section_without_students", "sections.csv", "Section_id", (5,), spoil=appended("sections", section("s4", "0011", "t1", "Music"))),
    Case("section_without_students", "sections.csv", "Section_id", (5,), spoil=appended("sections", section("s4", "0011", "t1", "Music")), strict=True),
    Case("removals_withheld", "students", outcome="unchanged", spoil=put("students", 1, Student_id=""), after_first_night=True),
    Case("manifest_missing", "manifest.csv", raw={"manifest": None}, district=rosters.small),
    Case("manifest_missing", "manifest.csv", outcome="refused", raw={"manifest": None}, strict=True, district=rosters.small),
    Case("manifest_unreadable", "manifest.csv", lines=(1,), raw={"manifest": b"<html></html>"}, district=rosters.small),
    Case("manifest_header", "manifest.csv", lines=(1,), raw={"manifest": MANIFEST.replace(b"value", b"val")}, district=rosters.small),
    Case("manifest_version", "manifest.csv", "manifest.version", spoil=put("manifest", 0, value="1"), district=rosters.small),
    Case("manifest_mode", "manifest.csv", "file.users", spoil=put("manifest", 8, value="whole"), district=rosters.small),
    Case("delta_without_roster", "manifest.csv", outcome="refused", spoil=put("manifest", 8, value="delta"), district=rosters.small),
    Case(
        "delta_unplaced", "courses.csv", "sourcedId", (2,), "unchanged",
        spoil=lambda files: files.update(rosters.changes(courses=files["courses"][:1], users=[rosters.user("p1", "principal", "0011")])),
        raw=dict.fromkeys(("orgs", "academicSessions", "demographics", "classes", "enrollments")), after_first_night=True, district=rosters.small,
    ),
    Case("header_misspelt", "users.csv", "agents", (1,), raw={"users": USERS.replace(b"agentSourcedIds", b"agents")}, district=rosters.small),
    Case("kind_unknown", "users.csv", "role", (2,), spoil=put("users", 0, role="pupil"), district=rosters.small),
    Case(
        "user_unknown", "roles.csv", "userSourcedId", (18,), district=partial(rosters.small, "1.2"),
        spoil=appended("roles", {"sourcedId": "r9", "userSourcedId": "0099", "role": "student", "orgSourcedId": "0011"}),
    ),
    Case("course_unknown", "classes.csv", "courseSourcedId", (2,), spoil=put("classes", 0, courseSourcedId="Physics"), district=rosters.small),
    Case("term_unknown", "classes.csv", "termSourcedIds", (2,), spoil=put("classes", 0, termSourcedIds="z"), district=rosters.small),
    Case("contact_unknown", "users.csv", "agentSourcedIds", (2,), spoil=put("users", 0, agentSourcedIds="c9"), district=rosters.small),
    Case("member_ended", "enrollments.csv", "", (6,), spoil=put("users", 1, enabledUser="false"), district=rosters.small),
    Case(
        "section_without_students", "classes.csv", "sourcedId", (5,), district=rosters.small,
        spoil=appended("classes", rosters.section("s4", "0011", "Art")),
    ),
    Case("section_without_teacher", "classes.csv", "sourcedId", (5,), spoil=appended("classes", rosters.section("s4", "0011", "Art")), district=rosters.small),
    Case("teachers_many", "enrollments.csv", "classSourcedId", spoil=rosters.crowd, district=rosters.small),
    Case("parent_kept", "schools", outcome="unchanged", spoil=dropped("schools", 1), after_first_night=True),
    Case("drift_rows", "students.csv", spoil=grown(120), before={"students.csv": FileShape((), rows=60)}),
    Case("drift_blank", "students.csv", "DOB", spoil=grown(60, DOB=""), before=yesterday("students", dob=ColumnShape(form="9999-99-99"))),
    Case("drift_values", "students.csv", "Grade", spoil=grown(60, Grade="7"), before=yesterday("students", grade=ColumnShape(distinct=6, form="9"))),
    Case("drift_ids", "students.csv", "Student_id", spoil=grown(60), before=yesterday("students", student_id=ColumnShape(form="aa999999"))),
    Case("drift_sections_empty", "sections.csv", "Section_id", spoil=classes(60, filled=10), before=classes_before(0.1, 2.0)),
    Case("drift_class_size", "sections.csv", spoil=classes(60, filled=60), before=classes_before(0.0, 4.0)),
]  # fmt: skip


def first_night(folder: Path, files: Files) -> Roster:
    return applied(empty_roster(), planned(folder, files))


def made(case: Case, tmp_path: Path) -> Plan:
    now = first_night(tmp_path / "first", case.district()) if case.after_first_night else None
    files = case.district()
    case.spoil(files)
    if case.packed is not None:
        (tmp_path / "night").mkdir()
        (tmp_path / "night" / "night.zip").write_bytes(case.packed)
    settings = replace(TOLERANT, contract=str(ruled(tmp_path / "rules", **case.rules)) if case.rules else "")
    return planned(tmp_path / "night", files, now, strict=case.strict, settings=settings, before=case.before, **case.raw)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_smallest_fault_has_its_finding_and_raises_nothing(case: Case, tmp_path: Path) -> None:
    plan = made(case, tmp_path)
    found = [each for each in plan.findings if each.code == case.code and each.file == case.file and each.column in (case.column, "")]
    assert found, [(each.code, each.file, each.column, each.lines) for each in plan.findings]
    assert found[0].count == max(len(case.lines), 1) or not case.lines
    assert found[0].lines[: len(case.lines)] == case.lines
    assert plan.outcome == case.outcome
    assert (plan.flowing is None) == (case.outcome == "refused")


def test_every_code_of_the_catalogue_has_a_case() -> None:
    # only a home can tell, or the ledger: tests/integration/test_inbox.py, test_crossing.py, test_believed.py
    elsewhere = {"file_not_resent", "file_crossed", "delta_overtook"}
    assert {case.code for case in CASES} | elsewhere == set(CATALOGUE)


def test_every_code_has_a_title_and_one_sentence_of_advice() -> None:
    for code in CATALOGUE.values():
        assert code.title and not code.title.endswith("."), code.code
        assert code.advice.endswith((".", ".)")), code.code


def test_a_good_district_has_no_findings(tmp_path: Path) -> None:
    assert planned(tmp_path, small()).findings == ()


@pytest.mark.parametrize("photo", [b"\xff\xd8\xff\xe0" + bytes(range(256)) * 40, b"Student_id;Last_name\n1;M\xfcller\n" * 9])
def test_of_what_is_no_csv_text_nothing_more_is_told(photo: bytes, tmp_path: Path) -> None:
    assert [each.code for each in planned(tmp_path, small(), students=photo).findings if each.file == "students.csv"] == ["file_not_csv"]


def test_an_unknown_school_tells_the_known_one_that_it_resembles(tmp_path: Path) -> None:
    files = small()
    for row in files["students"]:
        row["School_id"] = row["School_id"].lstrip("0")
    plan = planned(tmp_path, files)
    unknown = [each for each in plan.findings if each.code == "school_unknown"]
    assert {(each.values, each.hint, each.count) for each in unknown} == {(("11",), "0011 is known", 3), (("12",), "0012 is known", 3)}


def test_rows_left_out_because_of_their_parent_name_its_cause(tmp_path: Path) -> None:
    files = small()
    files["sections"][0]["School_id"] = "77"
    plan = planned(tmp_path, files)
    root = next(each for each in plan.findings if each.code == "school_unknown")
    follower = next(each for each in plan.findings if each.code == "parent_rejected")
    assert follower.cause == root.label
    assert (follower.file, follower.count) == ("enrollments.csv", 3)


def test_a_wholly_wrong_column_is_one_finding(tmp_path: Path) -> None:
    files = small(500)
    for row in files["students"]:
        row["Last_name"] = ""
    plan = planned(tmp_path, files)
    wrong: list[Finding] = [each for each in plan.findings if each.code == "value_missing"]
    assert len(wrong) == 1
    assert wrong[0].count == 500
    assert len(wrong[0].lines) == 20


def test_no_finding_shows_a_cell_of_a_person(tmp_path: Path) -> None:
    files = small()
    files["students"][0] |= {"Last_name": "", "First_name": "Secretname", "DOB": "Secretdate", "Contact_phone": "Secretphone", "Grade": "Secretname"}
    files["teachers"][0]["Teacher_email"] = "Secretmail"
    assert "Secret" not in repr(planned(tmp_path, files).findings)


@pytest.mark.parametrize("unseen", ["\u00ad", "\u200b", "\u200c", "\u200d", "\u2060", "\ufeff"])
def test_an_id_with_a_letter_that_nobody_sees_tells_the_known_one(unseen: str, tmp_path: Path) -> None:
    files = small()
    files["students"][1]["School_id"] += unseen
    (unknown,) = [each for each in planned(tmp_path, files).findings if each.code == "school_unknown"]
    assert unknown.hint == "0012 is known"


@pytest.mark.parametrize("table", ["students", "enrollments"])
def test_a_student_whose_id_has_a_letter_that_nobody_sees_in_one_file_is_told_to_be_known_but_for_that(table: str, tmp_path: Path) -> None:
    files = small()
    files[table][1]["Student_id"] += "\u200b"
    (unknown,) = [each for each in planned(tmp_path, files).findings if each.code == "student_unknown"]
    assert unknown.hint == "1 of 1 unknown ids are known but for letters that nobody sees"
