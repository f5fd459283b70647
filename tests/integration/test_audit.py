"""What is on record of every session, and of those who were not let in."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import asyncssh
import pytest
import structlog
from structlog.testing import capture_logs

from sftp_ingest.config import Config
from sftp_ingest.intake import audit, hostkeys, upload
from tests.integration.port import BIG, KEY, PASSWORD, by_password, connecting, listening, until, with_client


def today() -> datetime:
    return datetime.now(UTC)


def test_a_session_is_on_record_with_its_files_and_how_it_ended(crewed: Config, home: Path) -> None:
    async def go() -> None:
        async with listening(crewed) as listener:
            async with await connecting(listener) as connection, connection.start_sftp_client() as sftp:
                for name in ("students.csv", "Anna Maria.csv"):
                    async with sftp.open(name, "wb") as file:
                        await file.write(BIG)
                await sftp.remove("students.csv")
            cut = await connecting(listener, **by_password(PASSWORD))
            cut.abort()
            await until(lambda: not listener.guests)
            stays = await connecting(listener)
        await stays.wait_closed()

    asyncio.run(go())
    first, second, third = audit.sessions(crewed.sessions, "springfield", today().date())
    sha256 = hashlib.sha256(BIG).hexdigest()
    assert [(each["file"], each["bytes"], each["sha256"]) for each in first["files"]] == [(name, len(BIG), sha256) for name in ("students.csv", "(odd name)")]
    assert (first["peer"], first["cipher"], first["proof"]) == ("127.0.0.1", "aes256-gcm@openssh.com", KEY.get_fingerprint())
    assert "AsyncSSH" in first["client_version"]
    assert (first["ending"], first["received"], first["received_bytes"]) == ("closed", 2, 2 * len(BIG))
    assert (second["proof"], second["ending"], second["files"]) == ("password", "lost", [])
    assert third["ending"] == "stopped"
    assert (crewed.sessions / "springfield").stat().st_mode & 0o777 == 0o700


def test_the_files_of_two_districts_are_on_record_in_their_order_each_with_its_checksum(config: Config, tmp_path: Path) -> None:
    contents = {f"{number}.csv": bytes([number]) * size for number, size in enumerate((10, audit.TURN_BYTES, 0, audit.TURN_BYTES + 1, 3 << 20, 20))}
    record = audit.Audit(config)
    with capture_logs() as told:
        for district in ("springfield", "shelbyville"):
            record.tell(district, "opened", "1")
            for name, content in contents.items():
                (tmp_path / name).write_bytes(content)
                record.received(district, district, "1", name, len(content), os.open(tmp_path / name, os.O_RDONLY))
            record.closed(district, district, "192.0.2.1", "1", ending="closed", received=len(contents))
        record.close()
    for district in ("springfield", "shelbyville"):
        assert [each["event"] for each in told if each["district"] == district] == [*["file_received"] * len(contents), "session_closed"]
        [day] = (config.sessions / district).glob("*.jsonl")
        assert [json.loads(line)["event"] for line in day.read_text().splitlines()] == ["opened", *["file"] * len(contents), "closed"]
        [one] = audit.sessions(config.sessions, district, today().date())
        assert [(each["file"], each["bytes"], each["sha256"]) for each in one["files"]] == [
            (name, len(content), hashlib.sha256(content).hexdigest()) for name, content in contents.items()
        ]


def hollow(path: Path, size: int) -> int:
    """A file of so many bytes that takes no room, open to be read."""
    path.touch()
    os.truncate(path, size)
    return os.open(path, os.O_RDONLY)


def test_a_district_that_sends_more_than_can_be_read_is_on_record_without_checksums_and_keeps_no_other_waiting(config: Config, tmp_path: Path) -> None:
    record = audit.Audit(config)
    with capture_logs() as told:
        for name in ("a.csv", "b.csv", "c.csv"):
            record.received("springfield", "springfield", "1", name, 2 << 30, hollow(tmp_path / name, 2 << 30))
        record.received("shelbyville", "shelbyville", "2", "students.csv", 5, hollow(tmp_path / "students.csv", 5))
        record.close()
    files = {district: audit.sessions(config.sessions, district, today().date())[0]["files"] for district in ("springfield", "shelbyville")}
    assert [each["sha256"] for each in files["shelbyville"]] == [hashlib.sha256(bytes(5)).hexdigest()]
    assert [(each["file"], each["bytes"]) for each in files["springfield"]] == [(name, 2 << 30) for name in ("a.csv", "b.csv", "c.csv")]
    assert [each["sha256"] for each in files["springfield"]][1:] == [None, None]
    left_out = [each["file"] for each in told if each["event"] == "checksum_left_out" and each["fault"].startswith("Too many")]
    assert left_out == ["b.csv", "c.csv"]
    assert [each["district"] for each in told if each["event"] == "file_received"] == ["shelbyville", *["springfield"] * 3]


def test_so_many_files_wait_to_be_read_and_what_was_read_waits_no_more(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "WAITING_FILES", 2)
    record = audit.Audit(config)

    def send(*names: str) -> None:
        for name in names:
            record.received("springfield", "springfield", "1", name, 5, hollow(tmp_path / name, 5))

    async def go() -> None:
        send("a.csv", "b.csv", "c.csv")
        await until(lambda: len(audit.sessions(config.sessions, "springfield", today().date())[:1]) == 1)
        send("d.csv")
        await asyncio.to_thread(record.close)

    asyncio.run(go())
    [one] = audit.sessions(config.sessions, "springfield", today().date())
    assert [(each["file"], bool(each["sha256"])) for each in one["files"]] == [("a.csv", True), ("b.csv", True), ("c.csv", False), ("d.csv", True)]


def test_the_end_waits_for_no_file_that_takes_long(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "CLOSING_SECONDS", 0.1)
    record = audit.Audit(config)
    with capture_logs() as told:
        record.received("springfield", "springfield", "1", "students.csv", 8 << 40, hollow(tmp_path / "students.csv", 8 << 40))
        record.closed("springfield", "springfield", "192.0.2.1", "1", ending="stopped", received=1)
        record.close()
    assert [each["event"] for each in told] == ["checksum_left_out", "file_received", "session_closed"]
    [one] = audit.sessions(config.sessions, "springfield", today().date())
    assert [(each["bytes"], each["sha256"]) for each in one["files"]] == [(8 << 40, None)]
    assert one["ending"] == "stopped"


def test_a_file_that_ends_too_soon_is_on_record_without_a_checksum(config: Config, tmp_path: Path) -> None:
    record = audit.Audit(config)
    with capture_logs() as told:
        record.received("springfield", "springfield", "1", "students.csv", 6, hollow(tmp_path / "students.csv", 5))
        record.close()
    assert [(each["event"], each.get("fault")) for each in told] == [("checksum_left_out", "The file ends too soon"), ("file_received", None)]
    [one] = audit.sessions(config.sessions, "springfield", today().date())
    assert [each["sha256"] for each in one["files"]] == [None]


SHORT = upload.SHORT_BYTES

Block = tuple[int, bytes]
"""Where it is written, and what; without anything to write, the file ends there."""


@pytest.mark.parametrize(
    ("blocks", "content"),
    [
        ([], b""),
        ([(0, b"one"), (3, b"two"), (6, b"three")], b"onetwothree"),
        ([(3, b"two"), (0, b"one")], b"onetwo"),
        ([(0, b"onetwo"), (0, b"ONE")], b"ONEtwo"),
        ([(0, b"onetwo"), (3, b"three")], b"onethree"),
        ([(0, b"onetwo"), (3, b"")], b"one"),
        ([(0, b"onetwo"), (6, b"")], b"onetwo"),
        ([(0, b"onetwo"), (3, b""), (3, b"three")], b"onethree"),
        ([(0, BIG[:SHORT])], BIG[:SHORT]),
        ([(0, BIG[: SHORT + 1])], BIG[: SHORT + 1]),
        ([(0, BIG[:SHORT]), (SHORT, BIG[SHORT : SHORT + 1])], BIG[: SHORT + 1]),
    ],
    ids=["nothing", "in order", "backwards", "anew", "over the end", "cut", "cut at its end", "cut, and on", "short", "too long", "too long by its last byte"],
)
def test_the_checksum_on_record_is_that_of_what_stands_there_however_it_was_written(config: Config, home: Path, blocks: list[Block], content: bytes) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        async with sftp.open("students.csv", "wb") as file:
            for at, block in blocks:
                await (file.write(block, at) if block else file.truncate(at))

    with_client(config, act)
    assert (home / "students.csv").read_bytes() == content
    [session] = audit.sessions(config.sessions, "springfield", today().date())
    assert [(each["bytes"], each["sha256"]) for each in session["files"]] == [(len(content), hashlib.sha256(content).hexdigest())]


@pytest.mark.parametrize("mode", ["ab", "r+b"])
def test_the_checksum_on_record_is_that_of_the_whole_file_where_a_client_goes_on_with_it(config: Config, home: Path, mode: str) -> None:
    home.mkdir(parents=True)
    (home / "students.csv").write_bytes(b"one")

    async def act(sftp: asyncssh.SFTPClient) -> None:
        async with sftp.open("students.csv", mode) as file:
            await file.write(b"two", 3)

    with_client(config, act)
    [session] = audit.sessions(config.sessions, "springfield", today().date())
    assert [each["sha256"] for each in session["files"]] == [hashlib.sha256(b"onetwo").hexdigest()]


def test_who_closed_his_channel_and_is_gone_without_a_goodbye_has_left_in_order(crewed: Config) -> None:
    async def go() -> None:
        async with listening(crewed) as listener:
            connection = await connecting(listener)
            sftp = await connection.start_sftp_client()
            sftp.exit()
            await sftp.wait_closed()
            connection.abort()
            await until(lambda: not listener.guests)

    asyncio.run(go())
    assert [each["ending"] for each in audit.sessions(crewed.sessions, "springfield", today().date())] == ["closed"]


def test_the_algorithm_of_the_host_key_is_on_record_also_where_one_key_knows_several(config: Config) -> None:
    hostkeys.make_host_key(config.host_keys[1])
    algorithms = ["rsa-sha2-256", "ssh-ed25519", "rsa-sha2-512"]

    async def go() -> None:
        async with listening(config) as listener:
            connections = [await connecting(listener, client_keys=[KEY], server_host_key_algs=[each]) for each in algorithms]
            for each in connections:
                each.close()

    asyncio.run(go())
    assert [each["host_key"] for each in audit.sessions(config.sessions, "springfield", today().date())] == algorithms


def test_a_silent_session_is_on_record_as_idle(config: Config) -> None:
    async def go() -> None:
        async with listening(replace(config, server=replace(config.server, idle_seconds=0.1))) as listener:
            connection = await connecting(listener)
            await connection.wait_closed()
            await until(lambda: not listener.guests)

    asyncio.run(go())
    assert [each["ending"] for each in audit.sessions(config.sessions, "springfield", today().date())] == ["idle"]


def test_who_is_not_let_in_is_counted_by_reason_also_across_a_restart(crewed: Config) -> None:
    async def go() -> None:
        async with listening(replace(crewed, server=replace(crewed.server, ban_score=3))) as listener:
            for _ in range(3):
                with pytest.raises(asyncssh.PermissionDenied):
                    await connecting(listener, **by_password("wrong"))
            with pytest.raises((asyncssh.Error, OSError)):
                await connecting(listener)

    for times in (1, 2):
        asyncio.run(go())
        assert audit.refused(crewed.sessions, today().date()) == {"login": 3 * times, "ban": times, "banned": times}


def test_old_days_are_forgotten_and_a_record_that_cannot_be_written_keeps_nobody_out(config: Config, home: Path) -> None:
    for folder in ("springfield", audit.REFUSED):
        (config.sessions / folder).mkdir(parents=True)
        (config.sessions / folder / "2020-01-31.jsonl").write_text("")
    (config.sessions / "springfield" / f"{today():%Y-%m-%d}.jsonl").mkdir()

    async def go() -> None:
        async with (
            listening(config) as listener,
            await connecting(listener) as connection,
            connection.start_sftp_client() as sftp,
            sftp.open("students.csv", "wb") as file,
        ):
            await file.write(BIG)

    with structlog.testing.capture_logs() as logs:
        asyncio.run(go())
    failed = [each for each in logs if each["log_level"] == "error"]
    assert ({each["event"] for each in failed}, sum(each["lines"] for each in failed)) == ({"audit_failed"}, 3)
    assert (home / "students.csv").read_bytes() == BIG
    assert not list(config.sessions.glob("*/2020*"))
