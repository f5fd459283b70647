"""The doorbell, rung by real files and by a real upload."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import asyncssh
import pytest

from sftp_ingest.config import Config, Server
from sftp_ingest.intake import hostkeys, inbox, passwords, server, watcher
from sftp_ingest.intake.watcher import Doorbell
from sftp_ingest.model import Account
from tests.conftest import PATIENCE_SECONDS
from tests.integration.conftest import Digger
from tests.integration.port import LOGGING


class Rings(list[str]):
    """What has rung so far."""

    def wait(self) -> set[str]:
        """The districts that rang, once one has and it is quiet again."""
        until = time.monotonic() + PATIENCE_SECONDS
        while not self and time.monotonic() < until:
            time.sleep(0.01)
        return self.heard()

    def heard(self) -> set[str]:
        """The districts that rang until it was quiet for a while; what comes later is a new story."""
        heard: set[str] = set()
        quiet_since = time.monotonic()
        while time.monotonic() < quiet_since + 1.0:
            if self:
                heard.add(self.pop())
                quiet_since = time.monotonic()
            else:
                time.sleep(0.01)
        return heard


@pytest.fixture
def homes(tmp_path: Path) -> Path:
    for name in ("springfield", "shelbyville"):
        (tmp_path / "homes" / name / "reports").mkdir(parents=True)
    return tmp_path / "homes"


@pytest.fixture
def rings(homes: Path) -> Iterator[Rings]:
    rung = Rings()
    doorbell = Doorbell(homes, rung.append)
    doorbell.start()
    yield rung
    doorbell.stop()


@pytest.mark.parametrize(
    "change",
    [
        lambda home: (home / "students.csv").write_text("new"),
        lambda home: (home / "oneroster" / "students.csv").write_text("new"),
        lambda home: (home / "preview" / "customstudents" / "a.csv").write_text("new"),
        lambda home: (home / "teachers.csv").unlink(),
        lambda home: (home / "teachers.csv").rename(home / "students.csv"),
        lambda home: (home / "2026").mkdir(),
    ],
    ids=["written", "written in a side folder", "written in a side folder of the previews", "removed", "renamed", "folder made"],
)
def test_a_change_in_a_home_rings_for_its_district(homes: Path, change: Callable[[Path], object]) -> None:
    home = homes / "springfield"
    (home / "oneroster").mkdir()
    (home / "preview" / "customstudents").mkdir(parents=True)
    (home / "teachers.csv").write_text("x")
    rings = Rings()
    doorbell = Doorbell(homes, rings.append)
    doorbell.start()
    change(home)
    assert rings.wait() == {"springfield"}
    doorbell.stop()


def test_a_home_made_later_rings_too(homes: Path, rings: Rings) -> None:
    (homes / "ogdenville").mkdir()
    assert rings.wait() == {"ogdenville"}
    (homes / "ogdenville" / "students.csv").write_text("new")
    assert rings.wait() == {"ogdenville"}


def test_a_side_folder_that_comes_and_goes_rings_under_its_own_name_only(homes: Path, rings: Rings) -> None:
    home = homes / "springfield"
    (home / "old").mkdir()
    for place in (home, home / "preview"):
        place.mkdir(exist_ok=True)
        (place / "oneroster").mkdir()
        assert rings.wait() == {"springfield"}
        (place / "oneroster" / "users.csv").write_text("new")
        assert rings.wait() == {"springfield"}
        (place / "oneroster").rename(home / "old" / place.name)
        assert rings.wait() == {"springfield"}
        (home / "old" / place.name / "users.csv").write_text("newer")
        assert rings.heard() == set()
        (home / "old" / place.name).rename(place / "oneroster11")
        assert rings.wait() == {"springfield"}
        (place / "oneroster11" / "users.csv").write_text("newest")
        assert rings.wait() == {"springfield"}


def test_a_home_that_gets_another_name_rings_under_that(homes: Path, rings: Rings) -> None:
    (homes / "springfield" / "oneroster").mkdir()
    (homes / "springfield").rename(homes / "ogdenville")
    assert rings.wait() == {"springfield", "ogdenville"}
    (homes / "ogdenville" / "oneroster" / "users.csv").write_text("new")
    assert rings.wait() == {"ogdenville"}


def test_folders_however_deep_and_however_moved_leave_it_alive_and_unheard_in_the_log(homes: Path, dig: Digger, capfd: pytest.CaptureFixture[str]) -> None:
    home = homes / "springfield"
    with dig(home, "a", 1_200):
        pass
    rings = Rings()
    doorbell = Doorbell(homes, rings.append)
    doorbell.start()
    names = ["Jane Miller 2010-05-03", "oneroster", "preview"]
    paths = [home / one for one in names] + [home / one / other for one in names for other in names]
    chance = random.Random(1)
    for _ in range(3_000):
        with suppress(OSError):
            chance.choice([Path.mkdir, Path.rmdir, lambda path: path.rename(chance.choice(paths))])(chance.choice(paths))
    assert rings.wait() == {"springfield"}
    (homes / "shelbyville" / "students.csv").write_text("new")
    assert rings.wait() == {"shelbyville"}
    assert doorbell.alive
    doorbell.stop()
    assert capfd.readouterr() == ("", "")


def test_its_process_ends_with_one_word_once_a_thread_of_it_has_died(homes: Path) -> None:
    source = """
import sys
from sftp_ingest.intake import ears
def fail(ears, event):
    raise KeyError("Jane Miller 2010-05-03")
ears.Ears.on_event = fail
ears.main()
"""
    with subprocess.Popen([sys.executable, "-c", source, str(homes)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as ears:
        assert ears.stdout is not None
        assert json.loads(ears.stdout.readline()) == []
        (homes / "ogdenville").mkdir()
        assert ears.wait(PATIENCE_SECONDS) == 1
        assert ears.stderr is not None
        assert ears.stderr.read() == "doorbell: KeyError\n"


def test_it_ends_where_the_folder_of_homes_is_gone(homes: Path) -> None:
    doorbell = Doorbell(homes, lambda _: None)
    doorbell.start()
    shutil.rmtree(homes)
    until = time.monotonic() + PATIENCE_SECONDS
    while doorbell.alive and time.monotonic() < until:
        time.sleep(0.01)
    assert not doorbell.alive
    doorbell.stop()


def test_reading_listing_and_sealing_do_not_ring(homes: Path, rings: Rings) -> None:
    home = homes / "springfield"
    (home / "students.csv").write_text("new")
    assert rings.wait() == {"springfield"}
    (home / "students.csv").read_text()
    list(home.iterdir())
    state = inbox.settled(home, 0, time.time() + 60)
    assert state is not None
    assert inbox.seal(home, homes.parent / "deliveries", "springfield", state, datetime.now(UTC), None)
    assert rings.heard() == set()


def test_reports_do_not_ring(homes: Path, rings: Rings) -> None:
    report = homes / "springfield" / "reports" / "latest.html"
    report.with_suffix(".tmp").write_text("all is well")
    report.with_suffix(".tmp").replace(report)
    report.unlink()
    assert rings.heard() == set()


def test_an_upload_rings_and_a_download_does_not(homes: Path, tmp_path: Path, rings: Rings) -> None:
    config = Config(tmp_path / "sftp-ingest.toml", tmp_path, "", server=Server(host="127.0.0.1", port=0))
    hostkeys.make_host_key(config.host_keys[0])
    account = Account("springfield", "springfield", datetime.now(UTC), passwords.hash_password("secret"))

    async def go() -> None:
        listener = await server.listen(config, {"springfield": account}.get, lambda _: None, LOGGING)
        how = {"username": "springfield", "password": "secret", "client_keys": None, "known_hosts": None, "config": None}
        async with asyncssh.connect("127.0.0.1", listener.port, **how) as connection, connection.start_sftp_client() as sftp:
            async with sftp.open("students.csv", "wb") as file:
                await file.write(b"new")
            assert await asyncio.to_thread(rings.wait) == {"springfield"}
            await sftp.listdir("/")
            async with sftp.open("students.csv", "rb") as file:
                await file.read()
            assert await asyncio.to_thread(rings.heard) == set()
        await listener.drain(0)

    asyncio.run(go())


def test_it_is_alive_between_start_and_stop(tmp_path: Path) -> None:
    doorbell = Doorbell(tmp_path / "homes", lambda _: None)
    assert not doorbell.alive
    doorbell.start()
    assert doorbell.alive
    doorbell.stop()
    assert not doorbell.alive


def test_it_is_not_alive_once_its_process_has_died(tmp_path: Path) -> None:
    doorbell = Doorbell(tmp_path / "homes", lambda _: None)
    doorbell.start()
    assert doorbell._ears is not None
    doorbell._ears.kill()
    until = time.monotonic() + PATIENCE_SECONDS
    while doorbell.alive and time.monotonic() < until:
        time.sleep(0.01)
    assert not doorbell.alive
    doorbell.stop()


def test_a_kernel_that_gives_no_watch_is_told_of_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "EARS", (sys.executable, "-c", f"raise SystemExit({errno.ENOSPC})"))
    doorbell = Doorbell(tmp_path / "homes", lambda _: None)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        doorbell.start()
    assert not doorbell.alive
    doorbell.stop()


def test_its_process_does_not_outlive_a_daemon_that_is_killed(tmp_path: Path) -> None:
    source = """
import sys, time
from pathlib import Path
from sftp_ingest.intake.watcher import Doorbell
doorbell = Doorbell(Path(sys.argv[1]), print)
doorbell.start()
print(doorbell._ears.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", source, str(tmp_path / "homes")], stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        ears = Path("/proc") / daemon.stdout.readline().decode().strip() / "cmdline"
        assert b"ears" in ears.read_bytes()
        daemon.kill()
    until = time.monotonic() + PATIENCE_SECONDS
    while listens(ears) and time.monotonic() < until:
        time.sleep(0.01)
    assert not listens(ears)


def listens(cmdline: Path) -> bool:
    try:
        return b"ears" in cmdline.read_bytes()  # of one that has ended and nobody waits for, it is empty
    except FileNotFoundError:
        return False


def test_a_hundred_files_at_once_ring_a_few_times_only(homes: Path, rings: Rings) -> None:
    for number in range(100):
        (homes / "springfield" / f"{number}.csv").write_text("new")
    time.sleep(1)
    assert 1 <= rings.count("springfield") < 50


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_it_is_not_alive_once_a_ring_has_failed(tmp_path: Path) -> None:
    def fail(district: str) -> None:
        raise RuntimeError(district)

    doorbell = Doorbell(tmp_path / "homes", fail)
    doorbell.start()
    (tmp_path / "homes" / "springfield").mkdir()
    until = time.monotonic() + PATIENCE_SECONDS
    while doorbell.alive and time.monotonic() < until:
        time.sleep(0.01)
    assert not doorbell.alive
    doorbell.stop()
