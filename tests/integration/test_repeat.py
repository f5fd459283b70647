"""Nights whose files are those of the night before, on both databases: told without being read, in the words of a full pass."""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from sqlalchemy import Engine, text

from sftp_ingest import erasure, why
from sftp_ingest.intake import inbox
from sftp_ingest.model import Derivations, SyncRun
from sftp_ingest.report import archive
from sftp_ingest.roster import export, export_oneroster
from sftp_ingest.store import database, ledger, register, states
from tests.integration.house import NIGHT, NOW, House
from tests.unit.districts import Files, csv_of, small, zipped
from tests.unit.test_laws import SPOILERS, districts, roster_of


def nights(house: House, *sent: Files, first: int = 0, district: str = "acme", **raw: bytes | None) -> SyncRun:
    """The last run of so many nights."""
    for number, files in enumerate(sent, first):
        _, run, _ = house.night(files, NOW + number * NIGHT, district, **raw)
    return closed(house, run)


def closed(house: House, run_id: int) -> SyncRun:
    run = ledger.run(house.engine, run_id)
    assert run is not None
    return run


def was_read(run: SyncRun) -> bool:
    return "load" in run.seconds


def write(engine: Engine, statement: str) -> None:
    with database.writing(engine) as connection:
        connection.execute(text(statement))


def test_the_files_of_the_night_before_are_not_read_again_and_told_as_they_were(tmp_path: Path, engine: Engine) -> None:
    house = House.make(tmp_path, engine, "acme")
    first = nights(house, small(3))
    second = nights(house, small(3), first=1)
    assert (was_read(first), was_read(second)) == (True, False)
    assert second.outcome == "unchanged"
    assert second.counts["students"].existing == second.counts["students"].unchanged == 3
    assert second.counts["students"].rows == first.counts["students"].rows
    assert ledger.findings(engine, second.id) == ledger.findings(engine, first.id)


def test_a_changed_byte_is_read_and_so_is_the_night_after_it_where_it_left_a_row_out(tmp_path: Path, engine: Engine) -> None:
    house = House.make(tmp_path, engine, "acme")
    files = small(3)
    nights(house, files)
    files["students"][0]["Last_name"] = ""
    assert [was_read(nights(house, files, first=number)) for number in (1, 2, 3, 4)] == [True, True, False, False]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE users SET first_name = 'Eve' WHERE district_id = 'acme' AND sis_id = '0001'",
        "DELETE FROM enrollments WHERE district_id = 'acme'",
        "INSERT INTO courses (district_id, course_id, active, first_seen_run, last_changed_run) VALUES ('acme', 'x', TRUE, 1, 1)",
    ],
)
def test_a_hand_that_writes_to_the_roster_is_noticed_and_put_right(tmp_path: Path, engine: Engine, statement: str) -> None:
    house = House.make(tmp_path, engine, "acme")
    nights(house, small(3))
    write(engine, statement)
    second = nights(house, small(3), first=1)
    assert (was_read(second), second.outcome) == (True, "successful")
    assert was_read(nights(house, small(3), first=2)) is False


def test_a_hand_that_writes_while_a_run_applies_is_noticed_by_the_next(tmp_path: Path, engine: Engine) -> None:
    house = House.make(tmp_path, engine, "acme")
    nights(house, small(3))
    with database.reading(engine) as connection:
        read = states.of(connection, "acme")
    write(engine, "UPDATE users SET first_name = 'Eve' WHERE district_id = 'acme' AND sis_id = '0001'")
    with database.writing(engine) as connection:  # the end of a run that had read the roster before
        states.keep(connection, "acme", read)
    assert was_read(nights(house, small(3), first=1))


def test_a_run_waits_for_nobody_who_writes_to_the_roster_by_hand(tmp_path: Path, engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time, whatever he writes")
    house = House.make(tmp_path, engine, "acme", "shelbyville")
    nights(house, small(3))
    with engine.connect() as hand:
        hand.execute(text("UPDATE users SET first_name = 'Eve' WHERE district_id = 'acme' AND sis_id = '0001'"))
        nights(house, small(3), district="shelbyville")
        hand.commit()
    assert was_read(nights(house, small(3), first=1, district="shelbyville"))


def test_who_was_erased_comes_back_with_the_same_files_only_by_a_full_pass(tmp_path: Path, engine: Engine) -> None:
    house = House.make(tmp_path, engine, "acme")
    nights(house, small(3))
    erasure.person(house.config, engine, "acme", "0001", "student", NOW)
    assert was_read(nights(house, small(3), first=1))


def test_another_rule_a_week_and_a_new_year_have_the_files_read(tmp_path: Path, engine: Engine) -> None:
    house = House.make(tmp_path, engine, "acme")
    nights(house, small(3))
    assert was_read(nights(house.having(derive=Derivations(course=False)), small(3), first=1))
    assert [was_read(nights(house, small(3), first=number)) for number in (2, 3, 9, 10)] == [True, False, False, True]
    to_new_year = (NOW.replace(month=12, day=31) - NOW) // NIGHT
    assert [was_read(nights(house, small(3), first=number)) for number in (to_new_year, to_new_year + 1)] == [True, True]


def test_an_archive_is_known_by_the_rules_of_what_lies_in_it(tmp_path: Path, engine: Engine) -> None:
    """Its own name tells no format: a OneRoster district's rules in a folder of its own must be read as OneRoster's."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "users.toml").write_text('[[fields]]\nname = "middle_name"\nheaders = ["second name"]\n')
    house = House.make(tmp_path, engine, "acme").having(contract=str(own))

    def packed(name: str, files: Files) -> Path:
        export.save(tmp_path / f"{name}-loose", export_oneroster.oneroster(roster_of(files), "1.1"))
        (tmp_path / name).mkdir()
        members = {each.name: each.read_bytes() for each in (tmp_path / f"{name}-loose").iterdir()}
        (tmp_path / name / "all.zip").write_bytes(zipped(members))
        return tmp_path / name

    def night(folder: Path, number: int) -> SyncRun:
        moment = NOW + number * NIGHT
        run = ledger.record(engine, inbox.copy_in(folder, house.config.deliveries, "acme", moment), moment)
        house.run(run)
        return closed(house, run)

    seen = [night(packed("first", small(3)), 0), *(night(tmp_path / "first", number) for number in (1, 2))]
    assert [(run.error, run.outcome) for run in seen] == [("", "successful"), ("", "unchanged"), ("", "unchanged")]
    assert not was_read(seen[-1])

    files = small(3)
    files["students"][0]["Grade"] = "8"
    changed = night(packed("changed", files), 3)
    told = [each for each in why.story(house.config, engine, "acme", "user", "0001").events if each.what == "delivery"]
    assert [[file["file"] for file in each.facts["files"]] for each in told] == [["users.csv", "demographics.csv", "enrollments.csv"]] * 4
    run = ledger.revert(engine, changed.id, NOW + 4 * NIGHT)
    assert (house.run(run), closed(house, run).counts["students"].updated) == ("successful", 1)


def test_a_sealed_file_that_is_gone_fails_the_run(tmp_path: Path, engine: Engine) -> None:
    house = House.make(tmp_path, engine, "acme")
    nights(house, small(3))
    delivery = house.sealed(small(3), NOW + NIGHT)
    (delivery.folder / "students.csv").unlink()
    run = ledger.record(engine, delivery, NOW + NIGHT)
    assert house.run(run) == "failed"
    assert "students.csv" in closed(house, run).error


def test_what_was_left_out_can_be_mended_from_the_report_of_every_night(tmp_path: Path, engine: Engine) -> None:
    house = House.make(tmp_path, engine, "acme")
    files = small(3)
    files["students"][0]["Last_name"] = ""
    last = nights(house, *[files] * 4)
    assert not was_read(last)
    listed = {name for name, _ in archive.rejected(archive.place(house.config.reports, "acme", last.id))}
    assert listed == {"rejected-students.csv", "rejected-enrollments.csv"}


NUMBERS = count()


@pytest.fixture
def pair(tmp_path: Path, engine: Engine) -> House:
    return House.make(tmp_path, engine)


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], phases=[Phase.explicit, Phase.generate]
)
@given(
    first=districts(),
    second=districts(),
    table=st.sampled_from(["students", "teachers", "sections", "enrollments", "schools"]),
    spoiler=st.sampled_from(["", *sorted(SPOILERS)]),
    chance=st.randoms(use_true_random=False),
)
def test_a_night_that_is_not_read_is_told_as_if_it_were(pair: House, first: Files, second: Files, table: str, spoiler: str, chance: random.Random) -> None:
    """Of two districts that send the same, one is made to read everything; their runs, findings and details are the same, night for night."""
    raw: dict[str, bytes] = {}
    if spoiler:
        lines = csv_of(second[table]).split(b"\n")
        victim = chance.randrange(1, len(lines) - 1)
        lines[victim] = SPOILERS[spoiler](lines[victim], lines[0].split(b","))
        raw[table] = b"\n".join(lines)
    number = next(NUMBERS)
    quick, thorough = f"quick-{number}", f"thorough-{number}"
    for name in (quick, thorough):
        register.add_district(pair.engine, name, name, NOW)
        (pair.config.homes / name).mkdir(parents=True)
    for night, (files, broken) in enumerate([(first, False), (first, False), (second, True), (second, True), (second, True), (second, True)]):
        told = []
        for name in (quick, thorough):
            if name == thorough:
                write(pair.engine, f"UPDATE roster_states SET repeatable = FALSE WHERE district_id = '{name}'")
            run = nights(pair, files, first=night, district=name, **(raw if broken else {}))
            told.append((run.outcome, run.counts, ledger.findings(pair.engine, run.id), contents(pair, run)))
            assert name == quick or was_read(run)
        assert told[0] == told[1]


def contents(house: House, run: SyncRun) -> Mapping[str, Any] | None:
    return archive.contents(archive.place(house.config.reports, run.district, run.id))
