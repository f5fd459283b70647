"""Nights of which nothing lies in memory, as else only those of the largest districts do, on both databases: they come to the same, and to nothing by half."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sqlalchemy import Engine
from structlog.testing import capture_logs

from sftp_ingest.store import ledger
from tests.integration.disks import a_disk_of
from tests.integration.house import NIGHT, NOW, House
from tests.unit.districts import Files, everything_put_away, small, student, without


def nights() -> list[Files]:
    """Four nights: the first, one with few changes, one with a row that is rejected, and one on which many leave."""
    second, third = small(40), small(40)
    second["students"][3] |= {"Last_name": "Noether", "School_id": "0011"}
    second["students"].append(student(41))
    third["students"][5] |= {"School_id": "nowhere"}
    third["sections"] = third["sections"][:2]
    return [small(40), second, third, without(third, set(range(20, 30)))]


def test_a_district_comes_to_the_same_whether_its_nights_lie_in_memory_or_not(tmp_path: Path, engine: Engine) -> None:
    house = House.make(tmp_path, engine, "away", "usual")
    for number, files in enumerate(nights()):
        now = NOW + number * NIGHT
        _, run, usual = house.night(files, now, "usual")
        with everything_put_away(house.config.rosters):
            _, away_run, away = house.night(files, now, "away")
        assert (away, house.roster("away")) == (usual, house.roster("usual"))
        told, expected = (ledger.run(engine, each) for each in (away_run, run))
        assert told is not None
        assert expected is not None
        assert told.counts == expected.counts
        assert ledger.findings(engine, away_run) == ledger.findings(engine, run)
    assert {each.name.partition(".")[0] for each in house.config.rosters.iterdir()} == {"away", "usual"}


def test_a_night_for_which_there_is_no_room_on_the_disk_is_tried_again_and_nobody_is_half_there(tmp_path: Path, engine: Engine) -> None:
    house = House.make(tmp_path, engine, "acme")
    house = House(replace(house.config, runs=replace(house.config.runs, retry_seconds=0)), engine)
    house.night(small(40))
    before = house.roster()
    files = small(400)
    with a_disk_of(house.config.rosters, "8k"), everything_put_away(house.config.rosters), capture_logs() as logs:
        _, run, outcome = house.night(files, NOW + NIGHT)
    assert outcome is None
    assert house.roster() == before
    assert [each["error"] for each in logs if each["event"] == "run_given_back"] == ["the machine said no: No space left on device"]
    with everything_put_away(house.config.rosters):
        assert house.run(run) == "successful"
    assert len(house.roster()["students"]) == 400
