"""One night after the other, as a district and an operator live them: the real command, a real client, a real database."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import stat
import time
import zipfile
from pathlib import Path

import asyncssh
import pytest

from sftp_ingest import sample
from tests.acceptance.conftest import Home, eventually, rows_of
from tests.unit.districts import csv_of, small, student

CORE = {"schools.csv", "teachers.csv", "students.csv", "sections.csv", "enrollments.csv"}
QUIET_SECONDS = 2.5
"""Longer than settling and a sweep together: what has not happened by then does not happen."""


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> tuple[sample.Night, ...]:
    """Three nights of a district with staff, each a little different from the one before."""
    return sample.write(tmp_path_factory.mktemp("nights"), students=1500, nights=3, seed=11, faults=False)


def write(folder: Path, files: dict[str, list[dict[str, str]]]) -> Path:
    """The tables as CSV files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        (folder / f"{name}.csv").write_bytes(csv_of(rows))
    return folder


def assert_as_sent(home: Home, night: Path, district: str) -> None:
    """The active roster is, to the letter, what the night's files say."""
    sent = {path.stem: rows_of(path) for path in night.glob("*.csv")}
    people = {role: [row for row in home.records("users", district) if row["role"] == role] for role in ("student", "teacher", "staff")}
    for role, file, id_column, mail_column in (
        ("student", "students", "Student_id", "Student_email"),
        ("teacher", "teachers", "Teacher_id", "Teacher_email"),
        ("staff", "staff", "Staff_id", "Staff_email"),
    ):
        first = {row[id_column]: row for row in reversed(sent[file])}  # a student has a row a contact, staff a row a school
        wanted = {(key, row["School_id"], row["First_name"], row["Last_name"], row[mail_column]) for key, row in first.items()}
        assert {(row["sis_id"], row["school_id"], row["first_name"], row["last_name"], row["email"] or "") for row in people[role]} == wanted
        assert len(people[role]) == len(wanted)
    assert {(row["school_id"], row["name"]) for row in home.records("schools", district)} == {(row["School_id"], row["School_name"]) for row in sent["schools"]}
    assert {row["section_id"] for row in home.records("sections", district)} == {row["Section_id"] for row in sent["sections"]}
    assert {(row["section_id"], row["student_id"]) for row in home.records("enrollments", district)} == {
        (row["Section_id"], row["Student_id"]) for row in sent["enrollments"]
    }
    assert {(row["section_id"], row["teacher_id"], row["position"]) for row in home.records("section_teachers", district)} == {
        (row["Section_id"], row[column], place)
        for row in sent["sections"]
        for place, column in enumerate(("Teacher_id", *(f"Teacher_{number}_id" for number in range(2, 11))), 1)
        if row.get(column)
    }


def test_three_nights_leave_the_database_right_on_either_database(home: Home, nights: tuple[sample.Night, ...]) -> None:
    home.serve()

    home.push(nights[0].folder, "springfield")
    first = home.wait_for_runs(1, "springfield")
    assert first.outcome == "successful"
    assert_as_sent(home, nights[0].folder, "springfield")
    assert (first.counts["students"].created, first.counts["enrollments"].created) == (nights[0].students, nights[0].enrollments)
    before = {row["sis_id"]: row for row in home.records("users", "springfield") if row["role"] == "student"}

    home.push(nights[0].folder, "springfield")
    again = home.wait_for_runs(2, "springfield")
    assert again.outcome == "unchanged"
    assert again.counts["students"].unchanged == nights[0].students
    assert before == {row["sis_id"]: row for row in home.records("users", "springfield") if row["role"] == "student"}

    home.push(nights[1].folder, "springfield")
    second = home.wait_for_runs(3, "springfield")
    story = nights[1].story
    assert second.outcome == "successful"
    assert_as_sent(home, nights[1].folder, "springfield")
    students = second.counts["students"]
    assert (students.created, students.deactivated, students.reactivated) == (story["added"], story["left"], story["returned"])
    assert (students.updated, students.moved) == (story["edited"], story["moved_school"])
    assert second.counts["teachers"].updated == story["teachers_edited"]
    assert second.counts["enrollments"].moved >= story["moved_section"] > 0
    left = [row for row in home.records("users", "springfield", active=False) if row["role"] == "student"]
    assert len(left) == story["left"] > 0
    assert all(row["deactivated_at"] is not None and row["last_changed_run"] == second.id and row["first_name"] for row in left)

    home.push(nights[2].folder, "springfield")
    third = home.wait_for_runs(4, "springfield")
    assert third.outcome == "successful"
    assert_as_sent(home, nights[2].folder, "springfield")
    assert third.counts["students"].reactivated == nights[2].story["returned"] > 0
    returned = {row["sis_id"] for row in left} & {row["sis_id"] for row in home.records("users", "springfield") if row["role"] == "student"}
    assert len(returned) == nights[2].story["returned"]
    back = [row for row in home.records("users", "springfield") if row["sis_id"] in returned and row["role"] == "student"]
    assert all(row["deactivated_at"] is None and row["first_seen_run"] == first.id for row in back)

    assert home.stop() == 0
    assert len(home.events("stopped")) == 1


def test_the_district_reads_its_report_with_its_own_client(house: Home, nights: tuple[sample.Night, ...]) -> None:
    house.add("reader")
    house.push(nights[0].folder, "reader")
    run = house.wait_for_runs(1, "reader")

    names = house.listing("reports", "reader")
    assert {f"latest.{form}" for form in ("html", "txt", "json")} < names
    assert {name.rpartition(".")[2] for name in names if f"run-{run.id}." in name} == {"html", "txt", "json", "zip"}
    told = json.loads(house.fetch("reports/latest.json", "reader"))
    assert (told["run"], told["outcome"], told["counts"]["students"]["created"]) == (run.id, "successful", nights[0].students)
    assert house.fetch("reports/latest.html", "reader").lstrip().lower().startswith("<!doctype html>")
    assert f"{nights[0].students:,}" in house.fetch("reports/latest.txt", "reader")


def test_a_home_with_only_some_files_is_refused_and_names_each_that_is_missing(house: Home, nights: tuple[sample.Night, ...]) -> None:
    house.add("partial")
    house.push(nights[0].folder, "partial", "schools.csv", "students.csv")
    run = house.wait_for_runs(1, "partial")

    assert run.outcome == "refused"
    told = json.loads(house.fetch("reports/latest.json", "partial"))
    assert {each["file"] for each in told["findings"] if each["code"] == "file_missing"} == CORE - {"schools.csv", "students.csv"}
    assert not any(house.roster("partial").values())
    assert house.json("districts", "show", "partial")["state"] == "refused"


def test_two_districts_at_once_stay_apart(house: Home, tmp_path: Path) -> None:
    sent = {}
    for seed, district in enumerate(("east", "west")):
        house.add(district)
        sent[district] = sample.write(tmp_path / district, students=300 + 100 * seed, nights=1, seed=seed, faults=False)[0].folder

    async def upload(district: str) -> None:
        async with house.connect(district) as connection, connection.start_sftp_client() as client:
            await client.put([str(path) for path in sorted(sent[district].glob("*.csv"))])

    async def both() -> None:
        await asyncio.gather(upload("east"), upload("west"))

    asyncio.run(both())
    for district, night in sent.items():
        assert house.wait_for_runs(1, district).outcome == "successful"
        assert_as_sent(house, night, district)
    assert "students.csv" in house.listing(".", "east")
    assert house.listing("..", "east") == house.listing("/", "east") == house.listing(".", "east")


def test_what_a_paused_district_uploads_waits_until_it_is_resumed(house: Home, tmp_path: Path) -> None:
    house.add("resting")
    house.command("districts", "pause", "resting")
    house.push(write(tmp_path / "night", small()), "resting")
    time.sleep(QUIET_SECONDS)
    assert house.runs("resting") == []
    assert house.json("districts", "show", "resting")["state"] == "paused"

    house.command("districts", "resume", "resting")
    assert house.wait_for_runs(1, "resting").outcome == "successful"


def without_many(students: int, gone: int) -> dict[str, list[dict[str, str]]]:
    """The small district with its last `gone` students away from every file."""
    files = small(students)
    last = students - gone
    return {name: [row for row in rows if "Student_id" not in row or int(row["Student_id"]) <= last] for name, rows in files.items()}


def test_a_night_that_removes_many_is_held_and_applied_once_it_is_released(house: Home, tmp_path: Path) -> None:
    house.add("held")
    house.push(write(tmp_path / "whole", small(60)), "held")
    house.wait_for_runs(1, "held")
    house.push(write(tmp_path / "half", without_many(60, 30)), "held")
    run = house.wait_for_runs(2, "held")

    assert run.outcome == "on_hold"
    assert len([row for row in house.records("users", "held") if row["role"] == "student"]) == 60
    (hold,) = house.json("holds", "list", "--district", "held")
    assert (hold["run"], hold["state"], hold["scope"]["students"]) == (run.id, "open", 30)
    assert house.json("districts", "show", "held")["state"] == "on_hold"
    told = json.loads(house.fetch("reports/latest.json", "held"))
    assert (told["outcome"], told["hold"]["state"], told["hold"]["digest"]) == ("on_hold", "open", hold["digest"])
    assert 'class="verdict tone-attention"' in house.fetch("reports/latest.html", "held")

    released = house.json("holds", "release", str(hold["hold"]), "--by", "the registrar")
    assert released["outcome"] == "successful"
    assert released["counts"]["students"]["deactivated"] == 30
    assert len([row for row in house.records("users", "held") if row["role"] == "student"]) == 30
    assert house.json("holds", "show", str(hold["hold"]))["decided_by"] == "the registrar"
    assert house.json("districts", "show", "held")["state"] == "ok"
    house.command("holds", "release", str(hold["hold"]), code=2)


def test_removals_wait_where_two_sessions_sent_different_nights_at_once(house: Home, tmp_path: Path) -> None:
    house.add("crossed")
    house.push(write(tmp_path / "whole", small(20)), "crossed")
    house.wait_for_runs(1, "crossed")
    one, other = write(tmp_path / "one", without_many(20, 2)), write(tmp_path / "other", without_many(20, 1))

    async def both() -> None:
        async with (
            house.connect("crossed") as first,
            house.connect("crossed") as second,
            first.start_sftp_client() as sends_one,
            second.start_sftp_client() as sends_other,
        ):
            last, rest = {"enrollments.csv"}, CORE - {"enrollments.csv"}
            for client, night, names in ((sends_other, other, rest), (sends_one, one, rest), (sends_one, one, last), (sends_other, other, last)):
                await client.put([str(night / name) for name in sorted(names)])

    asyncio.run(both())
    run = house.wait_for_runs(2, "crossed")
    assert run.outcome == "on_hold"
    assert len(house.events("delivery_crossed")) == 1
    told = json.loads(house.fetch("reports/latest.json", "crossed"))
    assert {(each["code"], each["file"]) for each in told["findings"]} >= {("file_crossed", "students.csv"), ("file_crossed", "enrollments.csv")}
    assert {each["kind"] for each in told["hold"]["reasons"]} == {"crossed"}
    assert sum(row["role"] == "student" for row in house.records("users", "crossed")) == 20

    house.push(one, "crossed")
    assert house.wait_for_runs(3, "crossed").outcome == "successful"
    assert sum(row["role"] == "student" for row in house.records("users", "crossed")) == 18


def test_a_discarded_hold_leaves_the_roster_as_it_is(house: Home, tmp_path: Path) -> None:
    house.add("kept")
    house.push(write(tmp_path / "whole", small(60)), "kept")
    house.wait_for_runs(1, "kept")
    before = house.roster("kept")
    house.push(write(tmp_path / "half", without_many(60, 30)), "kept")
    house.wait_for_runs(2, "kept")

    (hold,) = house.json("holds", "list", "--district", "kept")
    house.command("holds", "discard", str(hold["hold"]))
    assert house.json("holds", "list", "--district", "kept") == []
    assert house.roster("kept") == before
    time.sleep(QUIET_SECONDS)
    assert len(house.runs("kept")) == 2


def test_what_an_operator_syncs_is_not_undone_by_what_still_lies_in_the_home(house: Home, tmp_path: Path) -> None:
    house.add("mended")
    house.push(write(tmp_path / "sent", small()), "mended")
    house.wait_for_runs(1, "mended")
    house.json("sync", "mended", str(write(tmp_path / "mended", small(7))))
    time.sleep(QUIET_SECONDS)
    assert [run.outcome for run in house.runs("mended")] == ["successful", "successful"]
    assert sum(row["role"] == "student" for row in house.records("users", "mended")) == 7


def test_passwords_stay_in_the_districts_own_files_and_pupils_out_of_the_log(tmp_path: Path) -> None:
    words = {"First_name": "Quibbleworth", "Last_name": "Zanzibarrow", "Student_email": "snorkelfish@example.org", "DOB": "2013-11-27"}
    files = small()
    files["students"] = [student(1, **words, Password="Xyloph0ne-Pa55"), *(student(number, Password="Xyloph0ne-Pa55") for number in range(2, 7))]
    files["students"].append(student(7, First_name="Quibbleworth", Last_name="", Grade="Flibbertigibbet", School_id="0099", DOB="Snickersnee"))
    home = Home.make(tmp_path / "home", f"sqlite:///{tmp_path / 'home' / 'sftp-ingest.db'}", "springfield")
    try:
        home.serve()
        home.push(write(tmp_path / "night", files), "springfield")
        home.wait_for_runs(1, "springfield")
        home.json("check", str(tmp_path / "night"))
        assert home.stop() == 0
    finally:
        home.close()

    holders = {path for path in home.folder.rglob("*") if path.is_file() and b"Xyloph0ne" in path.read_bytes()}
    assert holders == {home.home_of("springfield") / "students.csv", home.sealed("springfield")[0] / "students.csv"}
    assert b"Quibbleworth" in (home.folder / "sftp-ingest.db").read_bytes()
    for word in (*words.values(), "Flibbertigibbet", "Snickersnee", "Xyloph0ne", "First2", "Last2"):
        assert word not in home.log


def test_a_connection_cut_in_the_middle_of_a_file_leaves_nothing_of_it(house: Home, nights: tuple[sample.Night, ...]) -> None:
    house.add("cut")
    first, second = nights[0].folder, nights[1].folder
    house.push(first, "cut")
    house.wait_for_runs(1, "cut")
    before = (house.home_of("cut") / "enrollments.csv").read_bytes()

    async def cut() -> None:
        content = (second / "enrollments.csv").read_bytes()
        connection = await house.connect("cut")
        client = await connection.start_sftp_client()
        file = await client.open("enrollments.csv", "wb")
        await file.write(content[: len(content) // 2])
        connection.abort()

    asyncio.run(cut())
    eventually(lambda: not list(house.home_of("cut").glob(".upload-*")), "the half file to go")
    time.sleep(QUIET_SECONDS)
    assert (house.home_of("cut") / "enrollments.csv").read_bytes() == before
    assert len(house.sealed("cut")) == len(house.runs("cut")) == 1

    house.push(second, "cut")
    assert house.wait_for_runs(2, "cut").outcome == "successful"
    assert_as_sent(house, second, "cut")


def test_a_faulty_night_leaves_a_receipt_a_zip_and_the_rejected_rows_for_the_districts_own_client(house: Home, tmp_path: Path) -> None:
    house.add("fixer")
    files = small()
    files["students"][1] |= {"Last_name": "", "First_name": "=1+1"}
    house.push(write(tmp_path / "faulty", files), "fixer")
    run = house.wait_for_runs(1, "fixer")

    told = json.loads(house.fetch("reports/latest-receipt.json", "fixer"))
    assert (told["run"], told["outcome"], told["action"]) == (run.id, "successful", "correct")
    students = next(each for each in told["files"] if each["name"] == "students.csv")
    assert (students["rows"], students["rejected"]) == (6, 1)
    rejected = list(csv.DictReader(io.StringIO(house.fetch("reports/latest-rejected-students.csv", "fixer").removeprefix("\ufeff"))))
    assert [(row["Student_id"], row["First_name"], row["finding"], row["line"]) for row in rejected] == [("0002", "'=1+1", "value_missing", "3")]
    with zipfile.ZipFile(io.BytesIO(house.fetch_bytes("reports/latest.zip", "fixer"))) as fetched:
        assert {"report.html", "receipt.json", "rejected-students.csv", "rejected-enrollments.csv", "students-created.csv"} <= set(fetched.namelist())
    assert told["details"] in house.listing("reports", "fixer")
    assert "=1+1" not in house.log

    house.command("report", str(run.id), "--zip", "details.zip")
    assert stat.S_IMODE((house.folder / "details.zip").stat().st_mode) == 0o600
    with zipfile.ZipFile(house.folder / "details.zip") as written:
        assert "rejected-students.csv" in written.namelist()

    house.push(write(tmp_path / "mended", small()), "fixer")
    house.wait_for_runs(2, "fixer")
    assert json.loads(house.fetch("reports/latest-receipt.json", "fixer"))["action"] == "none"
    assert not [name for name in house.listing("reports", "fixer") if name.startswith("latest-rejected-")]


def test_a_further_account_delivers_for_its_district_until_it_is_removed_under_the_running_daemon(home: Home, tmp_path: Path) -> None:
    folder = write(tmp_path / "night", small())
    home.serve()
    home.command("accounts", "add", "springfield", "sis", "--key", "district_key.pub")
    home.push(folder, "sis")
    assert home.wait_for_runs(1, "springfield").outcome == "successful"
    eventually(lambda: home.events("session_closed"), "the session to end")

    home.command("accounts", "remove", "sis")
    with pytest.raises(asyncssh.PermissionDenied):
        home.push(folder, "sis")
    home.push(folder, "springfield")
    assert home.stop() == 0
    told = [(each["account"], len(each["files"])) for each in home.json("sessions", "springfield")["sessions"]]
    assert told == [("sis", len(small())), ("springfield", len(small()))]
    assert {(each["event"], each["account"], each["district"]) for each in home.events("login_refused")} == {("login_refused", "(unknown)", "(unknown)")}
