"""The copy of the roster that is kept from run to run, on both databases: the roster to the last cell, or not believed."""

from __future__ import annotations

import random
import stat
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from sqlalchemy import Engine, text
from structlog.testing import capture_logs

from sftp_ingest import boot, copies, erasure, repeat
from sftp_ingest.config import Settings
from sftp_ingest.errors import StoreError
from sftp_ingest.model import ChangeSet, Limits
from sftp_ingest.roster import layers
from sftp_ingest.roster.arrow import in_one_piece
from sftp_ingest.store import database, ledger, rosters, states
from tests.integration.house import NIGHT, NOW, House
from tests.unit.districts import Files, busy, csv_of, enrollment, small, student
from tests.unit.test_laws import SPOILERS, districts


@pytest.fixture
def house(tmp_path: Path, engine: Engine) -> House:
    made = House.make(tmp_path, engine, "acme")
    made.night(small())
    return made


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The districts whose tables are read by a run, in order."""
    told: list[str] = []
    current = rosters.current

    def noting(connection: object, district: str) -> object:
        told.append(district)
        return current(connection, district)  # type: ignore[arg-type]

    monkeypatch.setattr("sftp_ingest.sync.rosters.current", noting)
    return told


def later(number: int) -> Files:
    """The small district on another night: one more student, another last name."""
    files = small()
    files["students"] = [row | {"Last_name": f"Name{number}"} for row in files["students"]] + [student(100 + number)]
    files["enrollments"].append(enrollment("s1", 100 + number))
    return files


def was_read(house: House, readings: list[str], files: Files, number: int) -> bool:
    """Whether a night read the tables."""
    readings.clear()
    assert house.night(files, NOW + number * NIGHT)[2] == "successful"
    read = bool(readings)
    assert house.copy() == house.roster()
    return read


def write(engine: Engine, statement: str) -> None:
    with database.writing(engine) as connection:
        connection.execute(text(statement))


def test_the_next_night_is_compared_with_the_copy(house: House, readings: list[str]) -> None:
    assert [was_read(house, readings, later(number), number) for number in (1, 2, 3)] == [False, False, False]


def test_only_the_daemons_user_can_read_the_copy(house: House) -> None:
    path = house.config.copy_of("acme")
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent)] == [0o600, 0o700]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE users SET first_name = 'Eve' WHERE district_id = 'acme' AND sis_id = '0001'",
        "DELETE FROM enrollments WHERE district_id = 'acme'",
        "UPDATE roster_states SET token = 'another' WHERE district_id = 'acme'",  # the database was put back to what it was
        "UPDATE roster_states SET token = '' WHERE district_id = 'acme'",
        "UPDATE roster_states SET run_id = NULL WHERE district_id = 'acme'",  # the last run could not tell what it left
    ],
)
def test_what_the_database_does_not_know_is_not_believed(house: House, readings: list[str], statement: str) -> None:
    write(house.engine, statement)
    assert was_read(house, readings, later(1), 1)
    assert not was_read(house, readings, later(2), 2)


def _halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


HARM: tuple[Callable[[Path], object], ...] = (Path.unlink, _halve, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"PAR1" * 100))


@pytest.mark.parametrize("harm", HARM)
def test_a_copy_that_is_gone_or_broken_costs_time_and_nothing_else(house: House, readings: list[str], harm: Callable[[Path], object]) -> None:
    harm(house.config.copy_of("acme"))
    assert was_read(house, readings, later(1), 1)
    assert not was_read(house, readings, later(2), 2)


def test_a_copy_has_memberships_by_the_places_of_whom_they_name(tmp_path: Path, engine: Engine) -> None:
    house = House.make(tmp_path, engine, "acme")
    house.night(busy(7))
    with database.reading(engine) as connection:
        token = states.of(connection, "acme").token
    kept = copies.read(house.config.copy_of("acme"), token)
    assert kept is not None
    lying = {name: {column: in_one_piece(each.base[column]) for column in each.base.column_names} for name, each in layers.of(kept.roster).items()}
    for column, (whom, key) in {"student_id": ("students", "sis_id"), "section_id": ("sections", "section_id")}.items():
        assert lying["enrollments"][column].dictionary.equals(lying[whom][key])


def test_a_night_of_few_changes_writes_these_alone(tmp_path: Path, engine: Engine, readings: list[str]) -> None:
    house = House.make(tmp_path, engine, "acme")
    house.night(small(60))
    path = house.config.copy_of("acme")
    whole = path.read_bytes()
    files, sizes = small(60), []
    for number in (1, 2, 3):
        files["students"][number]["Last_name"] = f"Name{number}"
        assert not was_read(house, readings, files, number)
        assert path.read_bytes() == whole
        sizes.append(path.with_suffix(".later").stat().st_size)
    assert sizes[-1] < len(whole)
    assert stat.S_IMODE(path.with_suffix(".later").stat().st_mode) == 0o600
    for row in files["students"]:
        row["First_name"] = "Jo"
    assert not was_read(house, readings, files, 4)
    assert path.read_bytes() != whole
    assert not path.with_suffix(".later").exists(), "so many changes that all was written anew"
    files["students"][5]["Last_name"] = "Other"
    assert not was_read(house, readings, files, 5)
    assert erasure.person(house.config, house.engine, "acme", "0001", "student", NOW).files["rosters"] == 2
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("harm", HARM)
def test_changes_that_are_gone_or_broken_cost_time_and_nothing_else(
    tmp_path: Path, engine: Engine, readings: list[str], harm: Callable[[Path], object]
) -> None:
    house = House.make(tmp_path, engine, "acme")
    house.night(small(60))
    files = small(60)
    for number, read in ((1, False), (2, True), (3, False)):
        files["students"][number]["Last_name"] = f"Name{number}"
        assert was_read(house, readings, files, number) is read
        if number == 1:
            harm(house.config.copy_of("acme").with_suffix(".later"))


def test_changes_that_follow_upon_another_copy_are_not_believed(tmp_path: Path, engine: Engine, readings: list[str]) -> None:
    house = House.make(tmp_path, engine, "acme")
    house.night(small(60))
    path = house.config.copy_of("acme")
    first, files = path.read_bytes(), small(60)
    for row in files["students"]:
        row["First_name"] = "Jo"
    assert not was_read(house, readings, files, 1)
    files["students"][2]["Last_name"] = "Other"
    assert not was_read(house, readings, files, 2)
    path.write_bytes(first)
    files["students"][3]["Last_name"] = "Other"
    assert was_read(house, readings, files, 3)


def test_after_the_machine_was_started_anew_the_tables_are_read(house: House, readings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot, "this", lambda: "another")
    assert was_read(house, readings, later(1), 1)
    assert not was_read(house, readings, later(2), 2)


def test_once_a_week_the_tables_are_read_whatever_is_known(house: House, readings: list[str]) -> None:
    for number, (age, read) in enumerate(((repeat.LONGEST - timedelta(hours=1), False), (repeat.LONGEST, True), (timedelta(0), False)), 1):
        with database.reading(house.engine) as connection:
            kept = copies.read(house.config.copy_of("acme"), states.of(connection, "acme").token)
        assert kept is not None
        older = replace(kept, read_at=datetime.now(UTC) - age, base="")
        copies.follow(house.config.copy_of("acme"), older, ChangeSet({}, {}, {}, {}), kept.token)()
        assert was_read(house, readings, later(number), number) is read


def test_a_run_that_is_tried_once_more_reads_the_tables(house: House, readings: list[str]) -> None:
    delivery = house.sealed(later(1), NOW + NIGHT)
    run = ledger.record(house.engine, delivery, NOW + NIGHT)
    assert ledger.claim(house.engine, "me", datetime.now(UTC), run=run)
    ledger.requeue(house.engine, run, None)
    readings.clear()
    assert house.run(run) == "successful"
    assert readings == ["acme"]


def test_a_night_that_the_database_refuses_leaves_no_copy(house: House, readings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise StoreError("the disk of the database is full (SQLITE_FULL)", transient=True)

    with monkeypatch.context() as patch:
        patch.setattr("sftp_ingest.sync.upserter.record_changes", refuse)
        assert house.night(later(1), NOW + NIGHT)[2] is None
    assert not list(house.config.copy_of("acme").parent.iterdir())
    assert was_read(house, readings, later(2), 2)
    assert not was_read(house, readings, later(3), 3)


def test_a_disk_that_does_not_take_the_copy_stops_no_night(house: House, readings: list[str]) -> None:
    folder = house.config.copy_of("acme").parent
    house.config.copy_of("acme").unlink()
    folder.rmdir()
    folder.write_text("in the way")
    with capture_logs() as logs:
        assert house.night(later(1), NOW + NIGHT)[2] == "successful"
    assert [each["error"] for each in logs if each["event"] == "copy_not_kept"] == ["File exists"]
    folder.unlink()
    assert was_read(house, readings, later(2), 2)


def test_an_erasure_leaves_no_copy(house: House) -> None:
    assert erasure.person(house.config, house.engine, "acme", "0001", "student", NOW).files["rosters"] == 1
    assert not house.config.copy_of("acme").exists()
    house.night(later(1), NOW + NIGHT)
    assert erasure.district(house.config, house.engine, "acme", NOW).files["rosters"] == 1
    assert not house.config.copy_of("acme").exists()


def test_what_a_revert_put_back_is_read_from_the_tables(house: House, readings: list[str]) -> None:
    _, run, _ = house.night(later(1), NOW + NIGHT)
    again = ledger.revert(house.engine, run, NOW + NIGHT)
    assert house.run(again) == "successful"
    assert was_read(house, readings, later(2), 2)


NUMBERS = count()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], phases=[Phase.generate])
@given(
    nights=st.lists(districts(), min_size=3, max_size=5),
    spoiler=st.sampled_from(["", *sorted(SPOILERS)]),
    limits=st.sampled_from([Limits(), Limits(records=0, removed_share=0.2), Limits(records=10**6)]),
    most_later=st.sampled_from([0.0, 100.0, 100.0]),
    chance=st.randoms(use_true_random=False),
)
def test_whatever_comes_the_copy_is_the_roster_to_the_last_cell(
    tmp_path: Path, engine: Engine, nights: list[Files], spoiler: str, limits: Limits, most_later: float, chance: random.Random
) -> None:
    """`House.run` compares the two after every night; those that left and those that wait among them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "_MOST_LATER", most_later)
        night_for_night(tmp_path, engine, nights, spoiler, limits, chance)


def night_for_night(tmp_path: Path, engine: Engine, nights: list[Files], spoiler: str, limits: Limits, chance: random.Random) -> None:
    """Every night keeps a copy of its roster, however much of it is written."""
    name = f"district-{next(NUMBERS)}"
    house = House.make(tmp_path, engine, name, settings=replace(Settings(), limits=limits))
    for number, files in enumerate(nights):
        raw: dict[str, bytes] = {}
        if spoiler and number == len(nights) - 2:
            table = chance.choice(["students", "teachers", "sections", "enrollments"])
            lines = csv_of(files[table]).split(b"\n")
            victim = chance.randrange(1, len(lines) - 1)
            lines[victim] = SPOILERS[spoiler](lines[victim], lines[0].split(b","))
            raw[table] = b"\n".join(lines)
        house.night(files, NOW + number * NIGHT, name, **raw)
        assert house.copy(name) is not None or number == 0
