"""How long a delivery is kept, and how small: compressed, read as before, pruned at last, and readable at every instant until then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from sqlalchemy import Engine, select

from sftp_ingest import config, retention, runner, zstd
from sftp_ingest.errors import ConfigError, DeliveryError
from sftp_ingest.intake import inbox, kept
from sftp_ingest.model import Delivery, Limits
from sftp_ingest.planning import details, empty_roster, plan
from sftp_ingest.roster import files
from sftp_ingest.store import database, ledger, tables
from tests.integration.house import NIGHT, NOW, House, names
from tests.unit.districts import TOLERANT, Files, csv_of, delivery_of, small, student, written, zipped

CORE = {"schools.csv", "teachers.csv", "students.csv", "sections.csv", "enrollments.csv"}
PACKED = {f"{name}.zst" for name in CORE} | {"delivery.json"}
NOWHERE = Path("nowhere")


def one_new(nights: int) -> Files:
    """A night that has as many students more than the first."""
    return small(6 + nights)


@pytest.fixture
def house(tmp_path: Path, engine: Engine) -> House:
    return House.make(tmp_path, engine, "acme")


def sweep(house: House, now: datetime = NOW) -> retention.Swept:
    return retention.sweep(house.config, house.engine, "acme", now)


# ---------------------------------------------------------------- compressed, and read as before


def test_a_closed_delivery_is_compressed_and_every_byte_of_it_stays_readable(house: House) -> None:
    delivery, _, outcome = house.night(small())
    sent = {each.name: (delivery.folder / each.name).read_bytes() for each in delivery.files}
    times = {each.name: (delivery.folder / each.name).stat().st_mtime_ns for each in delivery.files}
    assert outcome == "successful"
    assert sweep(house).packed == 5
    assert names(delivery.folder) == PACKED
    for each in delivery.files:
        assert files.content(delivery.folder, each) == sent[each.name]
        packed = delivery.folder / f"{each.name}.zst"
        assert packed.stat().st_mtime_ns == times[each.name]
        assert packed.stat().st_mode & 0o777 == 0o600
    assert sweep(house) == retention.Swept()


def test_a_compressed_delivery_comes_to_the_same_plan_and_the_same_fix_it_files(tmp_path: Path) -> None:
    rows = small()
    rows["students"] = [*rows["students"], student(7, Last_name=""), student(1)]
    rows["customstudents/students"] = [student(9)]
    delivery = written(tmp_path / "sent", rows)
    (tmp_path / "sent" / "more.zip").write_bytes(zipped({"staff.csv": csv_of([{"School_id": "0011", "Staff_id": "p1", "Last_name": "Sent"}])}))
    delivery = delivery_of(tmp_path / "sent")

    def told() -> tuple[object, ...]:
        made = plan(delivery, TOLERANT, empty_roster())
        rejected = {name: table.to_pydict() for name, table in details(delivery, made).rejected.items()}
        return made.outcome, made.findings, made.counts, made.rows, rejected

    before = told()
    assert before[4]
    assert kept.pack(delivery, NOWHERE) == len(rows)
    assert (tmp_path / "sent" / "more.zip").exists()
    assert not list((tmp_path / "sent").rglob("*.csv"))
    assert told() == before


def test_of_two_compressed_files_that_differ_in_case_the_newer_is_still_read(tmp_path: Path) -> None:
    delivery = written(tmp_path, small() | {"STUDENTS": [student(1)]})
    os.utime(tmp_path / "STUDENTS.csv", (1, 1))
    before = plan(delivery, TOLERANT, empty_roster())
    kept.pack(delivery, NOWHERE)
    after = plan(delivery, TOLERANT, empty_roster())
    assert (after.findings, after.counts) == (before.findings, before.counts)
    assert after.counts["students"].created == 6


def test_what_still_lies_in_the_home_is_a_link_and_stays_one_until_it_is_sent_again(house: House) -> None:
    home = house.config.homes / "acme"
    written(home, small())
    first = inbox.seal(home, house.config.deliveries, "acme", inbox.state(home), NOW, None)
    assert first is not None
    house.run(ledger.record(house.engine, first, NOW))
    assert sweep(house).packed == 0

    part = home / ".upload-1"
    part.write_bytes(csv_of([student(n) for n in range(1, 8)]))
    part.replace(home / "students.csv")
    assert sweep(house).packed == 1
    second = inbox.seal(home, house.config.deliveries, "acme", inbox.state(home), NOW + NIGHT, first)
    assert second is not None
    assert {each.name for each in second.files if each.resent} == {"students.csv"}


def test_zips_and_files_whose_new_name_is_taken_stay_as_they_are(tmp_path: Path) -> None:
    for name, content in (("students.csv", b"a\n"), ("students.csv.zst", b"b\n"), ("more.zip", b"c\n"), ("empty.csv", b"")):
        (tmp_path / name).write_bytes(content)
    delivery = delivery_of(tmp_path)
    assert kept.pack(delivery, NOWHERE) == 1
    assert names(tmp_path) == {"students.csv", "students.csv.zst.zst", "more.zip", "empty.csv"}
    assert [files.content(tmp_path, each) for each in delivery.files] == [b"", b"c\n", b"a\n", b"b\n"]


def test_a_delivery_that_waits_or_is_held_is_left_alone_and_released_as_ever(tmp_path: Path, engine: Engine) -> None:
    house = House.make(tmp_path, engine, "acme", settings=replace(TOLERANT, limits=Limits(records=2)))
    house.night(small(20))
    fewer = small(20)
    fewer["students"], fewer["enrollments"] = fewer["students"][:10], [each for each in fewer["enrollments"] if each["Student_id"] <= "0010"]
    delivery, _, outcome = house.night(fewer, NOW + NIGHT)
    assert outcome == "on_hold"
    waiting = house.sealed(small(20), NOW + 2 * NIGHT)
    ledger.record(engine, waiting, NOW)
    assert sweep(house, NOW + 100 * NIGHT).pruned == 6
    assert names(delivery.folder) == names(waiting.folder) == CORE | {"delivery.json"}

    (hold,) = ledger.holds(engine, "acme", "open")
    released = ledger.release(engine, hold.id, "me", NOW)
    assert sweep(house, NOW + 100 * NIGHT) == retention.Swept()
    assert house.run(released) == "successful"
    assert sweep(house, NOW + 2 * NIGHT).packed == 5


def test_a_discarded_hold_lets_its_delivery_be_compressed(tmp_path: Path, engine: Engine) -> None:
    house = House.make(tmp_path, engine, "acme", settings=replace(TOLERANT, limits=Limits(records=2)))
    house.night(small(20))
    fewer = small(20)
    fewer["enrollments"] = fewer["enrollments"][:10]
    _, _, outcome = house.night(fewer, NOW + NIGHT)
    assert outcome == "on_hold"
    assert sweep(house).packed == 5
    ledger.discard(engine, ledger.holds(engine, "acme", "open")[0].id, "me", NOW)
    assert sweep(house).packed == 5


def test_nothing_is_touched_while_a_run_of_the_district_is_in_progress(house: House) -> None:
    delivery, _, _ = house.night(small())
    with runner.district_lock(house.config, house.engine, "acme") as ours:
        assert ours
        assert sweep(house).packed == 0
    assert names(delivery.folder) == CORE | {"delivery.json"}


# ---------------------------------------------------------------- broken off at any instant

STEPS = ["compress", "_sha256", "make_durable", "replace", "unlink"]
KILLED = """
import os, signal, sys
from pathlib import Path
from sftp_ingest import zstd
from sftp_ingest.intake import durable, kept
from tests.unit.districts import delivery_of
step, place = sys.argv[2], int(sys.argv[3])
owner = {"compress": zstd, "make_durable": durable, "replace": Path, "unlink": Path}.get(step, kept)
real = getattr(owner, step)
calls = 0
def dying(*given, **more):
    global calls
    calls += 1
    if calls == place:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*given, **more)
delivery = delivery_of(Path(sys.argv[1]))
setattr(owner, step, dying)
kept.pack(delivery, Path("nowhere"))
"""


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("place", [1, 2])
def test_kill_9_while_compressing_leaves_every_file_readable_and_the_next_sweep_ends_the_work(tmp_path: Path, step: str, place: int) -> None:
    folder = tmp_path / "sent"
    delivery = written(folder, {name: rows for name, rows in small(200).items() if name in ("students", "enrollments")})
    sent = {each.name: (folder / each.name).read_bytes() for each in delivery.files}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder), step, str(place)], check=False, timeout=60, cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    assert {each.name: files.content(folder, each) for each in delivery.files} == sent
    kept.pack(delivery, NOWHERE)
    assert sorted(path.name for path in folder.iterdir()) == ["enrollments.csv.zst", "students.csv.zst"]
    assert {each.name: files.content(folder, each) for each in delivery.files} == sent


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    delivery = written(tmp_path, {"students": [student(1)]})

    def full(path: Path, part: Path) -> None:
        part.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zstd, "compress", full)
    with pytest.raises(OSError, match="No space left"):
        kept.pack(delivery, NOWHERE)
    assert [path.name for path in tmp_path.iterdir()] == ["students.csv"]


def test_a_sweep_that_was_killed_while_pruning_is_ended_by_the_next(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    old, run, _ = house.night(small())
    house.night(one_new(1), NOW + NIGHT)

    def dies(folder: Path) -> None:
        (folder / ".x.tmp").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(inbox, "clear", dies)
    with pytest.raises(KeyboardInterrupt):
        sweep(house, NOW + 20 * NIGHT)
    monkeypatch.undo()
    assert not old.folder.exists()
    assert old not in inbox.sealed(house.config.deliveries, "acme")
    assert not list((house.config.deliveries / "acme").glob(".*.tmp"))
    assert not (house.config.reports / "acme" / f"run-{run}.zip").exists()


def test_a_file_that_is_not_what_was_sealed_is_not_compressed(tmp_path: Path) -> None:
    delivery = written(tmp_path, {"students": [student(1)]})
    (tmp_path / "students.csv").write_text("changed")
    assert kept.pack(delivery, NOWHERE) == 0
    assert names(tmp_path) == {"students.csv"}


def test_the_folder_of_a_compressed_delivery_can_be_checked_and_synced_again(house: House) -> None:
    delivery, _, _ = house.night(small())
    sweep(house)
    found = inbox.as_delivery(delivery.folder, NOW)
    assert found.files == delivery.files
    assert plan(found, TOLERANT, empty_roster()).outcome == "successful"
    again = inbox.copy_in(delivery.folder, house.config.deliveries, "acme", NOW + NIGHT)
    assert again.files == delivery.files
    assert house.run(ledger.record(house.engine, again, NOW + NIGHT)) == "unchanged"
    (delivery.folder / "students.csv.zst").write_bytes(b"damaged")
    with pytest.raises(DeliveryError, match="is damaged and cannot be decompressed"):
        inbox.copy_in(delivery.folder, house.config.deliveries, "acme", NOW + NIGHT)


def test_a_sweep_knows_beforehand_whether_there_is_anything_to_do(house: House) -> None:
    assert not retention.is_due(house.config, house.engine, NOW)
    house.night(small())
    assert retention.is_due(house.config, house.engine, NOW)
    sweep(house)
    assert not retention.is_due(house.config, house.engine, NOW)
    assert retention.is_due(house.config, house.engine, datetime.now(UTC) + timedelta(days=181))


# ---------------------------------------------------------------- damaged


def packed(folder: Path) -> tuple[Delivery, Path]:
    delivery = written(folder, {"students": [student(n) for n in range(500)]})
    kept.pack(delivery, NOWHERE)
    return delivery, folder / "students.csv.zst"


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: b"Student_id\n1\n",
        lambda data: data[:40] + bytes(20) + data[60:],
        lambda data: data + data,
    ],
    ids=["half", "a byte short", "empty", "text", "overwritten", "twice"],
)
def test_a_damaged_compressed_file_is_told_in_one_sentence(tmp_path: Path, damage: object) -> None:
    delivery, path = packed(tmp_path)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(DeliveryError, match=r"students\.csv(\.zst)? (is|cannot|does)") as told:
        plan(delivery, TOLERANT, empty_roster())
    assert "\n" not in str(told.value)


def test_a_compressed_bomb_is_read_no_further_than_what_was_sealed(tmp_path: Path) -> None:
    delivery, path = packed(tmp_path)
    with pa.OSFile(str(path), "wb") as sink, pa.CompressedOutputStream(sink, "zstd") as stream:
        for _ in range(256):
            stream.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(DeliveryError, match="does not hold as many bytes as were sealed"):
        files.content(tmp_path, delivery.files[0])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_delivery_that_is_gone_is_told_as_before(tmp_path: Path) -> None:
    delivery, path = packed(tmp_path)
    path.unlink()
    with pytest.raises(DeliveryError, match=r"students\.csv cannot be read: No such file"):
        files.content(tmp_path, delivery.files[0])


# ---------------------------------------------------------------- pruned


def test_old_deliveries_go_with_their_details_and_the_ledger_stays(house: House) -> None:
    nights = [house.night(one_new(night), NOW + night * NIGHT) for night in range(4)]
    kept_details = house.config.reports / "acme"
    before = house.rows()
    assert sweep(house, NOW + 16 * NIGHT) == retention.Swept(packed=10, pruned=12, details=2)
    assert sorted(path.name for path in (house.config.deliveries / "acme").glob("[!.]*")) == [each.id for each, _, _ in nights[2:]]
    assert names(kept_details) == {f"run-{run}.zip" for _, run, _ in nights[2:]}
    assert house.rows() == before
    report = runner.report_of(house.engine, nights[0][1])
    assert report.outcome == "successful"
    assert runner.details_of(house.config, report) is None


def test_the_delivery_that_was_applied_last_is_never_pruned(house: House) -> None:
    first, run, _ = house.night(small())
    refused, _, outcome = house.night(small(), NOW + NIGHT, students=b"")
    assert outcome == "refused"
    assert sweep(house, NOW + 365 * NIGHT).pruned == 6
    assert names(first.folder) == PACKED
    assert not refused.folder.exists()
    assert (house.config.reports / "acme" / f"run-{run}.zip").exists()


def test_a_district_keeps_as_long_as_its_own_settings_say(house: House) -> None:
    house.night(small())
    house.night(one_new(1), NOW + NIGHT)
    own = replace(house.config, districts={"acme": replace(TOLERANT, keep_nights=30)})
    assert retention.sweep(own, house.engine, "acme", NOW + 29 * NIGHT).pruned == 0
    assert retention.sweep(own, house.engine, "acme", NOW + 31 * NIGHT).pruned == 6


def test_a_sealed_delivery_that_nobody_recorded_is_left_alone(house: House) -> None:
    delivery = house.sealed(small())
    assert sweep(house, NOW + 365 * NIGHT) == retention.Swept()
    assert names(delivery.folder) == CORE | {"delivery.json"}


def test_changes_are_forgotten_after_their_nights_and_runs_and_findings_are_not(house: House) -> None:
    for night in range(2):
        rows = one_new(night)
        rows["students"][0]["Last_name"] = ""
        house.night(rows, NOW + night * NIGHT)
    now = datetime.now(UTC)  # runs end when they end, whatever night their delivery is of
    before = house.rows()
    assert before["changes"] > 1
    assert sweep(house, now + timedelta(days=179)).changes == 0
    assert sweep(house, now + timedelta(days=181)).changes == before["changes"]
    assert house.rows() == {name: count for name, count in before.items() if name != "changes"}
    with database.reading(house.engine) as connection:
        assert connection.execute(select(tables.changes)).all() == []


def test_one_districts_full_disk_does_not_stop_the_next(tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House.make(tmp_path, engine, "acme", "bravo")
    for district in ("acme", "bravo"):
        house.night(small(), district=district)
    real = kept.pack

    def full(delivery: Delivery, home: Path) -> int:
        if delivery.district == "acme":
            raise OSError(28, "No space left on device")
        return real(delivery, home)

    monkeypatch.setattr(kept, "pack", full)
    retention.sweep_all(house.config, engine, NOW)
    assert len(list((house.config.deliveries / "bravo").rglob("*.zst"))) == 5


@pytest.mark.parametrize("key", ["keep_nights", "keep_changes_nights"])
@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("0", "must not be below 1"),
        ("-1", "must not be below 1"),
        ("1.5", "must be a whole number"),
        ('"14"', "must be a whole number"),
        ("36501", "above 36500"),
    ],
)
def test_a_wrong_number_of_nights_is_refused_by_name(tmp_path: Path, key: str, value: str, complaint: str) -> None:
    path = tmp_path / "sftp-ingest.toml"
    for table in ("defaults", "districts.acme"):
        path.write_text(f"[{table}]\n{key} = {value}\n")
        with pytest.raises(ConfigError, match=rf"^{table}\.{key} must .*{complaint.removeprefix('must ')}"):
            config.load(path, {})
