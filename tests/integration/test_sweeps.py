"""Homes that are looked at, in this process, until they are sealed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine

from sftp_ingest.store import ledger
from sftp_ingest.sweeps import Sweeps
from tests.conftest import PATIENCE_SECONDS
from tests.integration.house import House
from tests.unit.districts import small, written


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_home_is_sealed_while_another_ones_large_file_is_still_read(tmp_path: Path, engine: Engine) -> None:
    house = House.make(tmp_path, engine, "acme", "bravo").having(settle_seconds=0)
    large = house.config.homes / "acme" / "students.csv"
    large.touch()
    os.truncate(large, 8 << 40)
    sweeps = Sweeps(house.config, engine, lambda: None)
    sweeps.start()
    try:
        until(lambda: list(house.config.deliveries.glob("acme/.*.tmp/students.csv")))
        (house.config.homes / "bravo" / "students.csv").write_text("new")
        for _ in range(3):
            sweeps.ring("acme")
            sweeps.ring("bravo")
        until(lambda: ledger.last_delivery(engine, "bravo", "sftp"))
        assert ledger.last_delivery(engine, "acme", "sftp") is None
        os.truncate(large, 5)
        until(lambda: ledger.last_delivery(engine, "acme", "sftp"))
    finally:
        os.truncate(large, 5)
        sweeps.stop()
    assert [len(ledger.deliveries(engine, each)) for each in ("acme", "bravo")] == [1, 1]


def test_who_begins_with_all_files_in_a_folder_of_their_own_is_told_where_they_belong(tmp_path: Path, engine: Engine) -> None:
    house = House.make(tmp_path, engine, "acme").having(settle_seconds=0)
    home = house.config.homes / "acme"
    written(home / "export", small())
    sweeps = Sweeps(house.config, engine, lambda: None)
    sweeps.start()
    try:
        sweeps.ring("acme")
        until(lambda: ledger.last_delivery(engine, "acme", "sftp"))
        (pending,) = ledger.runs(engine, "acme")
        assert house.run(pending.id) == "refused"
        told = {each.file: each.hint for each in ledger.findings(engine, pending.id) if each.code == "file_unknown"}
        assert told["export/students.csv"].startswith("it would be read as students.csv")
        assert len(told) == len(small())
        for each in (home / "export").iterdir():
            each.rename(home / each.name)
        sweeps.ring("acme")
        until(lambda: len(ledger.runs(engine, "acme")) == 2)
    finally:
        sweeps.stop()
    assert house.run(ledger.runs(engine, "acme")[0].id) == "successful"


def test_a_stop_waits_for_a_look_in_progress_that_plans_another_and_then_ends(tmp_path: Path, engine: Engine) -> None:
    house = House.make(tmp_path, engine, "acme").having(settle_seconds=0)
    large = house.config.homes / "acme" / "students.csv"
    large.touch()
    os.truncate(large, 8 << 40)
    sweeps = Sweeps(house.config, engine, lambda: None)
    sweeps.start()
    stopping = threading.Thread(target=sweeps.stop, daemon=True)
    try:
        until(lambda: list(house.config.deliveries.glob("acme/.*.tmp/students.csv")))
        stopping.start()
        until(lambda: not sweeps.alive)
        assert stopping.is_alive()
    finally:
        os.truncate(large, 5)  # a file that changes while it is sealed is looked at again later
    stopping.join(PATIENCE_SECONDS)
    assert not stopping.is_alive()
    assert not ledger.deliveries(engine, "acme")
