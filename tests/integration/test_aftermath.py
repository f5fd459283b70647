"""What nights leave in the tables, on both databases: records that fit each other, whatever of a night had to wait."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, text

from sftp_ingest.config import Settings
from sftp_ingest.model import Limits
from sftp_ingest.store import database, ledger
from tests.integration.house import NIGHT, NOW, House
from tests.unit.districts import busy, small, without

ORPHANS = """SELECT count(*) FROM enrollments e JOIN users u ON u.district_id = e.district_id AND u.role = 'student' AND u.sis_id = e.student_id
    WHERE e.active AND NOT u.active"""


def asked(engine: Engine, query: str) -> list[tuple[object, ...]]:
    """What the tables answer."""
    with database.reading(engine) as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def test_a_date_of_attendance_is_corrected_and_the_night_goes_on(tmp_path: Path, engine: Engine) -> None:
    house = House.make(tmp_path, engine, "acme")
    absence = {"Attendance_id": "a1", "Attendance_date": "2026-08-28", "Attendance_status": "absent", "Student_id": "0001"}
    house.night(small() | {"attendance": [absence]})
    files = small() | {"attendance": [absence | {"Attendance_date": "2026-08-27"}]}
    files["students"][1]["Last_name"] = "Other"
    _, _, outcome = house.night(files, NOW + NIGHT)
    assert outcome == "successful"
    assert asked(engine, "SELECT attendance_id, date FROM attendance") == [("a1", "2026-08-27")]
    assert asked(engine, "SELECT last_name FROM users WHERE sis_id = '0002' AND role = 'student'") == [("Other",)]


def test_enrollments_go_with_who_leaves_and_come_back_with_him(tmp_path: Path, engine: Engine) -> None:
    house = House.make(tmp_path, engine, "acme", settings=Settings())
    house.night(busy(20))
    before = house.roster()
    _, run, outcome = house.night(without(busy(20), {2, 4, 6}), NOW + NIGHT)
    assert outcome == "successful"
    assert ledger.holds(engine, "acme") == []
    assert asked(engine, ORPHANS) == [(0,)]
    assert asked(engine, "SELECT count(*) FROM enrollments WHERE NOT active") == [(18,)]
    assert house.run(ledger.revert(engine, run, NOW + NIGHT)) == "successful"
    assert house.roster() == before


def test_what_somebody_left_behind_by_hand_ends_the_next_night(tmp_path: Path, engine: Engine) -> None:
    house = House.make(tmp_path, engine, "acme", settings=Settings())
    house.night(busy(20))
    with database.writing(engine) as connection:
        connection.execute(text("UPDATE users SET active = FALSE, deactivated_at = '2026-09-01 12:00:00' WHERE sis_id IN ('0002', '0004', '0006')"))
    files = without(busy(20), {2, 4, 6})
    _, _, outcome = house.night(files | {"enrollments": busy(20)["enrollments"]}, NOW + NIGHT)
    assert outcome == "successful"
    assert asked(engine, ORPHANS) == [(0,)]
    files["students"][0]["Last_name"] = "Other"
    for number in (2, 3):
        assert house.night(files, NOW + number * NIGHT)[2] == ("successful" if number == 2 else "unchanged")


def test_a_section_has_one_primary_teacher_while_the_old_one_waits_to_leave(tmp_path: Path, engine: Engine) -> None:
    house = House.make(tmp_path, engine, "acme", settings=Settings(limits=Limits(records=2)))
    files = busy(6, sections=4)
    files["teachers"] += [files["teachers"][0] | {"Teacher_id": f"u{number}"} for number in range(4)]
    for number, row in enumerate(files["sections"]):
        row["Teacher_id"] = f"u{number}"
    house.night(files)
    files["teachers"] = [row for row in files["teachers"] if row["Teacher_id"] not in {"u0", "u1", "u2"}]
    for row in files["sections"]:
        row["Teacher_id"] = "t1"
    assert house.night(files, NOW + NIGHT)[2] == "on_hold"
    primary = "SELECT section_id, teacher_id FROM section_teachers WHERE active AND position = 1 ORDER BY section_id"
    assert asked(engine, primary) == [("s0", "u0"), ("s1", "u1"), ("s2", "u2"), ("s3", "t1")]
    (held,) = ledger.holds(engine, "acme", "open")
    assert house.run(ledger.release(engine, held.id, "Ada", NOW + NIGHT)) == "successful"
    assert asked(engine, primary) == [(f"s{number}", "t1") for number in range(4)]
