"""Rejected rows come back as they were sent, each with what is wrong; what may not be stored does not come back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from sftp_ingest.findings import CATALOGUE
from sftp_ingest.model import Details
from sftp_ingest.planning import details, empty_roster, plan
from sftp_ingest.roster import fixit
from tests.unit.districts import TOLERANT, Files, csv_of, section, small, student, written

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=[Phase.explicit, Phase.reuse, Phase.generate])


def details_of(folder: Path, files: Files, **raw: bytes | None) -> Details:
    delivery = written(folder, files, **raw)
    return details(delivery, plan(delivery, TOLERANT, empty_roster()))


def rows(table: pa.Table) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = table.to_pylist()
    return found


def replaced(table: bytes, line: int, text: bytes) -> bytes:
    lines = table.split(b"\n")
    lines[line - 1] = text
    return b"\n".join(lines)


def test_a_good_delivery_has_no_rejected_rows(tmp_path: Path) -> None:
    made = details_of(tmp_path, small())
    assert made.rejected == made.left_out == {}
    assert made.rows["students.csv"] == 6


def test_a_rejected_row_has_the_senders_columns_in_his_order_and_what_is_wrong(tmp_path: Path) -> None:
    files = small()
    for row in files["students"]:
        row["Shoe_size"] = " 44 "
    files["students"] = [{"Student_id": row["Student_id"]} | row for row in files["students"]]
    files["students"][1]["Last_name"] = ""
    rejected = details_of(tmp_path, files).rejected["students.csv"]
    assert rejected.column_names == [*files["students"][0], *fixit.APPENDED]
    assert rows(rejected) == [
        files["students"][1] | {"finding": "value_missing", "column": "Last_name", "advice": "Fill the cell in the student information system.", "line": "3"}
    ]


def test_a_row_that_follows_its_parent_is_told_what_is_wrong_with_the_parent(tmp_path: Path) -> None:
    files = small()
    files["sections"][0]["School_id"] = "11"
    made = details_of(tmp_path, files)
    assert made.left_out == {"sections.csv": 1, "enrollments.csv": 3}
    root = rows(made.rejected["sections.csv"])[0]
    assert (root["finding"], root["column"]) == ("school_unknown", "School_id")
    assert root["advice"].endswith("look for lost leading zeros. 0011 is known.")
    followers = rows(made.rejected["enrollments.csv"])
    assert {(row["finding"], row["column"]) for row in followers} == {("parent_rejected", "Section_id")}
    title = CATALOGUE["school_unknown"].title
    assert all(f"{title[0].lower()}{title[1:]} (sections.csv, School_id)" in row["advice"] for row in followers)
    assert [row["line"] for row in followers] == ["2", "4", "6"]


def test_rows_that_could_not_be_read_come_back_as_well_as_they_can(tmp_path: Path) -> None:
    good = csv_of(small()["students"])
    raw = replaced(replaced(good, 3, b"0012,0002,Doe"), 5, b'0012,0004,Roe, Jr.,First4,7,2014-01-02,Parent 4,2125550100,Primary,"c,4"')
    made = details_of(tmp_path, small(), students=raw)
    short, long = rows(made.rejected["students.csv"])
    assert (short["finding"], short["line"], short["Last_name"], short["First_name"]) == ("row_short", "3", "Doe", "")
    assert (long["finding"], long["line"], long["Last_name"], long["First_name"], long["surplus 1"]) == ("row_long", "5", "Roe", " Jr.", "c,4")


def test_a_row_over_several_lines_comes_back_whole(tmp_path: Path) -> None:
    files = small()
    files["students"][1] |= {"Last_name": "", "Contact_name": 'Kim "K"\nLee,\n\nPark'}
    found = rows(details_of(tmp_path, files).rejected["students.csv"])
    assert [(row["Contact_name"], row["Contact_phone"]) for row in found] == [('Kim "K"\nLee,\n\nPark', "2125550100")]


def test_a_password_never_comes_back_even_where_cells_have_shifted(tmp_path: Path) -> None:
    files = small()
    for row in files["students"]:
        row |= {"Password": "Secret", "student password": "Secret", "Frl_status": "Secret", "Zip": "1"}
    files["students"][0]["Last_name"] = ""
    good = csv_of(files["students"])
    lines = good.split(b"\n")
    raw = replaced(replaced(replaced(good, 3, lines[2].replace(b"Last2", b"Last, Jr.")), 4, lines[3].replace(b"Last3,", b"")), 5, b'"' + lines[4])
    made = details_of(tmp_path, files, students=raw)
    assert made.left_out["students.csv"] == 4
    assert "Secret" not in repr(made.rejected["students.csv"].to_pylist())
    assert rows(made.rejected["students.csv"])[0]["Zip"] == "1"


def test_of_two_rows_of_one_id_the_later_comes_back(tmp_path: Path) -> None:
    files = small()
    files["sections"].append(section("s1", "0012", "t2", "Math"))
    found = rows(details_of(tmp_path, files).rejected["sections.csv"])
    assert [(row["Section_id"], row["finding"], row["line"]) for row in found] == [("s1", "id_duplicate", "5")]


def test_a_refused_delivery_gives_its_rejected_rows_back_too(tmp_path: Path) -> None:
    files = small()
    files["students"][1]["Last_name"] = ""
    made = details_of(tmp_path, files, sections=None)
    assert made.done is None
    assert [row["Student_id"] for row in rows(made.rejected["students.csv"])] == ["0002"]


def test_only_the_first_rows_are_given_back_and_all_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixit, "MOST_ROWS", 3)
    files = small(20)
    for row in files["students"]:
        row["Last_name"] = ""
    made = details_of(tmp_path, files)
    assert made.left_out["students.csv"] == 20
    assert [row["line"] for row in rows(made.rejected["students.csv"])] == ["2", "3", "4"]


def test_a_file_in_another_encoding_and_case_comes_back_as_text(tmp_path: Path) -> None:
    files = small()
    files["students"][1] |= {"Last_name": "", "First_name": "Zoë"}
    made = details_of(tmp_path, files, students=None, Students=csv_of(files["students"]).decode().encode("utf-16"))
    found = rows(made.rejected["students.csv"])
    assert [(row["First_name"], row["finding"]) for row in found] == [("Zoë", "value_missing")]


CELLS = st.text(st.sampled_from("ab,\"\n 'é"), max_size=8)


@QUICK
@given(st.lists(st.tuples(CELLS, CELLS, st.booleans()), min_size=1, max_size=6))
def test_every_rejected_row_comes_back_to_the_letter(people: list[tuple[str, str, bool]]) -> None:
    files = small()
    sent: list[Mapping[str, str]] = []
    for number, (contact, house, bad) in enumerate(people, start=10):
        row = student(number, Contact_name=contact, **{"ext.house": house}, **({"Last_name": ""} if bad else {}))
        files["students"].append(row)
        sent += [row] if bad else []
    for row in files["students"]:
        row.setdefault("ext.house", "")
    with TemporaryDirectory() as folder:
        made = details_of(Path(folder), files)
    found = [row for row in rows(made.rejected["students.csv"]) if row["finding"] == "value_missing"] if made.rejected else []
    assert [{name: row[name] for name in files["students"][0]} for row in found] == sent
