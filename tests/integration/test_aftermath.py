"""What nights leave in the tables, on both databases: records that fit each other, whatever of a night had to wait."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, text

from sftp_ingest.store import database
from tests.integration.house import NIGHT, NOW, House
from tests.unit.districts import small


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
