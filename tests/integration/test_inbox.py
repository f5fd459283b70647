"""When a home is settled, and what a sealed delivery is: real files, real hard links."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from sftp_ingest.errors import ConfigError, DeliveryError
from sftp_ingest.intake import inbox
from sftp_ingest.model import DeliveredFile, Delivery

NIGHT = datetime(2026, 3, 4, 1, 30, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "homes" / "springfield"
    made.mkdir(parents=True)
    return made


@pytest.fixture
def deliveries(tmp_path: Path) -> Path:
    return tmp_path / "deliveries"


def upload(home: Path, name: str, content: str) -> None:
    """As the server does it: a new inode takes the name."""
    part = home / f"{inbox.PART_PREFIX}{name}"
    part.write_text(content)
    part.replace(home / name)


def seal(home: Path, deliveries: Path, now: datetime = NIGHT, previous: Delivery | None = None) -> Delivery:
    delivery = inbox.seal(home, deliveries, "springfield", inbox.state(home), now, previous)
    assert delivery is not None
    return delivery


# ---------------------------------------------------------------- settled


def test_a_home_settles_when_it_has_been_quiet_long_enough(home: Path) -> None:
    upload(home, "students.csv", "a\n1\n")
    last = inbox.state(home).last_activity
    assert inbox.settled(home, 300, last + 299) is None
    settled = inbox.settled(home, 300, last + 300)
    assert settled is not None
    assert [(each.name, each.size) for each in settled.files] == [("students.csv", 4)]


def test_a_home_without_a_file_never_settles(home: Path) -> None:
    (home / "reports").mkdir()
    (home / ".hidden").write_text("x")
    assert inbox.settled(home, 0, 1e12) is None
    assert inbox.settled(home.with_name("nobody"), 0, 1e12) is None


def test_a_home_with_an_open_upload_never_settles(home: Path) -> None:
    upload(home, "students.csv", "a\n1\n")
    (home / f"{inbox.PART_PREFIX}0123").write_text("half")
    assert inbox.settled(home, 0, 1e12) is None


def test_an_old_modification_time_set_by_the_client_does_not_shorten_the_quiet_time(home: Path) -> None:
    upload(home, "students.csv", "a\n1\n")
    os.utime(home / "students.csv", (0, 0))
    os.utime(home, (0, 0))
    assert inbox.settled(home, 300, (home / "students.csv").stat().st_ctime + 299) is None


@pytest.mark.parametrize("act", [lambda home: (home / "students.csv").unlink(), lambda home: (home / "students.csv").rename(home / "pupils.csv")])
def test_removing_and_renaming_are_activity(home: Path, act: Callable[[Path], object]) -> None:
    upload(home, "schools.csv", "a\n1\n")
    upload(home, "students.csv", "a\n1\n")
    os.utime(home, (0, 0))
    act(home)
    assert inbox.state(home).last_activity >= home.stat().st_mtime > 0


def test_only_visible_files_of_the_top_folder_count(home: Path) -> None:
    upload(home, "students.csv", "a\n1\n")
    before = inbox.state(home).signature
    (home / "old").mkdir()
    (home / "old" / "students.csv").write_text("old")
    (home / ".DS_Store").write_text("x")
    (home / "delivery.json").write_text("{}")
    (home / "link.csv").symlink_to(home / "students.csv")
    assert [each.name for each in inbox.state(home).files] == ["students.csv"]
    assert inbox.state(home).signature == before


def test_sealing_does_not_change_the_signature_and_a_new_upload_of_the_same_bytes_does(home: Path, deliveries: Path) -> None:
    upload(home, "students.csv", "a\n1\n")
    delivery = seal(home, deliveries)
    assert inbox.state(home).signature == delivery.signature
    upload(home, "students.csv", "a\n1\n")
    assert inbox.state(home).signature != delivery.signature


# ---------------------------------------------------------------- seal


def test_a_sealed_delivery_is_the_same_files_and_a_record(home: Path, deliveries: Path) -> None:
    upload(home, "students.csv", "a\n1\n")
    upload(home, "schools.csv", "b\n2\n")
    delivery = seal(home, deliveries)
    assert delivery.id.startswith("20260304T013000-")
    assert delivery.folder == deliveries / "springfield" / delivery.id
    assert [each.name for each in delivery.files] == ["schools.csv", "students.csv"]
    assert delivery.files[1] == DeliveredFile("students.csv", 4, sha256(b"a\n1\n").hexdigest())
    for each in delivery.files:
        assert (delivery.folder / each.name).samefile(home / each.name)
    assert sorted(path.name for path in delivery.folder.iterdir()) == ["delivery.json", "schools.csv", "students.csv"]
    assert inbox.sealed(deliveries, "springfield") == [delivery]


def test_what_is_sealed_stays_while_the_district_goes_on(home: Path, deliveries: Path) -> None:
    upload(home, "students.csv", "a\n1\n")
    upload(home, "schools.csv", "b\n2\n")
    delivery = seal(home, deliveries)
    upload(home, "students.csv", "a\n9\n")
    (home / "schools.csv").unlink()
    assert (delivery.folder / "students.csv").read_text() == "a\n1\n"
    assert (delivery.folder / "schools.csv").read_text() == "b\n2\n"


def test_an_incomplete_set_is_sealed_for_the_validator_to_refuse(home: Path, deliveries: Path) -> None:
    upload(home, "students.csv", "a\n1\n")
    assert [each.name for each in seal(home, deliveries).files] == ["students.csv"]


def test_a_file_counts_as_resent_unless_it_is_the_one_that_lay_there(home: Path, deliveries: Path) -> None:
    for name in ("left.csv", "again.csv", "changed.csv"):
        upload(home, name, "a\n1\n")
    first = seal(home, deliveries)
    assert all(each.resent for each in first.files)
    upload(home, "again.csv", "a\n1\n")
    upload(home, "changed.csv", "a\n2\n")
    upload(home, "new.csv", "a\n1\n")
    second = seal(home, deliveries, NIGHT + timedelta(days=1), first)
    assert {each.name: each.resent for each in second.files} == {"left.csv": False, "again.csv": True, "changed.csv": True, "new.csv": True}
    assert inbox.sealed(deliveries, "springfield") == [first, second]


def test_a_previous_delivery_whose_files_are_gone_does_no_harm(home: Path, deliveries: Path) -> None:
    upload(home, "students.csv", "a\n1\n")
    first = seal(home, deliveries)
    shutil.rmtree(first.folder)
    assert [each.resent for each in seal(home, deliveries, previous=first).files] == [True]


def begin_an_upload(home: Path) -> None:
    (home / f"{inbox.PART_PREFIX}0123").write_text("half")


@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda home: upload(home, "students.csv", "a\n1\n"),
        lambda home: upload(home, "teachers.csv", "c\n3\n"),
        lambda home: (home / "students.csv").unlink(),
        lambda home: (home / "students.csv").rename(home / "pupils.csv"),
        begin_an_upload,
    ],
    ids=["a file replaced", "a file added", "a file removed", "a file renamed", "an upload begun"],
)
def test_a_district_that_is_busy_again_is_left_alone(home: Path, deliveries: Path, meanwhile: Callable[[Path], object]) -> None:
    upload(home, "students.csv", "a\n1\n")
    upload(home, "schools.csv", "b\n2\n")
    state = inbox.state(home)
    meanwhile(home)
    assert inbox.seal(home, deliveries, "springfield", state, NIGHT, None) is None
    assert inbox.sealed(deliveries, "springfield") == []
    assert [path.name for path in (deliveries / "springfield").iterdir()] == [".lock"]


def test_what_a_crash_left_half_sealed_is_cleared_away(home: Path, deliveries: Path) -> None:
    upload(home, "students.csv", "a\n1\n")
    leftover = deliveries / "springfield" / ".20260304T010000-abcdef.tmp"

    def crash() -> None:
        leftover.mkdir(parents=True, exist_ok=True)
        (leftover / "students.csv").write_text("half")

    crash()
    assert inbox.sealed(deliveries, "springfield") == []
    assert not leftover.exists()
    crash()
    seal(home, deliveries)
    assert not leftover.exists()


def test_looking_for_deliveries_never_clears_away_one_that_is_being_sealed(home: Path, deliveries: Path) -> None:
    for number in range(20):
        upload(home, f"file{number}.csv", "a\n1\n" * 100_000)
    state = inbox.state(home)
    made: list[Delivery | None] = []
    sealing = threading.Thread(target=lambda: made.append(inbox.seal(home, deliveries, "springfield", state, NIGHT, None)))
    sealing.start()
    while sealing.is_alive():
        inbox.sealed(deliveries, "springfield")
    assert made == inbox.sealed(deliveries, "springfield")
    assert len(made) == 1


def test_a_client_that_sends_a_delivery_json_confuses_nobody(home: Path, deliveries: Path) -> None:
    upload(home, "students.csv", "a\n1\n")
    upload(home, "delivery.json", '{"id": "mine"}')
    delivery = seal(home, deliveries)
    assert [each.name for each in delivery.files] == ["students.csv"]
    assert (home / "delivery.json").read_text() == '{"id": "mine"}'
    assert json.loads((delivery.folder / "delivery.json").read_text())["id"] == delivery.id


def test_a_damaged_record_is_told_by_its_path(home: Path, deliveries: Path) -> None:
    upload(home, "students.csv", "a\n1\n")
    delivery = seal(home, deliveries)
    (delivery.folder / "delivery.json").write_text("{")
    with pytest.raises(DeliveryError, match=r"delivery\.json"):
        inbox.sealed(deliveries, "springfield")


# ---------------------------------------------------------------- copies


def test_a_folder_is_copied_in_as_a_delivery(tmp_path: Path, deliveries: Path) -> None:
    source = tmp_path / "export"
    source.mkdir()
    (source / "students.csv").write_text("a\n1\n")
    (source / "SCHOOLS.CSV").write_text("b\n2\n")
    (source / "notes.txt").write_text("x")
    delivery = inbox.copy_in(source, deliveries, "springfield", NIGHT)
    (source / "students.csv").write_text("changed")
    assert [each.name for each in delivery.files] == ["SCHOOLS.CSV", "students.csv"]
    assert (delivery.folder / "students.csv").read_text() == "a\n1\n"
    assert delivery.origin == "folder"
    assert inbox.sealed(deliveries, "springfield") == [replace(delivery)]


def test_the_side_folders_of_a_home_are_sealed_with_it_and_others_are_not(home: Path, deliveries: Path) -> None:
    upload(home, "students.csv", "a\n1\n")
    for folder in ("customstudents", "oneroster", "mine", inbox.PREVIEW):
        (home / folder).mkdir()
        upload(home / folder, "students.csv", f"{folder}\n")
    delivery = seal(home, deliveries)
    assert [each.name for each in delivery.files] == ["students.csv", "customstudents/students.csv", "oneroster/students.csv"]
    assert (delivery.folder / "customstudents" / "students.csv").read_text() == "customstudents\n"
    assert inbox.sealed(deliveries, "springfield") == [delivery]
    again = seal(home, deliveries, previous=delivery)
    assert [each.resent for each in again.files] == [False, False, False]


def test_files_in_a_folder_of_their_own_are_sealed_only_where_none_lies_in_its_place(home: Path, deliveries: Path) -> None:
    for folder in ("export", "reports", inbox.PREVIEW, ".hidden"):
        (home / folder).mkdir()
        upload(home / folder, "students.csv", f"{folder}\n")
    assert inbox.state(home).files == ()
    astray = inbox.seal(home, deliveries, "springfield", inbox.state(home, astray=True), NIGHT, None)
    assert astray is not None
    assert [each.name for each in astray.files] == ["export/students.csv"]
    assert inbox.is_astray(astray)
    upload(home, "students.csv", "a\n1\n")
    seen = inbox.state(home, astray=True)
    assert [each.name for each in seen.files] == ["students.csv"]
    assert not inbox.is_astray(seal(home, deliveries, NIGHT + timedelta(days=1)))


def test_an_open_upload_in_a_folder_of_its_own_keeps_the_home_from_settling(home: Path) -> None:
    (home / "export").mkdir()
    upload(home / "export", "students.csv", "a\n1\n")
    assert inbox.settled(home, 0, 1e12, astray=True) is not None
    (home / "export" / f"{inbox.PART_PREFIX}0123").write_text("half")
    assert inbox.settled(home, 0, 1e12, astray=True) is None


def test_an_open_upload_in_a_side_folder_keeps_the_home_from_settling(home: Path) -> None:
    upload(home, "students.csv", "a\n1\n")
    (home / "customstudents").mkdir()
    (home / "customstudents" / f"{inbox.PART_PREFIX}0123").write_text("half")
    assert inbox.settled(home, 0, 1e12) is None


def test_a_link_in_place_of_a_side_folder_leads_nowhere(home: Path, tmp_path: Path) -> None:
    upload(home, "students.csv", "a\n1\n")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "students.csv").write_text("secret")
    (home / "customstudents").symlink_to(tmp_path / "elsewhere")
    assert [each.name for each in inbox.state(home).files] == ["students.csv"]


def test_a_preview_folder_is_sealed_by_itself_as_a_preview(home: Path, deliveries: Path) -> None:
    preview = home / inbox.PREVIEW
    preview.mkdir()
    upload(preview, "students.csv", "a\n1\n")
    assert inbox.state(home).files == ()
    delivery = inbox.seal(preview, deliveries, "springfield", inbox.state(preview), NIGHT, None, "preview")
    assert delivery is not None
    assert (delivery.origin, [each.name for each in delivery.files]) == ("preview", ["students.csv"])


def test_a_folder_with_side_folders_is_copied_in_whole(tmp_path: Path, deliveries: Path) -> None:
    source = tmp_path / "export"
    (source / "customstudents").mkdir(parents=True)
    (source / "students.csv").write_text("a\n1\n")
    (source / "customstudents" / "students.csv").write_text("b\n2\n")
    assert [each.name for each in inbox.copy_in(source, deliveries, "springfield", NIGHT).files] == ["customstudents/students.csv", "students.csv"]
    assert [each.name for each in inbox.as_delivery(source, NIGHT).files] == ["customstudents/students.csv", "students.csv"]


def test_a_folder_that_is_not_one_or_has_no_csv_is_refused(tmp_path: Path, deliveries: Path) -> None:
    for folder in (tmp_path / "nothing", tmp_path):
        with pytest.raises(ConfigError, match=r"^FOLDER: "):
            inbox.copy_in(folder, deliveries, "springfield", NIGHT)
    assert not deliveries.exists()


def test_a_district_without_deliveries_has_none(deliveries: Path) -> None:
    assert inbox.sealed(deliveries, "springfield") == []
    assert not deliveries.exists()
