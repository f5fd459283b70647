"""What a session may not have too much of: bytes, files, handles, time; each is refused with its code, and the rest goes on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import structlog

from sftp_ingest.config import Config
from sftp_ingest.intake import connection as connection_module
from sftp_ingest.intake.room import GAP_BYTES
from tests.integration.disks import a_disk_of
from tests.integration.port import BIG, KEY, PATIENCE_SECONDS, Packets, connecting, cut_off, files, listening, parts, until, with_client

FAILURE = asyncssh.FX_FAILURE


def bounded(config: Config, **server_settings: object) -> Config:
    return replace(config, server=replace(config.server, **server_settings))


async def refused(attempt: Awaitable[object], sentence: str) -> None:
    """SFTP's third version has one code for all of it, and a sentence."""
    with pytest.raises(asyncssh.SFTPError, match=sentence) as caught:
        await attempt
    assert caught.value.code == FAILURE


def told(logs: list[structlog.typing.EventDict]) -> list[tuple[str, str]]:
    return [(each["district"], each["bound"]) for each in logs if each["event"] == "bound_reached"]


def test_a_file_that_is_too_large_is_refused_told_once_and_never_appears(config: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        with structlog.testing.capture_logs() as logs:
            for _ in range(2):
                file = await sftp.open("students.csv", "wb")
                await file.write(BIG)
                await refused(file.write(b"x"), "too large")
                await refused(file.close(), "too large")
            small = await sftp.open("small.csv", "wb")
            await refused(small.truncate(1 << 40), "too large")
            await refused(small.close(), "too large")
        assert told(logs) == [("springfield", "file_bytes")]
        assert files(home) == [] == parts(home)
        (home / "named.csv").write_bytes(b"x")
        await refused(sftp.truncate("named.csv", 1 << 40), "too large")
        assert parts(home) == []
        (home / "named.csv").unlink()
        async with sftp.open("students.csv", "wb") as file:
            await file.write(BIG)
        assert files(home) == ["students.csv"]

    with_client(bounded(config, file_bytes=len(BIG)), act)


def test_a_home_holds_so_many_bytes_and_room_is_free_again_at_once(crewed: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        async def send(name: str, data: bytes) -> None:
            async with sftp.open(name, "wb") as file:
                await file.write(data)

        await send("a.csv", BIG)
        await send("b.csv", BIG)
        file = await sftp.open("c.csv", "wb")
        await refused(file.write(BIG), "home is full")
        await refused(file.close(), "home is full")
        await sftp.remove("a.csv")
        for _ in range(5):
            await send("c.csv", BIG[: 1 << 19])  # the one before counts until the new one stands in its place
        async with sftp.open("c.csv", "r+b") as resumed:
            await resumed.write(b"x", 1 << 18)
        assert files(home) == ["b.csv", "c.csv"]

    with_client(bounded(crewed, home_bytes=int(2.5 * len(BIG))), act)


def test_a_home_holds_so_many_files_and_folders(crewed: Config, home: Path) -> None:
    (home / "reports").mkdir(parents=True)
    for number in range(20):
        (home / "reports" / f"{number}.txt").write_bytes(b"")

    async def act(sftp: asyncssh.SFTPClient) -> None:  # the folder for previews is the first of ten
        for number in range(8):
            async with sftp.open(f"{number}.csv", "wb"):
                pass
        await sftp.mkdir("folder")
        await refused(sftp.open("more.csv", "wb"), "too many files")
        await refused(sftp.mkdir("more"), "too many files")
        await sftp.rmdir("folder")
        async with sftp.open("more.csv", "wb") as file:
            await file.write(b"x")
        await refused(sftp.open("more.csv", "wb"), "too many files")
        (home / "7.csv").unlink()
        async with sftp.open("more.csv", "wb") as file:
            await file.write(b"y")
        assert (home / "more.csv").read_bytes() == b"y"

    with_client(bounded(crewed, home_files=10), act)


def test_sessions_of_one_district_share_its_room(crewed: Config, home: Path) -> None:
    async def go() -> None:
        async with listening(bounded(crewed, home_bytes=len(BIG))) as listener:
            one, other = await connecting(listener), await connecting(listener)
            first, second = await one.start_sftp_client(), await other.start_sftp_client()
            async with first.open("a.csv", "wb") as file:
                await file.write(BIG[: 3 << 18])
                mine = await second.open("b.csv", "wb")
                await refused(mine.write(BIG[: 2 << 18]), "home is full")
                await refused(mine.close(), "home is full")
        assert files(home) == ["a.csv"]

    asyncio.run(go())


@pytest.mark.parametrize("offset", [GAP_BYTES + 5, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_a_write_far_past_the_end_is_refused(config: Config, home: Path, offset: int) -> None:
    async def go() -> None:
        async with listening(config) as listener, await connecting(listener) as connection:
            writer, reader, _ = await connection.open_session(subsystem="sftp", encoding=None)
            client = Packets(writer, reader)
            handle = await client.open(b"students.csv")
            where = (offset >> 32, offset & 0xFFFFFFFF)
            assert status(await client.ask(6, 2, handle, *where, b"data")) == FAILURE
            assert status(await client.ask(5, 3, handle, *where, 10)) == asyncssh.FX_EOF
            assert status(await client.ask(4, 4, handle)) == FAILURE
            again = await client.open_more(b"students.csv")
            assert status(await client.ask(6, 5, again, 0, 0, b"data")) == asyncssh.FX_OK
            assert status(await client.ask(4, 6, again)) == asyncssh.FX_OK
        assert (home / "students.csv").read_bytes() == b"data"

    asyncio.run(go())


def status(answer: bytes) -> int:
    """The code of a STATUS packet, of which the first byte is its kind and the next four its number."""
    assert answer[0] == 101
    return int.from_bytes(answer[5:9], "big")


def test_a_disk_is_filled_to_the_reserve_and_no_further(config: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        with structlog.testing.capture_logs() as logs:
            file = await sftp.open("students.csv", "wb")
            with pytest.raises(asyncssh.SFTPError, match="disk is full"):
                for _ in range(64):
                    await file.write(BIG)
            await refused(file.close(), "disk is full")
            (home / "other").write_bytes(bytes(50 << 20))  # somebody else fills it
            await refused(sftp.open("teachers.csv", "wb"), "disk is full")
            (home / "other").unlink()
            async with sftp.open("teachers.csv", "wb") as small:
                await small.write(b"small")
        assert told(logs) == [("springfield", "reserve_bytes")]
        assert files(home) == ["teachers.csv"]

    with a_disk_of(home, "64m"):
        with_client(bounded(config, reserve_bytes=20 << 20), act)


async def open_for_reading(sftp: asyncssh.SFTPClient) -> object:
    return await sftp.open("students.csv", "rb")


async def open_for_writing(sftp: asyncssh.SFTPClient) -> object:
    return await sftp.open("other.csv", "wb")


@pytest.mark.parametrize("attempt", [open_for_reading, open_for_writing])
def test_a_session_has_only_so_many_files_open(
    config: Config, home: Path, attempt: Callable[[asyncssh.SFTPClient], Awaitable[asyncssh.SFTPClientFile]]
) -> None:
    home.mkdir(parents=True)
    (home / "students.csv").write_bytes(b"x")

    async def act(sftp: asyncssh.SFTPClient) -> None:
        opened = [await attempt(sftp) for _ in range(8)]
        await refused(attempt(sftp), "Too many open files")
        with pytest.raises(asyncssh.SFTPError, match="Too many open files"):
            await sftp.listdir("/")
        await opened[0].close()
        with pytest.raises(asyncssh.SFTPNoSuchFile):
            await sftp.open("nothing.csv", "rb")
        await sftp.listdir("/")
        await (await attempt(sftp)).close()

    with_client(bounded(config, handles_per_session=8), act)


def test_folders_that_are_opened_and_never_closed_are_counted_and_forgotten_with_the_session(config: Config, home: Path) -> None:
    async def go() -> None:
        async with listening(bounded(config, handles_per_session=8)) as listener:
            for _ in range(3):
                async with await connecting(listener) as connection:
                    writer, reader, _ = await connection.open_session(subsystem="sftp", encoding=None)
                    client = Packets(writer, reader)
                    await client.ask(1, 3)
                    kinds = [(await client.ask(11, number, b"/"))[0] for number in range(12)]
                    assert kinds == [102] * 8 + [101] * 4
                    assert (await client.ask(12, 99, (0).to_bytes(4, "big")))[0] == 104
            await until(lambda: not [each for each in Path("/proc/self/fd").iterdir() if str(home) in os.path.realpath(each)])

    asyncio.run(go())


def test_a_file_copied_into_itself_ends_at_the_bound_and_others_go_on_meanwhile(config: Config, home: Path) -> None:
    async def go() -> None:
        async with listening(bounded(config, file_bytes=256 << 20)) as listener, await connecting(listener) as one, await connecting(listener) as other:
            writer, reader, _ = await one.open_session(subsystem="sftp", encoding=None)
            client = Packets(writer, reader)
            handle = await client.open(b"students.csv")
            await client.ask(6, 2, handle, 0, 0, BIG)
            copying = asyncio.create_task(client.ask(200, 3, b"copy-data", handle, 0, 0, 0, 0, handle, 0, len(BIG)))
            await until(lambda: sum(each.stat().st_size for each in parts(home)) > 2 * len(BIG))
            async with other.start_sftp_client() as sftp, sftp.open("teachers.csv", "wb") as file:
                await file.write(b"x")
            assert not copying.done()
            assert status(await copying) == FAILURE
            assert status(await client.ask(4, 4, handle)) == FAILURE
        assert files(home) == ["teachers.csv"]

    asyncio.run(go())


# ---------------------------------------------------------------- time


async def says_nothing(client: Packets) -> None:
    return None


async def sends_half_a_packet(client: Packets) -> None:
    client.writer.write(b"\0\0\0\x20\x06")


async def dribbles(client: Packets) -> None:
    async def bit_by_bit() -> None:
        for each in b"\0\0\xff\xff" + bytes(2000):
            client.writer.write(bytes([each]))
            await asyncio.sleep(0.02)

    client.dribble = asyncio.create_task(bit_by_bit())  # type: ignore[attr-defined]


@pytest.mark.parametrize("manner", [says_nothing, sends_half_a_packet, dribbles])
def test_a_session_that_asks_for_nothing_whole_is_ended(config: Config, home: Path, manner: Callable[[Packets], Awaitable[None]]) -> None:
    async def go() -> None:
        async with listening(bounded(config, idle_seconds=0.4)) as listener, await connecting(listener) as connection:
            writer, reader, _ = await connection.open_session(subsystem="sftp", encoding=None)
            client = Packets(writer, reader)
            await client.open(b"students.csv")
            await manner(client)
            await until(connection.is_closed)
            await until(lambda: not listener.guests and not parts(home))

    asyncio.run(go())


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-slow", b"SSH-2.0-slow\r\n", b"SSH-2.0-slow\r\n\0\0\x01\0"])
def test_a_stranger_that_is_slow_at_any_stage_is_sent_away(config: Config, greeting: bytes) -> None:
    async def go() -> None:
        async with listening(bounded(config, login_seconds=0.3)) as listener:
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(greeting)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while await reader.read(4096):
                    pass
            await until(lambda: not listener.guests)
            writer.close()

    asyncio.run(go())


@asynccontextmanager
async def a_line_to(port: int, severed: asyncio.Event) -> AsyncIterator[int]:
    """The port of a line that goes on to another, and that swallows all once it is severed, without a word to either side."""
    tasks: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while said := await reader.read(1 << 16):
            if not severed.is_set():
                writer.write(said)

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        further = await asyncio.open_connection("127.0.0.1", port)
        tasks.update((asyncio.create_task(carry(reader, further[1])), asyncio.create_task(carry(further[0], writer))))

    line = await asyncio.start_server(meet, "127.0.0.1", 0)
    try:
        yield line.sockets[0].getsockname()[1]
    finally:
        line.close()
        for task in tasks:
            task.cancel()


def test_a_client_that_is_silently_gone_is_found_out_and_one_that_only_has_nothing_to_say_stays(
    config: Config, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "KEEPALIVE_SECONDS", 0.1)

    async def go() -> None:
        severed = asyncio.Event()
        async with listening(config) as listener, a_line_to(listener.port, severed) as port:
            how: dict[str, Any] = {"known_hosts": None, "config": None, "agent_path": None, "client_keys": [KEY]}
            async with asyncssh.connect("127.0.0.1", port, username="springfield", **how) as client, client.start_sftp_client() as sftp:
                file = await sftp.open("students.csv", "wb")
                await file.write(b"x")
                await asyncio.sleep(1)
                assert len(listener.guests) == 1
                with structlog.testing.capture_logs() as logs:
                    severed.set()
                    await until(lambda: not listener.guests and not parts(home))
                    await until(lambda: [each["ending"] for each in logs if each["event"] == "session_closed"] == ["lost"])
                client.abort()
        assert cut_off(home) == {"students.csv": b"x"}

    asyncio.run(go())
