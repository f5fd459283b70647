"""Nights with and without side files, on both databases: what a side file brought stays in the tables until it is sent again without it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine

from sftp_ingest.store import ledger
from tests.integration.house import NIGHT, NOW, House
from tests.unit.districts import Files, enrollment, small


def with_some_by_hand(*students: int) -> Files:
    """The small district, and students added by hand to a section of its SIS in which others are."""
    return small() | {"customsections/enrollments": [enrollment("s2", each) for each in students]}


def by_hand(house: House) -> dict[str, bool]:
    """Student → whether he is there, of all enrollments by hand."""
    return {str(student): bool(active) for _, student, _, source, active in house.roster()["enrollments"] if source == "custom"}


def test_who_is_enrolled_by_hand_stays_until_the_file_is_sent_without_him_and_is_back_after_a_revert(tmp_path: Path, engine: Engine) -> None:
    house = House.make(tmp_path, engine, "acme")
    house.night(with_some_by_hand(1, 3))
    told = house.roster()
    assert by_hand(house) == {"0001": True, "0003": True}
    for number in (1, 2):
        assert house.night(small(), NOW + number * NIGHT)[2] == "unchanged"
        assert house.roster() == told
    _, run, outcome = house.night(with_some_by_hand(3), NOW + 3 * NIGHT)
    assert (outcome, by_hand(house)) == ("successful", {"0001": False, "0003": True})
    assert house.run(ledger.revert(engine, run, datetime.now(UTC))) == "successful"
    assert house.roster() == told


def test_an_enrollment_that_the_sis_takes_over_is_no_longer_one_by_hand_and_ends_with_the_sis(tmp_path: Path, engine: Engine) -> None:
    house = House.make(tmp_path, engine, "acme")
    house.night(with_some_by_hand(1))
    files = small()
    files["enrollments"].append(enrollment("s2", 1))
    house.night(files, NOW + NIGHT)
    assert by_hand(house) == {}
    house.night(small(), NOW + 2 * NIGHT)
    assert [active for section, student, _, _, active in house.roster()["enrollments"] if (section, student) == ("s2", "0001")] == [False]
