"""A night undone and a record explained, as an operator does it on the command line, on both databases."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Home
from tests.acceptance.test_cli import folder_of
from tests.unit.districts import Files, enrollment, small, student

HERE = "springfield"


def night(home: Home, tmp_path: Path, name: str, files: Files, code: int = 0) -> Any:
    return home.json("sync", HERE, str(folder_of(tmp_path / name, files)), code=code)


def changed() -> Files:
    """The small district a night later: student 1 has another grade, 2 has left, 9 is new and is in the section of 2."""
    files = small()
    files["students"][0]["Grade"] = "8"
    files["students"] = [row for row in files["students"] if row["Student_id"] != "0002"] + [student(9, School_id="0012")]
    files["enrollments"] = [row for row in files["enrollments"] if row["Student_id"] != "0002"] + [enrollment("s2", 9)]
    return files


def test_a_night_is_reverted_reported_and_brought_again_by_the_next_delivery(home: Home, tmp_path: Path) -> None:
    first = night(home, tmp_path, "one", small())["run"]
    before = home.roster(HERE)
    run = night(home, tmp_path, "two", changed())["run"]
    after = home.roster(HERE)

    home.command("runs", "revert", str(first), code=2)
    planned = home.json("runs", "revert", str(run), "--dry-run")
    assert (planned["run"], planned["reverts"], planned["counts"]["students"]["reactivated"]) == (None, run, 1)
    assert home.roster(HERE) == after
    assert len(home.runs(HERE)) == 2

    told = home.json("runs", "revert", str(run))
    assert told["verdict"].startswith(f"Reverts run {run}: 1 student updated, 1 deactivated, 1 reactivated")
    assert (told["outcome"], told["reverts"], told["left_alone"]) == ("successful", run, {})
    assert told["advice"] == [
        f"The next delivery of {HERE} is compared with the roster as it is then, and may bring these changes again; "
        f"`sftp-ingest districts pause {HERE}` keeps it waiting."
    ]
    now = home.roster(HERE)
    assert all(set(before[table]) <= set(now[table]) for table in before)
    assert {row["sis_id"] for row in home.records("users", HERE, active=True) if row["role"] == "student"} == {f"{n:04}" for n in range(1, 7)}

    reports = home.home_of(HERE) / "reports"
    assert json.loads((reports / "latest.json").read_text(encoding="utf-8"))["run"] == run
    assert json.loads((reports / "latest-revert.json").read_text(encoding="utf-8"))["reverts"] == run
    assert f"reverts run {run}" in home.command("runs", "list")
    assert f"Reverts run {run}" in home.command("report", str(told["run"]), "--html", "page.html", "--zip", "all.zip") + home.command(
        "runs", "show", str(told["run"])
    )
    assert f"Reverts run {run}" in (home.folder / "page.html").read_text(encoding="utf-8")

    home.command("districts", "pause", HERE)
    assert f"districts resume {HERE}" in home.command("runs", "revert", str(told["run"]))
    assert home.roster(HERE) == after
    home.command("runs", "revert", str(run))
    assert night(home, tmp_path, "three", changed())["counts"]["students"]["updated"] == 1
    assert home.roster(HERE) == after


def test_what_has_changed_since_is_listed_by_id_and_never_by_name(home: Home, tmp_path: Path) -> None:
    night(home, tmp_path, "one", small())
    run = night(home, tmp_path, "two", changed())["run"]
    files = changed()
    files["students"][0]["Grade"] = "9"
    night(home, tmp_path, "three", files)
    told = home.json("runs", "revert", str(run), "--dry-run")
    assert told["left_alone"]["students"] == {"count": 1, "ids": ["0001"]}
    assert told["left_alone"]["sections"]["ids"] == ["s3"]  # which has its grade from him
    text = home.command("runs", "revert", str(run))
    assert "1 student: 0001" in text
    assert "2 records that have changed since were left alone" in " ".join(text.split())
    assert "First1" not in text
    page = (home.home_of(HERE) / "reports" / "latest-revert.html").read_text(encoding="utf-8")
    assert "1 student: 0001" in page


def test_a_revert_that_puts_nothing_back_does_not_say_that_it_reverted(home: Home, tmp_path: Path) -> None:
    files = small()
    night(home, tmp_path, "one", files)
    runs = []
    for grade in "89":
        files["students"][0]["Grade"] = grade
        runs.append(night(home, tmp_path, grade, files)["run"])
    assert home.json("runs", "revert", str(runs[0]), "--dry-run")["verdict"] == f"Would put back nothing of run {runs[0]}: {LEFT.format('would be')}."
    told = home.json("runs", "revert", str(runs[0]))
    assert (told["outcome"], told["verdict"]) == ("unchanged", f"Puts back nothing of run {runs[0]}: {LEFT.format('were')}.")
    assert f"puts back nothing of run {runs[0]}" in home.command("runs", "list")
    home.command("runs", "revert", str(runs[1]))
    assert home.json("runs", "revert", str(runs[0]))["verdict"].startswith(f"Reverts run {runs[0]}: 1 student updated")


LEFT = "2 records that have changed since {} left alone"


# ---------------------------------------------------------------- why


def lines_of(told: Any, what: str) -> list[str]:
    return [each["told"] for each in told["events"] if each["what"] == what]


def test_why_tells_the_whole_story_of_a_person(home: Home, tmp_path: Path) -> None:
    first = night(home, tmp_path, "one", small(40))
    files = small(40)
    files["students"][0]["Grade"] = "8"
    files["teachers"].append({**files["teachers"][0], "Teacher_id": "0001"})
    second = night(home, tmp_path, "two", files)
    files["students"][0]["Last_name"] = ""  # rejected
    third = night(home, tmp_path, "three", files)
    files["students"] = files["students"][20:]
    files["enrollments"] = [row for row in files["enrollments"] if row["Student_id"] > "0020"]
    fourth = night(home, tmp_path, "four", files, code=1)
    (hold,) = home.json("holds", "list")
    released = home.json("holds", "release", str(hold["hold"]), "--by", "Kim")
    undone = home.json("runs", "revert", str(released["run"]))

    told = home.json("why", HERE, "user", "0001")
    assert told["now"] == {"students": "active", "teachers": "active"}
    events = told["events"]
    assert [each["at"] for each in events] == sorted(each["at"] for each in events)
    deliveries = [each for each in events if each["what"] == "delivery"]
    assert [[(file["file"], file["lines"]) for file in each["files"]] for each in deliveries] == [
        [("students.csv", [2]), ("enrollments.csv", [2, 42])],
        [("teachers.csv", [4]), ("students.csv", [2]), ("enrollments.csv", [2, 42])],
        [("teachers.csv", [4]), ("students.csv", [2]), ("enrollments.csv", [2, 42])],
        [("teachers.csv", [4])],
    ]
    (rejected,) = [each for each in events if each["what"] == "finding" and each["severity"] == "reject" and each["file"] == "students.csv"]
    assert (rejected["code"], rejected["run"], rejected["lines"], rejected["among_others"]) == ("value_missing", third["run"], [2], False)
    changes = [(each["run"], each["entity"], each["operation"], each.get("columns")) for each in events if each["what"] == "change"]
    assert (first["run"], "students", "baseline", None) in changes
    assert (second["run"], "students", "updated", ["grade"]) in changes
    assert (released["run"], "students", "deactivated", []) in changes
    assert (undone["run"], "students", "reactivated", []) in changes
    (waited,) = [each for each in events if each["what"] == "hold"]
    assert (waited["hold"], waited["run"], waited["certain"]) == (hold["hold"], fourth["run"], True)
    assert {"entity": "students", "operation": "deactivated"} in waited["waiting"]
    assert lines_of(told, "decision") == [f"hold {hold['hold']} released by Kim"]
    assert f"run {undone['run']}, which reverts run {released['run']}: successful" in lines_of(told, "run")
    assert any("as a person had approved" in each for each in lines_of(told, "run"))


def test_values_are_shown_only_where_they_are_asked_for(home: Home, tmp_path: Path) -> None:
    night(home, tmp_path, "one", small())
    files = small()
    files["students"][0] |= {"Grade": "8", "First_name": "Zoraida"}
    night(home, tmp_path, "two", files)
    text = home.command("why", HERE, "user", "0001")
    assert "student updated: first_name, grade" in text
    for told in (text, home.command("why", HERE, "user", "0001", "--json")):
        assert "Zoraida" not in told
        assert "First1" not in told
    assert "first_name: First1 → Zoraida" in home.command("why", HERE, "user", "0001", "--values")
    (change,) = [each for each in home.json("why", HERE, "user", "0001", "--values")["events"] if each.get("columns")]
    assert change["values"]["grade"] == {"before": "7", "after": "8"}


def test_why_tells_of_sections_schools_and_rows_that_never_came_into_the_roster(home: Home, tmp_path: Path) -> None:
    night(home, tmp_path, "one", small())
    files = small()
    files["students"].append(student(7, Last_name=""))
    files["enrollments"] = [row for row in files["enrollments"] if row["Student_id"] != "0003"] + [enrollment("s3", 3)]
    run = night(home, tmp_path, "two", files)["run"]

    assert home.json("why", HERE, "user", "0007")["now"] == {}
    assert "value_missing" in home.command("why", HERE, "user", "0007")
    section = home.json("why", HERE, "section", "s1")
    assert [each["operation"] for each in section["events"] if each["what"] == "change" and each["run"] == run] == ["moved"]
    assert [each["files"][0]["file"] for each in home.json("why", HERE, "school", "0011")["events"] if each["what"] == "delivery"] == ["schools.csv"] * 2


def test_a_delivery_that_is_gone_or_spoilt_is_told_and_an_unknown_id_ends_with_2(home: Home, tmp_path: Path) -> None:
    night(home, tmp_path, "one", small())
    night(home, tmp_path, "two", changed())
    one, two = home.sealed(HERE)
    shutil.rmtree(one)
    (two / "students.csv").unlink()
    told = lines_of(home.json("why", HERE, "user", "0001"), "delivery")
    assert [each.partition(": ")[2] for each in told] == ["its files are no longer kept", "its files are not what they were when they were sealed"]
    home.command("why", HERE, "user", "none", code=2)
    home.command("why", "nobody", "user", "0001", code=2)


@pytest.mark.parametrize("identifier", ["", "%", "' OR 1=1 --", "\x00"])
def test_an_odd_id_is_nobody(home: Home, identifier: str) -> None:
    if "\x00" not in identifier:  # no shell passes it on
        home.command("why", HERE, "user", identifier, code=2)
