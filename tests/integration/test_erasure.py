"""What is erased is gone: from every table, every folder and every page of the database; and the certificate says what was, and what cannot be."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest
from sqlalchemy import Engine

from sftp_ingest import erasure, retention, runner
from sftp_ingest.errors import ConfigError, StoreError
from sftp_ingest.intake import hostkeys, inbox, server, trees
from sftp_ingest.model import Limits, Role, SyncRun
from sftp_ingest.report import archive
from sftp_ingest.store import database, ledger, register
from sftp_ingest.store import erasure as stored
from tests.integration.conftest import Digger
from tests.integration.house import NIGHT, NOW, House, names
from tests.integration.port import LOGGING
from tests.unit.districts import TOLERANT, Files, enrollment, section, small, student, written

LAST, FIRST = "Zwillenberg", "Priscilla"
TEACHER = "Quackenbush"


def telling() -> Files:
    """A district where student 0002 and teacher t2 have names that nobody else has."""
    rows = small()
    rows["students"][1] |= {"Last_name": LAST, "First_name": FIRST, "Contact_name": f"Parent {LAST}"}
    rows["teachers"][1]["Last_name"] = TEACHER
    rows["attendance"] = [
        {"Attendance_id": f"a{n}", "Student_id": f"{n:04}", "Attendance_date": "2026-08-20", "Attendance_status": "absent", "Section_id": "s2"} for n in (2, 4)
    ]
    return rows


@pytest.fixture
def house(tmp_path: Path, engine: Engine) -> House:
    return House.make(tmp_path, engine, "acme", "bravo")


def person(house: House, of: str, role: Role | None = None) -> erasure.Certificate:
    return erasure.person(house.config, house.engine, "acme", of, role, NOW)


def closed(house: House, run: int) -> SyncRun:
    found = ledger.run(house.engine, run)
    assert found is not None
    return found


def found_in_files(folder: Path, *words: str) -> list[str]:
    """The files below a folder in which one of the words stands, zips opened and compressed files decompressed."""
    found = []
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        texts = [path.read_bytes()]
        if path.suffix == ".zip":
            with archive.zipfile.ZipFile(path) as opened:
                texts += [opened.read(name) for name in opened.namelist()]
        if any(word.encode() in text for word in words for text in texts):
            found.append(str(path.relative_to(folder)))
    return found


def told_by_database(house: House, *words: str) -> list[str]:
    """The tables with a row in which one of the words stands, read as text; of SQLite also the files with a page of it."""
    found = []
    with database.reading(house.engine) as connection:
        for name in stored.tables.metadata.tables:
            rows = connection.exec_driver_sql(f'SELECT * FROM "{name}"').all()
            if any(word in repr(tuple(row)) for row in rows for word in words):
                found.append(name)
    if house.engine.dialect.name == "sqlite":
        main = Path(str(house.engine.url.database))
        for path in (main, main.with_name(f"{main.name}-wal")):
            if path.exists() and any(word.encode() in path.read_bytes() for word in words):
                found.append(path.name)
    return found


# ---------------------------------------------------------------- a district


def test_of_an_erased_district_no_row_and_no_file_is_left_and_others_are_as_before(house: House) -> None:
    for district in ("acme", "bravo"):
        rows = telling()
        rows["students"][2]["Last_name"] = ""
        house.night(rows, district=district)
        rows["students"] = rows["students"][:-1]
        house.night(rows, NOW + NIGHT, district=district)
        (house.config.homes / district / "students.csv").write_text("here")
    register.add_key(house.engine, "acme", "ssh-ed25519 AAAA one")
    register.set_password_hash(house.engine, "acme", "hash")
    register.add_account(house.engine, "acme", "acme-sis", NOW)
    for line in ("ssh-ed25519 AAAA one", "ssh-ed25519 BBBB two"):
        register.add_key(house.engine, "acme-sis", line)
    register.set_password_hash(house.engine, "acme-sis", "hash")
    before, bravo = house.rows(), house.rows("bravo")
    everything = names(house.config.data)
    assert {"accounts", "changes", "findings", "attendance", "contacts"} <= before.keys()

    made = erasure.district(house.config, house.engine, "acme", NOW)
    assert house.rows() == {}
    assert house.rows("bravo") == bravo
    assert {name: count for name, count in made.rows.items() if count} == before | {"keys": 3, "passwords": 2}
    assert names(house.config.data) == {name for name in everything if "acme" not in name}
    assert not list(house.config.data.rglob("*acme*"))
    assert made.files["home"] == len([name for name in everything if name.startswith("homes/acme/")])
    assert not made.empty
    assert erasure.district(house.config, house.engine, "acme", NOW).empty
    assert LAST not in json.dumps(erasure.as_json(made))


def test_nothing_of_an_erased_district_is_left_in_the_pages_of_the_database(house: House) -> None:
    rows = telling()
    house.night(rows)
    rows["students"][1]["Last_name"] = "Abercrombie"  # what was overwritten without care before is to go too
    house.night(rows, NOW + NIGHT)
    house.night(small(), district="bravo")
    assert told_by_database(house, LAST)
    made = erasure.district(house.config, house.engine, "acme", NOW)
    assert told_by_database(house, LAST, FIRST, TEACHER, "Abercrombie", "acme") == []
    assert ("VACUUM" in made.pages) == (house.engine.dialect.name == "postgresql")


def test_a_district_is_not_erased_while_a_run_of_it_is_running(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "PATIENCE", 0.2)
    run = ledger.record(house.engine, house.sealed(small()), NOW)
    ledger.claim(house.engine, "me", NOW, run=run)
    before = house.rows()
    with pytest.raises(ConfigError, match=f"run {run} of acme is running"):
        erasure.district(house.config, house.engine, "acme", NOW)
    with (
        runner.district_lock(house.config, house.engine, "acme"),
        pytest.raises(ConfigError, match="a run of acme, or a sweep over its deliveries, is in progress"),
    ):
        erasure.district(house.config, house.engine, "acme", NOW)
    assert house.rows() == before
    ledger.requeue(house.engine, run, None)
    assert erasure.district(house.config, house.engine, "acme", NOW).rows["sync_runs"] == 1


def test_an_erasure_waits_for_a_sweep_that_is_soon_over(house: House) -> None:
    begun = threading.Event()

    def sweep() -> None:
        with runner.district_lock(house.config, house.engine, "acme"):
            begun.set()
            time.sleep(0.3)

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    begun.wait()
    assert erasure.district(house.config, house.engine, "acme", NOW).rows["districts"] == 1
    sweeper.join()


def test_a_district_is_not_erased_while_it_is_connected_and_cannot_connect_while_it_is_erased(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    register.add_key(house.engine, "acme", key.export_public_key().decode())
    config = replace(house.config, server=replace(house.config.server, host="127.0.0.1", port=0))
    hostkeys.make_host_key(config.host_keys[0])
    acme = register.account(house.engine, "acme")

    async def go() -> None:
        listener = await server.listen(config, lambda name: acme, lambda name: None, LOGGING)
        asked = {"username": "acme", "client_keys": [key], "known_hosts": None, "config": None, "agent_path": None}
        async with asyncssh.connect("127.0.0.1", listener.port, **asked), asyncssh.connect("127.0.0.1", listener.port, **asked):
            with pytest.raises(ConfigError, match="acme is connected to the daemon"):
                erasure.district(config, house.engine, "acme", NOW)
        while listener.guests:
            await asyncio.sleep(0.01)
        with erasure._no_session(config, "acme"), pytest.raises(asyncssh.Error):
            async with asyncssh.connect("127.0.0.1", listener.port, **asked) as connection, connection.start_sftp_client():
                pass
        await listener.drain(0)

    asyncio.run(go())
    assert house.rows() == {"accounts": 1, "districts": 1, "roster_states": 1}
    assert erasure.district(config, house.engine, "acme", NOW).rows["districts"] == 1


@pytest.mark.parametrize("id", ["..", "../bravo", "", "/", "Acme", "acme/reports"])
def test_what_cannot_be_a_districts_id_erases_nothing(house: House, id: str) -> None:
    house.night(small(), district="bravo")
    everything = names(house.config.data)
    with pytest.raises(ConfigError, match="a district's id is"):
        erasure.district(house.config, house.engine, id, NOW)
    assert names(house.config.data) == everything


def test_an_erasure_that_broke_off_is_ended_by_the_next(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.night(small())
    real = trees.remove

    def dies(folder: Path) -> int:
        if "deliveries" in str(folder):
            raise KeyboardInterrupt
        return real(folder)

    monkeypatch.setattr(trees, "remove", dies)
    with pytest.raises(KeyboardInterrupt):
        erasure.district(house.config, house.engine, "acme", NOW)
    monkeypatch.undo()
    assert names(house.config.data)
    made = erasure.district(house.config, house.engine, "acme", NOW)
    assert made.files["deliveries"] > 0
    assert not list(house.config.data.rglob("*acme*"))


def test_a_home_is_erased_however_deep_it_goes(house: House, dig: Digger) -> None:
    home = house.config.homes / "acme"
    for name in ("a", "d" * 255):
        with dig(home, name, 1_200) as deepest:
            os.close(os.open("students.csv", os.O_CREAT | os.O_WRONLY, dir_fd=deepest))
    (home / "a" / "link").symlink_to(house.config.data)
    assert person(house, "0002").empty
    made = erasure.district(house.config, house.engine, "acme", NOW)
    assert made.files["home"] == 3
    assert not list(house.config.data.rglob("*acme*"))


def test_an_erased_district_may_be_added_again_and_begins_anew(house: House) -> None:
    house.night(small())
    erasure.district(house.config, house.engine, "acme", NOW)
    register.add_district(house.engine, "acme", "Acme", NOW)
    assert [each.keys for each in register.accounts(house.engine, "acme")] == [()]
    delivery, _, outcome = house.night(small(), NOW + NIGHT)
    assert outcome == "successful"
    assert house.rows()["changes"] == 1
    assert delivery.folder.exists()


def test_a_reader_in_the_way_of_the_last_step_is_told_and_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    engine = database.open_engine(f"sqlite:///{tmp_path}/x.db")
    database.upgrade(engine)
    house = House.make(tmp_path, engine, "acme")
    house.night(telling())
    with database.reading(engine) as connection:
        connection.exec_driver_sql("SELECT count(*) FROM users").all()
        made = erasure.district(house.config, engine, "acme", NOW)
    assert made.rows["users"] == 8
    assert "erase again" in made.pages.lower()
    assert "written anew" in erasure.district(house.config, engine, "acme", NOW).pages
    assert told_by_database(house, LAST) == []


# ---------------------------------------------------------------- a person


def test_of_an_erased_student_nothing_is_left_but_in_the_districts_own_home(house: House) -> None:
    rows = telling()
    house.night(small(), district="bravo")
    house.night(telling())
    rows["students"][1]["Grade"] = "8"
    rows["students"][1]["Contact_phone"] = "2125550111"
    rows["attendance"][0]["Attendance_status"] = "tardy"
    rows["enrollments"] = [each for each in rows["enrollments"] if each["Student_id"] != "0002"] + [enrollment("s3", 2) | {"School_id": "0011"}]
    house.night(rows, NOW + NIGHT)
    retention.sweep(house.config, house.engine, "acme", NOW)
    written(house.config.homes / "acme", telling())
    before, bravo = house.rows(), house.rows("bravo")
    assert told_by_database(house, LAST)

    made = person(house, "0002")
    after = house.rows()
    assert told_by_database(house, LAST, FIRST, "2125550111") == []
    assert {name: before[name] - after.get(name, 0) for name in before if before[name] != after.get(name, 0)} == {
        name: count for name, count in made.rows.items() if count
    }
    assert made.rows["users"] == made.rows["contacts"] == made.rows["attendance"] == 1
    assert made.rows["changes"] >= 4
    assert house.rows("bravo") == bravo
    everywhere = found_in_files(house.config.data, LAST)
    assert {name.split("/")[:2] == ["homes", "acme"] and "reports" not in name for name in everywhere} == {True}
    assert any("files in the district's home tell of him" in each for each in made.unreached)
    assert LAST not in json.dumps(erasure.as_json(made))
    assert person(house, "0002").empty


def test_a_revert_that_left_an_erased_person_alone_no_longer_lists_his_id(house: House) -> None:
    rows = small()
    house.night(rows)
    for nights, grade in enumerate(("8", "9"), 1):
        rows["students"][1]["Grade"] = grade
        _, run, _ = house.night(rows, NOW + nights * NIGHT)
    first_change = run - 1
    undone = ledger.revert(house.engine, first_change, NOW + 3 * NIGHT)
    house.run(undone)
    assert {name: each.ids for name, each in closed(house, undone).left_alone.items()} == {"students": ("0002",)}
    reports = house.config.homes / "acme" / "reports"
    assert (reports / "latest-revert.html").exists()
    made = person(house, "0002")
    assert not list(reports.glob("latest-revert*"))
    assert not list(reports.glob(f"*-run-{undone}.*"))
    assert {name: each.ids for name, each in closed(house, undone).left_alone.items()} == {"students": (stored.ERASED,)}
    assert made.rows["sync_runs"] == 1
    assert person(house, "0002").empty


def test_the_next_delivery_brings_the_person_back_and_one_without_him_does_not(house: House) -> None:
    house.night(telling())
    person(house, "0002", "student")
    without = small()
    without["students"] = [each for each in without["students"] if each["Student_id"] != "0002"]
    without["enrollments"] = [each for each in without["enrollments"] if each["Student_id"] != "0002"]
    _, _, outcome = house.night(without, NOW + NIGHT)
    assert outcome == "successful"
    assert told_by_database(house, LAST) == []
    house.night(telling(), NOW + 2 * NIGHT)
    assert "users" in told_by_database(house, LAST)


def test_of_an_erased_teacher_the_names_of_his_sections_lose_his_own(house: House) -> None:
    house.night(telling())
    rows = telling()
    rows["sections"] = [each | {"Period": "3" if each["Section_id"] == "s2" else ""} for each in rows["sections"]]
    rows["sections"].append(section("s4", "0012", "t2", "Chess"))
    rows["enrollments"].append(enrollment("s4", 2) | {"School_id": "0012"})
    house.night(rows, NOW + NIGHT)
    assert "sections" in told_by_database(house, TEACHER)
    made = person(house, "t2")
    assert told_by_database(house, TEACHER, "'t2'", '"t2"') == []
    assert made.rows["sections"] == 2
    assert made.rows["section_teachers"] == 2
    with database.reading(house.engine) as connection:
        sections = connection.exec_driver_sql("SELECT section_id, name FROM sections WHERE district_id = 'acme' ORDER BY section_id").all()
    assert dict(tuple(row) for row in sections) == {"s1": "Math - Lovelace", "s2": "Math - 3", "s3": "Art - Lovelace", "s4": "Chess"}
    assert found_in_files(house.config.data, TEACHER) == []


def test_a_contact_goes_from_every_student(house: House) -> None:
    rows = telling()
    rows["students"][2]["Contact_sis_id"], rows["students"][2]["Contact_name"] = "c2", rows["students"][1]["Contact_name"]
    house.night(rows)
    made = person(house, "c2")
    assert made.rows["contacts"] == 2
    assert house.rows()["users"] == 8
    assert "contacts" not in told_by_database(house, f"Parent {LAST}")


def test_one_id_of_two_people_asks_for_the_role(house: House) -> None:
    rows = telling()
    rows["teachers"][1]["Teacher_id"] = "0002"
    rows["sections"][1]["Teacher_id"] = "0002"
    house.night(rows)
    before = house.rows()
    with pytest.raises(ConfigError, match=r"\(student, teacher\); --role says which"):
        person(house, "0002")
    assert house.rows() == before
    made = person(house, "0002", "teacher")
    assert (made.rows["users"], made.rows["section_teachers"]) == (1, 1)
    assert house.rows()["enrollments"] == before["enrollments"]


def test_a_person_is_not_erased_while_a_run_waits_or_a_hold_is_open_that_would_bring_him_back(tmp_path: Path, engine: Engine) -> None:
    house = House.make(tmp_path, engine, "acme", settings=replace(TOLERANT, limits=Limits(records=2)))
    house.night(small(20))
    fewer = small(20)
    fewer["enrollments"] = fewer["enrollments"][:10]
    assert house.night(fewer, NOW + NIGHT)[2] == "on_hold"
    everything = names(house.config.data)
    (hold,) = ledger.holds(engine, "acme", "open")
    with pytest.raises(ConfigError, match=f"hold {hold.id} is open"):
        person(house, "0002")
    run = ledger.release(engine, hold.id, "me", NOW)
    with pytest.raises(ConfigError, match=f"run {run} of acme is pending"):
        person(house, "0002")
    assert names(house.config.data) == everything
    house.run(run)
    assert person(house, "0002").rows["users"] == 1


def test_an_erasure_of_a_person_that_broke_off_between_files_and_rows_is_ended_by_the_next(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.night(telling())

    def dies(*given: object) -> dict[str, int]:
        raise StoreError("the database was away", transient=True)

    monkeypatch.setattr(stored, "person", dies)
    with pytest.raises(StoreError):
        person(house, "t2")
    monkeypatch.undo()
    assert told_by_database(house, TEACHER)
    person(house, "t2")
    assert told_by_database(house, TEACHER) == []
    assert found_in_files(house.config.data, TEACHER) == []


def test_findings_that_quote_his_id_no_longer_do_and_their_pages_are_gone(house: House) -> None:
    house.night(telling())
    rows = telling()
    rows["students"] = rows["students"][:-1]
    rows["enrollments"].append(enrollment("s1", 6) | {"Student_id": "unheardof-6"})
    rows["sections"][2]["Teacher_id"] = "t2-x"
    _, run, _ = house.night(rows, NOW + NIGHT)
    reports = house.config.homes / "acme" / "reports"
    assert "findings" in told_by_database(house, "unheardof-6")
    assert found_in_files(reports, "unheardof-6")
    person(house, "t2")  # an id that is part of another
    assert "findings" in told_by_database(house, "t2-x")
    made = person(house, "unheardof-6")
    assert made.rows["findings"] > 0
    assert told_by_database(house, "unheardof-6") == []
    assert found_in_files(house.config.data, "unheardof-6") == []
    assert [path.name for path in reports.iterdir() if f"run-{run}." in path.name or path.name.startswith("latest")] == []
    assert [path for path in reports.iterdir() if path.name.endswith("run-1.html")]
    assert "(erased)" in [value for each in ledger.findings(house.engine, run) for value in each.values]


def test_deliveries_and_zips_that_do_not_tell_of_him_stay_and_what_cannot_be_read_goes(house: House) -> None:
    house.night(small())
    newcomer = small()
    newcomer["students"].append(student(77, Last_name=LAST))
    newcomer["enrollments"].append(enrollment("s1", 77))
    house.night(newcomer, NOW + NIGHT)
    stays, damaged = house.night(small(), NOW + 2 * NIGHT)[0], house.night(small(), NOW + 3 * NIGHT)[0]
    (damaged.folder / "students.csv").write_text("cut")
    made = person(house, "0077")
    assert stays.folder.exists()
    assert not damaged.folder.exists()
    assert made.files["deliveries"] == 12
    assert names(house.config.reports / "acme") == {"run-1.zip", "run-4.zip"}
    assert len(inbox.sealed(house.config.deliveries, "acme")) == 2


@pytest.mark.parametrize("text", ["x,0077\n", '"0077",x\n', "a;0077;b", "\t0077", "0077", "'0077,1", "0077\r\n"])
def test_an_id_is_found_as_a_whole_cell_however_it_is_written(text: str) -> None:
    assert erasure._has_cell(text.encode(), "0077")


@pytest.mark.parametrize("text", ["x,10077\n", "00771", "0077-1", "a0077,", ""])
def test_an_id_inside_another_is_none(text: str) -> None:
    assert not erasure._has_cell(text.encode(), "0077")


def test_erasing_someone_of_no_district_or_without_an_id_is_refused(house: House) -> None:
    with pytest.raises(ConfigError, match="there is no district nobody"):
        erasure.person(house.config, house.engine, "nobody", "1", None, NOW)
    with pytest.raises(ConfigError, match="ID must not be blank"):
        person(house, " ")
    assert person(house, "nobody").empty
