"""The store on both databases: the schema, the ledger's rules under many hands, and change sets that become rows and come back."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, insert, inspect, select, text, update

from sftp_ingest.errors import ConfigError, HoldError, IngestError, StoreError
from sftp_ingest.findings import finding
from sftp_ingest.model import ENTITIES, Account, ChangeSet, Counts, DeliveredFile, Delivery, District, FileShape, Hold, HoldReason, Preview, SyncRun
from sftp_ingest.store import bulk, database, ledger, register, rosters, tables, upserter

NOW = datetime(2026, 9, 1, 3, 0, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
TEXT = pd.ArrowDtype(pa.string())
SNAPSHOT = {name: entity for name, entity in ENTITIES.items() if not entity.incremental}
"""What a roster read from the store holds; attendance is read by its ids."""
AWKWARD = ["O'Brien", 'the "Ace"', "a,b", "two\nlines", "cr\rlf\r\n", "\\N", "\\.", "a\n\\.\nb", " spaced ", "Žofie 李 🎒", "NULL", "N/A", "t", "%s :x ?"]


RUNNING = {"state": "running", "started_at": NOW, "claimed_by": "other"}


def pending_count(engine: Engine) -> int:
    """How many runs wait to be claimed."""
    return sum(run.state == "pending" for run in ledger.runs(engine, limit=100_000))


def delivery(district: str = "acme", name: str = "d1", received_at: datetime = NOW) -> Delivery:
    return Delivery(name, district, received_at, Path("sealed") / name, (DeliveredFile("students.csv", 12, "ab" * 32, resent=False),), "sftp", "s1")


def add(engine: Engine, *names: str) -> None:
    for name in names:
        register.add_district(engine, name, name.title(), NOW)


def claimed(engine: Engine, of: Delivery) -> SyncRun:
    run = ledger.claim(engine, "me", NOW, run=ledger.record(engine, of, NOW))
    assert run is not None
    return run


def close(engine: Engine, run: SyncRun, outcome: Any = "successful", now: datetime = NOW) -> None:
    with database.writing(engine) as connection:
        ledger.close(connection, run.id, outcome, now, {}, {}, [])


def held(engine: Engine, of: Delivery) -> int:
    """The id of the open hold of a delivery that was synced and held."""
    run = claimed(engine, of)
    with database.writing(engine) as connection:
        hold_id = ledger.open_hold(connection, run, Hold((HoldReason("students", "", "removed", 40, 100),), {"students": 40}, f"digest of {of.id}"), NOW)
        ledger.close(connection, run.id, "on_hold", NOW, {}, {}, [])
    return hold_id


def frame(rows: list[dict[str, str]], columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series([row.get(name, "") for row in rows], dtype=TEXT) for name in columns})


def change_set(**changes: list[dict[str, str]]) -> ChangeSet:
    """Rows of `operation` and values; what a row had before is under the column's name with `was_` before it, else as it is now."""
    frames, before = {}, {}
    for name, rows in changes.items():
        entity = ENTITIES[name]
        further = ("from_section_id", "from_school_id", "from_source") if any("from_section_id" in row for row in rows) else ()
        frames[name] = frame(rows, (*entity.columns, "operation", *further))
        held_before = [{} if row["operation"] == "created" else {c: row.get(f"was_{c}", row.get(c, "")) for c in entity.values} for row in rows]
        before[name] = frame(held_before, entity.values)
    return ChangeSet(frames, before, {}, {})


def apply(engine: Engine, changes: ChangeSet, district: str = "acme", run: int = 1, now: datetime = NOW) -> None:
    with database.writing(engine) as connection:
        upserter.apply(connection, district, run, changes, now)


def ground(engine: Engine, district: str = "acme", **ids: str) -> None:
    """Records that others refer to: of each entity one for every letter."""
    rows = {name: [{"operation": "created", ENTITIES[name].key[0]: each} for each in letters] for name, letters in ids.items()}
    apply(engine, change_set(**rows), district)


def current(engine: Engine, entity: str, district: str = "acme") -> dict[tuple[str, ...], dict[str, Any]]:
    """Key → all that the roster holds of one entity."""
    with database.reading(engine) as connection:
        rows = rosters.current(connection, district).entities[entity].to_dict("records")
    return {tuple(row[name] for name in ENTITIES[entity].key): row for row in rows}


def stamps(engine: Engine, table: str, **key: str) -> tuple[Any, ...]:
    live = tables.rosters[table]
    with database.reading(engine) as connection:
        row = select(live.c.active, live.c.first_seen_run, live.c.last_changed_run, live.c.deactivated_at)
        return tuple(connection.execute(row.where(*(live.c[name] == value for name, value in key.items()))).one())


# ---------------------------------------------------------------- the schema and its faults


@pytest.mark.filterwarnings("ignore:.*expression-based index")
def test_the_migrations_make_exactly_the_tables_of_the_code(engine: Engine) -> None:
    with database.reading(engine) as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), tables.metadata) == []
    seen = inspect(engine)
    for table in tables.metadata.tables.values():
        assert {each["name"] for each in seen.get_check_constraints(table.name)} == {str(each.name) for each in table.constraints if "ck_" in str(each.name)}
        assert seen.get_pk_constraint(table.name)["constrained_columns"] == [column.name for column in table.primary_key]


PEOPLE = {"students": "1", "teachers": "t", "staff": "f"}


@pytest.mark.parametrize(
    ("by_hand", "rule"),
    [
        ("DELETE FROM schools WHERE school_id = 'A'", "schools"),
        ("DELETE FROM sections WHERE section_id = 'a'", "sections"),
        ("DELETE FROM users WHERE sis_id = '1'", "users"),
        ("DELETE FROM users WHERE sis_id = 't'", "users"),
        ("DELETE FROM terms", "terms"),
        ("DELETE FROM courses", "courses"),
        ("DELETE FROM districts", ""),
        ("UPDATE users SET school_id = 'none' WHERE sis_id = '1'", "fk_users_district_id_schools"),
        ("UPDATE sections SET school_id = 'none'", "fk_sections_district_id_schools"),
        ("UPDATE enrollments SET district_id = 'bond'", "fk_enrollments"),
        ("UPDATE enrollments SET student_id = 't'", "fk_enrollments_district_id_users"),
        ("UPDATE section_teachers SET teacher_id = 'f'", "fk_section_teachers_district_id_users"),
        ("UPDATE contacts SET student_id = 't'", "fk_contacts_district_id_users"),
        ("UPDATE users SET active = (1 = 0)", "ck_users_active"),
        ("UPDATE enrollments SET deactivated_at = CURRENT_TIMESTAMP", "ck_enrollments_active"),
        ("UPDATE section_teachers SET position = NULL", "position"),
        ("UPDATE sync_runs SET district_id = 'bond'", "sync_runs"),
        ("UPDATE sync_runs SET state = 'lost'", "ck_sync_runs"),
        ("UPDATE sync_runs SET outcome = NULL", "ck_sync_runs_closed"),
        ("UPDATE sync_runs SET state = 'running', outcome = NULL, finished_at = NULL, started_at = NULL", "ck_sync_runs_claimed"),
        ("UPDATE changes SET district_id = 'bond'", "fk_changes_district_id_sync_runs"),
        ("UPDATE changes SET operation = 'guessed'", "ck_changes_operation"),
        ("UPDATE deliveries SET origin = 'mail'", "ck_deliveries_origin"),
    ],
)
def test_the_tables_refuse_by_themselves_what_cannot_be(engine: Engine, by_hand: str, rule: str) -> None:
    add(engine, "acme", "bond")
    ground(engine, schools="A", terms="x", courses="y", **PEOPLE)
    linked = change_set(
        sections=[{"operation": "created", "section_id": "a", "school_id": "A", "term_id": "x", "course_id": "y"}],
        section_teachers=[{"operation": "created", "section_id": "a", "teacher_id": "t", "position": "1"}],
        enrollments=[{"operation": "created", "section_id": "a", "student_id": "1"}],
        contacts=[{"operation": "created", "student_id": "1", "contact_id": "c"}],
        students=[{"operation": "updated", "sis_id": "1", "school_id": "A"}],
    )
    run = claimed(engine, delivery())
    with database.writing(engine) as connection:
        upserter.apply(connection, "acme", run.id, linked, NOW)
        upserter.record_changes(connection, "acme", run.id, linked, baseline=False)
        ledger.close(connection, run.id, "successful", NOW, {}, {}, [])
    with pytest.raises(StoreError, match="breaks a rule") as told, database.writing(engine) as connection:
        connection.execute(text(by_hand))
    assert rule in f"{told.value}" or engine.dialect.name == "sqlite"
    assert not told.value.transient


def test_a_blank_school_and_the_districts_office_are_let_through(engine: Engine) -> None:
    add(engine, "acme")
    blank = {"operation": "created", "sis_id": "1"}
    apply(engine, change_set(students=[blank], staff=[{**blank, "school_id": "district"}], sections=[{"operation": "created", "section_id": "a"}]))
    assert current(engine, "staff")["1",]["school_id"] == "district"
    with pytest.raises(StoreError, match="breaks a rule"):
        apply(engine, change_set(teachers=[{**blank, "school_id": "district"}]))


def references(engine: Engine) -> dict[str, list[Any]]:
    """The keys, foreign keys and indexes of all roster tables, as the database tells them."""
    seen = inspect(engine)
    return {name: sorted([seen.get_pk_constraint(name), *seen.get_foreign_keys(name), *seen.get_indexes(name)], key=str) for name in tables.rosters}


SCHOOL = {"operation": "created", "school_id": "A"}
ADA = {"operation": "created", "sis_id": "1", "school_id": "A"}


@pytest.fixture
def bulky(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """A database with a district and no roster, for which every roster is a large one."""
    monkeypatch.setattr(bulk, "MANY", 1)
    add(engine, "acme")
    return engine


def test_a_first_large_roster_leaves_keys_references_and_indexes_as_they_were(bulky: Engine) -> None:
    before = references(bulky)
    assert sum(map(len, before.values())) > 10
    apply(bulky, change_set(schools=[SCHOOL], students=[ADA]))
    assert references(bulky) == before
    with pytest.raises(StoreError):
        apply(bulky, change_set(students=[ADA | {"sis_id": "2", "school_id": "nowhere"}]))
    assert set(current(bulky, "students")) == {("1",)}


@pytest.mark.parametrize("students", [[ADA | {"school_id": "nowhere"}], [ADA, ADA]], ids=["refers to nothing", "has a record twice"])
def test_a_first_large_roster_that_breaks_a_rule_is_refused_as_a_whole(bulky: Engine, students: list[dict[str, Any]]) -> None:
    before = references(bulky)
    with pytest.raises(StoreError):
        apply(bulky, change_set(schools=[SCHOOL], students=students))
    assert (references(bulky), current(bulky, "schools")) == (before, {})


@pytest.mark.parametrize(
    "broken",
    [
        {"students": [ADA | {"sis_id": "2", "school_id": "nowhere"}]},
        {"enrollments": [{"operation": "created", "section_id": "a", "student_id": "t"}]},
        {"section_teachers": [{"operation": "created", "section_id": "b", "teacher_id": "t", "position": "1"}]},
        {"contacts": [{"operation": "created", "student_id": "2", "contact_id": "c"}]},
        {"sections": [{"operation": "created", "section_id": "b", "term_id": "never"}]},
    ],
    ids=lambda broken: next(iter(broken)),
)
def test_a_districts_first_large_roster_is_looked_at_as_a_whole(bulky: Engine, broken: dict[str, list[dict[str, Any]]]) -> None:
    sound: dict[str, list[dict[str, Any]]] = {
        "schools": [SCHOOL],
        "students": [ADA],
        "teachers": [{"operation": "created", "sis_id": "t"}],
        "sections": [{"operation": "created", "section_id": "a", "school_id": "A"}],
        "enrollments": [{"operation": "created", "section_id": "a", "student_id": "1"}],
    }
    other = {name: sound.get(name, []) + rows for name, rows in broken.items()}
    with pytest.raises(StoreError, match="a value breaks a rule of its table"), bulk.writing(bulky, "acme", 1) as connection:
        upserter.apply(connection, "acme", 1, change_set(**(sound | other)), NOW)
    assert current(bulky, "students") == {}
    with bulk.writing(bulky, "acme", 1) as connection:
        upserter.apply(connection, "acme", 1, change_set(**sound), NOW)
    assert set(current(bulky, "students")) == {("1",)}
    with pytest.raises(StoreError, match="a value breaks a rule of its table"):
        apply(bulky, change_set(**broken))


def test_a_first_large_roster_leaves_a_table_alone_that_the_vendor_hung_on_a_key(bulky: Engine) -> None:
    with database.writing(bulky) as connection:
        connection.execute(text("CREATE TABLE seats (d TEXT, s TEXT, FOREIGN KEY (d, s) REFERENCES schools (district_id, school_id))"))
    before = references(bulky)
    apply(bulky, change_set(schools=[SCHOOL], students=[ADA]))
    assert (references(bulky), set(current(bulky, "students"))) == (before, {("1",)})
    assert len(inspect(bulky).get_foreign_keys("seats")) == 1


def test_a_first_large_roster_waits_for_nobody_who_is_in_the_tables(bulky: Engine) -> None:
    before = references(bulky)
    with database.reading(bulky) as connection:
        assert connection.execute(select(tables.rosters["schools"])).all() == []
        apply(bulky, change_set(schools=[SCHOOL], students=[ADA]))
    assert (references(bulky), set(current(bulky, "students"))) == (before, {("1",)})


def test_the_planner_knows_of_many_new_rows_beside_others(bulky: Engine) -> None:
    if bulky.dialect.name == "sqlite":
        pytest.skip("SQLite is told how to find rows, and needs no statistics")
    add(bulky, "bond")
    for district, known in (("acme", 1), ("bond", 2)):
        apply(bulky, change_set(schools=[SCHOOL], students=[ADA]), district)
        with database.reading(bulky) as connection:
            assert connection.scalar(text("SELECT reltuples FROM pg_class WHERE relname = 'users'")) == known


def test_a_student_who_changes_stays_on_the_page_and_no_index_is_written(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite's rows lie within their key")
    add(engine, "acme")
    apply(engine, change_set(students=[{"operation": "created", "sis_id": f"{number:04}", "last_name": "Lovelace"} for number in range(500)]))
    apply(engine, change_set(students=[{"operation": "updated", "sis_id": f"{number:04}", "last_name": "Byron"} for number in range(0, 500, 25)]))
    deadline = time.monotonic() + 10
    while (changed := _changed_users(engine)) != (20, 20) and time.monotonic() < deadline:
        time.sleep(0.05)  # the server counts some time after the transaction
    assert changed == (20, 20)


def _changed_users(engine: Engine) -> tuple[int, int]:
    """How many rows of users were changed, and how many of these without a word to an index."""
    with database.reading(engine) as connection:
        row = connection.execute(text("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'users'")).one()
    return row.n_tup_upd, row.n_tup_hot_upd


def test_a_schema_is_upgraded_once_and_then_left_alone(engine: Engine) -> None:
    add(engine, "acme")
    database.upgrade(engine)
    database.check(engine)
    assert [each.id for each in register.districts(engine)] == ["acme"]


def test_a_database_without_tables_says_how_to_make_them(database_url: str) -> None:
    with pytest.raises(StoreError, match="run `sftp-ingest database upgrade`"):
        database.check(database.open_engine(database_url))


def test_a_schema_newer_than_the_program_is_refused(engine: Engine) -> None:
    with database.writing(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for question in (database.check, database.upgrade):
        with pytest.raises(StoreError, match="newer than this program"):
            question(engine)


def test_every_spelling_of_a_postgresql_url_is_the_same(postgres_url: str) -> None:
    for spelling in ("postgres://", "postgresql://", "postgresql+psycopg://"):
        engine = database.open_engine(postgres_url.replace("postgresql://", spelling))
        with database.reading(engine) as connection:
            assert connection.scalar(text("SELECT 1")) == 1
        engine.dispose()


@pytest.mark.parametrize("url", ["mysql://here/db", "nonsense", "sqlite://", "sqlite:///:memory:", "sqlite:///x.db?mode=ro"])
def test_a_url_of_no_use_is_a_fault_of_the_configuration(url: str) -> None:
    with pytest.raises(ConfigError, match=r"database\.url"):
        database.open_engine(url)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"folder of the database does not exist: .*/absent"):
        database.open_engine(f"sqlite:///{tmp_path}/absent/x.db")


@pytest.mark.parametrize("name", ["x.db", "100%41 #1; a&mode=memory.db", "file:x.db"])
def test_the_file_of_a_database_is_made_for_this_user_alone_and_by_an_upgrade_only(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    engine = database.open_engine(f"sqlite:///{tmp_path}/{name.replace('%', '%25')}")
    with pytest.raises(StoreError, match=rf"there is no database at {re.escape(str(path))};") as told:
        database.check(engine)
    assert not told.value.transient
    assert list(tmp_path.iterdir()) == []
    before = os.umask(0o022)
    try:
        database.upgrade(engine)
        with database.writing(engine) as connection:
            connection.execute(insert(tables.districts), {"id": "x", "name": "", "created_at": NOW, "paused": False})
    finally:
        os.umask(before)
    assert {each.name: each.stat().st_mode & 0o777 for each in tmp_path.iterdir()} == dict.fromkeys((name, f"{name}-wal", f"{name}-shm"), 0o600)
    engine.dispose()


def test_a_file_that_vanishes_under_open_connections_is_missed_and_one_that_takes_its_place_is_used(tmp_path: Path) -> None:
    engine = database.open_engine(f"sqlite:///{tmp_path}/x.db")
    database.upgrade(engine)
    (tmp_path / "aside").mkdir()
    for each in tmp_path.glob("x.db*"):
        each.rename(tmp_path / "aside" / each.name)
    with pytest.raises(StoreError, match="there is no database at"):
        register.add_district(engine, "x", "", NOW)
    assert [each.name for each in tmp_path.iterdir()] == ["aside"]
    for each in (tmp_path / "aside").iterdir():
        each.rename(tmp_path / each.name)
    register.add_district(engine, "x", "", NOW)
    for each in tmp_path.glob("x.db*"):
        each.unlink()
    other = database.open_engine(f"sqlite:///{tmp_path}/x.db")
    database.upgrade(other)
    assert register.districts(engine) == []
    engine.dispose()
    other.dispose()


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A folder, as a user who is not root, whom no file refuses anything."""
    with tempfile.TemporaryDirectory() as folder:
        user = os.geteuid()
        if user == 0:
            os.chown(folder, 65534, 65534)
            os.seteuid(65534)
        yield Path(folder)
        os.seteuid(user)


@pytest.mark.parametrize(
    ("folder_mode", "file_mode", "cause"),
    [
        (0o500, 0o600, "this user may not write into its folder (SQLITE_"),
        (0o700, 0o000, "this user may not read and write it (SQLITE_CANTOPEN)"),
        (0o600, 0o600, "Permission denied"),
    ],
)
def test_a_database_that_cannot_be_opened_is_named_with_the_cause(as_nobody: Path, folder_mode: int, file_mode: int, cause: str) -> None:
    path = as_nobody / "house" / "x.db"
    path.parent.mkdir()
    engine = database.open_engine(f"sqlite:///{path}")
    database.upgrade(engine)
    engine.dispose()
    path.chmod(file_mode)
    path.parent.chmod(folder_mode)
    with pytest.raises(StoreError, match=re.escape(f"the database {path} cannot be opened: {cause}")):
        database.check(engine)
    path.parent.chmod(0o700)


def test_a_file_that_is_no_database_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("Student_id,First_name\n" * 100)
    with pytest.raises(StoreError, match="not a SQLite database") as told:
        database.check(database.open_engine(f"sqlite:///{tmp_path}/x.db"))
    assert not told.value.transient


def test_a_server_that_is_not_there_is_worth_another_try() -> None:
    with pytest.raises(StoreError, match="does not answer") as told:
        database.check(database.open_engine("postgresql://nobody@127.0.0.1:1/none"))
    assert told.value.transient


def test_a_locked_database_is_worth_another_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    engine = database.open_engine(f"sqlite:///{tmp_path}/x.db")
    database.upgrade(engine)
    with database.writing(engine), pytest.raises(StoreError, match="locked by another process") as told, database.writing(engine):
        pass
    assert told.value.transient


def test_readers_do_not_wait_for_a_writer(engine: Engine) -> None:
    with database.writing(engine) as connection:
        connection.execute(insert(tables.districts), {"id": "x", "name": "", "created_at": NOW, "paused": False})
        assert register.districts(engine) == []
    assert [each.id for each in register.districts(engine)] == ["x"]


def test_a_lost_connection_is_worth_another_try(engine: Engine) -> None:
    if engine.dialect.name != "postgresql":
        pytest.skip("SQLite has no connection to lose")
    with pytest.raises(StoreError) as told, database.writing(engine) as connection:
        mine = connection.scalar(text("SELECT pg_backend_pid()"))
        with engine.connect() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": mine})
        connection.execute(text("SELECT 1"))
    assert told.value.transient


def test_a_fault_never_quotes_a_row(engine: Engine) -> None:
    add(engine, "acme")
    secret = {"operation": "created", "sis_id": "4711", "first_name": "Priscilla", "email": "p@example.org", "ext": "{not json, Priscilla"}
    twice = change_set(students=[{**secret, "ext": ""}] * 2)
    broken = change_set(section_teachers=[{"operation": "created", "section_id": "4711", "teacher_id": "Priscilla", "position": "11"}])
    for changes in (twice, broken) if engine.dialect.name == "sqlite" else (twice, broken, change_set(students=[secret])):
        with pytest.raises(StoreError) as told:
            apply(engine, changes)
        assert not re.search("4711|Priscilla|example", f"{told.value}")
        assert told.value.__suppress_context__


def test_a_moment_comes_back_in_utc_whatever_zone_it_was_told_in(engine: Engine) -> None:
    moment = datetime.fromisoformat("2026-09-01T05:00:00.123456+02:00")
    register.add_district(engine, "acme", "Acme", moment)
    district = register.district(engine, "acme")
    assert district is not None
    assert district.created_at == moment
    assert district.created_at.utcoffset() == timedelta(0)


def test_a_moment_without_a_zone_is_refused(engine: Engine) -> None:
    with pytest.raises(Exception, match="without its time zone"):
        register.add_district(engine, "acme", "Acme", NOW.replace(tzinfo=None))


# ---------------------------------------------------------------- districts and deliveries


def test_a_district_is_kept_with_its_pause_and_an_account_of_its_own_name(engine: Engine) -> None:
    add(engine, "acme")
    register.set_paused(engine, "acme", True)
    assert register.district(engine, "acme") == District("acme", "Acme", NOW, True)
    assert register.districts(engine) == [District("acme", "Acme", NOW, True)]
    assert register.accounts(engine) == [Account("acme", "acme", NOW)]


def test_an_account_is_kept_with_its_password_and_keys(engine: Engine) -> None:
    add(engine, "bond", "acme")
    register.add_account(engine, "acme", "aaa", LATER)
    register.set_password_hash(engine, "aaa", "$argon2id$x")
    for key in ("ssh-ed25519 AAAA one", "ssh-rsa BBBB two\n", "ssh-ed25519 AAAA one"):
        register.add_key(engine, "aaa", key)
    further = Account("aaa", "acme", LATER, "$argon2id$x", ("ssh-ed25519 AAAA one", "ssh-rsa BBBB two"))
    assert register.account(engine, "aaa") == further
    assert register.accounts(engine) == [Account("acme", "acme", NOW), further, Account("bond", "bond", NOW)]
    assert register.accounts(engine, "bond") == [Account("bond", "bond", NOW)]
    register.remove_key(engine, "aaa", "ssh-ed25519 AAAA one")
    register.set_password_hash(engine, "aaa", "")
    assert register.account(engine, "aaa") == Account("aaa", "acme", LATER, "", ("ssh-rsa BBBB two",))
    with pytest.raises(ConfigError, match="aaa has no such key"):
        register.remove_key(engine, "aaa", "ssh-ed25519 AAAA one")
    assert register.remove_account(engine, "aaa").keys == ("ssh-rsa BBBB two",)
    assert register.account(engine, "aaa") is None


def test_a_log_in_name_is_given_once_in_the_whole_installation(engine: Engine) -> None:
    add(engine, "acme", "bond")
    register.add_account(engine, "acme", "spare", NOW)
    for district, name in (("bond", "acme"), ("acme", "acme"), ("bond", "spare"), ("acme", "spare")):
        with pytest.raises(ConfigError, match=r"there is an? (account|district) \S+ already"):
            register.add_account(engine, district, name, NOW)
    for refuse in (lambda: add(engine, "spare"), lambda: register.check_district_id(engine, "spare")):
        with pytest.raises(ConfigError, match="there is an account spare already, of acme"):
            refuse()
    for name in ("acme", "none"):
        with pytest.raises(ConfigError, match=r"the district's own account|no account none"):
            register.remove_account(engine, name)
    assert [each.name for each in register.accounts(engine)] == ["acme", "spare", "bond"]
    register.remove_account(engine, "spare")
    add(engine, "spare")


def test_of_many_who_ask_for_one_name_one_gets_it(engine: Engine) -> None:
    add(engine, "acme", "bond")
    barrier = Barrier(8)

    def ask(number: int) -> bool:
        barrier.wait()
        try:
            if number % 2:
                register.add_account(engine, ("acme", "bond")[number % 4 // 2], "wanted", NOW)
            else:
                add(engine, "wanted")
        except IngestError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(8))) == 1
    [owner] = [each.district for each in register.accounts(engine) if each.name == "wanted"]
    assert (owner == "wanted") == (register.district(engine, "wanted") is not None)


@pytest.mark.parametrize("name", ["", "Acme", "-acme", "a/b", "..", "a" * 64, "acme\n", "ä"])
def test_a_district_cannot_be_called_what_no_folder_should_be(engine: Engine, name: str) -> None:
    with pytest.raises(ConfigError, match="a district's id is"):
        register.add_district(engine, name, "Acme", NOW)
    add(engine, "bond")
    with pytest.raises(ConfigError, match="an account's name is"):
        register.add_account(engine, "bond", name, NOW)


def test_a_district_is_added_once(engine: Engine) -> None:
    add(engine, "acme")
    with pytest.raises(ConfigError, match="already"):
        add(engine, "acme")


def test_an_unknown_district_cannot_be_changed_nor_deliver(engine: Engine) -> None:
    asked: list[Callable[[], object]] = [
        lambda: register.set_paused(engine, "none", True),
        lambda: register.add_account(engine, "none", "further", NOW),
        lambda: ledger.record(engine, delivery("none"), NOW),
    ]
    for ask in asked:
        with pytest.raises(ConfigError, match="no district none"):
            ask()
    for ask in (lambda: register.set_password_hash(engine, "none", "x"), lambda: register.add_key(engine, "none", "ssh-rsa B")):
        with pytest.raises(ConfigError, match="no account none"):
            ask()
    assert register.district(engine, "none") is None


def test_two_lines_are_not_one_key(engine: Engine) -> None:
    add(engine, "acme")
    with pytest.raises(ConfigError, match="one line"):
        register.add_key(engine, "acme", "ssh-rsa A\nssh-rsa B")


def test_a_delivery_recorded_twice_is_one_run(engine: Engine) -> None:
    add(engine, "acme")
    assert ledger.record(engine, delivery(), NOW) == ledger.record(engine, delivery(), LATER)
    assert pending_count(engine) == 1
    assert ledger.delivery(engine, "d1") == delivery()


def test_a_delivery_recorded_by_many_at_once_is_one_run(engine: Engine) -> None:
    add(engine, "acme")
    with ThreadPoolExecutor(8) as crowd:
        assert len(set(crowd.map(lambda _: ledger.record(engine, delivery(), NOW), range(16)))) == 1


def test_deliveries_come_newest_first(engine: Engine) -> None:
    add(engine, "acme", "bond")
    for name, received_at in (("b", LATER), ("a", NOW)):
        ledger.record(engine, delivery("acme", name, received_at), NOW)
    assert [each.id for each in ledger.deliveries(engine, "acme")] == ["b", "a"]
    last = ledger.last_delivery(engine, "acme")
    assert last is not None
    assert last.id == "b"
    assert ledger.last_delivery(engine, "bond") is None


def test_the_last_applied_delivery_is_remembered_with_its_files_shapes(engine: Engine) -> None:
    add(engine, "acme")
    assert ledger.last_applied(engine, "acme") is None
    run = claimed(engine, delivery())
    shapes = {"students.csv": FileShape(("student_id", "school_id"), terminated=False), "staff.csv": FileShape(())}
    with database.writing(engine) as connection:
        ledger.save_headers(connection, "d1", shapes)
        ledger.close(connection, run.id, "on_hold", NOW, {}, {}, [])
    close(engine, claimed(engine, delivery(name="d2", received_at=LATER)), "refused")
    applied = ledger.last_applied(engine, "acme")
    assert applied is not None
    assert (applied.delivery, applied.shapes) == (delivery(), shapes)


# ---------------------------------------------------------------- runs


def test_the_oldest_run_is_claimed_first_and_then_no_other_of_its_district(engine: Engine) -> None:
    add(engine, "acme", "bond")
    first, second, third = (ledger.record(engine, delivery(*each), NOW) for each in (("acme", "d1"), ("acme", "d2"), ("bond", "d3")))
    run = ledger.claim(engine, "me", LATER)
    assert run is not None
    assert (run.id, run.state, run.attempts, run.started_at) == (first, "running", 1, LATER)
    assert ledger.claim(engine, "me", LATER, district="acme") is None
    assert ledger.claim(engine, "me", LATER, run=second) is None
    other = ledger.claim(engine, "me", LATER)
    assert other is not None
    assert other.id == third
    assert ledger.claim(engine, "me", LATER) is None
    assert [each.id for each in ledger.running(engine)] == [first, third]
    close(engine, run)
    again = ledger.claim(engine, "me", LATER)
    assert again is not None
    assert again.id == second


def test_one_run_is_won_by_exactly_one_of_many_threads(engine: Engine) -> None:
    add(engine, "acme")
    start = Barrier(8)

    def try_to_win(name: str) -> SyncRun | None:
        start.wait()
        return ledger.claim(engine, name, NOW)

    for night in range(5):
        ledger.record(engine, delivery(name=f"d{night}", received_at=NOW + timedelta(days=night)), NOW)
        with ThreadPoolExecutor(8) as crowd:
            won = [run for run in crowd.map(try_to_win, "abcdefgh") if run]
        assert len(won) == 1
        close(engine, won[0])


def claim_all(url: str, name: str) -> list[tuple[int, str]]:
    """What a worker process does in the next test: claims until nothing is left, and sees whether its district is its own."""
    engine = database.open_engine(url)
    done = []
    while pending_count(engine):
        run = ledger.claim(engine, name, NOW)
        if run is None:
            continue
        assert [each.id for each in ledger.running(engine) if each.district == run.district] == [run.id]
        close(engine, run)
        done.append((run.id, run.district))
    engine.dispose()
    return done


def test_many_processes_share_the_runs_and_never_a_district(engine: Engine, database_url: str) -> None:
    add(engine, "acme", "bond", "cole")
    expected = {ledger.record(engine, delivery(name, f"{name}{night}"), NOW) for night in range(8) for name in ("acme", "bond", "cole")}
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as crowd:
        done = [each for share in crowd.map(claim_all, [database_url] * 4, "abcd") for each in share]
    assert sorted(run for run, _ in done) == sorted(expected)


def test_who_claims_while_another_claim_of_the_district_is_being_written_waits_and_gets_nothing(engine: Engine) -> None:
    add(engine, "acme")
    first, second = (ledger.record(engine, delivery(name=name), NOW) for name in ("d1", "d2"))
    row = tables.districts.c.id
    with ThreadPoolExecutor(1) as other:
        with database.writing(engine) as connection:
            connection.execute(select(row).where(row == "acme").with_for_update(key_share=True))
            connection.execute(update(tables.sync_runs).where(tables.sync_runs.c.id == first).values(RUNNING))
            waiting = other.submit(ledger.claim, engine, "me", NOW, run=second)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.3)
        assert waiting.result(timeout=30) is None


def test_the_database_itself_refuses_a_second_running_run(engine: Engine) -> None:
    add(engine, "acme")
    claimed(engine, delivery())
    ledger.record(engine, delivery(name="d2"), NOW)
    with pytest.raises(StoreError, match="someone else"), database.writing(engine) as connection:
        connection.execute(update(tables.sync_runs).values(RUNNING))


def test_a_run_given_back_waits_for_its_time(engine: Engine) -> None:
    add(engine, "acme")
    run = claimed(engine, delivery())
    ledger.requeue(engine, run.id, LATER)
    assert ledger.claim(engine, "me", NOW) is None
    again = ledger.claim(engine, "me", LATER)
    assert again is not None
    assert again.attempts == 2


def test_only_a_running_run_can_be_closed_or_given_back(engine: Engine) -> None:
    add(engine, "acme")
    run = claimed(engine, delivery())
    close(engine, run)
    with pytest.raises(StoreError, match=f"run {run.id} is not running"):
        close(engine, run)
    with pytest.raises(StoreError, match=f"run {run.id} is not running"):
        ledger.requeue(engine, run.id, NOW)


def test_a_closed_run_tells_all_that_was_done_and_found(engine: Engine) -> None:
    add(engine, "acme")
    run = claimed(engine, delivery())
    found = [
        finding("school_unknown", "students.csv", "School_id", range(2, 5000), values=("0012", 'a"b,é'), hint="lost zeros"),
        finding("parent_rejected", "enrollments.csv", lines=[7], cause="school_unknown|students.csv|School_id|0012"),
    ]
    counts = {"students": Counts(existing=10, created=3, waiting=1)}
    with database.writing(engine) as connection:
        ledger.close(connection, run.id, "failed", LATER, counts, {"load": 0.25}, found, "the disk is full")
    closed = ledger.run(engine, run.id)
    assert closed is not None
    assert (closed.state, closed.outcome, closed.finished_at, closed.error) == ("closed", "failed", LATER, "the disk is full")
    assert closed.counts == counts
    assert closed.seconds == {"load": 0.25}
    assert ledger.findings(engine, run.id) == tuple(found)
    assert ledger.runs(engine) == ledger.runs(engine, "acme") == [closed]
    assert ledger.runs(engine, "bond") == []
    assert ledger.run(engine, 999) is None


def test_runs_come_newest_first_and_not_all(engine: Engine) -> None:
    add(engine, "acme")
    made = [ledger.record(engine, delivery(name=f"d{night}"), NOW) for night in range(4)]
    assert [each.id for each in ledger.runs(engine, limit=3)] == made[:0:-1]


# ---------------------------------------------------------------- holds


def test_a_released_hold_is_a_new_run_with_that_approval_and_no_other(engine: Engine) -> None:
    add(engine, "acme")
    hold_id = held(engine, delivery())
    record = ledger.holds(engine, "acme", "open")[0]
    assert (record.id, record.state, record.hold.scope) == (hold_id, "open", {"students": 40})
    assert record.hold.reasons == (HoldReason("students", "", "removed", 40, 100),)
    run = ledger.claim(engine, "me", LATER, run=ledger.release(engine, hold_id, "Ada", LATER))
    assert run is not None
    assert (run.delivery, run.approved_digest) == ("d1", "digest of d1")
    decided = ledger.hold_of(engine, record.run)
    assert decided is not None
    assert (decided.state, decided.decided_by, decided.decided_at) == ("released", "Ada", LATER)
    assert ledger.hold_of(engine, run.id) is None


def test_a_hold_is_decided_once(engine: Engine) -> None:
    add(engine, "acme")
    hold_id = held(engine, delivery())
    ledger.discard(engine, hold_id, "Ada", NOW)
    with pytest.raises(HoldError, match="discarded already"):
        ledger.release(engine, hold_id, "Bob", NOW)
    with pytest.raises(HoldError, match="no hold 999"):
        ledger.discard(engine, 999, "Bob", NOW)
    assert pending_count(engine) == 0


def test_a_hold_released_by_many_at_once_makes_one_run(engine: Engine) -> None:
    add(engine, "acme")
    hold_id = held(engine, delivery())

    def try_to_release(name: str) -> int:
        try:
            return ledger.release(engine, hold_id, name, NOW)
        except HoldError:
            return 0

    with ThreadPoolExecutor(8) as crowd:
        assert len([run for run in crowd.map(try_to_release, "abcdefgh") if run]) == 1
    assert pending_count(engine) == 1


def test_a_newer_delivery_supersedes_the_open_holds_of_older_ones(engine: Engine) -> None:
    add(engine, "acme", "bond")
    discarded, older = held(engine, delivery(name="d0")), held(engine, delivery(name="d1"))
    ledger.discard(engine, discarded, "Ada", NOW)
    elsewhere = held(engine, delivery("bond", "d2"))
    close(engine, claimed(engine, delivery(name="d3", received_at=LATER)))
    assert {each.id: each.state for each in ledger.holds(engine)} == {discarded: "discarded", older: "superseded", elsewhere: "open"}


def test_the_run_of_an_older_delivery_leaves_a_newer_hold_open(engine: Engine) -> None:
    add(engine, "acme")
    newer = held(engine, delivery(name="d2", received_at=LATER))
    close(engine, claimed(engine, delivery(name="d1")), "superseded")
    assert [(each.id, each.state) for each in ledger.holds(engine)] == [(newer, "open")]


# ---------------------------------------------------------------- rosters


def test_attendance_is_read_by_its_ids_and_forgotten_when_it_is_old(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    add(engine, "acme", "bond")
    monkeypatch.setattr(rosters, "_ROWS", 2)  # so many ids are asked for at once
    days = ("2026-01-31", "2026-02-01", "2026-02-02", "2026-02-03")
    rows = [{"operation": "created", "attendance_id": f"\"{day}, O'Brien", "student_id": "1", "date": day, "status": "absent"} for day in days]
    apply(engine, change_set(attendance=rows))
    ids = [row["attendance_id"] for row in rows]
    with database.reading(engine) as connection:
        assert sorted(rosters.attendance(connection, "acme", [*ids[1:], "another"])["date"].to_list()) == ["2026-02-01", "2026-02-02", "2026-02-03"]
        assert rosters.attendance(connection, "bond", ids).empty
        assert rosters.attendance(connection, "acme", []).empty
    assert ledger.forget_attendance(engine, date(2026, 2, 2)) == 2
    with database.reading(engine) as connection:
        assert sorted(rosters.attendance(connection, "acme", ids)["date"].to_list()) == ["2026-02-02", "2026-02-03"]


def test_a_preview_is_kept_with_what_it_would_have_come_to_and_is_no_delivery_of_the_night(engine: Engine) -> None:
    add(engine, "acme")
    first = delivery()
    ledger.record(engine, first, NOW)
    preview = replace(delivery(name="p1", received_at=LATER), origin="preview")
    run = claimed(engine, preview)
    hold = Hold((HoldReason("students", "", "removed", 11, 100),), {"students": 11}, "d" * 64)
    with database.writing(engine) as connection:
        ledger.close(connection, run.id, "previewed", LATER, {}, {}, (), preview=Preview("on_hold", hold))
    kept = ledger.run(engine, run.id)
    assert kept is not None and kept.preview == Preview("on_hold", hold)
    assert ledger.last_delivery(engine, "acme") == first
    assert ledger.last_delivery(engine, "acme", "preview") == preview
    assert ledger.last_delivery(engine, "acme", "folder") is None
    assert ledger.last_applied(engine, "acme") is None
    assert ledger.holds(engine) == []


def test_an_empty_district_has_an_empty_frame_of_every_entity(engine: Engine) -> None:
    with database.reading(engine) as connection:
        roster = rosters.current(connection, "none")
    assert list(roster.entities) == list(SNAPSHOT)
    for name, entity in SNAPSHOT.items():
        assert list(roster.entities[name].columns) == [*entity.columns, "active"]
        assert len(roster.entities[name]) == 0


def test_every_value_of_every_entity_comes_back_as_it_was_written(engine: Engine) -> None:
    add(engine, "acme")
    rows: dict[str, list[dict[str, str]]] = {}
    for name, entity in SNAPSHOT.items():
        rows[name] = [
            {
                "operation": "created",
                **dict.fromkeys(entity.key, f"{text}#{number}"),
                **{c: AWKWARD[(number + at) % len(AWKWARD)] for at, c in enumerate(entity.values)},
            }
            for number, text in enumerate(AWKWARD)
        ]
        for number, row in enumerate(rows[name]):
            row.update({c: f'{{ "b": "{number}",\t"a":1.0, "b": "Žé\\u00e9\\n" }}' for c in ("ext", "school_ids", "other_phones") if c in entity.values})
            row.update({"position": str(number % 10 + 1)} if "position" in entity.values else {})
            row.update({c: f"{AWKWARD[number]}#{number}" for c in ("school_id", "term_id", "course_id") if c in entity.values})
        rows[name].append({"operation": "created", **dict.fromkeys(entity.key, "only its key"), "position": "1"})
    apply(engine, change_set(**rows))
    with database.reading(engine) as connection:
        roster = rosters.current(connection, "acme")
    for name, entity in SNAPSHOT.items():
        got = roster.entities[name]
        assert list(got.dtypes) == [*[TEXT] * len(entity.columns), bool]
        assert got.index.equals(pd.RangeIndex(len(got)))
        assert not got.isna().to_numpy().any()
        assert got["active"].all()
        wanted = frame(rows[name], entity.columns)
        key = list(entity.key)
        pd.testing.assert_frame_equal(
            got.drop(columns="active").sort_values(key).reset_index(drop=True), wanted.sort_values(key).reset_index(drop=True), check_names=False
        )


def test_a_line_break_inside_a_value_is_no_end_of_a_row_wherever_the_reading_is_split(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rosters, "_BLOCK_BYTES", 1000)
    add(engine, "acme")
    names = {f"{number:03}": "\n" * (number % 40) + '",\n"' for number in range(400)}
    apply(engine, change_set(terms=[{"operation": "created", "term_id": key, "name": name} for key, name in names.items()]))
    assert {key[0]: row["name"] for key, row in current(engine, "terms").items()} == names


def test_absence_is_null_in_the_tables(engine: Engine) -> None:
    add(engine, "acme")
    apply(engine, change_set(students=[{"operation": "created", "sis_id": "1", "first_name": "Ada"}]))
    users = tables.rosters["users"]
    with database.reading(engine) as connection:
        row = connection.execute(select(users.c.first_name, users.c.last_name, users.c.ext, users.c.title)).one()
        raw = connection.scalar(text("SELECT count(*) FROM users WHERE ext IS NULL AND last_name IS NULL"))
    assert tuple(row) == ("Ada", None, None, None)
    assert raw == 1


def test_a_record_goes_through_its_whole_life(engine: Engine) -> None:
    add(engine, "acme")
    ground(engine, schools="AB")
    ada = {"sis_id": "1", "first_name": "Ada", "school_id": "A", "email": "ada@x"}
    apply(engine, change_set(students=[{"operation": "created", **ada}]), run=1)
    assert stamps(engine, "users", sis_id="1") == (True, 1, 1, None)

    apply(engine, change_set(students=[{"operation": "updated", **ada, "email": ""}]), run=2)
    assert current(engine, "students")["1",]["email"] == ""
    assert stamps(engine, "users", sis_id="1") == (True, 1, 2, None)

    apply(engine, change_set(students=[{"operation": "moved", **ada, "school_id": "B"}]), run=3)
    assert current(engine, "students")["1",]["school_id"] == "B"

    apply(engine, change_set(students=[{"operation": "deactivated", "sis_id": "1"}]), run=4, now=LATER)
    assert stamps(engine, "users", sis_id="1") == (False, 1, 4, LATER)
    left = current(engine, "students")["1",]
    assert (left["first_name"], left["school_id"], left["active"]) == ("Ada", "B", False)

    apply(engine, change_set(students=[{"operation": "reactivated", **ada, "first_name": "Ada M."}]), run=5)
    assert stamps(engine, "users", sis_id="1") == (True, 1, 5, None)
    assert current(engine, "students")["1",]["first_name"] == "Ada M."


def test_students_teachers_and_staff_of_one_id_are_three_people(engine: Engine) -> None:
    add(engine, "acme")
    one = {"operation": "created", "sis_id": "1"}
    apply(engine, change_set(students=[{**one, "first_name": "S"}], teachers=[{**one, "first_name": "T"}], staff=[{**one, "first_name": "F"}]))
    apply(engine, change_set(teachers=[{"operation": "deactivated", "sis_id": "1"}]), run=2)
    seen = {name: current(engine, name)["1",] for name in ("students", "teachers", "staff")}
    assert {name: (row["first_name"], row["active"]) for name, row in seen.items()} == {"students": ("S", True), "teachers": ("T", False), "staff": ("F", True)}


def test_a_moved_enrollment_leaves_its_old_place_and_takes_a_new_or_a_former_one(engine: Engine) -> None:
    add(engine, "acme")
    ground(engine, sections="abcde", students="123")
    places = [("a", "1"), ("b", "2"), ("c", "2")]
    apply(engine, change_set(enrollments=[{"operation": "created", "section_id": s, "student_id": p, "school_id": "A"} for s, p in places]))
    apply(engine, change_set(enrollments=[{"operation": "deactivated", "section_id": "c", "student_id": "2"}]), run=2)
    moves = [
        {"operation": "moved", "section_id": "c", "student_id": "2", "school_id": "B", "from_section_id": "b", "from_school_id": "A"},
        {"operation": "moved", "section_id": "d", "student_id": "1", "school_id": "A", "from_section_id": "a", "from_school_id": "A"},
        {"operation": "created", "section_id": "e", "student_id": "3", "school_id": "A"},
    ]
    apply(engine, change_set(enrollments=moves), run=3, now=LATER)
    active = {key: row["school_id"] for key, row in current(engine, "enrollments").items() if row["active"]}
    assert active == {("c", "2"): "B", ("d", "1"): "A", ("e", "3"): "A"}
    assert stamps(engine, "enrollments", section_id="b") == (False, 1, 3, LATER)
    assert stamps(engine, "enrollments", section_id="c") == (True, 1, 3, None)
    assert stamps(engine, "enrollments", section_id="d") == (True, 3, 3, None)


def test_a_student_may_move_into_the_place_that_another_move_of_theirs_leaves(engine: Engine) -> None:
    add(engine, "acme")
    ground(engine, sections="abc", students="1")
    apply(engine, change_set(enrollments=[{"operation": "created", "section_id": s, "student_id": "1"} for s in "ab"]))
    chain = [{"operation": "moved", "section_id": new, "student_id": "1", "from_section_id": old} for old, new in ("ab", "bc")]
    apply(engine, change_set(enrollments=chain), run=2)
    assert {key: row["active"] for key, row in current(engine, "enrollments").items()} == {("a", "1"): False, ("b", "1"): True, ("c", "1"): True}


@pytest.mark.parametrize(
    "changes",
    [
        {"students": [{"operation": "updated", "sis_id": "absent"}]},
        {"students": [{"operation": "deactivated", "sis_id": "gone"}]},
        {"students": [{"operation": "reactivated", "sis_id": "1"}]},
        {"students": [{"operation": "updated", "sis_id": "gone"}]},
        {"students": [{"operation": "created", "sis_id": "1"}]},
        {"enrollments": [{"operation": "moved", "section_id": "b", "student_id": "1", "from_section_id": "absent"}]},
        {"enrollments": [{"operation": "moved", "section_id": "a", "student_id": "2", "from_section_id": "b"}]},
    ],
)
def test_a_roster_that_changed_under_the_run_stays_as_it_is(engine: Engine, changes: Mapping[str, Any]) -> None:
    add(engine, "acme")
    ground(engine, sections="ab", students="2")
    apply(engine, change_set(students=[{"operation": "created", "sis_id": each} for each in ("1", "gone")]))
    apply(engine, change_set(students=[{"operation": "deactivated", "sis_id": "gone"}]))
    apply(engine, change_set(enrollments=[{"operation": "created", "section_id": s, "student_id": "2"} for s in "ab"]))
    before = [current(engine, name) for name in SNAPSHOT]
    with pytest.raises(StoreError) as told:
        apply(engine, change_set(schools=[{"operation": "created", "school_id": "A"}], **changes), run=2)
    assert told.value.transient
    assert [current(engine, name) for name in SNAPSHOT] == before


def test_a_failure_after_the_last_row_undoes_all_of_them(engine: Engine) -> None:
    add(engine, "acme")
    run = claimed(engine, delivery())
    changes = change_set(students=[{"operation": "created", "sis_id": "1"}])
    with pytest.raises(IngestError, match="pulled"), database.writing(engine) as connection:
        upserter.apply(connection, "acme", run.id, changes, NOW)
        upserter.record_changes(connection, "acme", run.id, changes, baseline=False)
        ledger.close(connection, run.id, "successful", NOW, {}, {}, [])
        raise IngestError("the plug was pulled")
    assert current(engine, "students") == {}
    assert [each.id for each in ledger.running(engine)] == [run.id]


def test_one_connection_applies_one_set_after_another(engine: Engine) -> None:
    add(engine, "acme")
    with database.writing(engine) as connection:
        for run in range(1, 4):
            operation = "created" if run == 1 else "updated"
            people = {name: [{"operation": operation, "sis_id": "1", "first_name": str(run)}] for name in ("students", "teachers")}
            upserter.apply(connection, "acme", run, change_set(**people), NOW)
    assert current(engine, "teachers")["1",]["first_name"] == "3"


def test_districts_with_the_same_ids_do_not_touch_each_other(engine: Engine) -> None:
    add(engine, "acme", "bond")
    person = {"operation": "created", "sis_id": "1"}
    enrolled = {"operation": "created", "section_id": "a", "student_id": "1"}
    for name in ("acme", "bond"):
        ground(engine, name, sections="ab")
        apply(engine, change_set(students=[{**person, "first_name": name}], enrollments=[enrolled]), district=name)
    bond = [current(engine, name, "bond") for name in SNAPSHOT]
    moved = {"operation": "moved", "section_id": "b", "student_id": "1", "from_section_id": "a"}
    apply(engine, change_set(students=[{"operation": "updated", "sis_id": "1", "first_name": "x"}], enrollments=[moved]), run=2)
    apply(engine, change_set(students=[{"operation": "deactivated", "sis_id": "1"}]), run=3)
    assert [current(engine, name, "bond") for name in SNAPSHOT] == bond
    assert current(engine, "students")["1",] == {**dict.fromkeys(ENTITIES["students"].columns, ""), "sis_id": "1", "first_name": "x", "active": False}


def test_a_roster_is_only_for_a_known_district(engine: Engine) -> None:
    with pytest.raises(StoreError, match="breaks a rule"):
        apply(engine, change_set(schools=[{"operation": "created", "school_id": "A"}]), district="none")


# ---------------------------------------------------------------- the entries of changes


def entries(connection: Connection) -> list[tuple[Any, ...]]:
    table = tables.changes
    columns = (table.c.sequence, table.c.entity, table.c.key, table.c.operation, table.c.before, table.c.after)
    return [tuple(row) for row in connection.execute(select(*columns).order_by(table.c.run_id, table.c.sequence))]


def test_every_change_is_entered_with_what_differs(engine: Engine) -> None:
    add(engine, "acme")
    run = claimed(engine, delivery())
    ext = '{"ext.bus": "7\\n"}'
    changes = change_set(
        enrollments=[
            {"operation": "moved", "section_id": "b", "student_id": "1", "school_id": "A", "from_section_id": "a", "from_school_id": "A"},
            {"operation": "moved", "section_id": "c", "student_id": "2", "school_id": "B", "from_section_id": "a", "from_school_id": "A"},
            {"operation": "created", "section_id": "d", "student_id": "3", "school_id": "A"},
        ],
        students=[
            {"operation": "created", "sis_id": "1", "first_name": 'Ada "A"', "ext": ext},
            {"operation": "updated", "sis_id": "2", "first_name": "Bo", "email": "", "was_email": "b@x"},
            {"operation": "moved", "sis_id": "3", "school_id": "B", "was_school_id": "A"},
            {"operation": "deactivated", "sis_id": "4", "first_name": "Di"},
            {"operation": "reactivated", "sis_id": "5", "grade": "5", "was_grade": "4"},
        ],
    )
    with database.writing(engine) as connection:
        upserter.record_changes(connection, "acme", run.id, changes, baseline=False)
        entered = entries(connection)
    assert entered == [
        (1, "students", {"sis_id": "1"}, "created", None, {"first_name": 'Ada "A"', "ext": ext}),
        (2, "students", {"sis_id": "2"}, "updated", {"email": "b@x"}, {"email": ""}),
        (3, "students", {"sis_id": "3"}, "moved", {"school_id": "A"}, {"school_id": "B"}),
        (4, "students", {"sis_id": "4"}, "deactivated", {"active": True}, {"active": False}),
        (5, "students", {"sis_id": "5"}, "reactivated", {"grade": "4", "active": False}, {"grade": "5", "active": True}),
        (6, "enrollments", {"section_id": "b", "student_id": "1"}, "moved", {"section_id": "a"}, {"section_id": "b"}),
        (7, "enrollments", {"section_id": "c", "student_id": "2"}, "moved", {"section_id": "a", "school_id": "A"}, {"section_id": "c", "school_id": "B"}),
        (8, "enrollments", {"section_id": "d", "student_id": "3"}, "created", None, {"school_id": "A"}),
    ]


def test_the_first_roster_is_one_entry(engine: Engine) -> None:
    add(engine, "acme")
    run = claimed(engine, delivery())
    changes = change_set(schools=[{"operation": "created", "school_id": "A"}], students=[{"operation": "created", "sis_id": each} for each in "123"])
    with database.writing(engine) as connection:
        upserter.record_changes(connection, "acme", run.id, changes, baseline=True)
        assert entries(connection) == [(1, "all", {}, "baseline", None, {"schools": 1, "students": 3})]


def test_more_changes_than_one_block_are_numbered_through(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upserter, "_ROWS", 7)
    monkeypatch.setattr(rosters, "_ROWS", 7)
    add(engine, "acme")
    run = claimed(engine, delivery())
    changes = change_set(students=[{"operation": "created", "sis_id": f"{number:03}"} for number in range(50)])
    with database.writing(engine) as connection:
        upserter.apply(connection, "acme", run.id, changes, NOW)
        upserter.record_changes(connection, "acme", run.id, changes, baseline=False)
        assert [(each[0], each[2]["sis_id"]) for each in entries(connection)] == [(number + 1, f"{number:03}") for number in range(50)]
    assert len(current(engine, "students")) == 50


def test_a_frames_own_index_plays_no_part(engine: Engine) -> None:
    add(engine, "acme")
    run = claimed(engine, delivery())
    changes = change_set(students=[{"operation": "created", "sis_id": "1"}, {"operation": "created", "sis_id": "2"}])
    lined = ChangeSet({name: each.set_axis([9, 4]) for name, each in changes.changes.items()}, changes.before, {}, {})
    with database.writing(engine) as connection:
        upserter.apply(connection, "acme", run.id, lined, NOW)
        upserter.record_changes(connection, "acme", run.id, lined, baseline=False)
        assert [json.dumps(each[2]) for each in entries(connection)] == ['{"sis_id": "1"}', '{"sis_id": "2"}']


def test_a_vendors_engineer_reads_the_file_with_plain_sqlite(engine: Engine, tmp_path: Path) -> None:
    if engine.dialect.name != "sqlite":
        pytest.skip("this is about the file")
    add(engine, "acme")
    apply(engine, change_set(students=[{"operation": "created", "sis_id": "1", "ext": '{"a": 1}'}]))
    apply(engine, change_set(students=[{"operation": "deactivated", "sis_id": "1"}]), run=2)
    with sqlite3.connect(tmp_path / "sftp-ingest.db") as plain:
        row = plain.execute("SELECT role, json_extract(ext, '$.a'), active, date(deactivated_at) FROM users").fetchone()
    assert row == ("student", 1, 0, "2026-09-01")
