"""Nights of which only the new lines are read, on both databases: the tables become what a whole reading makes of them, or all is read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from sftp_ingest.model import Limits, SyncRun
from sftp_ingest.store import database, ledger, states
from tests.integration.house import NIGHT, NOW, House
from tests.unit.districts import Files, enrollment, small, student


def night(number: int) -> Files:
    """The small district on one night of many: a name that changes every night, and one more student each."""
    files = small()
    files["students"][0]["Last_name"] = f"Name{number}"
    for each in range(number):
        files["students"].append(student(100 + each))
        files["enrollments"].append(enrollment("s1", 100 + each))
    return files


def sent(house: House, number: int, files: Files | None = None, **raw: bytes | None) -> SyncRun:
    """The run of a night. That its copy says what the tables say is looked at by the house."""
    _, run_id, _ = house.night(files or night(number), NOW + number * NIGHT, **raw)
    run = ledger.run(house.engine, run_id)
    assert run is not None
    return run


def was_whole(run: SyncRun) -> bool:
    """Whether the files were read as a whole."""
    return "load" in run.seconds


@pytest.fixture
def house(tmp_path: Path, engine: Engine) -> House:
    made = House.make(tmp_path, engine, "acme")
    assert was_whole(sent(made, 0))
    return made


def test_nights_after_the_first_are_not_read_as_a_whole_and_come_to_the_same(house: House, tmp_path: Path, engine: Engine) -> None:
    runs = [sent(house, number) for number in (1, 2, 3)]
    assert [(was_whole(each), each.outcome, each.counts["students"].created) for each in runs] == [(False, "successful", 1)] * 3
    told = house.roster()
    with database.writing(engine) as connection:
        connection.execute(text("UPDATE roster_states SET rules = ''"))
    last = sent(house, 4, night(3))
    assert (was_whole(last), last.outcome) == (True, "unchanged")
    assert house.roster() == told


def test_the_same_files_after_such_a_night_are_told_without_being_read(house: House) -> None:
    sent(house, 1)
    assert "excerpt" not in sent(house, 2, night(1)).seconds
    assert not was_whole(sent(house, 3))


HANDS: dict[str, Callable[[House], object]] = {
    "who writes to the roster by hand": lambda house: write(house, "UPDATE users SET first_name = 'Eve' WHERE sis_id = '0002'"),
    "who removes the copy": lambda house: house.config.copy_of("acme").unlink(),
}


def write(house: House, statement: str) -> None:
    with database.writing(house.engine) as connection:
        connection.execute(text(statement))


@pytest.mark.parametrize("hand", HANDS)
def test_all_is_read_after_somebody(house: House, hand: str) -> None:
    HANDS[hand](house)
    assert was_whole(sent(house, 1))
    assert not was_whole(sent(house, 2))


def test_all_is_read_by_other_rules_and_after_a_fault(house: House) -> None:
    assert was_whole(sent(house.having(keep_sensitive=("ell_status",)), 1))
    files = night(2)
    files["students"][1]["Last_name"] = ""
    assert was_whole(sent(house.having(keep_sensitive=("ell_status",)), 2, files))
    assert was_whole(sent(house.having(keep_sensitive=("ell_status",)), 3)), "of a row that was left out the roster knows other things than the file"
    assert not was_whole(sent(house.having(keep_sensitive=("ell_status",)), 4))


def test_a_strict_district_is_read_as_a_whole(tmp_path: Path, engine: Engine) -> None:
    house = House.make(tmp_path, engine, "acme").having(strict=True)
    assert [was_whole(sent(house, number)) for number in (0, 1)] == [True, True]


def test_all_is_read_once_a_week(house: House) -> None:
    runs = [sent(house, number) for number in range(1, 10)]
    assert [number for number, each in enumerate(runs, 1) if was_whole(each)] == [8]
    with database.reading(house.engine) as connection:
        read_at = states.of(connection, "acme").read_at
    assert read_at is not None
    assert read_at - NOW == timedelta(days=8)


def test_a_night_that_holds_what_leaves_is_read_as_a_whole_and_so_is_the_night_after(tmp_path: Path, engine: Engine) -> None:
    house = House.make(tmp_path, engine, "acme").having(limits=Limits(records=1))
    sent(house, 0)
    files = small()
    files["students"] = files["students"][:3]
    files["enrollments"] = [row for row in files["enrollments"] if row["Student_id"] <= "0003"]
    held = sent(house, 1, files)
    assert ("excerpt" in held.seconds, was_whole(held), held.outcome) == (True, True, "on_hold")
    hold = ledger.holds(engine, "acme")[0].hold
    assert hold.scope["students"] == 3
    assert was_whole(sent(house, 2, files))


def test_a_delivery_that_is_no_longer_kept_cannot_be_compared_with(house: House) -> None:
    for each in house.config.deliveries.rglob("students.csv"):
        each.unlink()
    assert was_whole(sent(house, 1))
