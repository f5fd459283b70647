"""Drift: what differs from the district's own history is told in numbers, stops nothing, and needs a history and a size."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from sftp_ingest.findings import Finding
from sftp_ingest.model import ColumnShape, FileShape
from sftp_ingest.planning import Plan, empty_roster
from sftp_ingest.roster import contract, drift
from sftp_ingest.roster.arrow import TEXT
from tests.unit import rosters
from tests.unit.districts import Files, applied, enrollment, planned, section, small, student


def two_nights(folder: Path, first: Files, second: Files) -> Plan:
    """The second night's plan, over the roster and the shapes of the first."""
    before = planned(folder / "first", first)
    return planned(folder / "second", second, applied(empty_roster(), before), before=before.shapes)


def drifted(plan: Plan) -> dict[tuple[str, str], Finding]:
    return {(each.code, each.column): each for each in plan.findings if each.code.startswith("drift_")}


def in_classes(students: int, size: int, empty: int = 0) -> Files:
    """The district with classes of so many students, and some without any."""
    files = small(students)
    count = students // size
    files["sections"] = [section(f"s{number}", "0011", "t1", "Math") for number in range(count + empty)]
    files["enrollments"] = [enrollment(f"s{number % count}", number) for number in range(1, students + 1)]
    return files


def test_the_first_night_and_the_same_night_again_do_not_drift(tmp_path: Path) -> None:
    files = in_classes(240, 4)
    assert drifted(planned(tmp_path, files)) == {}
    assert drifted(two_nights(tmp_path, files, files)) == {}


def test_drift_stops_nothing_and_is_told_once(tmp_path: Path) -> None:
    first, second = small(80), small(80)
    for row in second["students"]:
        row["DOB"] = ""
    before = planned(tmp_path / "first", first)
    plan = planned(tmp_path / "second", second, applied(empty_roster(), before), before=before.shapes)
    assert plan.outcome == "successful"
    assert list(drifted(plan)) == [("drift_blank", "DOB")]
    assert drifted(planned(tmp_path / "third", second, applied(empty_roster(), before), before=plan.shapes)) == {}


def test_a_column_that_empties_tells_its_shares(tmp_path: Path) -> None:
    first, second = small(100), small(100)
    for row in first["students"][:10]:
        row["DOB"] = ""
    for row in second["students"][:31]:
        row["DOB"] = ""
    assert drifted(two_nights(tmp_path, first, second))["drift_blank", "DOB"].hint == "10% → 31% of its cells are blank"
    for row in second["students"]:
        row["DOB"] = row["DOB"] or "2014-01-02"
    assert drifted(two_nights(tmp_path, first, second)) == {}, "a column that fills is no fault"


def test_a_vocabulary_that_collapses_or_explodes_is_told(tmp_path: Path) -> None:
    first, second = small(80), small(80)
    for number, row in enumerate(first["students"]):
        row["Grade"] = str(1 + number % 8)
    found = drifted(two_nights(tmp_path / "one", first, second))
    assert {key: each.hint for key, each in found.items()} == {("drift_values", "Grade"): "8 → 1 different values"}
    found = drifted(two_nights(tmp_path / "other", second, first))
    assert {key: each.hint for key, each in found.items()} == {("drift_values", "Grade"): "1 → 8 different values"}


def test_birth_dates_are_no_vocabulary(tmp_path: Path) -> None:
    first, second = small(80), small(80)
    for number, row in enumerate(first["students"]):
        row["DOB"] = f"2014-{1 + number % 12:02}-{1 + number % 28:02}"
    assert drifted(two_nights(tmp_path, first, second)) == {}


def test_ids_of_another_form_are_told_without_any_id(tmp_path: Path) -> None:
    first, second = small(80), small(80)
    for table in ("students", "enrollments"):
        for row in second[table]:
            row["Student_id"] = "S-" + row["Student_id"]
    found = [each for each in two_nights(tmp_path, first, second).findings if each.code == "drift_ids"]
    assert {each.file for each in found} == {"students.csv", "enrollments.csv"}
    assert {each.hint for each in found} == {"ids looked like 9999; 100% of them look like a-9999 now (9 stands for a digit, a for a letter)"}
    assert {each.values for each in found} == {()}


def test_ids_that_grow_by_a_digit_keep_their_form(tmp_path: Path) -> None:
    def numbered(students: int) -> Files:
        files = small(0)
        files["students"] = [student(number, Student_id=str(number)) for number in range(1, students + 1)]
        files["enrollments"] = [enrollment("s1", 1) | {"Student_id": str(number)} for number in range(1, students + 1)]
        return files

    plan = two_nights(tmp_path, numbered(170), numbered(199))
    assert drifted(plan) == {}
    assert plan.shapes["students.csv"].shapes["student_id"].form == "999"


def test_a_file_that_shrinks_by_more_than_a_fifth_and_fifty_rows_is_told(tmp_path: Path) -> None:
    hints = {each.file: each.hint for each in two_nights(tmp_path, small(300), small(220)).findings if each.code == "drift_rows"}
    assert hints == {"students.csv": "300 → 220 rows", "enrollments.csv": "301 → 221 rows"}
    assert drifted(two_nights(tmp_path, small(300), small(251))) == {}, "forty-nine rows are a usual night"
    assert drifted(two_nights(tmp_path, small(1000), small(900))) == {}, "so is a tenth"


def test_small_files_do_not_drift(tmp_path: Path) -> None:
    first, second = small(40), small(40)
    for row in second["students"]:
        row |= {"DOB": "", "Grade": "8", "Contact_type": ""}
    assert drifted(two_nights(tmp_path, first, second)) == {}


def test_sections_that_lose_their_students_are_told(tmp_path: Path) -> None:
    found = drifted(two_nights(tmp_path, in_classes(240, 4, empty=3), in_classes(240, 4, empty=30)))
    assert found["drift_sections_empty", "Section_id"].hint == "5% → 33% of all sections have no enrollment"


def test_classes_of_twice_the_size_are_told(tmp_path: Path) -> None:
    found = drifted(two_nights(tmp_path, in_classes(240, 2), in_classes(240, 4)))
    assert found["drift_class_size", ""].hint == "2.0 → 4.0 students a section"
    assert drifted(two_nights(tmp_path, in_classes(240, 3), in_classes(240, 4))) == {}


def test_the_shapes_hold_no_cell(tmp_path: Path) -> None:
    files = small(60)
    for row in files["students"]:
        row |= {"Last_name": "Müllerová", "DOB": "2014-03-07"}
    kept = repr({name: asdict(shape) for name, shape in planned(tmp_path, files).shapes.items()})
    assert "ller" not in kept
    assert "2014" not in kept
    assert "9999-99-99" in kept


@given(st.lists(st.text(max_size=60)))
def test_a_form_has_no_letter_and_no_digit_of_its_cell(cells: list[str]) -> None:
    formed = drift.forms(pa.array([cell.replace("\0", "") for cell in cells], pa.string())).to_pylist()
    assert len(formed) == len(cells)
    for each in formed:
        assert not {letter for letter in each if letter.isalnum()} - {"9", "a"}
        assert each.isascii()


@given(st.lists(st.sampled_from(["", "12", "ab-1", "zz", "7"])))
def test_the_commonest_form_does_not_depend_on_the_order_of_rows(cells: list[str]) -> None:
    array = pa.array(cells, pa.string())
    assert drift.form(array) == drift.form(pa.array(sorted(cells), pa.string()))


def grown_to(rows: int, was: int, new: int = 1) -> FileShape | None:
    """The shape of a file that had so many rows, and has so many tonight of which some are new."""
    table = contract.load().tables["students"]
    gone, came = (pd.DataFrame({"grade": pd.array(["7"] * count, dtype=TEXT)}) for count in (0, new))
    return drift.carried(table, FileShape(("grade",), rows=was, shapes={"grade": ColumnShape(distinct=1)}), rows, gone, came)


def test_a_small_file_that_grows_to_one_that_can_drift_is_read_as_a_whole() -> None:
    assert grown_to(49, was=45, new=4) is not None
    assert grown_to(94, was=45, new=49) is None
    assert grown_to(51, was=50) is not None


def test_files_of_one_name_in_two_formats_are_not_compared(tmp_path: Path) -> None:
    clever, other = small(60), rosters.small(students=60)
    first = planned(tmp_path / "1", clever)
    now = applied(empty_roster(), first)
    second = planned(tmp_path / "2", other, now, before=first.shapes)
    found = {(each.code, each.file) for each in second.findings}
    assert not {each for each in found if each[0] in ("header_gone", "file_gone") or each[0].startswith("drift_")}
    third = planned(tmp_path / "3", other, applied(now, second), before=second.shapes)
    assert "header_gone" not in {each.code for each in third.findings}
    back = planned(tmp_path / "4", clever, applied(now, second), before=third.shapes)
    assert "header_gone" not in {each.code for each in back.findings}
    gone = FileShape((*first.shapes["enrollments.csv"].columns, "ext.house"))
    again = planned(tmp_path / "5", clever, now, before={**first.shapes, "enrollments.csv": gone})
    assert [(each.code, each.column) for each in again.findings if each.code == "header_gone"] == [("header_gone", "ext.house")]
