"""A database that an earlier version filled comes to today's tables with every row, and where a row breaks a rule of them, stays as it is."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, inspect, text

from sftp_ingest.config import Settings
from sftp_ingest.errors import StoreError
from sftp_ingest.store import database, ledger, register, tables
from tests.conftest import an_empty_database
from tests.integration.house import NIGHT, NOW, House
from tests.unit.districts import Files, enrollment, small, student
from tests.unit.test_side_files import custom

REVISIONS = ("0001", "0002", "0003", "0004", "0005")
MOVED = ("password_hash", "authorized_keys")
"""What revision 0006 took from districts to accounts."""
NUMBERED = ("sync_runs", "holds")


@pytest.fixture
def old(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> Iterator[Engine]:
    """A second empty database, of the same kind."""
    with an_empty_database(request, database_url.partition(":")[0], tmp_path / "old.db") as url:
        opened = database.open_engine(url)
        yield opened
        opened.dispose()


@pytest.fixture
def house(tmp_path: Path, engine: Engine) -> House:
    """Two districts after a few nights, of which one came with a row that was left out, one is held and one was reverted."""
    made = House.make(tmp_path, engine, "acme", "bond", settings=Settings())
    made.night(small(30))
    made.night(small(), district="bond")
    _, changed, _ = made.night(second_night(), NOW + NIGHT)
    assert made.night({**small(30), "students": small(12)["students"], "enrollments": small(12)["enrollments"]}, NOW + 2 * NIGHT)[2] == "on_hold"
    made.run(ledger.revert(engine, changed, datetime.now(UTC)))
    return made


def second_night() -> Files:
    """A district with a student who changed, one who left, one who came and one whose row is left out."""
    files = small(30)
    files["students"][0]["Grade"] = "8"
    files["students"][5]["Last_name"] = ""
    files["students"] = [row for row in files["students"] if row["Student_id"] != "0002"] + [student(99, School_id="0012")]
    files["enrollments"] = [row for row in files["enrollments"] if row["Student_id"] != "0002"] + [enrollment("s2", 99)]
    return files


def upgraded(engine: Engine, revision: str) -> None:
    """The tables as they were at an earlier revision."""
    with database.writing(engine) as connection:
        config = Config()
        config.set_main_option("script_location", "sftp_ingest.store:migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def plain(engine: Engine) -> str:
    """The database's URL as psycopg reads it."""
    return engine.url.set(drivername="postgresql").render_as_string(hide_password=False)


def pour(source: Engine, target: Engine) -> None:
    """Every row of every table into the same table of the target, by those columns that it has; what has moved since is made up."""
    known = columns_of(target)
    for table in tables.metadata.sorted_tables:
        if table.name not in known:
            continue
        columns = ", ".join(f'"{column}"' for column in known[table.name])
        told = ", ".join(f"'{column} of ' || id" if table.name == "districts" and column in MOVED else f'"{column}"' for column in known[table.name])
        if source.dialect.name == "sqlite":
            with sqlite3.connect(str(target.url.database)) as driver:
                driver.execute("ATTACH ? AS source", (str(source.url.database),))
                driver.execute(f'INSERT INTO "{table.name}" ({columns}) SELECT {told} FROM source."{table.name}"')
            continue
        rows = io.BytesIO()
        with psycopg.connect(plain(source)) as driver, driver.cursor().copy(f'COPY (SELECT {told} FROM "{table.name}") TO STDOUT') as given:
            for block in given:
                rows.write(block)
        with psycopg.connect(plain(target)) as driver:
            with driver.cursor().copy(f'COPY "{table.name}" ({columns}) FROM STDIN') as taken:
                taken.write(rows.getvalue())
            if table.name in NUMBERED:
                driver.execute(f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), (SELECT max(id) FROM \"{table.name}\"))")


def columns_of(engine: Engine) -> dict[str, list[str]]:
    """The tables of a database with their columns, but for those that the database fills by itself."""
    seen = inspect(engine)
    names = [name for name in seen.get_table_names() if name != "alembic_version"]
    return {name: [column["name"] for column in seen.get_columns(name) if "computed" not in column] for name in names}


def rows(engine: Engine, of: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Every row as text, by these columns of these tables."""
    told = {}
    with database.reading(engine) as connection:
        for name, columns in of.items():
            spelt = ", ".join(f'"{column}"' for column in columns)
            told[name] = sorted(repr(tuple(row)) for row in connection.exec_driver_sql(f'SELECT {spelt} FROM "{name}"'))
    return told


@pytest.mark.parametrize("revision", REVISIONS)
def test_every_row_of_a_filled_database_is_there_after_the_upgrade_and_the_nights_go_on(house: House, old: Engine, revision: str) -> None:
    upgraded(old, revision)
    pour(house.engine, old)
    known = columns_of(old)
    for column in MOVED:
        known["districts"].remove(column)
    known.pop("roster_states", None)  # it counts who writes, and so also what was poured
    before = rows(old, known)
    assert all(before[name] for name in ("users", "enrollments", "contacts", "section_teachers", "changes", "findings", "holds"))

    database.upgrade(old)
    database.check(old)
    assert rows(old, known) == before == rows(house.engine, known)
    log_ins = [(each.name, each.district, each.created_at, each.password_hash, *each.keys) for each in register.accounts(old)]
    assert log_ins == [(each, each, NOW, f"password_hash of {each}", f"authorized_keys of {each}") for each in ("acme", "bond")]
    last = max(run.id for run in ledger.runs(house.engine))
    _, run, outcome = House(house.config, old).night(second_night(), NOW + 3 * NIGHT)
    assert (run, outcome) == (last + 1, "successful")


def test_enrollments_come_from_where_their_section_does_after_the_upgrade_and_the_next_night_reads_from_where_others_do(
    tmp_path: Path, engine: Engine, old: Engine
) -> None:
    house = House.make(tmp_path, engine, "acme")
    files = small() | custom()
    files["customsections/enrollments"].append(enrollment("s2", 1))
    house.night(files)
    told = house.roster()
    upgraded(old, "0008")
    pour(engine, old)
    database.upgrade(old)
    after = House(house.config, old)
    assert sources(after) == {("xs", "0001"): "custom", ("xs", "x1"): "custom"}
    run = ledger.run(old, after.night(files, NOW + NIGHT)[1])
    assert run is not None
    assert "load" in run.seconds
    assert (run.outcome, run.counts["enrollments"].updated) == ("successful", 1)
    assert after.roster() == told
    after.night(small(), NOW + 2 * NIGHT)
    assert after.roster() == told


def sources(house: House) -> dict[tuple[str, str], str]:
    """Section and student → the side file that an enrollment came from, of those that came from one."""
    with database.reading(house.engine) as connection:
        found = connection.execute(text("SELECT section_id, student_id, source FROM enrollments WHERE source IS NOT NULL"))
        return {(row.section_id, row.student_id): row.source for row in found}


def test_the_number_of_a_run_that_was_erased_is_not_given_again_after_the_upgrade(house: House, old: Engine) -> None:
    upgraded(old, "0003")
    pour(house.engine, old)
    last = max(run.id for run in ledger.runs(house.engine))
    with database.writing(old) as connection:
        for table, column in (("changes", "run_id"), ("findings", "run_id"), ("sync_runs", "id")):
            connection.execute(text(f"DELETE FROM {table} WHERE {column} = :last"), {"last": last})
    database.upgrade(old)
    _, run, _ = House(house.config, old).night(second_night(), NOW + 3 * NIGHT)
    assert run == last + 1


@pytest.mark.parametrize(
    ("by_hand", "told"),
    [
        ("DELETE FROM sections WHERE section_id = 's1' AND district_id = 'acme'", "enrollments|section_teachers"),
        ("DELETE FROM users WHERE role = 'student' AND sis_id = '0001' AND district_id = 'acme'", "enrollments|contacts"),
        ("UPDATE users SET active = NOT active WHERE sis_id = '0001'", "breaks a rule"),
        ("UPDATE sync_runs SET outcome = NULL", "breaks a rule"),
    ],
)
def test_rows_that_break_a_rule_are_told_and_nothing_is_upgraded(house: House, old: Engine, by_hand: str, told: str) -> None:
    upgraded(old, "0003")
    pour(house.engine, old)
    with database.writing(old) as connection:
        connection.execute(text(by_hand))
    known = columns_of(old)
    before = rows(old, known)
    with pytest.raises(StoreError, match=told):
        database.upgrade(old)
    assert (columns_of(old), rows(old, known)) == (known, before)
    with database.reading(old) as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "0003"
    with pytest.raises(StoreError, match="older than this program"):
        database.check(old)
    with pytest.raises(StoreError), database.writing(old) as connection:  # references of before are looked at again
        connection.execute(text("INSERT INTO findings (run_id, position) VALUES (4711, 1)"))
