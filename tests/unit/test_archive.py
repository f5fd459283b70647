"""The details of a run as files for people and as a receipt for programs: safe to open, whole, bounded, gone when they should be."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import stat
import zipfile
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given

from sftp_ingest.config import Settings
from sftp_ingest.findings import Finding, Reading, finding
from sftp_ingest.model import Details, Limits, Roster
from sftp_ingest.planning import details, empty_roster, plan
from sftp_ingest.report import archive, notify, receipt
from sftp_ingest.roster.arrow import TEXT
from tests.unit.districts import TOLERANT, Files, applied, enrollment, planned, small, student, written
from tests.unit.test_report import HOLD, report_of, run_of

DANGEROUS = "=+-@\t\r\n＝＋－＠"
CELLS = st.text(st.sampled_from("a1 \t\r\n\"',;=+-@＝＋－＠\u00a0\ufeff\0é😀") | st.characters(exclude_categories=["Cs"]), max_size=12)


def details_of(folder: Path, files: Files, now: Roster | None = None, settings: Settings = TOLERANT, **raw: bytes | None) -> Details:
    delivery = written(folder, files, **raw)
    return details(delivery, plan(delivery, settings, now or empty_roster()))


def first_night(folder: Path) -> Roster:
    return applied(empty_roster(), planned(folder, small(20)))


def packed(made: Details, folder: Path, run: int = 7) -> Path:
    path = archive.place(folder / "kept", "lincoln", run)
    archive.write(made, path)
    return path


def content(path: Path) -> dict[str, list[dict[str, str]]]:
    """The CSV files of the zip, by name."""
    with zipfile.ZipFile(path) as opened:
        return {
            name: list(csv.DictReader(io.StringIO(opened.read(name).decode("utf-8-sig"), newline=""))) for name in opened.namelist() if name.endswith(".csv")
        }


def read_back(cells: list[str]) -> list[str]:
    table = pa.table({"cell": pa.array(cells, pa.string())})
    text = b"".join(archive.as_csv(table)).decode("utf-8-sig")
    return [row[0] for row in csv.reader(io.StringIO(text, newline=""))][1:]


# ---------------------------------------------------------------- cells


@given(st.lists(CELLS, min_size=1, max_size=5))
def test_no_spreadsheet_takes_a_cell_for_a_formula_and_all_other_cells_come_back_as_they_were(cells: list[str]) -> None:
    for sent, told in zip(cells, read_back(cells), strict=True):
        assert not told.startswith(tuple(DANGEROUS))
        assert not told.lstrip(" \u00a0\ufeff").startswith(tuple(DANGEROUS[:4]))
        assert not re.search(r'[;\t\r\n]["\s]*[=+\-@＝＋－＠]', told)
        if not re.search(f"[{re.escape(DANGEROUS)}\0]", sent):
            assert told == sent


@pytest.mark.parametrize("cell", ["-12", "+1 212 555 0100", "=HYPERLINK(1)", "@SUM(A1)", "\tx", "＝1", " =1"])
def test_a_cell_that_begins_like_a_formula_has_one_quote_before_it(cell: str) -> None:
    assert read_back([cell]) == [f"'{cell}"]


def test_a_spreadsheet_that_splits_at_semicolons_sees_no_formula_either() -> None:
    assert read_back(['x;=cmd("calc")', "a; b"]) == ['x;\'=cmd("calc")', "a; b"]


def test_a_cell_longer_than_a_spreadsheet_takes_is_cut() -> None:
    assert [len(cell) for cell in read_back(["x" * 100_000, "="])] == [archive.LONGEST_CELL - 2, 2]


def test_files_are_utf8_with_a_byte_order_mark_and_crlf() -> None:
    table = pa.table({'Na"me': pa.array(["Zoë", "a\nb"]), "=x": pa.array(["1", ""])})
    assert b"".join(archive.as_csv(table)) == '\ufeff"Na""me","\'=x"\r\n"Zoë","1"\r\n"a\nb",""\r\n'.encode()


# ---------------------------------------------------------------- files


def test_a_zip_tells_every_change_once_with_values_before_and_after(tmp_path: Path) -> None:
    now = first_night(tmp_path / "a")
    files = small(20)
    files["students"][0] |= {"Grade": "8", "First_name": "=1+1"}  # updated
    files["students"][1] |= {"School_id": "0011"}  # moved
    files["students"][2] |= {"Last_name": ""}  # rejected
    del files["students"][-1]  # left
    files["enrollments"] = [row for row in files["enrollments"] if row["Student_id"] not in ("0002", "0020")] + [enrollment("s1", 2), enrollment("s1", 21)]
    files["students"].append(student(21))  # new
    path = packed(details_of(tmp_path / "b", files, now), tmp_path)
    found = content(path)
    assert [row["sis_id"] for row in found["students-created.csv"]] == ["0021"]
    assert [(row["sis_id"], row["last_name"]) for row in found["students-deactivated.csv"]] == [("0020", "Last20")]
    assert [tuple(row.values()) for row in found["students-updated.csv"]] == [("0001", "first_name", "First1", "'=1+1"), ("0001", "grade", "7", "8")]
    assert ("0002", "school_id", "0012", "0011") in [tuple(row.values()) for row in found["students-moved.csv"]]
    assert [(row["student_id"], row["section_id"], row["from_section_id"]) for row in found["enrollments-moved.csv"]] == [("0002", "s1", "s2")]
    assert [(row["Student_id"], row["finding"]) for row in found["rejected-students.csv"]] == [("0003", "value_missing")]
    assert {row["code"] for row in found["errors.csv"]} == {"value_missing"}
    told = archive.contents(path)
    assert told is not None
    assert told["files"]["students.csv"] == {"rows": 20, "rejected": 1, "listed": 1}
    assert told["members"]["students-updated.csv"] == {"lines": 2, "records": 1}
    assert set(told["members"]) == set(found)


def test_who_returns_is_told_as_reactivated(tmp_path: Path) -> None:
    now = first_night(tmp_path / "a")
    without = small(20)
    without["students"], without["enrollments"] = without["students"][:-1], [row for row in without["enrollments"] if row["Student_id"] != "0020"]
    now = applied(now, planned(tmp_path / "b", without, now))
    found = content(packed(details_of(tmp_path / "c", small(20), now), tmp_path))
    assert [row["sis_id"] for row in found["students-reactivated.csv"]] == ["0020"]


def test_what_a_hold_keeps_is_told_as_waiting_and_not_as_done(tmp_path: Path) -> None:
    now = first_night(tmp_path / "a")
    files = small(20)
    files["students"] = [row | {"Grade": "8"} for row in files["students"][:10]]
    files["enrollments"] = [row for row in files["enrollments"] if row["Student_id"] <= "0010"]
    found = content(packed(details_of(tmp_path / "b", files, now, Settings(limits=Limits(records=5, updated_share=0.4))), tmp_path))
    waiting = found["students-waiting.csv"]
    assert [row["operation"] for row in waiting] == ["updated"] * 10 + ["deactivated"] * 10
    assert next(tuple(row.values()) for row in found["students-waiting-updated.csv"]) == ("0001", "grade", "7", "8")
    assert not [name for name in found if name.startswith("students-") and "waiting" not in name]


def test_a_warning_tells_what_was_read_and_what_it_became(tmp_path: Path) -> None:
    found = replace(finding("value_converted", "students.csv", "Grade", [3, 4]), readings=(Reading("KG", "Kindergarten", 2), Reading("=1", "", 1)))
    made = Details({}, {}, {}, None, None, (found, finding("file_unknown", "sch\udce4ler.csv")))
    first, second = content(packed(made, tmp_path))["warnings.csv"]
    assert first["read as"] == "KG = Kindergarten (2), =1 = (blank) (1)"
    assert (first["first lines"], first["count"], second["file"]) == ("3 4", "2", "sch?ler.csv")


def test_a_zip_of_details_is_asked_about_one_record(tmp_path: Path) -> None:
    now = first_night(tmp_path / "a")
    files = small(20)
    files["students"] = [{**row, "Last_name": ""} if row["Student_id"] == "0003" else row for row in files["students"][:10]]
    path = packed(details_of(tmp_path / "b", files, now, Settings(limits=Limits(records=5, removed_share=0.4))), tmp_path)
    assert archive.waiting(path, "students", "sis_id", "0011") == ["deactivated"]
    assert archive.waiting(path, "students", "sis_id", "0003") == archive.waiting(path, "staff", "sis_id", "0011") == []
    assert archive.rejected_lines(path, "students.csv", (2, 4)) == {4: "value_missing"}
    assert archive.waiting(tmp_path / "none.zip", "students", "sis_id", "0011") == []
    assert archive.rejected_lines(tmp_path / "none.zip", "students.csv", (4,)) == {}


def test_what_a_revert_left_alone_is_a_file_of_keys(tmp_path: Path) -> None:
    keys = pd.DataFrame({"section_id": pd.array(["-1"], dtype=TEXT), "student_id": pd.array(["2"], dtype=TEXT)})
    made = Details({}, {}, {}, None, None, (), {"enrollments": keys})
    assert content(packed(made, tmp_path))["enrollments-left-alone.csv"] == [{"section_id": "'-1", "student_id": "2"}]


def test_a_file_of_details_is_bounded_and_says_of_how_many_records_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_LINES", 4)
    path = packed(details_of(tmp_path / "a", small(20)), tmp_path)
    assert len(content(path)["students-created.csv"]) == 4
    told = archive.contents(path)
    assert told is not None
    assert told["members"]["students-created.csv"] == {"lines": 4, "records": 20}


def test_the_zip_is_for_this_user_only_and_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = details_of(tmp_path / "a", small())
    path = packed(made, tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {stat.S_IMODE(each.stat().st_mode) for each in (path.parent, path.parent.parent)} == {0o700}

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        archive.write(made, path)
    assert list(path.parent.iterdir()) == []


def test_details_of_the_newest_sixty_runs_are_kept(tmp_path: Path) -> None:
    empty = Details({}, {}, {}, None, None, ())
    for run in (*range(1, 10), 100):
        (tmp_path / "kept" / "lincoln").mkdir(parents=True, exist_ok=True)
        archive.place(tmp_path / "kept", "lincoln", run).touch()
    for run in range(200, 252):
        archive.place(tmp_path / "kept", "lincoln", run).touch()
    packed(empty, tmp_path, 300)
    kept = {path.name for path in (tmp_path / "kept" / "lincoln").iterdir()}
    assert len(kept) == 60
    assert {"run-300.zip", "run-200.zip", "run-100.zip"} <= kept
    assert "run-1.zip" not in kept


def test_loose_files_take_the_place_of_those_of_an_earlier_check(tmp_path: Path) -> None:
    files = small()
    files["students"][1]["Last_name"] = ""
    folder = tmp_path / "fix"
    archive.write_loose(details_of(tmp_path / "a", files), folder)
    (folder / "notes.csv").touch()
    assert (folder / "rejected-students.csv").exists()
    archive.write_loose(details_of(tmp_path / "b", small()), folder)
    assert not (folder / "rejected-students.csv").exists()
    assert (folder / "notes.csv").exists()
    assert {stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir() if each.name != "notes.csv"} == {0o600}


# ---------------------------------------------------------------- the receipt, and the home


@pytest.mark.parametrize(
    ("outcome", "findings", "wanted"),
    [
        ("successful", (), "none"),
        ("unchanged", (finding("value_converted", "students.csv"),), "none"),
        ("successful", (finding("value_missing", "students.csv"),), "correct"),
        ("refused", (finding("file_cut", "students.csv"), finding("value_missing", "students.csv")), "resend"),
        ("on_hold", (), "wait"),
        ("on_hold", (finding("value_missing", "students.csv"),), "correct"),
        ("failed", (), "wait"),
        ("superseded", (), "none"),
    ],
)
def test_the_receipt_says_what_the_district_has_to_do(outcome: str, findings: tuple[Finding, ...], wanted: str) -> None:
    report = report_of(outcome, *findings, hold=HOLD if outcome == "on_hold" else None)  # type: ignore[arg-type]
    assert receipt.action(report) == wanted


def test_a_released_hold_needs_nobody_any_more() -> None:
    assert receipt.action(report_of("on_hold", hold=HOLD, hold_state="released")) == "none"


def test_the_receipt_is_small_and_says_what_became_of_each_file(tmp_path: Path) -> None:
    files = small()
    files["students"][1]["Last_name"] = ""
    details = packed(details_of(tmp_path / "a", files), tmp_path)
    report = report_of("on_hold", finding("value_missing", "students.csv", "Last_name", [3]), finding("row_blank", "students.csv", count=9), hold=HOLD)
    notify.leave_in_home(report, tmp_path, details)
    told = json.loads((tmp_path / "reports" / "latest-receipt.json").read_text(encoding="utf-8"))
    assert (told["format"], told["version"], told["outcome"], told["action"]) == ("sftp-ingest receipt", 1, "on_hold", "correct")
    assert told["files"][0] == {"name": "students.csv", "size": 18_220_311, "sha256": "ab" * 32, "rows": 6, "rejected": 1, "listed": 1}
    assert told["files"][1]["rows"] is None
    assert told["findings"] == {"refuse": {}, "reject": {"value_missing": 1}, "warn": {"row_blank": 9}}
    assert told["hold"] == {"state": "open", "reasons": [HOLD.reasons[0].sentence]}
    assert told["details"] == "20261130T020500-run-7.zip"


def test_the_home_has_the_zip_and_the_rejected_rows_until_there_are_none(tmp_path: Path) -> None:
    files = small()
    files["students"][1]["Last_name"] = ""
    notify.leave_in_home(report_of(), tmp_path, packed(details_of(tmp_path / "a", files), tmp_path))
    reports = tmp_path / "reports"

    def told(name: str) -> str:
        return (reports / name).read_text(encoding="utf-8")

    found = content(reports / "latest.zip")
    assert [row["Student_id"] for row in found["rejected-students.csv"]] == ["0002"]
    loose = (reports / "latest-rejected-students.csv").read_bytes().decode("utf-8-sig")
    assert [row["finding"] for row in csv.DictReader(io.StringIO(loose))] == ["value_missing"]
    with zipfile.ZipFile(reports / "20261130T020500-run-7.zip") as opened:
        assert {"report.html", "receipt.json", "README.txt", "contents.json"} <= set(opened.namelist())
        assert json.loads(opened.read("receipt.json")) == json.loads((reports / "latest-receipt.json").read_text(encoding="utf-8"))
        assert opened.testzip() is None

    for name in ("latest.html", "20261130T020500-run-7.html"):
        assert "left out, as sent and with what to mend; " in told(name)
        assert '<a href="20261130T020500-run-7.zip" download>' in told(name)
    assert "20261130T020500-run-7.zip" in told("latest.txt")
    assert "run-8.zip" not in told("latest.txt")

    notify.leave_in_home(report_of(run=run_of(8)), tmp_path, packed(details_of(tmp_path / "b", small()), tmp_path, 8))
    assert "left out, as sent" not in told("latest.html")
    assert not list(reports.glob("latest-rejected-*"))
    assert "rejected-students.csv" not in content(reports / "latest.zip")


def test_a_full_disk_costs_the_details_and_not_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = small()
    files["students"][1]["Last_name"] = ""
    details = packed(details_of(tmp_path / "a", files), tmp_path)
    notify.leave_in_home(report_of(), tmp_path, details)

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(archive, "complete", full)
    notify.leave_in_home(report_of(run=run_of(8)), tmp_path, details)
    reports = tmp_path / "reports"
    told = json.loads((reports / "latest-receipt.json").read_text(encoding="utf-8"))
    assert (told["run"], told["details"]) == (8, None)
    assert "Fix-it files" not in (reports / "latest.html").read_text(encoding="utf-8")
    assert not (reports / "latest.zip").exists()  # that of the night before would be taken for this one's
    assert not list(reports.glob("latest-rejected-*"))
    assert notify.is_left(8, tmp_path)


def test_a_zip_that_is_none_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "run-1.zip"
    assert archive.contents(path) is None
    path.write_bytes(b"PK nothing")
    assert archive.contents(path) is None
