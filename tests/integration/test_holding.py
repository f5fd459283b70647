"""Nights that hold a part, on both databases: what is derived waits with what it is derived from, and a release leaves no trace of the hold."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine

from sftp_ingest.model import ENTITIES, Limits
from sftp_ingest.store import ledger
from tests.integration.house import NIGHT, NOW, House
from tests.unit.districts import Files, busy, enrollment, section, small, student, without


def tonight() -> Files:
    """Four students leave and nearly all others are in another grade, which waits; one comes, one moves to a new section, and a section gets another period."""
    files = without(small(20), {3, 4, 7, 8})
    for row in files["students"]:
        row["Grade"] = "8"
    files["students"].append(student(50, Grade="6"))
    files["sections"].append(section("s4", "0012", "t2", "Art"))
    files["sections"][0]["Period"] = "3"
    files["enrollments"] = [row for row in files["enrollments"] if (row["Student_id"], row["Section_id"]) != ("0001", "s3")]
    files["enrollments"] += [enrollment("s1", 50), enrollment("s4", 1) | {"School_id": "0012"}, enrollment("s3", 5)]
    return files


def test_released_it_is_the_roster_of_a_district_in_which_nothing_was_held(tmp_path: Path, engine: Engine) -> None:
    house = House.make(tmp_path, engine, "acme", "twin")
    strict = house.having(limits=Limits(records=3, removed_share=0.1, updated_share=0.5))
    for district in ("acme", "twin"):
        house.night(small(20), district=district)
    assert strict.night(tonight(), NOW + NIGHT)[2] == "on_hold"
    (first,) = ledger.holds(engine, "acme", "open")
    assert set(first.hold.scope) == {"students", "enrollments", "contacts"}
    beside = house.roster()
    grade = 1 + ENTITIES["sections"].values.index("grade")
    assert {row[grade] for row in beside["sections"]} == {"7"}, "of students in whose grade nothing was decided"

    _, again, outcome = strict.night(tonight(), NOW + 2 * NIGHT)
    assert outcome == "on_hold"
    (second,) = ledger.holds(engine, "acme", "open")
    assert (second.hold.digest, second.hold.scope) == (first.hold.digest, first.hold.scope)
    assert house.roster() == beside
    run = ledger.run(engine, again)
    assert run is not None
    assert not any(each.created + each.updated + each.moved + each.deactivated + each.reactivated for each in run.counts.values())

    released = ledger.release(engine, second.id, "the registrar", NOW + 3 * NIGHT)
    assert strict.run(released) == "successful"
    assert house.night(tonight(), NOW + NIGHT, "twin")[2] == "successful"
    assert house.roster() == house.roster("twin")


def test_what_flowed_beside_a_hold_does_not_make_its_share_smaller(tmp_path: Path, engine: Engine) -> None:
    house = House.make(tmp_path, engine, "acme").having(limits=Limits(records=3))
    files = without(small(40), {1, 2, 3, 4, 5})
    for number in range(101, 141):
        files["students"].append(student(number))
        files["enrollments"].append(enrollment("s1" if number % 2 else "s2", number))
    house.night(small(40))
    _, run, outcome = house.night(files, NOW + NIGHT)
    assert outcome == "on_hold"
    first = ledger.hold_of(engine, run)
    assert first is not None
    roster = house.roster()
    for night, decide in enumerate((lambda: None, lambda: ledger.discard(engine, ledger.holds(engine, "acme", "open")[0].id, "the registrar", NOW)), 2):
        decide()
        _, run, outcome = house.night(files, NOW + night * NIGHT)
        assert outcome == "on_hold", "though they are less than a tenth of all by now"
        again = ledger.hold_of(engine, run)
        assert again is not None
        assert again.hold == first.hold
        assert house.roster() == roster
    released = ledger.release(engine, ledger.holds(engine, "acme", "open")[0].id, "the registrar", NOW + 5 * NIGHT)
    assert house.run(released) == "successful"
    assert house.night(files, NOW + 6 * NIGHT)[2] == "unchanged"


def test_a_night_of_few_new_lines_that_holds_a_part_is_read_as_a_whole_and_comes_to_the_same(tmp_path: Path, engine: Engine) -> None:
    house = House.make(tmp_path, engine, "acme", "twin").having(limits=Limits(records=1))
    files = small(30)
    after = without(small(30), {2, 4, 6, 8})
    after["students"][0]["Grade"] = "8"
    for district in ("acme", "twin"):
        assert house.night(files, district=district)[2] == "successful"
    house.config.copy_of("twin").unlink()
    runs = [ledger.run(engine, house.night(after, NOW + NIGHT, district)[1]) for district in ("acme", "twin")]
    assert ["load" in each.seconds for each in runs if each is not None] == [True, True]
    assert house.roster() == house.roster("twin")
    one, other = (ledger.holds(engine, district, "open")[0].hold for district in ("acme", "twin"))
    assert one == other


def test_enrollments_are_of_the_school_of_their_section_while_it_waits_to_go_to_another(tmp_path: Path, engine: Engine) -> None:
    house = House.make(tmp_path, engine, "acme", "twin")
    strict = house.having(limits=Limits(records=3, updated_share=0.5))
    before, files = busy(12), busy(12)
    for row in files["sections"] + files["enrollments"]:
        row["School_id"] = "0012"
    for district in ("acme", "twin"):
        house.night(before, district=district)
    roster = house.roster()
    assert strict.night(files, NOW + NIGHT)[2] == "on_hold"
    assert house.roster()["enrollments"] == roster["enrollments"]
    (hold,) = ledger.holds(engine, "acme", "open")
    assert hold.hold.scope["enrollments"] == len(files["enrollments"])
    assert strict.night(files, NOW + 2 * NIGHT)[2] == "on_hold"
    released = ledger.release(engine, ledger.holds(engine, "acme", "open")[0].id, "the registrar", NOW + 3 * NIGHT)
    assert strict.run(released) == "successful"
    assert house.night(files, NOW + NIGHT, "twin")[2] == "successful"
    assert house.roster() == house.roster("twin")
