"""The lines of one record in sealed files: whatever the columns are called, however the file is written, wherever it lies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from sftp_ingest.errors import DeliveryError
from sftp_ingest.roster import contract, files, formats, overlay, trace
from sftp_ingest.roster.contract import Contract
from tests.unit.districts import csv_of, delivery_of, ruled, small, written, zipped

PEOPLE = ("students", "teachers", "staff")


def found(folder: Path, identifier: str, kinds: tuple[str, ...] = PEOPLE, rules: Contract | None = None, **options: bool) -> Mapping[str, tuple[int, ...]]:
    delivery, _ = files.listed(delivery_of(folder))
    rules = rules or contract.load(formats.of(delivery).NAME)
    return {each.file: each.lines for each in trace.places(delivery, rules, kinds, identifier, **options)}


def test_a_student_a_teacher_and_a_section_are_found_in_every_file_that_names_them(tmp_path: Path) -> None:
    written(tmp_path / "d", small())
    assert found(tmp_path / "d", "0001") == {"students.csv": (2,), "enrollments.csv": (2, 8)}
    assert found(tmp_path / "d", "t1") == {"teachers.csv": (2,), "sections.csv": (2, 4)}
    assert found(tmp_path / "d", "s1", ("sections",)) == {"sections.csv": (2,), "enrollments.csv": (2, 4, 6)}
    assert found(tmp_path / "d", "0011", ("schools",), mentioned=False) == {"schools.csv": (2,)}
    assert found(tmp_path / "d", "0011", ("schools",))["students.csv"] == (2, 4, 6)
    assert found(tmp_path / "d", "001") == {}


def test_the_same_text_in_another_column_is_nobody(tmp_path: Path) -> None:
    files = small()
    for row in files["students"]:
        row["Student_number"] = "0001"
    written(tmp_path / "d", files)
    assert found(tmp_path / "d", "0001")["students.csv"] == (2,)


@pytest.mark.parametrize(
    "raw",
    [
        b"School_id,Student_id,First_name,Last_name\n0011,other,A,B\n0011, x1 ,A,B\n",
        b'School_id,Student_id,First_name,Last_name\r\n0011,other,A,B\r\n0011,"x1",A,"B, C"\r\n',
        "School_id,student id,First_name,Last_name\n0011,other,A,B\n0011,x1,\u00e9,B\n".encode("utf-16"),
        b'Last_name,First_name,School_id,Student_id\nB,A,0011,other\n"two\nlines",A,0011,x1\n',
        b"School_id,Student_id,First_name,Last_name\n0011,other,A,B\n0011,x1,A\n",
        b'School_id,Student_id,First_name,Last_name\n0011,other,A,B\n0011,x1,"A,B\n',
    ],
)
def test_a_line_is_found_however_the_file_is_written(tmp_path: Path, raw: bytes) -> None:
    written(tmp_path / "d", small(), students=raw)
    assert found(tmp_path / "d", "x1") == {"students.csv": (3,)}


def test_a_cell_over_several_lines_does_not_hide_the_id_behind_it(tmp_path: Path) -> None:
    written(tmp_path / "d", small(), students=b'First_name,Student_id\n"A\nB\nC",x1\nD,x2\n')
    assert found(tmp_path / "d", "x1") == {"students.csv": (2,)}
    assert found(tmp_path / "d", "x2") == {"students.csv": (5,)}


def test_a_districts_own_headers_are_understood(tmp_path: Path) -> None:
    written(tmp_path / "d", small(), students=b"Stu ID,First_name\nx1,A\n")
    own = ruled(tmp_path / "rules", students='[[fields]]\nname = "Student_id"\nheaders = ["Stu_ID"]\n')
    assert found(tmp_path / "d", "x1") == {}
    assert found(tmp_path / "d", "x1", rules=overlay.laid_over(contract.load("clever"), str(own))) == {"students.csv": (2,)}


def test_files_in_an_archive_and_in_side_folders_are_looked_through_too(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    members = {f"{name}.csv": csv_of(rows) for name, rows in small().items()} | {"extensionfields/students_ext.csv": b"sis_id,house\n0001,Red\n"}
    (tmp_path / "d" / "all.zip").write_bytes(zipped(members))
    assert found(tmp_path / "d", "0001") == {"students.csv": (2,), "enrollments.csv": (2, 8), "extensionfields/students_ext.csv": (2,)}
    delivery, _ = files.listed(delivery_of(tmp_path / "d"))
    assert {each.archive for each in trace.places(delivery, contract.load(), PEOPLE, "0001")} == {"all.zip"}


def test_a_person_of_oneroster_is_found_by_his_sourced_id(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for name, text in {
        "orgs": "sourcedId,name,type\no1,School,school\n",
        "users": "sourcedId,orgSourcedIds,role,username,givenName,familyName\nu0,o1,student,a,A,B\nu1,o1,student,a,A,B\n",
        "classes": "sourcedId,title,courseSourcedId,schoolSourcedId\nc1,Math,x,o1\n",
        "enrollments": "sourcedId,classSourcedId,schoolSourcedId,userSourcedId,role\ne1,c1,o1,u1,student\nu1,c1,o1,u2,student\n",
    }.items():
        (tmp_path / "d" / f"{name}.csv").write_text(text, encoding="utf-8")
    rules = contract.load("oneroster")
    assert found(tmp_path / "d", "u1", rules=rules) == {"users.csv": (3,), "enrollments.csv": (2,)}
    assert found(tmp_path / "d", "c1", ("sections",), rules=rules) == {"classes.csv": (2,), "enrollments.csv": (2, 3)}
    assert found(tmp_path / "d", "o1", ("schools",), rules=rules, mentioned=False) == {"orgs.csv": (2,)}


def test_a_sealed_file_that_is_no_longer_the_same_is_told(tmp_path: Path) -> None:
    delivery = written(tmp_path / "d", small())
    (tmp_path / "d" / "students.csv").write_bytes(b"Student_id\n0001\n")
    with pytest.raises(DeliveryError, match="not the file that was sealed"):
        trace.places(delivery, contract.load(), PEOPLE, "0001")
