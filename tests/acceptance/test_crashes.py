"""`kill -9` at the worst moments: the next start comes to the same end as a home that was never interrupted."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import asyncssh
import pytest
from sqlalchemy import text

from sftp_ingest import sample
from sftp_ingest.config import FILE_NAME
from sftp_ingest.intake import inbox
from sftp_ingest.model import SyncRun
from tests.acceptance.conftest import PATIENCE_SECONDS, Home, eventually

DISTRICT = "springfield"
STUDENTS = 3000
KILLS = 4
"""So many kills are spread over the time that the run takes when nobody kills it."""

KILLS_OF_APPLY = 20
KILLS_OF_ONE_RUN = 7
"""Then it may end, and the next delivery comes."""

Rosters = list[dict[str, list[str]]]


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two nights of a district that is big enough for its run to be hit in the middle."""
    return [each.folder for each in sample.write(tmp_path_factory.mktemp("nights"), students=STUDENTS, nights=2, seed=3, faults=False)]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, nights: list[Path]) -> Iterator[Rosters]:
    """The rosters of a home after each of the nights, synced in peace."""
    folder = tmp_path_factory.mktemp("peace")
    home = Home.make(folder, f"sqlite:///{folder / 'sftp-ingest.db'}", DISTRICT)
    found = []
    for night in nights:
        home.json("sync", DISTRICT, str(night))
        found.append(home.roster(DISTRICT))
    yield found
    home.close()


def assert_applied_once(home: Home, deliveries: int) -> None:
    """One run a delivery, each of them applied, and no change of a record told twice."""
    runs = home.runs(DISTRICT)
    assert [run.outcome for run in runs] == ["successful"] * deliveries
    assert len({run.delivery for run in runs}) == deliveries == len(home.sealed(DISTRICT))
    with home.engine.connect() as connection:
        doubled = connection.execute(
            text("SELECT run_id, entity, CAST(key AS TEXT) FROM changes GROUP BY run_id, entity, CAST(key AS TEXT) HAVING COUNT(*) > 1")
        ).all()
    assert doubled == []


def running(home: Home) -> SyncRun | None:
    """The run that is in progress."""
    return next((run for run in home.runs(DISTRICT) if run.state == "running"), None)


def test_a_daemon_killed_right_after_sealing_takes_the_delivery_up_again(home: Home, nights: list[Path], uninterrupted: Rosters) -> None:
    home.serve()
    home.push(nights[0], DISTRICT)
    eventually(lambda: home.events("delivery_sealed"), "the delivery to be sealed")
    home.kill()
    assert not any(home.roster(DISTRICT).values())

    home.serve()
    home.wait_for_runs(1, DISTRICT)
    assert home.roster(DISTRICT) == uninterrupted[0]
    assert_applied_once(home, 1)
    assert home.stop() == 0


def test_a_delivery_that_was_sealed_and_never_recorded_is_adopted_at_the_next_start(home: Home, nights: list[Path], uninterrupted: Rosters) -> None:
    for path in nights[0].glob("*.csv"):
        (home.home_of(DISTRICT) / path.name).write_bytes(path.read_bytes())
    state = inbox.state(home.home_of(DISTRICT))
    assert inbox.seal(home.home_of(DISTRICT), home.folder / "data" / "deliveries", DISTRICT, state, datetime.now(UTC), None) is not None

    home.serve()
    home.wait_for_runs(1, DISTRICT)
    assert len(home.events("delivery_adopted")) == 1
    assert home.roster(DISTRICT) == uninterrupted[0]
    assert_applied_once(home, 1)
    assert home.stop() == 0


def test_a_daemon_killed_again_and_again_during_a_run_comes_to_the_same_end(home: Home, nights: list[Path], uninterrupted: Rosters) -> None:
    home.serve()
    home.push(nights[0], DISTRICT)
    eventually(lambda: running(home), "the run to begin")
    begun = time.monotonic()
    home.wait_for_runs(1, DISTRICT)
    usual = time.monotonic() - begun

    home.push(nights[1], DISTRICT)
    for kill in range(KILLS):
        eventually(lambda: running(home) or (home.runs(DISTRICT)[1:] and home.runs(DISTRICT)[1].state == "closed"), "the run to begin")
        time.sleep(usual * kill / KILLS)
        home.kill()
        assert home.roster(DISTRICT) in uninterrupted
        home.serve()
    home.wait_for_runs(2, DISTRICT)
    assert home.roster(DISTRICT) == uninterrupted[1]
    assert_applied_once(home, 2)
    assert home.stop() == 0


def test_a_run_killed_at_twenty_random_instants_of_apply_leaves_the_old_roster_or_the_new_one_and_is_taken_up(
    home: Home, nights: list[Path], uninterrupted: Rosters
) -> None:
    home.serve()
    home.push(nights[0], DISTRICT)
    home.wait_for_runs(1, DISTRICT)
    assert home.roster(DISTRICT) == uninterrupted[0]
    kills, late, deliveries = 0, 0, 1
    while kills < KILLS_OF_APPLY:
        old = home.roster(DISTRICT)
        home.push(nights[deliveries % 2], DISTRICT)
        deliveries += 1
        run = eventually(lambda: home.runs(DISTRICT)[deliveries - 1 :], "the run")[0]  # noqa: B023 - asked here and now
        seen = []
        for _ in range(min(KILLS_OF_ONE_RUN, KILLS_OF_APPLY - kills)):
            if not killed_in_apply(home, run.id):
                break
            seen.append(home.standing(DISTRICT))
            kills += 1
        assert home.wait_for_runs(deliveries, DISTRICT).id == run.id
        new = home.roster(DISTRICT)
        assert new != old
        for roster, states in seen:
            assert roster == (new if states[-1] == "closed" else old)
        late += sum(states[-1] == "closed" for _, states in seen)
        if deliveries == 2:
            assert new == uninterrupted[1]
    assert late < kills
    assert_applied_once(home, deliveries)
    assert home.stop() == 0


def killed_in_apply(home: Home, run: int) -> bool:
    """Whether the run's process was killed at a random instant after it had begun to write; false where it had ended before."""
    details = home.folder / "data" / "reports" / DISTRICT / f"run-{run}.zip"  # what a run keeps right before it writes
    usual = home.runs(DISTRICT)[-2].seconds["apply"]

    def begun() -> bool:
        return details.exists() or home.runs(DISTRICT)[-1].state == "closed"

    eventually(begun, "the run to write")
    process = home.run_process()
    if process is None or not details.exists():
        return False
    details.unlink()
    time.sleep(random.uniform(0, usual))
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return False
    eventually(lambda: home.run_process() != process, "the process to be gone")
    return True


def test_a_revert_killed_in_the_middle_is_taken_up_by_the_daemon(home: Home, nights: list[Path], uninterrupted: Rosters) -> None:
    for night in nights:
        home.json("sync", DISTRICT, str(night))
    after = home.roster(DISTRICT)
    assert after == uninterrupted[1]
    (undone,) = home.runs(DISTRICT)[1:]
    asked = subprocess.Popen([sys.executable, "-m", "sftp_ingest", "runs", "revert", str(undone.id)], cwd=home.folder, stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: running(home), "the revert to begin")
    finally:
        asked.kill()
    asked.wait()
    run = home.runs(DISTRICT)[-1]
    assert (run.state, run.reverts) == ("running", undone.id)
    assert home.roster(DISTRICT) == after

    home.serve()
    told = home.home_of(DISTRICT) / "reports" / "latest-revert.json"
    eventually(lambda: told.exists() and json.loads(told.read_text(encoding="utf-8"))["run"] == run.id, "the report of the revert")
    again = home.runs(DISTRICT)[-1]
    assert (again.id, again.reverts, again.outcome) == (run.id, undone.id, "successful")
    assert again.attempts >= 2  # one more for each time that PostgreSQL had not noticed yet that nobody is at the other end
    reverted = home.roster(DISTRICT)
    assert reverted != after
    for table, rows in uninterrupted[0].items():
        assert set(rows) <= set(reverted[table])
        assert all("'active': False" in row for row in set(reverted[table]) - set(rows))
    assert home.stop() == 0


@contextmanager
def stuck_in_apply(home: Home) -> Iterator[None]:
    """While this lasts, a run writes schools and people and then waits before the enrollments (PostgreSQL only)."""
    with home.engine.connect() as connection:
        connection.execute(text("LOCK TABLE enrollments IN SHARE MODE"))
        yield
        connection.rollback()


def waits_for_a_lock(home: Home) -> bool:
    """Whether someone waits in this database for the lock."""
    with home.engine.connect() as connection:
        return bool(
            connection.execute(
                text("SELECT COUNT(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database() WHERE NOT granted")
            ).scalar()
        )


def grows(path: Path) -> bool:
    """Whether SQLite has begun to spill an open transaction: more pages than its cache holds are changed."""
    return path.exists() and path.stat().st_size > 1_000_000


def test_a_run_killed_in_the_middle_of_writing_leaves_the_roster_of_before(home: Home, nights: list[Path], uninterrupted: Rosters) -> None:
    home.serve()
    home.push(nights[0], DISTRICT)
    if home.engine.dialect.name == "postgresql":
        with stuck_in_apply(home):
            eventually(lambda: waits_for_a_lock(home), "the run to write enrollments")
            home.kill()
    else:
        journal = home.folder.parent / "sftp-ingest.db-wal"
        eventually(lambda: grows(journal), "the run to write")
        home.kill()
    (run,) = home.runs(DISTRICT)
    assert run.state == "running"
    assert not any(home.roster(DISTRICT).values())

    home.serve()
    again = home.wait_for_runs(1, DISTRICT)
    assert (again.id, again.attempts) == (run.id, 2)
    assert home.roster(DISTRICT) == uninterrupted[0]
    assert_applied_once(home, 1)
    assert home.stop() == 0


def test_details_that_a_killed_daemon_no_longer_told_are_told_at_the_next_start(home: Home, nights: list[Path]) -> None:
    home.json("sync", DISTRICT, str(nights[0]))
    reports = home.home_of(DISTRICT) / "reports"
    kept = home.folder / "data" / "reports" / DISTRICT / "run-1.zip"
    assert kept.exists()
    for path in reports.iterdir():  # as if the run had been closed, and the process killed before it told anybody
        path.unlink()

    home.serve()
    told = json.loads(home.fetch("reports/latest-receipt.json", DISTRICT))
    assert (told["run"], told["outcome"], told["action"]) == (1, "successful", "none")
    with zipfile.ZipFile(reports / "latest.zip") as left, zipfile.ZipFile(kept) as made:
        assert set(left.namelist()) == set(made.namelist()) | {"report.html", "receipt.json"}
    assert home.stop() == 0


def test_a_run_that_outlives_its_killed_daemon_is_not_done_twice(home: Home, nights: list[Path], uninterrupted: Rosters) -> None:
    home.serve()
    home.push(nights[0], DISTRICT)
    eventually(lambda: running(home), "the run to begin")
    home.kill(children=False)
    home.serve()
    home.wait_for_runs(1, DISTRICT)
    assert home.roster(DISTRICT) == uninterrupted[0]
    assert_applied_once(home, 1)
    assert home.stop() == 0


def settle(home: Home, seconds: float) -> None:
    """Let homes be quiet for so long before they are sealed, from the next start on."""
    config = home.folder / FILE_NAME
    lines = [f"settle_seconds = {seconds}" if line.startswith("settle_seconds") else line for line in config.read_text(encoding="utf-8").splitlines()]
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_a_daemon_killed_as_it_closes_the_last_upload_finds_all_of_them_at_the_next_start(home: Home, nights: list[Path], uninterrupted: Rosters) -> None:
    settle(home, 600)
    home.serve()
    last = home.home_of(DISTRICT) / max(path.name for path in nights[0].iterdir())
    with ThreadPoolExecutor(1) as client:
        pushed = client.submit(home.push, nights[0], DISTRICT)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not last.exists():  # it has its name; that its client and the rest of the daemon are told comes after
            assert time.monotonic() < deadline
        home.kill()
        with suppress(OSError, asyncssh.Error):  # whether the answer has left is a matter of luck
            pushed.result()
    sent = {path.name: path.read_bytes() for path in nights[0].iterdir()}
    assert {path.name: path.read_bytes() for path in home.home_of(DISTRICT).glob("*.csv")} == sent
    assert (home.sealed(DISTRICT), home.runs(DISTRICT)) == ([], [])

    settle(home, 0.5)
    home.serve()
    home.wait_for_runs(1, DISTRICT)
    assert home.roster(DISTRICT) == uninterrupted[0]
    assert_applied_once(home, 1)
    assert home.stop() == 0
