"""Several processes that serve at one port: together they keep the bounds that one would, and who dies takes nobody with him."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import asyncssh
import pytest
import structlog

from sftp_ingest.config import Config
from sftp_ingest.errors import ConfigError
from sftp_ingest.intake import apart, audit, crew, durable, hostkeys, server
from sftp_ingest.intake.inbox import PART_PREFIX
from sftp_ingest.intake.room import GAP_BYTES
from tests.integration.port import (
    BIG,
    LOGGING,
    PASSWORD,
    PATIENCE_SECONDS,
    SERVING,
    Districts,
    by_password,
    connecting,
    cut_off,
    files,
    listening,
    parts,
    until,
)


@pytest.fixture
def config(config: Config) -> Config:
    return having(config, acceptors=2)


def having(config: Config, **settings: object) -> Config:
    return replace(config, server=replace(config.server, **settings))


def acceptors(of: int = 0) -> list[int]:
    """The processes that this one has serve, or another."""
    children = Path(f"/proc/{of or os.getpid()}/task").glob("*/children")
    found = [int(each) for path in children for each in path.read_text().split()]
    return [each for each in found if b"sftp_ingest.intake.apart" in command(each)]


def command(process: int) -> bytes:
    """What it was started with; nothing once it is gone."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def server_of(part: Path) -> int:
    """The process that has the upload open."""
    return int(part.name.removeprefix(PART_PREFIX)[:8], 16)


async def uploading(listener: server.Listener, name: str, data: bytes = BIG) -> tuple[asyncssh.SSHClientConnection, asyncssh.SFTPClientFile]:
    connection = await connecting(listener)
    file = await (await connection.start_sftp_client()).open(name, "wb")
    await file.write(data)
    return connection, file


def test_guests_are_spread_over_the_acceptors_and_each_speaks_for_itself_in_the_log(config: Config, home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    districts = Districts()

    async def go() -> None:
        async with listening(config, districts) as listener:
            opened = [await uploading(listener, f"{number}.csv") for number in range(6)]
            assert Counter(map(server_of, parts(home))) == dict.fromkeys(acceptors(), 3)
            for connection, file in opened:
                await file.close()
                connection.close()
            await until(lambda: not listener.guests)
        assert acceptors() == []

    asyncio.run(go())
    assert files(home) == [f"{number}.csv" for number in range(6)]
    told = Counter(line.partition('"event": "')[2].partition('"')[0] for line in capfd.readouterr().err.splitlines())
    assert told == {"session_opened": 6, "file_received": 6, "session_closed": 6}
    assert {each["ending"] for each in audit.sessions(config.sessions, "springfield", datetime.now(UTC).date())} == {"closed"}
    assert set(districts.activity) == {"springfield"}


def test_an_acceptor_that_is_killed_takes_only_its_own_sessions_with_it(config: Config, home: Path) -> None:
    async def go() -> None:
        async with listening(having(config, sessions_per_district=2, home_bytes=3 * len(BIG))) as listener:
            opened = dict(zip(("a.csv", "b.csv"), [await uploading(listener, name) for name in ("a.csv", "b.csv")], strict=True))
            serving = {part.name[-5:]: server_of(part) for part in parts(home)}
            with structlog.testing.capture_logs() as logs:
                os.kill(serving["a.csv"], signal.SIGKILL)
                await opened["a.csv"][0].wait_closed()
                await until(lambda: len(acceptors()) == 2 and serving["a.csv"] not in acceptors() and cut_off(home))
            died = [each for each in logs if each["event"] == "acceptor_died"]
            assert [(each["pid"], each["code"], each["sessions"]) for each in died] == [(serving["a.csv"], -signal.SIGKILL, 1)]
            assert cut_off(home) == {"a.csv": BIG}
            assert [server_of(part) for part in parts(home)] == [serving["b.csv"]]
            assert [each.peer for each in listener.guests.values()] == ["127.0.0.1"]
            async with await connecting(listener) as connection, connection.start_sftp_client() as sftp:
                async with sftp.open("a.csv", "r+b") as file:
                    await file.write(BIG, (await sftp.stat("a.csv")).size)
                await opened["b.csv"][1].close()
                assert (home / "a.csv").read_bytes() == BIG + BIG
                assert (home / "b.csv").read_bytes() == BIG

    asyncio.run(go())


def test_files_that_a_killed_acceptor_had_answered_come_to_the_disk_all_the_same(config: Config, home: Path) -> None:
    def is_marked() -> bool:
        return durable.MARK in os.listxattr(home / "whole.csv")

    async def go() -> None:
        async with listening(config) as listener:
            connection, _ = await uploading(listener, "open.csv")
            serving, client = server_of(parts(home)[0]), await connection.start_sftp_client()
            async with client.open("whole.csv", "wb") as file:
                await file.write(BIG)
            os.kill(serving, signal.SIGKILL)
            await until(lambda: cut_off(home) and not is_marked())
        assert (home / "whole.csv").read_bytes() == BIG

    asyncio.run(go())


def test_what_a_killed_acceptor_had_counted_in_a_home_is_room_again(config: Config, home: Path) -> None:
    async def go() -> None:
        async with listening(having(config, home_bytes=GAP_BYTES)) as listener:
            connection = await connecting(listener)
            far = await (await connection.start_sftp_client()).open("far.csv", "wb")
            await far.write(b"x", GAP_BYTES - 1)  # the whole home, and nothing to go on with
            os.kill(server_of(parts(home)[0]), signal.SIGKILL)
            await connection.wait_closed()
            await until(lambda: not parts(home))
            await until(lambda: len(listener.acceptor.members) == 2)
            async with await connecting(listener) as again, again.start_sftp_client() as sftp, sftp.open("near.csv", "wb") as file:
                await file.write(BIG)
        assert (home / "near.csv").read_bytes() == BIG

    asyncio.run(go())


def test_an_acceptor_that_hangs_is_replaced(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "WATCH_SECONDS", 3.0)

    async def go() -> None:
        async with listening(config) as listener:
            members = listener.acceptor.members  # type: ignore[union-attr]
            hanging = members[0].process.pid
            os.kill(hanging, signal.SIGSTOP)
            await until(lambda: len(members) == 2 and hanging not in [each.process.pid for each in members])
            for connection in [await connecting(listener) for _ in range(4)]:
                connection.close()

    asyncio.run(go())


def test_all_die_and_others_serve(config: Config, home: Path) -> None:
    async def go() -> None:
        async with listening(config) as listener:
            before = acceptors()
            for each in before:
                os.kill(each, signal.SIGKILL)
            await until(lambda: len(acceptors()) == 2 == len(listener.acceptor.members) and not {*before} & {*acceptors()})
            for number in range(2):
                connection, file = await uploading(listener, f"{number}.csv")
                await file.close()
                connection.close()
        assert files(home) == ["0.csv", "1.csv"]

    asyncio.run(go())


def test_acceptors_are_gone_with_the_one_that_had_them_serve(config: Config) -> None:
    """Also where they have spoken to nobody before they could hear that there is nobody."""
    with subprocess.Popen([sys.executable, "-c", SERVING, str(config.file), str(config.data), "2"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline())
        serving = acceptors(process.pid)
        assert len(serving) == 2
        for each in serving:
            os.kill(each, signal.SIGSTOP)
        process.kill()
        process.wait()
    time.sleep(1.5 * apart.ALIVE_SECONDS)
    for each in serving:
        os.kill(each, signal.SIGCONT)
    asyncio.run(until(lambda: not any(map(command, serving))))


def test_what_overtook_an_upload_in_another_process_is_what_stands(config: Config, home: Path) -> None:
    """The cut of the slower upload, before or after the other is whole, is no beginning that anybody would go on with."""

    async def go() -> None:
        async with listening(config) as listener:
            early, _ = await uploading(listener, "students.csv", b"early")
            late, whole = await uploading(listener, "students.csv", b"whole")
            assert len(set(map(server_of, parts(home)))) == 2
            early.abort()
            await until(lambda: cut_off(home))
            await whole.close()
            assert cut_off(home) == {}
            slow, _ = await uploading(listener, "students.csv", b"slow")
            quick = await late.start_sftp_client()
            async with quick.open("students.csv", "wb") as file:
                await file.write(b"quick")
            slow.abort()
            await until(lambda: not parts(home))
            assert cut_off(home) == {}
            assert (await quick.stat("students.csv")).size == len(b"quick")
            late.close()

    asyncio.run(go())


def test_draining_lets_the_uploads_of_all_acceptors_finish_and_cuts_off_what_takes_longer(config: Config, home: Path) -> None:
    async def go() -> None:
        listener = await server.listen(config, Districts().lookup, lambda _: None, LOGGING)
        opened = [await uploading(listener, f"{number}.csv", b"begun ") for number in range(4)]
        draining = asyncio.create_task(listener.drain(2))
        await until(lambda: not answers(listener.port))
        for _, file in opened[:3]:
            await file.write(b"and ended")
            await file.close()
        await draining
        for connection, _ in opened:
            await connection.wait_closed()

    asyncio.run(go())
    assert [(home / name).read_bytes() for name in files(home)] == [b"begun and ended"] * 3
    assert cut_off(home) == {"3.csv": b"begun "}
    assert [each["ending"] for each in audit.sessions(config.sessions, "springfield", datetime.now(UTC).date())] == ["stopped"] * 4


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_all_acceptors_follow_the_host_keys(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HOST_KEYS_SECONDS", 0.05)
    hostkeys.prepare(config)
    following = asyncssh.read_private_key(config.host_keys[0].with_name("host_key.next")).get_fingerprint()

    async def go() -> None:
        async with listening(config) as listener:

            async def shown() -> set[str]:
                connections = [await connecting(listener) for _ in range(2)]
                found = {each.get_server_host_key().get_fingerprint() for each in connections}
                for each in connections:
                    each.close()
                return found

            assert following not in await shown()
            hostkeys.switch(config)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while await shown() != {following}:
                    pass

    asyncio.run(go())


def test_passwords_that_no_wire_was_made_for_harm_nobody(config: Config) -> None:
    async def go() -> None:
        async with listening(having(config, ban_score=100)) as listener:
            before = acceptors()
            for password in ("\u2028\n\"'", "\N{FACE WITH TEARS OF JOY}" * 30_000):
                with pytest.raises((asyncssh.PermissionDenied, asyncssh.DisconnectError)):
                    await connecting(listener, **by_password(password))
            async with await connecting(listener, **by_password(PASSWORD)):
                assert acceptors() == before

    asyncio.run(go())


def test_acceptors_that_cannot_start_stop_the_start(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> None:
        with pytest.raises(ConfigError, match=r"server\.acceptors"):
            await server.listen(config, Districts().lookup, lambda _: None, LOGGING)

    monkeypatch.setattr(crew, "ACCEPTOR", ("/bin/false",))
    asyncio.run(go())
    monkeypatch.setattr(crew, "ACCEPTOR", ("/no/such/program",))
    asyncio.run(go())
