"""Runs undone by other runs, on both databases: what is put back, what is left alone, and what the ledger makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from sqlalchemy import Engine, select, text

from sftp_ingest import planning, revert, sweeps
from sftp_ingest.config import Config, Settings
from sftp_ingest.errors import IngestError, RunError, StoreError
from sftp_ingest.model import ENTITIES, ChangeSet, DeliveredFile, Details, LeftAlone, Roster, SyncRun
from sftp_ingest.store import changes, database, ledger, register, rosters, tables, upserter
from tests.integration.test_store import LATER, NOW, SNAPSHOT, add, change_set, claimed, close, current, delivery, ground, held
from tests.unit.districts import Files, planned
from tests.unit.test_laws import districts

NIGHT = timedelta(days=1)


def done(engine: Engine, made: ChangeSet, name: str = "", district: str = "acme", now: datetime = NOW, *, baseline: bool = False) -> int:
    """The id of a run that applied a change set."""
    name = name or f"d{len(ledger.deliveries(engine, district))}"
    run = claimed(engine, replace(delivery(district, f"{district}-{name}", now), signature=name))
    with database.writing(engine) as connection:
        upserter.apply(connection, district, run.id, made, now)
        upserter.record_changes(connection, district, run.id, made, baseline=baseline)
        ledger.close(connection, run.id, "successful", now, {}, {}, [])
    return run.id


def reverted(engine: Engine, run: int, settings: Settings = Settings()) -> SyncRun:
    """The run that undid a run."""
    claimed = ledger.claim(engine, "me", NOW, run=ledger.revert(engine, run, NOW))
    assert claimed is not None
    revert.revert(engine, claimed, settings)
    closed = ledger.run(engine, claimed.id)
    assert closed is not None
    return closed


def left_alone(run: SyncRun) -> dict[str, tuple[str, ...]]:
    return {name: each.ids for name, each in run.left_alone.items()}


def whole(engine: Engine, district: str = "acme") -> dict[str, dict[tuple[str, ...], dict[str, Any]]]:
    return {name: current(engine, name, district) for name in SNAPSHOT}


def person(identifier: str, operation: str = "created", **values: str) -> dict[str, str]:
    return {"operation": operation, "sis_id": identifier, **values}


def enrolled(section: str, student: str, operation: str = "created", **values: str) -> dict[str, str]:
    return {"operation": operation, "section_id": section, "student_id": student, **values}


# ---------------------------------------------------------------- what is put back


def test_every_kind_of_change_is_put_back(engine: Engine) -> None:
    add(engine, "acme")
    ground(engine, schools="AB", teachers="t", sections="a")
    ext = '{"b": "Žé\\n",\t"a":1.0}'
    done(
        engine,
        change_set(
            students=[person("1", first_name="Ada", ext=ext, school_ids='["A"]'), person("2", school_id="A"), person("3", grade="4"), person("4", grade="4")],
            section_teachers=[{"operation": "created", "section_id": "a", "teacher_id": "t", "position": "2"}],
        ),
    )
    done(engine, change_set(students=[person("4", "deactivated")]))
    before = whole(engine)
    night = done(
        engine,
        change_set(
            students=[
                person("1", "updated", first_name="Bo", ext='{"b":2}', school_ids="", was_first_name="Ada", was_ext=ext, was_school_ids='["A"]'),
                person("2", "moved", school_id="B", was_school_id="A"),
                person("3", "deactivated", grade="4"),
                person("4", "reactivated", grade="5", was_grade="4"),
                person("5", first_name="New"),
            ],
            section_teachers=[{"operation": "updated", "section_id": "a", "teacher_id": "t", "position": "1", "was_position": "2"}],
        ),
    )
    after = whole(engine)

    undone = reverted(engine, night)
    assert (undone.outcome, undone.reverts, undone.left_alone) == ("successful", night, {})
    counts = undone.counts["students"]
    assert (counts.updated, counts.moved, counts.reactivated, counts.deactivated, counts.existing) == (1, 1, 1, 2, 4)
    now = whole(engine)
    assert now["students"].pop(("5",))["active"] is False
    assert now == before

    reverted(engine, undone.id)
    assert whole(engine) == after


def test_a_move_back_leaves_the_place_under_the_source_that_it_had_there(engine: Engine) -> None:
    add(engine, "acme")
    ground(engine, sections="abcd", students="12")
    done(engine, change_set(enrollments=[enrolled(each, student, school_id="A", source=source) for each, student, source in HELD]))
    done(engine, change_set(enrollments=[enrolled("b", "1", "deactivated"), enrolled("d", "2", "deactivated")]))
    before = whole(engine)
    back = {"school_id": "A", "was_school_id": "A", "from_school_id": "A"}
    moves = [
        enrolled("b", "1", "moved", source="", was_source="custom", from_section_id="a", from_source="custom", **back),
        enrolled("d", "2", "moved", source="custom", was_source="", from_section_id="c", from_source="", **back),
    ]
    night = done(engine, change_set(enrollments=moves))
    after = whole(engine)
    undone = reverted(engine, night)
    assert undone.counts["enrollments"].moved == 2
    assert whole(engine) == before
    reverted(engine, undone.id)
    assert whole(engine) == after


HELD = (("a", "1", "custom"), ("b", "1", "custom"), ("c", "2", ""), ("d", "2", ""))
"""Section, student and source of enrollments: two students in two places each."""


def test_a_move_between_sections_is_moved_back_with_the_schools_of_all_three(engine: Engine) -> None:
    add(engine, "acme")
    ground(engine, sections="abcd", students="12")
    done(engine, change_set(enrollments=[enrolled("a", "1", school_id="A"), enrolled("b", "1", school_id="X"), enrolled("c", "2", school_id="A")]))
    done(engine, change_set(enrollments=[enrolled("b", "1", "deactivated")]))
    before = whole(engine)
    night = done(
        engine,
        change_set(
            enrollments=[
                enrolled("b", "1", "moved", school_id="B", was_school_id="X", from_section_id="a", from_school_id="A"),
                enrolled("d", "2", "moved", school_id="A", was_school_id="", from_section_id="c", from_school_id="A"),
            ]
        ),
    )
    after = whole(engine)
    undone = reverted(engine, night)
    assert undone.counts["enrollments"].moved == 2
    now = whole(engine)
    assert now["enrollments"].pop(("d", "2"))["active"] is False
    assert now == before
    reverted(engine, undone.id)
    now = whole(engine)
    assert {key: row for key, row in now["enrollments"].items() if row["active"]} == {key: row for key, row in after["enrollments"].items() if row["active"]}


def test_enrollments_of_a_section_that_went_to_another_school_go_back_with_it(engine: Engine) -> None:
    add(engine, "acme")
    ground(engine, schools="AB", sections="a", students="1")
    done(engine, change_set(enrollments=[enrolled("a", "1", school_id="A")]))
    before = whole(engine)
    night = done(engine, change_set(enrollments=[enrolled("a", "1", "updated", school_id="B", was_school_id="A")]))
    after = whole(engine)
    undone = reverted(engine, night)
    assert (undone.outcome, undone.counts["enrollments"].updated, whole(engine)) == ("successful", 1, before)
    reverted(engine, undone.id)
    assert whole(engine) == after


def test_attendance_is_put_back_too_and_what_was_forgotten_is_not_missed(engine: Engine) -> None:
    add(engine, "acme")
    rows = [{"operation": "created", "attendance_id": each, "date": f"2026-0{each}-01", "status": "absent"} for each in "18"]
    night = done(engine, change_set(attendance=rows))
    assert ledger.forget_attendance(engine, NOW.date().replace(month=5)) == 1
    undone = reverted(engine, night)
    assert (undone.outcome, undone.left_alone) == ("successful", {})
    with database.reading(engine) as connection:
        assert rosters.whole(connection, "acme", "attendance")[["attendance_id", "active"]].to_numpy().tolist() == [["8", False]]


def test_any_run_of_the_change_log_is_reverted_and_two_nights_in_turn(engine: Engine) -> None:
    add(engine, "acme")
    done(engine, change_set(students=[person("1", grade="4"), person("2", grade="4")]))
    before = whole(engine)
    first = done(engine, change_set(students=[person("1", "updated", grade="5", was_grade="4"), person("2", "deactivated", grade="4")]))
    second = done(engine, change_set(students=[person("1", "deactivated", grade="5"), person("2", "reactivated", grade="4")]))
    assert left_alone(reverted(engine, first)) == {"students": ("1",)}  # 2 is back already
    assert left_alone(reverted(engine, second)) == {}
    assert left_alone(reverted(engine, first)) == {}
    assert whole(engine) == before


def test_a_run_that_is_reverted_is_reverted_again_only_once_its_revert_is_undone(engine: Engine) -> None:
    add(engine, "acme")
    night = done(engine, change_set(students=[person("1")]))
    first = reverted(engine, night).id
    with pytest.raises(RunError, match=f"^run {night} is reverted already, by run {first}$"):
        ledger.revert(engine, night, NOW)
    again = reverted(engine, first).id
    with pytest.raises(RunError, match=f"^run {first} is reverted already, by run {again}$"):
        ledger.revert(engine, first, NOW)
    last = reverted(engine, night).id
    for run, by in ((night, last), (first, again)):
        with pytest.raises(RunError, match=f"^run {run} is reverted already, by run {by}$"):
            ledger.revert(engine, run, NOW)
    assert current(engine, "students")["1",]["active"] is False


def test_what_a_revert_left_alone_is_put_back_by_another_once_that_is_possible(engine: Engine) -> None:
    add(engine, "acme")
    night = done(engine, change_set(students=[person("1"), person("2")]))
    later = done(engine, change_set(students=[person("2", "updated", grade="5", was_grade="")]))
    first = reverted(engine, night)
    assert (first.outcome, left_alone(first)) == ("successful", {"students": ("2",)})
    nothing = reverted(engine, night)
    assert (nothing.outcome, left_alone(nothing)) == ("unchanged", {"students": ("2",)})
    reverted(engine, later)
    last = reverted(engine, night)
    assert (last.outcome, left_alone(last)) == ("successful", {})
    assert {key: row["active"] for key, row in current(engine, "students").items()} == {("1",): False, ("2",): False}
    with pytest.raises(RunError, match=f"^run {night} is reverted already, by run {last.id}$"):
        ledger.revert(engine, night, NOW)
    reverted(engine, first.id)
    assert reverted(engine, night).outcome == "successful"  # the last one stands, and not all that was put back
    assert current(engine, "students")["1",]["active"] is False


def test_of_two_reverts_that_wait_the_second_one_fails_and_changes_nothing(engine: Engine) -> None:
    add(engine, "acme")
    night = done(engine, change_set(students=[person("1")]))
    second = ledger.revert(engine, night, NOW)
    reverted(engine, night)
    before = whole(engine)
    claimed = ledger.claim(engine, "me", NOW, run=second)
    assert claimed is not None
    with pytest.raises(RunError, match="is reverted already"):
        revert.revert(engine, claimed, Settings())
    assert whole(engine) == before


# ---------------------------------------------------------------- what is left alone


def test_what_has_changed_since_is_left_alone_and_listed(engine: Engine) -> None:
    add(engine, "acme")
    night = done(engine, change_set(students=[person("1", email="a@x"), person("2", email="b@x"), person("3", email="c@x")]))
    done(engine, change_set(students=[person("2", "updated", email="new@x", was_email="b@x")]))
    undone = reverted(engine, night)
    assert undone.left_alone == {"students": LeftAlone(1, ("2",))}
    assert {key: row["active"] for key, row in current(engine, "students").items()} == {("1",): False, ("2",): True, ("3",): False}


def test_another_value_that_has_changed_since_stays_and_the_runs_own_are_put_back(engine: Engine) -> None:
    add(engine, "acme")
    done(engine, change_set(students=[person("1", grade="4", email="a@x")]))
    night = done(engine, change_set(students=[person("1", "updated", grade="5", email="a@x", was_grade="4")]))
    done(engine, change_set(students=[person("1", "updated", grade="5", email="b@x", was_email="a@x")]))
    assert left_alone(reverted(engine, night)) == {}
    assert {name: current(engine, "students")["1",][name] for name in ("grade", "email")} == {"grade": "4", "email": "b@x"}


def test_who_left_came_back_and_left_again_is_left_alone(engine: Engine) -> None:
    add(engine, "acme")
    done(engine, change_set(students=[person("1")]))
    night = done(engine, change_set(students=[person("1", "deactivated")]))
    done(engine, change_set(students=[person("1", "reactivated")]))
    done(engine, change_set(students=[person("1", "deactivated")]))
    assert left_alone(reverted(engine, night)) == {"students": ("1",)}
    assert current(engine, "students")["1",]["active"] is False


def test_nobody_comes_back_into_a_section_that_has_left_since(engine: Engine) -> None:
    add(engine, "acme")
    section = {"section_id": "a"}
    done(engine, change_set(sections=[{"operation": "created", **section}], students=[person("1")], enrollments=[enrolled("a", "1")]))
    night = done(engine, change_set(enrollments=[enrolled("a", "1", "deactivated")]))
    done(engine, change_set(sections=[{"operation": "deactivated", **section}]))
    assert left_alone(reverted(engine, night)) == {"enrollments": ("a/1",)}


def test_a_section_that_others_have_come_to_since_stays_with_its_teacher(engine: Engine) -> None:
    add(engine, "acme")
    taught = {"operation": "created", "section_id": "a", "teacher_id": "t", "position": "1"}
    done(engine, change_set(students=[person("1"), person("2")], teachers=[person("t")]))
    night = done(engine, change_set(sections=[{"operation": "created", "section_id": "a"}], section_teachers=[taught], enrollments=[enrolled("a", "1")]))
    done(engine, change_set(enrollments=[enrolled("a", "2")]))
    assert left_alone(reverted(engine, night)) == {"sections": ("a",), "section_teachers": ("a/t",)}
    assert {key: row["active"] for key, row in current(engine, "enrollments").items()} == {("a", "1"): False, ("a", "2"): True}


def test_a_sensitive_column_that_is_no_longer_kept_does_not_come_back(engine: Engine) -> None:
    add(engine, "acme")
    done(engine, change_set(students=[person("1", frl_status="Free", grade="4")]))
    night = done(engine, change_set(students=[person("1", "updated", frl_status="", grade="5", was_frl_status="Free", was_grade="4")]))
    reverted(engine, night)
    assert {name: current(engine, "students")["1",][name] for name in ("frl_status", "grade")} == {"frl_status": "", "grade": "4"}


@pytest.mark.parametrize("files", [("students.csv", "schools.csv"), ("users.csv", "orgs.csv", "classes.csv")])
def test_which_columns_are_not_kept_is_known_of_every_format(engine: Engine, files: tuple[str, ...]) -> None:
    add(engine, "acme")
    run = claimed(engine, replace(delivery(), files=tuple(DeliveredFile(name, 1, "") for name in files)))
    close(engine, run)
    assert "preferred_first_name" in revert.unkept(engine, run, Settings())["students"]
    assert "preferred_first_name" not in revert.unkept(engine, run, Settings(keep_sensitive=("preferred_first_name",)))["students"]


# ---------------------------------------------------------------- what cannot be reverted


def test_a_first_roster_a_run_without_changes_and_no_run_at_all_are_refused_in_a_sentence(engine: Engine) -> None:
    add(engine, "acme")
    first = done(engine, change_set(students=[person("1")]), baseline=True)
    with pytest.raises(RunError, match="first roster of acme, which the change log tells in one entry"):
        ledger.revert(engine, first, NOW)
    with pytest.raises(RunError, match="no changes in the change log"):
        ledger.revert(engine, done(engine, change_set()), NOW)
    with pytest.raises(RunError, match="there is no run 99"):
        ledger.revert(engine, 99, NOW)
    with pytest.raises(RunError, match="has not ended"):
        ledger.revert(engine, claimed(engine, delivery(name="last")).id, NOW)


def test_a_revert_waits_while_another_run_of_the_district_is_running(engine: Engine) -> None:
    add(engine, "acme")
    night = done(engine, change_set(students=[person("1")]))
    running = claimed(engine, delivery(name="tonight", received_at=LATER))
    waiting = ledger.revert(engine, night, NOW)
    assert ledger.claim(engine, "me", NOW, run=waiting) is None
    close(engine, running)
    assert ledger.claim(engine, "me", NOW, run=waiting) is not None


def test_a_revert_that_breaks_off_changes_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    add(engine, "acme")
    night = done(engine, change_set(students=[person("1")]))
    run = ledger.claim(engine, "me", NOW, run=ledger.revert(engine, night, NOW))
    assert run is not None

    def pulled(*arguments: object, **named: object) -> None:
        raise StoreError("the plug was pulled")

    monkeypatch.setattr(upserter, "record_changes", pulled)
    with pytest.raises(IngestError, match="pulled"):
        revert.revert(engine, run, Settings())
    assert current(engine, "students")["1",]["active"] is True
    assert [each.id for each in ledger.running(engine)] == [run.id]


# ---------------------------------------------------------------- what the ledger makes of it


def test_a_revert_delivers_nothing_supersedes_no_hold_and_is_no_night(engine: Engine, tmp_path: Path) -> None:
    add(engine, "acme")
    night = done(engine, change_set(students=[person("1")]), now=NOW)
    hold = held(engine, delivery(name="held", received_at=NOW - NIGHT))
    newest = claimed(engine, delivery(name="newest", received_at=LATER))
    close(engine, newest, "refused")
    last = ledger.last_applied(engine, "acme")
    undone = reverted(engine, night)

    assert undone.delivery == "acme-d0"
    assert ledger.last_applied(engine, "acme") == last
    assert [each.id for each in ledger.holds(engine, "acme", "open")] == [hold]
    district = register.district(engine, "acme")
    assert district is not None
    ledger.discard(engine, hold, "me", NOW)
    config = Config(tmp_path / "x.toml", tmp_path, "")
    assert sweeps.state_of(engine, config, district, LATER) == "refused"
    assert ledger.record(engine, replace(delivery(name="acme-d0")), NOW) == night


def test_the_details_have_what_was_put_back_and_what_was_left_alone(engine: Engine) -> None:
    add(engine, "acme")
    night = done(engine, change_set(students=[person("1"), person("2")]))
    done(engine, change_set(students=[person("2", "updated", grade="5", was_grade="")]))
    run = ledger.claim(engine, "me", NOW, run=ledger.revert(engine, night, NOW))
    assert run is not None
    kept: list[Details] = []
    revert.revert(engine, run, Settings(), keep=kept.append)
    assert kept[0].done is not None
    assert kept[0].done.changes["students"][["sis_id", "operation"]].to_numpy().tolist() == [["1", "deactivated"]]
    assert kept[0].left_alone["students"].to_numpy().tolist() == [["2"]]


def test_the_changes_of_one_record_are_found_by_its_key(engine: Engine) -> None:
    add(engine, "acme", "bond")
    ground(engine, sections="a")
    odd = 'Ž "1",'
    first = done(engine, change_set(students=[person(odd), person("2")], enrollments=[enrolled("a", odd)]))
    second = done(engine, change_set(students=[person(odd, "deactivated")]))
    done(engine, change_set(students=[person(odd)]), district="bond")
    with database.reading(engine) as connection:
        found = changes.of_records(connection, "acme", [("students", (odd,)), ("enrollments", ("a", odd)), ("teachers", (odd,))])
    assert [(each.run, each.entity, each.operation) for each in found] == [
        (first, "students", "created"),
        (first, "enrollments", "created"),
        (second, "students", "deactivated"),
    ]


def test_the_changes_of_one_record_are_looked_up_and_not_searched_for(engine: Engine) -> None:
    add(engine, "acme")
    done(engine, change_set(students=[person(f"{each:05}") for each in range(5000)]))
    asked = select(tables.changes).where(
        tables.changes.c.district_id == "acme", tables.changes.c.entity == "students", tables.record.in_(['{"sis_id":"00007"}', '{"sis_id":"00008"}'])
    )
    spelt = str(asked.compile(engine, compile_kwargs={"literal_binds": True})).replace("%%", "%")
    with database.writing(engine) as connection:
        connection.execute(text("ANALYZE changes"))
        plan = connection.exec_driver_sql(f"EXPLAIN {'QUERY PLAN ' if engine.dialect.name == 'sqlite' else ''}{spelt}").all()
    assert "ix_changes_record" in str(plan)
    assert engine.dialect.name != "sqlite" or "(district_id=? AND entity=? AND <expr>=?)" in str(plan)


# ---------------------------------------------------------------- the property

_number = count()


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], phases=[Phase.explicit, Phase.generate]
)
@given(districts(), districts(), districts())
def test_a_night_reverted_leaves_the_roster_as_it_was_and_the_revert_reverted_as_it_became(engine: Engine, one: Files, two: Files, three: Files) -> None:
    district = f"d{next(_number)}"
    add(engine, district)
    nights = [night_of(engine, district, files) for files in (one, two, three)]
    (_, first), (second_run, second), (third_run, third) = nights
    if third_run is None or second_run is None:
        return
    undone = reverted(engine, third_run)
    assert undone.left_alone == {}
    assert known_in(whole(engine, district), second) == second
    again = reverted(engine, undone.id)
    assert again.left_alone == {}
    assert whole(engine, district) == third
    reverted(engine, again.id)
    assert reverted(engine, second_run).left_alone == {}
    assert known_in(whole(engine, district), first) == first


def night_of(engine: Engine, district: str, files: Files) -> tuple[int | None, dict[str, Any]]:
    """The run that brought the district to what the files say, or None where there was nothing to do, and the roster after it."""
    nights = len(ledger.deliveries(engine, district))
    with database.reading(engine) as connection:
        now = rosters.current(connection, district)
    with TemporaryDirectory() as folder:
        made = planned(Path(folder), files, Roster({**planning.empty_roster().entities, **now.entities}))
    assert made.flowing is not None
    run = None if made.flowing.empty else done(engine, made.flowing, district=district, now=NOW + nights * NIGHT, baseline=nights == 0)
    return run, whole(engine, district)


def known_in(roster: Mapping[str, Mapping[tuple[str, ...], Any]], before: Mapping[str, Mapping[tuple[str, ...], Any]]) -> dict[str, Any]:
    """The roster without records that it did not have before; all of those have to be inactive now."""
    for name in ENTITIES:
        for key, row in roster.get(name, {}).items():
            assert key in before[name] or not row["active"]
    return {name: {key: row for key, row in rows.items() if key in before[name]} for name, rows in roster.items()}
