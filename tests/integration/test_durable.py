"""What a client was told is there, when the machine goes down or the disk fails a moment later: on real disks, one of which loses its power."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import asyncssh
import pytest
import structlog

from sftp_ingest import boot
from sftp_ingest.config import Config
from sftp_ingest.intake import durable, inbox, leftovers
from tests.integration.disks import a_disk_to_cut
from tests.integration.port import BIG, connecting, cut_off, files, listening, needs_openssh, private_key, put_sealed, run_sftp, until, with_client

NIGHT = datetime(2026, 9, 1, 2, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _marks_are_kept(tmp_path: Path) -> None:
    with (tmp_path / "probe").open("wb") as file:
        if not durable.mark(file.fileno()):
            pytest.skip("this file system keeps no marks")


def mark_of(path: Path) -> bytes | None:
    return os.getxattr(path, durable.MARK) if durable.MARK in os.listxattr(path) else None


def marked(path: Path, boot_id: str = "") -> Path:
    """A file of an upload that was answered, and has not come to the disk as far as anybody knows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(BIG)
    os.setxattr(path, durable.MARK, (boot_id or boot.this()).encode())
    return path


async def put(sftp: asyncssh.SFTPClient, name: str, content: bytes) -> None:
    async with sftp.open(name, "wb") as file:
        await file.write(content)


def test_a_file_has_its_mark_before_its_name_and_loses_it_on_the_disk(crewed: Config, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "BREATH_SECONDS", 0.5)

    async def act(sftp: asyncssh.SFTPClient) -> None:
        await put(sftp, "students.csv", BIG)
        assert crewed.server.acceptors > 1 or mark_of(home / "students.csv") == boot.this().encode()
        await until(lambda: mark_of(home / "students.csv") is None)
        assert (home / "students.csv").read_bytes() == BIG

    with_client(crewed, act)


def test_what_was_closed_is_on_the_disk_when_the_server_has_ended(crewed: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        for number in range(40):
            await put(sftp, f"{number}.csv", b"short")

    with_client(crewed, act)
    assert [mark_of(path) for path in home.glob("*.csv")] == [None] * 40


def test_when_too_many_wait_for_the_disk_the_next_client_waits_too(config: Config, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "BREATH_SECONDS", 60)
    monkeypatch.setattr(durable, "MOST_WAITING", 3)

    async def act(sftp: asyncssh.SFTPClient) -> None:
        for number in range(6):
            await put(sftp, f"{number}.csv", b"short")
        assert [mark_of(home / f"{number}.csv") is None for number in range(6)] == [False] * 3 + [True] * 3

    with_client(config, act)


def name_of(descriptor: int) -> str:
    return Path(f"/proc/self/fd/{descriptor}").readlink().name


def fsyncs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is waited for from now on, by its name."""
    waited: list[str] = []
    real = os.fsync

    def noted(descriptor: int) -> None:
        waited.append(name_of(descriptor))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    return waited


def test_who_asks_for_it_waits_for_the_file_and_for_its_name(config: Config, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "BREATH_SECONDS", 60)

    async def act(sftp: asyncssh.SFTPClient) -> None:
        async with sftp.open("students.csv", "wb") as file:
            await file.write(BIG)
            waited = fsyncs(monkeypatch)
            await file.fsync()
        assert mark_of(home / "students.csv") is None
        assert len(waited) == 3
        assert waited[-1] == "springfield"

    with_client(config, act)


@needs_openssh
def test_openssh_asks_for_it_with_an_option(config: Config, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "students.csv").write_bytes(BIG)
    monkeypatch.setattr(durable, "BREATH_SECONDS", 2)

    async def go() -> None:
        async with listening(config) as listener:
            batch = f"put -f {tmp_path}/students.csv students.csv\nput {tmp_path}/students.csv later.csv\n"
            done = await asyncio.to_thread(run_sftp, listener.port, private_key(tmp_path), batch)
            assert done.returncode == 0, done.stderr
            assert (mark_of(home / "students.csv"), mark_of(home / "later.csv")) == (None, boot.this().encode())

    asyncio.run(go())


def test_where_no_marks_are_kept_every_client_waits_for_the_disk(config: Config, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", unknown)
    waited = fsyncs(monkeypatch)

    async def act(sftp: asyncssh.SFTPClient) -> None:
        await put(sftp, "students.csv", BIG)
        assert waited[-1] == "springfield"
        assert len(waited) == 2

    with_client(config, act)


def test_a_file_that_the_disk_refuses_afterwards_is_taken_back_and_told(config: Config, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def broken(descriptor: int) -> None:
        if threading.current_thread().name.startswith("flusher") and name_of(descriptor) == "students.csv":
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", broken)

    async def act(sftp: asyncssh.SFTPClient) -> None:
        with structlog.testing.capture_logs() as logs:
            await put(sftp, "students.csv", BIG)
            await put(sftp, "sections.csv", BIG)
            await until(lambda: files(home) == ["sections.csv"] and mark_of(home / "sections.csv") is None)
        told = [each for each in logs if each["log_level"] == "error"]
        assert [(each["event"], each["district"], each["file"], each["fault"]) for each in told] == [
            ("upload_failed", "springfield", "students.csv", "Input/output error")
        ]
        assert cut_off(home) == {"students.csv": BIG}

    with_client(config, act)


def test_a_file_from_before_the_machine_went_down_is_taken_back_and_can_be_gone_on_with(config: Config, home: Path) -> None:
    lost = marked(home / "customsections" / "sections.csv", "another start")
    with lost.open("r+b") as file:
        os.truncate(file.fileno(), len(BIG) - 4096)  # the end did not come to the disk
    marked(home / "students.csv", "another start")
    os.truncate(home / "students.csv", 0)
    marked(home / "teachers.csv")
    (home / "schools.csv").write_bytes(b"put there by hand")
    with structlog.testing.capture_logs() as logs:
        leftovers.take_back_lost(config.homes)
    told = {(each["event"], each["district"], each["file"], each["bytes"]) for each in logs}
    assert told == {("upload_lost", "springfield", "sections.csv", len(BIG) - 4096), ("upload_lost", "springfield", "students.csv", 0)}
    assert files(home) == ["schools.csv", "teachers.csv"]
    assert mark_of(home / "teachers.csv") is None

    async def act(sftp: asyncssh.SFTPClient) -> None:
        assert (await sftp.stat("customsections/sections.csv")).size == len(BIG) - 4096
        async with sftp.open("customsections/sections.csv", "ab") as again:
            await again.write(BIG[-4096:])

    with_client(config, act)
    assert lost.read_bytes() == BIG
    assert mark_of(lost) is None


def test_a_lost_file_that_a_delivery_has_is_not_cut_there(config: Config, home: Path) -> None:
    home.mkdir(parents=True)
    link = put_sealed(home, "students.csv", BIG + bytes(4096))
    os.setxattr(link, durable.MARK, b"another start")
    leftovers.take_back_lost(config.homes)
    assert files(home) == []
    assert link.read_bytes() == BIG + bytes(4096)


def test_no_delivery_is_sealed_with_a_lost_file(config: Config, home: Path) -> None:
    marked(home / "students.csv", "another start")
    (home / "schools.csv").write_bytes(b"whole")
    with pytest.raises(OSError, match="on its way to the disk when the machine went down"):
        inbox.seal(home, config.deliveries, "springfield", inbox.state(home), NIGHT, None)
    assert [path.name for path in (config.deliveries / "springfield").iterdir()] == [".lock"]
    assert files(home) == ["schools.csv", "students.csv"]


def test_what_is_sealed_is_on_the_disk(config: Config, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marked(home / "students.csv")
    (home / "schools.csv").write_bytes(b"put there by hand")
    waited = fsyncs(monkeypatch)
    assert inbox.seal(home, config.deliveries, "springfield", inbox.state(home), NIGHT, None)
    assert {"students.csv", "schools.csv"} < set(waited)
    assert mark_of(home / "students.csv") is None


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.05, 0.1, 0.3, 1.0])
def test_when_the_power_is_cut_no_half_file_has_its_name(config: Config, home: Path, tmp_path: Path, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = {f"{number}.csv": os.urandom(1 + (number * 7919) % 70_000) for number in range(60)}
    told: list[str] = []

    async def until_the_power_is_cut() -> None:
        async with listening(config) as listener, await connecting(listener) as connection, connection.start_sftp_client() as sftp:
            for name in [*sent][:20]:
                await put(sftp, name, sent[name])
            await until(lambda: not any(mark_of(home / name) for name in [*sent][:20]))
            told.extend([*sent][:20])
            sending = asyncio.create_task(send(sftp))
            await asyncio.sleep(seconds)
            with (config.homes / "of another district").open("wb") as file:
                os.fsync(file.fileno())  # the journal has the names of all files then, and their bytes are still to come
            power.enter_context(cut())
            await asyncio.gather(sending, return_exceptions=True)

    async def send(sftp: asyncssh.SFTPClient) -> None:
        for name in [*sent][20:]:
            await put(sftp, name, sent[name])

    with a_disk_to_cut(config.homes, tmp_path / "disk") as cut:
        power = ExitStack()
        with power:
            asyncio.run(until_the_power_is_cut())
        monkeypatch.setattr(boot, "this", lambda: "the next start")

        leftovers.take_back_lost(config.homes)
        leftovers.tidy_parts(config.homes)
        found = {name: (home / name).read_bytes() for name in files(home)}
        assert set(told) <= set(found)
        assert found == {name: sent[name] for name in found}
        assert all(sent[name].startswith(begin) for name, begin in cut_off(home).items())
