"""What a night is compared with is the last one that was believed: a delivery that waits for a person teaches nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine

from sftp_ingest.config import Settings
from sftp_ingest.store import ledger
from tests.integration.house import NIGHT, NOW, House
from tests.unit import rosters
from tests.unit.districts import Files, small


def in_middle(students: int, *, column: bool = True) -> Files:
    """So many students, of whom every second one has a middle name, in a column that may be gone."""
    files = small(students)
    for number, row in enumerate(files["students"]):
        if column:
            row["Middle_name"] = "Lee" if number % 2 else ""
    return files


class Nights:
    """One night after the other."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.number = 0

    def send(self, files: Files) -> tuple[str | None, set[str]]:
        """What became of the next night, and the codes of what was found."""
        _, run, outcome = self.house.night(files, NOW + self.number * NIGHT)
        self.number += 1
        return outcome, {each.code for each in ledger.findings(self.house.engine, run)}

    def reasons(self) -> set[str]:
        """Why it waits."""
        (hold,) = ledger.holds(self.house.engine, "acme", "open")
        return {each.kind for each in hold.hold.reasons}

    def release(self) -> str | None:
        """What becomes of what waits."""
        (hold,) = ledger.holds(self.house.engine, "acme", "open")
        return self.house.run(ledger.release(self.house.engine, hold.id, "me", NOW))


@pytest.fixture
def nights(tmp_path: Path, engine: Engine) -> Nights:
    made = Nights(House.make(tmp_path, engine, "acme"))
    assert made.send(in_middle(20)) == ("successful", set())
    return made


def test_removals_wait_on_every_night_on_which_a_column_is_gone(nights: Nights) -> None:
    for students in (19, 18):
        assert nights.send(in_middle(students, column=False)) == ("on_hold", {"header_gone"})
        assert nights.reasons() == {"headers"}
    assert nights.send(in_middle(18)) == ("successful", set()), "the column is back"


def test_of_a_column_that_came_on_one_night_it_is_not_said_that_it_always_came(nights: Nights) -> None:
    nights.send(in_middle(19, column=False))
    (hold,) = ledger.holds(nights.house.engine, "acme", "open")
    told = [each.title for each in ledger.findings(nights.house.engine, hold.run)] + [each.sentence for each in hold.hold.reasons]
    assert (len(told), [each for each in told if "sent before" not in each or "always" in each]) == (2, [])


def test_they_wait_too_where_nobody_had_left_on_the_first_of_these_nights(nights: Nights) -> None:
    assert nights.send(in_middle(20, column=False)) == ("successful", {"header_gone"})
    assert nights.send(in_middle(20, column=False)) == ("unchanged", {"header_gone"})
    assert nights.send(in_middle(19, column=False)) == ("on_hold", {"header_gone"})
    assert nights.reasons() == {"headers"}


def test_a_person_who_releases_them_believes_that_the_column_is_gone(nights: Nights) -> None:
    assert nights.send(in_middle(19, column=False)) == ("on_hold", {"header_gone"})
    assert nights.release() == "successful"
    assert nights.send(in_middle(18, column=False)) == ("successful", set())


def test_a_person_who_discards_them_does_not(nights: Nights) -> None:
    assert nights.send(in_middle(19, column=False)) == ("on_hold", {"header_gone"})
    (hold,) = ledger.holds(nights.house.engine, "acme", "open")
    ledger.discard(nights.house.engine, hold.id, "me", NOW)
    assert nights.send(in_middle(18, column=False)) == ("on_hold", {"header_gone"})


def test_a_night_after_one_that_was_held_is_measured_by_the_one_before_it(tmp_path: Path, engine: Engine) -> None:
    nights = Nights(House.make(tmp_path, engine, "acme", settings=Settings()))
    nights.send(small(300))
    for _ in range(2):
        outcome, codes = nights.send(small(100))
        assert (outcome, "drift_rows" in codes) == ("on_hold", True)
    assert nights.send(small(300)) == ("unchanged", set())
    outcome, _ = nights.send(small(100))
    assert (outcome, nights.release()) == ("on_hold", "successful")
    outcome, codes = nights.send(small(101))
    assert (outcome, "drift_rows" in codes) == ("successful", False)


def test_changes_that_take_the_place_of_what_waits_say_that_it_is_lost(tmp_path: Path, engine: Engine) -> None:
    nights = Nights(House.make(tmp_path, engine, "acme", settings=Settings()))
    nights.send(rosters.small(students=40))
    leaving = [rosters.user(f"{number:04}", "student", "0011", status="tobedeleted") for number in range(1, 16)]
    assert nights.send(rosters.changes(users=leaving))[0] == "on_hold"
    other = rosters.changes(users=[rosters.user("0020", "student", "0012", givenName="New")])
    assert nights.send(other) == ("successful", {"delta_overtook"})
    other["users"][0]["givenName"] = "Newer"
    assert nights.send(other) == ("successful", set())
    assert nights.send(rosters.changes(users=leaving))[0] == "on_hold"
    assert nights.release() == "successful"
    assert nights.send(rosters.changes(users=leaving)) == ("unchanged", set())
