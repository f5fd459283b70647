"""One home, one daemon: a second one ends without touching anything, and one that was killed is in nobody's way."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sftp_ingest import sample
from sftp_ingest.config import FILE_NAME
from tests.acceptance.conftest import Home, eventually, run_program

DISTRICT = "springfield"
HALF = b"Student_id,First_name\n" * 1000


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A home on SQLite whose daemon runs, with two acceptors."""
    made = Home.make(tmp_path / "home", f"sqlite:///{tmp_path / 'sftp-ingest.db'}", DISTRICT)
    config = made.folder / FILE_NAME
    config.write_text(config.read_text(encoding="utf-8").replace("acceptors = 1", "acceptors = 2", 1), encoding="utf-8")
    made.serve()
    yield made
    made.close()


def daemon_of(home: Home) -> int:
    """The process that the lock names."""
    return int((home.folder / "data" / "locks" / "daemon").read_text(encoding="utf-8"))


def test_a_second_daemon_names_the_first_and_leaves_its_open_uploads_alone(home: Home) -> None:
    async def upload() -> None:
        async with home.connect(DISTRICT) as connection, connection.start_sftp_client() as client:
            file = await client.open("students.csv", "wb")
            await file.write(HALF)
            second = await asyncio.to_thread(run_program, "serve", cwd=home.folder)
            told = f"sftp-ingest: another daemon, process {daemon_of(home)}, serves this home: {home.folder / 'data'}\n"
            assert (second.returncode, second.stderr) == (2, told)
            await file.write(HALF)
            await file.close()

    asyncio.run(upload())
    assert (home.home_of(DISTRICT) / "students.csv").read_bytes() == 2 * HALF
    assert home.stop() == 0
    home.serve()
    assert home.stop() == 0


def test_a_daemon_is_started_again_right_after_it_was_killed_while_all_that_it_started_lives_on(home: Home, tmp_path: Path) -> None:
    [night] = sample.write(tmp_path / "nights", students=2000, nights=1, seed=3, faults=False)
    home.push(night.folder, DISTRICT)
    run = eventually(home.run_process, "the run to begin")
    started = [*home.children(), run]
    for each in started:
        os.kill(each, signal.SIGSTOP)
    try:
        home.kill(children=False)
        home.serve()
    finally:
        for each in started:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
    assert home.wait_for_runs(1, DISTRICT).outcome == "successful"
    assert home.stop() == 0
