"""Many hands on one roster: readers see one whole roster, whoever is in the way waits or is done again, and a delivery is run once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from threading import Event
from time import monotonic, sleep
from typing import TypeVar

import psycopg
import pytest
from sqlalchemy import Engine, make_url, select, text
from structlog.testing import capture_logs

from sftp_ingest import runner
from sftp_ingest.errors import StoreError
from sftp_ingest.model import Delivery, Outcome, Roster
from sftp_ingest.store import database, ledger, rosters, tables, upserter
from tests.conftest import PATIENCE_SECONDS
from tests.integration.house import NIGHT, NOW, House
from tests.integration.test_store import add, change_set, delivery
from tests.unit.districts import Files, enrollment, section, small, student

T = TypeVar("T")

DELIVERIES = 100
ELSEWHERE = "s9"


@pytest.fixture
def house(tmp_path: Path, engine: Engine) -> House:
    made = House.make(tmp_path, engine, "acme")
    made.night(small())
    return made


def other() -> Files:
    """The small district in which every entity differs: another name, a new student, teacher, section and school, and none of student 2."""
    files = small()
    files["schools"] = [row | {"School_name": "Renamed"} for row in files["schools"]] + [{"School_id": "0013", "School_name": "New", "School_number": "0013"}]
    files["teachers"].append(files["teachers"][0] | {"Teacher_id": "t9", "School_id": "0013", "Teacher_email": "t9@example.org"})
    files["students"] = [row | {"Grade": "8"} for row in files["students"] if row["Student_id"] != "0002"] + [student(9, School_id="0013")]
    files["sections"].append(section(ELSEWHERE, "0013", "t9", "Music"))
    files["enrollments"] = [row for row in files["enrollments"] if row["Student_id"] != "0002"] + [enrollment(ELSEWHERE, 9), enrollment(ELSEWHERE, 1)]
    return files


def told(roster: Roster) -> dict[str, list[tuple[str, ...]]]:
    """All active records, in an order of their own."""
    return {name: sorted(frame[frame["active"]].drop(columns="active").itertuples(index=False, name=None)) for name, frame in roster.entities.items()}


def held(house: House) -> dict[str, list[tuple[str, ...]]]:
    with database.reading(house.engine) as connection:
        return told(rosters.current(connection, "acme"))


def eventually(ask: Callable[[], T]) -> T:
    """The first answer that is true."""
    deadline = monotonic() + PATIENCE_SECONDS
    while not (answer := ask()):
        assert monotonic() < deadline
        sleep(0.01)
    return answer


# ---------------------------------------------------------------- who reads sees one roster


def test_a_reader_who_began_before_a_run_reads_the_roster_of_before_to_the_end(house: House) -> None:
    before = held(house)
    schools = select(tables.rosters["schools"].c.school_id)
    with database.reading(house.engine) as connection:
        assert len(connection.execute(schools).all()) == 2
        assert house.night(other(), NOW + NIGHT)[2] == "successful"
        assert told(rosters.current(connection, "acme")) == before
    after = held(house)
    assert all(after[name] != before[name] for name in ("schools", "students", "teachers", "sections", "section_teachers", "enrollments", "contacts"))


def test_a_reader_never_sees_a_mix_while_runs_apply(house: House) -> None:
    one = held(house)
    house.night(other(), NOW + NIGHT)
    two = held(house)
    over, seen = Event(), [1]

    def read() -> None:
        while not over.wait(0.01):
            roster = held(house)
            assert roster in (one, two)
            seen.append((one, two).index(roster))

    with ThreadPoolExecutor(1) as aside:
        reader = aside.submit(read)
        try:
            for number in range(2, 7):
                assert house.night(other() if number % 2 else small(), NOW + number * NIGHT)[2] == "successful"
                eventually(lambda now=number % 2: reader.done() or seen[-1] == now)
        finally:
            over.set()
        reader.result()


def test_who_only_reads_cannot_write(engine: Engine) -> None:
    if engine.dialect.name != "postgresql":
        pytest.skip("SQLite lets a transaction that began to read write as well")
    with pytest.raises(StoreError), database.reading(engine) as connection:
        connection.execute(text("DELETE FROM districts"))


# ---------------------------------------------------------------- who is in the way


@pytest.fixture
def someone(engine: Engine) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A connection of somebody else's, who can wait for long."""
    if engine.dialect.name != "postgresql":
        pytest.skip("on SQLite one writer waits for the other before he begins")
    with psycopg.connect(make_url(engine.url).set(drivername="postgresql").render_as_string(hide_password=False)) as connection:
        connection.execute("SET deadlock_timeout = '1min'")  # so that it is the run whom PostgreSQL sends away
        yield connection


@contextmanager
def running(house: House, run: int) -> Iterator[Future[Outcome | None]]:
    """The run, while it waits for a lock that somebody else has."""
    waiting = text("SELECT COUNT(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database() WHERE NOT granted")
    transactions = text("SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")

    def waits() -> bool:
        with house.engine.connect() as connection:
            return bool(connection.scalar(waiting) or connection.scalar(transactions))

    with ThreadPoolExecutor(1) as aside:
        outcome = aside.submit(house.run, run)
        eventually(lambda: outcome.done() or waits())
        assert not outcome.done()
        yield outcome


def ended(house: House, run: int) -> tuple[str | None, int]:
    """The outcome, and in which attempt."""
    found = ledger.run(house.engine, run)
    assert found is not None
    return found.outcome, found.attempts


def test_a_run_that_loses_a_deadlock_is_applied_at_once_in_the_same_attempt(house: House, someone: psycopg.Connection[tuple[object, ...]]) -> None:
    run = ledger.record(house.engine, house.sealed(other(), NOW + NIGHT), NOW)
    with capture_logs() as log:
        someone.execute("UPDATE enrollments SET school_id = school_id WHERE student_id = '0002'")
        with running(house, run) as outcome:  # it has written the students, and waits for the enrollment
            someone.execute("UPDATE users SET first_name = first_name WHERE sis_id = '0001'")
            someone.commit()
            assert outcome.result(PATIENCE_SECONDS) == "successful"
    assert [each["error"] for each in log if each["event"] == "transaction_again"] == ["another transaction was in the way (40P01)"]
    assert ended(house, run) == ("successful", 1)
    assert held(house)["enrollments"] == sorted((row["Section_id"], row["Student_id"], row["School_id"], "") for row in other()["enrollments"])


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_a_run_that_cannot_be_serialized_is_applied_at_once_in_the_same_attempt(
    house: House, someone: psycopg.Connection[tuple[object, ...]], isolation: str, database_url: str
) -> None:
    name = someone.info.dbname
    someone.execute(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = '{isolation}'")
    someone.commit()
    house = House(house.config, database.open_engine(database_url))
    run = ledger.record(house.engine, house.sealed(other(), NOW + NIGHT), NOW)
    with capture_logs() as log:
        someone.execute("UPDATE enrollments SET school_id = school_id WHERE student_id = '0002'")
        with running(house, run) as outcome:
            someone.commit()
            assert outcome.result(PATIENCE_SECONDS) == "successful"
    assert [each["error"] for each in log if each["event"] == "transaction_again"] == ["another transaction was in the way (40001)"]
    assert ended(house, run) == ("successful", 1)
    house.engine.dispose()


def test_a_roster_that_somebody_changed_meanwhile_is_compared_again(house: House, someone: psycopg.Connection[tuple[object, ...]]) -> None:
    run = ledger.record(house.engine, house.sealed(other(), NOW + NIGHT), NOW)
    someone.execute("UPDATE enrollments SET active = false, deactivated_at = now() WHERE student_id = '0002'")
    with running(house, run) as outcome:
        someone.commit()
        assert outcome.result(PATIENCE_SECONDS) is None  # given back
    again = eventually(lambda: ledger.claim(house.engine, "me", datetime.max.replace(tzinfo=UTC), run=run))
    assert runner.execute(house.config, house.engine, again) == "successful"
    assert ended(house, run) == ("successful", 2)


def test_a_transaction_that_is_always_in_somebodys_way_is_given_up_at_last(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    @database.insisting
    def collide() -> None:
        begun.append(1)
        with database.writing(house.engine) as connection:
            connection.execute(text("DO $$ BEGIN RAISE serialization_failure; END $$"))

    if house.engine.dialect.name != "postgresql":
        pytest.skip("SQLite has no such fault")
    monkeypatch.setattr(database, "COLLISIONS", 3)
    with pytest.raises(StoreError, match="in the way") as fault:
        collide()
    assert fault.value.transient
    assert len(begun) == 3


# ---------------------------------------------------------------- one delivery, one run


def test_a_daemon_leaves_alone_what_another_one_with_a_data_folder_of_its_own_runs_on_the_same_database(
    house: House, someone: psycopg.Connection[tuple[object, ...]], tmp_path: Path
) -> None:
    run = ledger.record(house.engine, house.sealed(other(), NOW + NIGHT), NOW)
    elsewhere = runner.Runner(replace(house.config, data=tmp_path / "elsewhere"), house.engine)
    someone.execute("UPDATE enrollments SET school_id = school_id WHERE student_id = '0002'")
    with running(house, run) as outcome:
        elsewhere.start()
        elsewhere.stop(grace=0)
        assert ledger.running(house.engine)[0].id == run
        someone.commit()
        assert outcome.result(PATIENCE_SECONDS) == "successful"
    assert ended(house, run) == ("successful", 1)


def race(url: str, deliveries: list[Delivery], ready: Barrier, results: object, name: str) -> None:
    """What each of the two processes does: for every delivery, both at the same moment, record it, claim its run and apply it. Twice it could not be."""
    engine = database.open_engine(url)
    won = []
    for each in deliveries:
        ready.wait(PATIENCE_SECONDS)
        run = ledger.claim(engine, name, datetime.now(UTC), run=ledger.record(engine, each, NOW))
        if run is None:
            continue
        alone = [other.id for other in ledger.running(engine)] == [run.id]
        changes = change_set(schools=[{"operation": "created", "school_id": each.id}])
        with database.writing(engine) as connection:
            upserter.apply(connection, run.district, run.id, changes, NOW)
            upserter.record_changes(connection, run.district, run.id, changes, baseline=False)
            ledger.close(connection, run.id, "successful", datetime.now(UTC), {}, {}, [])
        won.append((each.id, alone))
    engine.dispose()
    results.put(won)  # type: ignore[attr-defined]


def test_two_processes_racing_for_one_delivery_a_hundred_times_run_it_once_each_time(engine: Engine, database_url: str) -> None:
    add(engine, "acme")
    deliveries = [delivery(name=f"d{number}", received_at=NOW + number * NIGHT) for number in range(DELIVERIES)]
    start = get_context("spawn")
    ready, results = start.Barrier(2), start.Queue()
    racers = [start.Process(target=race, args=(database_url, deliveries, ready, results, name)) for name in ("one", "other")]
    for racer in racers:
        racer.start()
    won = [each for _ in racers for each in results.get(timeout=2 * PATIENCE_SECONDS)]
    for racer in racers:
        racer.join(PATIENCE_SECONDS)
        assert racer.exitcode == 0
    assert sorted(won) == sorted((each.id, True) for each in deliveries)
    runs = ledger.runs(engine, "acme", 2 * DELIVERIES)
    assert [(run.outcome, run.attempts) for run in runs] == [("successful", 1)] * DELIVERIES
    assert len({run.delivery for run in runs}) == DELIVERIES
