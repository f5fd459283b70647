"""Every error that Clever itself tells a district of (contract 1.10), with the smallest files that cause it: what is found here instead.

With `strict = true` the answer is as grave as Clever's own; without, it is as tolerant as safety allows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sftp_ingest.findings import Severity
from tests.unit.districts import Files, csv_of, enrollment, planned, section, small, student

STAFF = {"School_id": "0011", "Staff_id": "p1", "Staff_email": "p1@example.org", "First_name": "Pat", "Last_name": "Quill"}
ADMIN = {"School_id": "0011", "Staff_id": "a1", "Admin_email": "a1@example.org", "First_name": "Ann", "Last_name": "Quill"}
CORE = ("schools", "teachers", "students", "sections", "enrollments")


@dataclass(frozen=True)
class Message:
    """One message of Clever's, and the finding that stands for it: `strict` and `tolerant` are its severities, "" where it is not told."""

    said: str
    code: str
    file: str
    column: str = ""
    lines: tuple[int, ...] = ()
    strict: Severity | str = "refuse"
    tolerant: Severity | str = "refuse"
    spoil: Callable[[Files], None] = lambda files: None
    raw: dict[str, bytes | None] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.said} ({self.file}{f', {self.column}' if self.column else ''})"


def good(table: str) -> bytes:
    return csv_of(small()[table] if table != "staff" else [STAFF])


def header(table: str) -> bytes:
    return good(table).split(b"\n", 1)[0] + b"\n"


def without_column(table: str, column: str) -> Callable[[Files], None]:
    def spoil(files: Files) -> None:
        rows = files.get(table, [STAFF])
        files[table] = [{name: value for name, value in row.items() if name != column} for row in rows]

    return spoil


def with_column(table: str, column: str) -> Callable[[Files], None]:
    def spoil(files: Files) -> None:
        files[table] = [row | {column: "1"} for row in files[table]]

    return spoil


def put(table: str, row: int, **cells: str) -> Callable[[Files], None]:
    def spoil(files: Files) -> None:
        files.setdefault(table, [dict(ADMIN if table == "admins" else STAFF)])
        files[table][row] = files[table][row] | cells

    return spoil


def added(table: str, *rows: dict[str, str]) -> Callable[[Files], None]:
    return lambda files: files[table].extend(rows)


def line(table: str, number: int, text: str) -> dict[str, bytes | None]:
    lines = good(table).decode().split("\n")
    lines[number - 1] = text
    return {table: "\n".join(lines).encode()}


def school_unknown(table: str, row: int = 0) -> Message:
    return Message(
        f"schools in {table}.csv missing from schools.csv", "school_unknown", f"{table}.csv", "School_id", (row + 2,), "reject", "reject",
        put(table, row, School_id="11"),
    )  # fmt: skip


def blank(table: str, column: str) -> Message:
    return Message("missing required values", "value_missing", f"{table}.csv", column, (2,), "reject", "reject", put(table, 0, **{column: ""}))


def header_missing(table: str, column: str) -> Message:
    return Message("missing required headers", "header_missing", f"{table}.csv", column, (1,), spoil=without_column(table, column))


REQUIRED = [
    ("schools", "School_id"), ("schools", "School_name"),
    ("students", "School_id"), ("students", "Student_id"), ("students", "Last_name"), ("students", "First_name"),
    ("teachers", "School_id"), ("teachers", "Teacher_id"), ("teachers", "First_name"), ("teachers", "Last_name"),
    ("sections", "School_id"), ("sections", "Section_id"), ("sections", "Teacher_id"),
    ("enrollments", "School_id"), ("enrollments", "Section_id"), ("enrollments", "Student_id"),
    ("staff", "School_id"), ("staff", "Staff_id"), ("staff", "Staff_email"), ("staff", "First_name"), ("staff", "Last_name"),
]  # fmt: skip
"""Contract 1.4; School_number, which may be derived, is told apart."""

LONG = good("students").decode().split("\n")[2].replace("Last2", "Last, Jr.")

UPLOAD = [
    *(Message("required file is missing", "file_missing", f"{table}.csv", raw={table: None}) for table in CORE),
    *(Message("required file is empty", "file_empty", f"{table}.csv", raw={table: b""}) for table in CORE),
    *(Message("required file contains no data", "file_without_rows", f"{table}.csv", raw={table: header(table)}) for table in CORE),
    *(header_missing(table, column) for table, column in REQUIRED),
    Message(
        "missing required headers", "header_derived", "schools.csv", "School_number", (1,), tolerant="warn", spoil=without_column("schools", "School_number"),
    ),
    *(
        Message("unsupported headers", "header_unknown", f"{table}.csv", column, (1,), tolerant="warn", spoil=with_column(table, column))
        for table, column in (
            ("schools", "Nces_id"), ("schools", "MDR_number"), ("teachers", "Shoe_size"), ("students", "Shoe_size"), ("sections", "Room"),
            ("enrollments", "Start_date"), ("students", "Contact_pickup_rights"),
        )
    ),
    Message("unsupported headers", "header_unnamed", "schools.csv", lines=(1,), tolerant="warn", raw={"schools": good("schools").replace(b"\n", b",\n")}),
    Message("headers could not be parsed", "file_not_csv", "students.csv", lines=(1,), raw={"students": b"PK\x03\x04 a spreadsheet"}),
    Message("headers could not be parsed", "file_not_csv", "students.csv", lines=(1,), raw={"students": good("students").replace(b",", b"\t")}),
    Message("headers could not be parsed", "file_not_csv", "sections.csv", lines=(1,), raw={"sections": good("sections").split(b"\n", 1)[1]}),
    Message("missing commas", "row_short", "students.csv", lines=(3,), tolerant="reject", raw=line("students", 3, "0012,0002,Doe,Jo")),
    Message("extra commas", "row_long", "students.csv", lines=(3,), tolerant="reject", raw=line("students", 3, LONG)),
    *(blank(table, column) for table, column in (*REQUIRED, ("schools", "School_number"))),
    Message(
        "students in enrollments.csv missing from students.csv", "student_unknown", "enrollments.csv", "Student_id", (9,), "reject", "reject",
        added("enrollments", enrollment("s1", 99)),
    ),
    Message(
        "sections in sections.csv missing from enrollments.csv", "section_without_students", "sections.csv", "Section_id", (5,), "reject", "warn",
        added("sections", section("s4", "0011", "t1", "Music")),
    ),
    Message(
        "teachers in sections.csv missing from teachers.csv", "teacher_unknown", "sections.csv", "Teacher_id", (2,), "reject", "reject",
        put("sections", 0, Teacher_id="t9"),
    ),
    *(school_unknown(table) for table in ("students", "teachers", "sections", "enrollments")),
    Message("schools in admins.csv missing from schools.csv", "file_deprecated", "admins.csv", tolerant="warn", spoil=put("admins", 0, School_id="11")),
    Message("a grade with a leading zero", "grade_leading_zero", "students.csv", "Grade", (3,), "reject", "", put("students", 1, Grade="01")),
    Message(
        "a file name that is not in lower case", "file_name_case", "Students.csv", tolerant="warn", raw={"students": None, "Students": good("students")},
    ),
    Message(
        "students in guardians.csv missing from students.csv", "file_unknown", "guardians.csv", "", (), "warn", "warn",
        raw={"guardians": b"Student_id,Guardian_id\n9999,g1\n"},
    ),
]  # fmt: skip
"""Contract 1.10.1 and 1.3: the whole upload is rejected, or as with values and references, the row."""

STATUS = [
    Message("Received export with no headers", "file_not_csv", "students.csv", lines=(1,), raw={"students": good("students").split(b"\n", 1)[1]}),
    Message("Received export with zero data", "file_without_rows", "students.csv", raw={"students": header("students")}),
    Message("Unknown Column Names", "header_unknown", "students.csv", "Surname", (1,), tolerant="warn", spoil=with_column("students", "Surname")),
    Message("Bad headers", "row_short", "enrollments.csv", lines=(2,), tolerant="reject", raw=line("enrollments", 2, "0011,s1")),
    Message("Bad headers", "row_long", "enrollments.csv", lines=(2,), tolerant="reject", raw=line("enrollments", 2, "0011,s1,0001,0002")),
    Message("Missing Required SFTP File", "file_missing", "enrollments.csv", raw={"enrollments": None}),
]
"""Contract 1.10.1: what Clever's status box says."""

ROWS = [
    Message(
        "duplicate 'school_id' used", "id_duplicate", "schools.csv", "School_id", (4,), "reject", "reject",
        added("schools", {"School_id": "0011", "School_name": "Another", "School_number": "3"}),
    ),
    Message(
        "duplicate 'teacher_id' used", "id_duplicate", "teachers.csv", "Teacher_id", (4,), "reject", "reject",
        added("teachers", {"School_id": "0012", "Teacher_id": "t1", "First_name": "Ada", "Last_name": "Lovelace", "Teacher_email": "t1@example.org"}),
    ),
    Message(
        "duplicate 'section_id' used", "id_duplicate", "sections.csv", "Section_id", (5,), "reject", "reject",
        added("sections", section("s1", "0012", "t2", "Math")),
    ),
    Message(
        "duplicate 'student_id' used", "id_duplicate", "students.csv", "Student_id", (8,), "reject", "reject", added("students", student(2, School_id="0011")),
    ),
    Message(
        "sections: student … not listed", "student_unknown", "enrollments.csv", "Student_id", (2,), "reject", "reject",
        put("enrollments", 0, Student_id="0001x"),
    ),
    Message(
        "sections: section not listed", "section_unknown", "enrollments.csv", "Section_id", (2,), "reject", "reject", put("enrollments", 0, Section_id="s9"),
    ),
    Message(
        "invalid 'Course Roster' due to error 'no students'", "section_without_students", "sections.csv", "Section_id", (5,), "reject", "warn",
        added("sections", section("s4", "0011", "t1", "Music")),
    ),
    Message("contacts: missing Contact_name", "contact_incomplete", "students.csv", "Contact_name", (3,), "warn", "warn", put("students", 1, Contact_name="")),
    Message(
        "contacts: missing Contact_type", "contact_type_missing", "students.csv", "Contact_type", (3,), "warn", "warn",
        put("students", 1, Contact_type=""),
    ),
    Message(
        "contacts: duplicate identifier", "contact_id_shared", "students.csv", "Contact_sis_id", (2, 3), "warn", "warn",
        put("students", 1, Contact_sis_id="c1"),
    ),
    school_unknown("staff"),
]  # fmt: skip
"""Contract 1.10.2: the row is dropped, and the rest of the sync goes on. (Of a contact who lacks what he needs only the contact is dropped.)"""


def files_of(message: Message) -> Files:
    files = small()
    message.spoil(files)
    return files


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "tolerant"])
@pytest.mark.parametrize("message", [*UPLOAD, *STATUS, *ROWS], ids=str)
def test_what_clever_calls_an_error_has_its_finding(message: Message, strict: bool, tmp_path: Path) -> None:
    severity = message.strict if strict else message.tolerant
    plan = planned(tmp_path, files_of(message), strict=strict, **message.raw)
    found = [each for each in plan.findings if (each.code, each.file, each.column) == (message.code, message.file, message.column)]
    assert [each.severity for each in found] == ([severity] if severity else []), [(each.code, each.file, each.column, each.lines) for each in plan.findings]
    assert [each.lines for each in found] == [message.lines] * len(found)
    assert (plan.outcome == "refused") == (severity == "refuse")


@pytest.mark.parametrize("message", [each for each in (*UPLOAD, *ROWS) if each.strict == "reject"], ids=str)
def test_an_error_in_a_row_leaves_out_that_row_alone_of_its_file(message: Message, tmp_path: Path) -> None:
    plan = planned(tmp_path, files_of(message), strict=True, **message.raw)
    assert plan.counts[message.file.removesuffix(".csv")].rejected == len(message.lines)
    assert {each.code for each in plan.findings if each.severity == "reject" and each.file == message.file} == {message.code}


@pytest.mark.parametrize(
    ("cells", "strict", "kept"),
    [
        ({"Contact_name": ""}, True, 5), ({"Contact_name": ""}, False, 5), ({"Contact_type": ""}, True, 5), ({"Contact_type": ""}, False, 6),
        ({"Contact_sis_id": "c1"}, True, 6), ({"Contact_sis_id": "c1"}, False, 6),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_contact_costs_no_student_his_row(cells: dict[str, str], strict: bool, kept: int, tmp_path: Path) -> None:
    files = small()
    put("students", 1, **cells)(files)
    plan = planned(tmp_path, files, strict=strict)
    assert (plan.counts["students"].created, plan.counts["students"].rejected, plan.counts["contacts"].created) == (6, 0, kept)


def test_admins_are_read_where_clever_no_longer_takes_the_file(tmp_path: Path) -> None:
    files = small()
    put("admins", 0, School_id="11")(files)
    found = [each for each in planned(tmp_path, files).findings if each.severity == "reject"]
    assert [(each.code, each.file, each.column, each.lines) for each in found] == [("school_unknown", "admins.csv", "School_id", (2,))]


def test_a_good_district_passes_where_clever_would_pass_it(tmp_path: Path) -> None:
    files = small() | {"staff": [STAFF]}
    assert planned(tmp_path, files, strict=True).findings == ()


def test_a_school_may_be_for_grades_that_are_written_with_a_zero(tmp_path: Path) -> None:
    files = small()
    files["schools"][0] |= {"Low_grade": "01", "High_grade": "05"}
    assert planned(tmp_path, files, strict=True).counts["schools"].rejected == 0
