"""What no ordinary client does, at every odd moment of an upload: others are not in its way, and nothing is believed that was not sent."""

from __future__ import annotations

import asyncio
import os
import threading
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest
import structlog

from sftp_ingest.config import Config
from sftp_ingest.intake import channel, upload
from sftp_ingest.intake.connection import KEY_TRIES
from sftp_ingest.intake.inbox import PREVIEW, REPORTS
from sftp_ingest.intake.leftovers import tidy_parts
from sftp_ingest.intake.paths import DEEPEST
from sftp_ingest.intake.room import GAP_BYTES
from sftp_ingest.intake.upload import Spans
from tests.conftest import PATIENCE_SECONDS
from tests.integration.port import BIG, KEY, STRANGER, Packets, connecting, cut_off, files, listening, parts, until, with_client

BLOCK = 32_000
"""No multiple of what a file system counts in."""


def test_no_request_of_a_terminals_leaves_an_upload_open_behind_it(config: Config, home: Path) -> None:
    async def go() -> None:
        async with listening(config) as listener:
            for number, request in enumerate(("send_signal", "send_break", "change_terminal_size")):
                async with await connecting(listener) as connection:
                    writer, _, _ = await connection.open_session(subsystem="sftp", encoding=None)
                    writer.write(Packets.packet(1, 3) + Packets.packet(3, 1, b"%d.csv" % number, 0x1A, 0) + Packets.packet(6, 2, bytes(4), 0, 0, b"x"))
                    await until(lambda: parts(home))
                    getattr(writer.channel, request)(*{"send_signal": ["INT"], "send_break": [100], "change_terminal_size": [80, 24]}[request])
                await until(lambda: not parts(home))
            assert not listener.acceptor.hall.uploads._open  # type: ignore[union-attr]

    asyncio.run(go())


def test_a_channel_without_a_word_ends_alone(config: Config, home: Path) -> None:
    async def go() -> None:
        async with listening(config) as listener, await connecting(listener) as connection, connection.start_sftp_client() as sftp:
            file = await sftp.open("students.csv", "wb")
            await file.write(b"one")
            writer, reader, _ = await connection.open_session(subsystem="sftp", encoding=None)
            writer.write_eof()
            assert await reader.read() == b""
            await file.write(b"two")
            await file.close()
            assert (home / "students.csv").read_bytes() == b"onetwo"

    asyncio.run(go())


@pytest.mark.parametrize(("times", "bytes_of_it"), [(1, 10), (20, 1000), (200, 40_000)])
def test_a_client_that_asks_for_much_at_one_go_and_says_goodbye_hears_every_answer_in_turn(config: Config, home: Path, times: int, bytes_of_it: int) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "large.csv").write_bytes(BIG)
    asked = Packets.packet(1, 3) + Packets.packet(3, 0, b"large.csv", 1, 0)
    asked += b"".join(Packets.packet(16, number, b"%d.csv" % number) + Packets.packet(5, number, bytes(4), 0, number, bytes_of_it) for number in range(times))

    async def go() -> None:
        async with listening(config) as listener, await connecting(listener) as connection:
            process = await connection.create_process(subsystem="sftp", encoding=None)
            process.stdin.write(asked)
            process.stdin.write_eof()
            heard = await process.stdout.read()
            assert (await process.wait()).exit_status == 0
        answers = []
        while heard:
            size = int.from_bytes(heard[:4])
            answers.append(heard[4 : 4 + size])
            heard = heard[4 + size :]
        paths, pieces = answers[2::2], answers[3::2]
        assert [b"/%d.csv" % number in each for number, each in enumerate(paths)] == [True] * times
        assert [each[9:] for each in pieces] == [BIG[number : number + bytes_of_it] for number in range(times)]

    asyncio.run(go())


@pytest.mark.parametrize("piece", [1, 7, 4_096, 100_000])
def test_requests_may_come_in_pieces_of_any_size(config: Config, home: Path, piece: int) -> None:
    content = BIG[: 40 * piece + 1000]
    asked = Packets.packet(1, 3) + Packets.packet(3, 1, b"students.csv", 0x1A, 0)
    asked += b"".join(Packets.packet(6, 2, bytes(4), 0, begin, content[begin : begin + 999]) for begin in range(0, len(content), 999))
    asked += Packets.packet(4, 3, bytes(4))

    async def go() -> None:
        async with listening(config) as listener, await connecting(listener) as connection:
            process = await connection.create_process(subsystem="sftp", encoding=None)
            for begin in range(0, len(asked), piece):
                process.stdin.write(asked[begin : begin + piece])
                await asyncio.sleep(0)
            process.stdin.write_eof()
            assert (await process.wait()).exit_status == 0

    asyncio.run(go())
    assert (home / "students.csv").read_bytes() == content


def test_an_answer_does_not_wait_for_what_was_asked_with_it_and_takes_long(config: Config, home: Path) -> None:
    home.mkdir(parents=True)
    (home / "students.csv").write_bytes(b"one")
    goes_on = threading.Event()

    async def go() -> None:
        async with listening(config) as listener, await connecting(listener) as connection:
            writer, reader, _ = await connection.open_session(subsystem="sftp", encoding=None)
            packets = Packets(writer, reader)
            copying = listener.acceptor.hall.copying  # type: ignore[union-attr]
            busy = [copying.submit(goes_on.wait) for _ in range(copying._max_workers)]
            try:
                writer.write(Packets.packet(1, 3) + Packets.packet(16, 1, b"/") + Packets.packet(3, 2, b"students.csv", 0x0A, 0))
                async with asyncio.timeout(PATIENCE_SECONDS):
                    assert [(await packets.answer())[0] for _ in range(2)] == [2, 104]  # VERSION and NAME
                assert not any(each.done() for each in busy)
            finally:
                goes_on.set()
            assert (await packets.answer())[0] == 102  # HANDLE

    asyncio.run(go())


def test_who_asks_for_thousands_of_things_at_one_go_keeps_no_other_waiting(config: Config, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "TURN_SECONDS", 0.001)
    times = 60_000
    answers = 0

    async def read(packets: Packets) -> None:
        nonlocal answers
        while answers < times:
            await packets.answer()
            answers += 1

    async def go() -> None:
        async with listening(config) as listener, await connecting(listener) as greedy, await connecting(listener) as modest:
            writer, reader, _ = await greedy.open_session(subsystem="sftp", encoding=None)
            async with modest.start_sftp_client() as sftp:
                writer.write(Packets.packet(1, 3) + Packets.packet(17, 1, b"/") * times)
                reading = asyncio.create_task(read(Packets(writer, reader)))
                await until(lambda: answers)
                meanwhile = []
                while not reading.done():
                    before = answers
                    await sftp.stat("/")
                    meanwhile.append(answers - before)
                assert max(meanwhile) < times / 20

    asyncio.run(go())


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"", 0),
        (Packets.packet(1, 3), 0),
        (Packets.packet(1, 3) + Packets.packet(3, 1, b"a.csv", 0x1A, 0) + Packets.packet(4, 2, bytes(4)), 0),
        (Packets.packet(1, 3) + Packets.packet(3, 1, b"a.csv", 0x1A, 0) + Packets.packet(6, 2, bytes(4), 0, 0, b"x"), 1),
        (Packets.packet(1, 3) + Packets.packet(3, 1, b"a.csv", 0x1A, 0) + Packets.packet(4, 2, bytes(4))[:-1], 1),
        (Packets.packet(1, 3) + bytes([0, 0, 0, 1, 3]), 1),
    ],
    ids=["nothing", "hello", "an upload", "half an upload", "half a request", "nonsense"],
)
def test_a_client_that_has_left_is_told_whether_all_was_well(config: Config, home: Path, said: bytes, status: int) -> None:
    async def go() -> None:
        async with listening(config) as listener, await connecting(listener) as connection:
            process = await connection.create_process(subsystem="sftp", encoding=None)
            process.stdin.write(said)
            process.stdin.write_eof()
            assert (await process.wait()).exit_status == status

    asyncio.run(go())


@pytest.mark.parametrize("version", [0, 1, 2])
def test_versions_before_the_third_are_not_spoken(config: Config, version: int) -> None:
    async def go() -> None:
        async with listening(config) as listener, await connecting(listener) as connection:
            writer, reader, _ = await connection.open_session(subsystem="sftp", encoding=None)
            writer.write(Packets.packet(1, version))
            assert await reader.read() == b""

    asyncio.run(go())


def test_blocks_that_come_in_any_order_make_a_whole_file(config: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        blocks = [BIG[begin : begin + BLOCK] for begin in range(0, len(BIG), BLOCK)]
        file = await sftp.open("students.csv", "wb")
        for number in [*range(1, len(blocks), 2), *range(0, len(blocks), 2)]:
            await file.write(blocks[number], number * BLOCK)
        await file.close()
        assert (home / "students.csv").read_bytes() == BIG

    with_client(config, act)


def test_of_blocks_that_came_out_of_order_only_what_has_no_gap_is_kept_when_the_connection_breaks(config: Config, home: Path) -> None:
    async def go() -> None:
        async with listening(config) as listener:
            connection = await connecting(listener)
            sftp = await connection.start_sftp_client()
            file = await sftp.open("students.csv", "wb")
            for number in (2, 3, 0):
                await file.write(BIG[number * BLOCK : (number + 1) * BLOCK], number * BLOCK)
            connection.abort()
            await until(lambda: not parts(home))
            assert cut_off(home) == {"students.csv": BIG[:BLOCK]}

    asyncio.run(go())


def test_of_blocks_that_came_out_of_order_a_killed_server_leaves_nothing_to_go_on_with(config: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        disordered, longer, ordered = [await sftp.open(name, "wb") for name in ("disordered.csv", "longer.csv", "ordered.csv")]
        await disordered.write(BIG[:BLOCK], 0)
        await disordered.write(BIG[2 * BLOCK : 3 * BLOCK], 2 * BLOCK)
        await longer.write(BIG[:BLOCK], 0)
        await longer.truncate(BLOCK + 100)
        await ordered.write(BIG[:BLOCK], 0)
        tidy_parts(config.homes)  # as the next server does at its start
        assert cut_off(home) == {"ordered.csv": BIG[:BLOCK]}

    with_client(config, act)


def test_of_an_upload_that_had_its_name_when_the_server_was_killed_nothing_is_gone_on_with(config: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        file = await sftp.open("students.csv", "xb")
        await file.write(BIG)
        [part] = parts(home)
        (home / "students.csv").hardlink_to(part)  # the first of the two steps in which a name is given that nobody may have
        tidy_parts(config.homes)
        assert (files(home), parts(home), cut_off(home)) == (["students.csv"], [], {})

    with_client(config, act)


def test_a_file_of_which_a_part_was_never_sent_never_appears(config: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        file = await sftp.open("students.csv", "wb")
        await file.write(b"beginning")
        await file.write(b"end", 100)
        with pytest.raises(asyncssh.SFTPError, match="never sent"):
            await file.close()
        longer = await sftp.open("students.csv", "wb")
        await longer.write(b"beginning")
        await longer.truncate(100)
        with pytest.raises(asyncssh.SFTPError, match="never sent"):
            await longer.close()
        async with sftp.open("whole.csv", "wb") as first_made_long:
            await first_made_long.truncate(len(BIG))
            await first_made_long.write(BIG)
        with pytest.raises(asyncssh.SFTPError, match="never sent"):
            await sftp.truncate("whole.csv", len(BIG) + 1)
        assert files(home) == ["whole.csv"]
        assert (home / "whole.csv").read_bytes() == BIG
        assert parts(home) == []

    with_client(config, act)


def test_a_file_in_too_many_pieces_is_refused(config: Config, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "MOST_SPANS", 3)

    async def act(sftp: asyncssh.SFTPClient) -> None:
        file = await sftp.open("students.csv", "wb")
        for number in range(1, 4):
            await file.write(b"x", 2 * number)
        with pytest.raises(asyncssh.SFTPError, match="missing"):
            await file.write(b"x", 8)
        with pytest.raises(asyncssh.SFTPError, match="missing"):
            await file.close()
        assert files(home) == [] == parts(home)

    with_client(config, act)


def test_what_was_sent_is_known_to_the_byte() -> None:
    spans = Spans(0)
    sent = bytearray(60)
    for begin, end in ((10, 20), (30, 40), (20, 25), (0, 3), (38, 50), (3, 10), (12, 14), (25, 30), (50, 50), (55, 60)):
        spans.add(begin, end)
        sent[begin:end] = b"\1" * (end - begin)
        assert spans.whole == len(sent.split(b"\0")[0])
    assert spans.gaps == 1
    spans.cut(52)
    assert (spans.whole, spans.gaps) == (50, 0)
    spans.cut(7)
    assert (spans.whole, spans.gaps) == (7, 0)


def test_a_file_is_made_longer_by_no_more_than_a_gap_may_be(config: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        file = await sftp.open("students.csv", "wb")
        with pytest.raises(asyncssh.SFTPError, match="too far past the end"):
            await file.truncate(GAP_BYTES + 1)
        with pytest.raises(asyncssh.SFTPError):
            await file.close()
        assert files(home) == [] == parts(home)

    with_client(config, act)


def test_what_was_refused_leaves_an_upload_that_was_cut_off_as_it_was(config: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        (home / ".cut-students.csv").write_bytes(BIG)
        with pytest.raises(asyncssh.SFTPError, match="too large"):
            await sftp.truncate("students.csv", 1 << 50)
        assert cut_off(home) == {"students.csv": BIG}

    with_client(config, act)


def test_a_home_keeps_its_folders(config: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        await sftp.mkdir("other")
        for folder in (PREVIEW, REPORTS):
            attempts = (sftp.rmdir(folder), sftp.rename(folder, "elsewhere"), sftp.posix_rename("other", folder), sftp.open(folder, "wb"))
            for attempt in attempts:
                with pytest.raises(asyncssh.SFTPPermissionDenied):
                    await attempt
        for folder in ("/", REPORTS, PREVIEW):
            await sftp.setstat(folder, asyncssh.SFTPAttrs(permissions=0o777, atime=1, mtime=1))
            with pytest.raises(asyncssh.SFTPPermissionDenied):
                await sftp.truncate(folder, 0)
        assert (home / PREVIEW).is_dir() and (home / PREVIEW).stat().st_mtime > 1
        async with sftp.open(f"{PREVIEW}/students.csv", "wb") as file:
            await file.write(b"x")

    with_client(config, act)


def test_folders_cannot_be_moved_deeper_than_a_path_may_go(config: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        await sftp.makedirs("a/" * 20)
        await sftp.makedirs("b/" * (DEEPEST - 20))
        await sftp.makedirs("c/" * (DEEPEST - 19))
        await sftp.rename("b", "a/" * 20 + "b")
        with pytest.raises(asyncssh.SFTPFailure, match="too deep"):
            await sftp.rename("c", "a/" * 20 + "c")
        assert (home / "c").is_dir()
        assert (home / ("a/" * 20) / ("b/" * (DEEPEST - 20))).is_dir()

    with_client(config, act)


def test_a_file_that_is_renamed_over_another_frees_its_room(config: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        for _ in range(6):
            async with sftp.open("students.csv.filepart", "wb") as file:
                await file.write(BIG)
            await sftp.posix_rename("students.csv.filepart", "students.csv")
        await sftp.posix_rename("students.csv", "students.csv")
        assert files(home) == ["students.csv"]

    with_client(replace(config, server=replace(config.server, home_bytes=2 * len(BIG))), act)


def test_who_removes_what_he_is_still_sending_has_sent_nothing(config: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        (home / "students.csv").write_bytes(b"older")
        for name in ("students.csv", "teachers.csv"):
            file = await sftp.open(name, "wb")
            await file.write(b"half of")
            await sftp.remove(name)
            with pytest.raises(asyncssh.SFTPNoSuchFile):
                await sftp.stat(name)
            await file.close()
        assert files(home) == [] == parts(home)
        file = await sftp.open("teachers.csv", "wb")
        await file.write(b"half of")
        await sftp.remove("teachers.csv")
        async with sftp.open("teachers.csv", "wb") as again:
            await again.write(b"whole")
        await file.close()
        assert (home / "teachers.csv").read_bytes() == b"whole"

    with_client(config, act)


def test_the_name_of_a_file_that_is_still_being_sent_is_taken(config: Config, home: Path) -> None:
    async def act(sftp: asyncssh.SFTPClient) -> None:
        async with sftp.open("students.csv", "wb") as file:
            await file.write(b"whole")
            with pytest.raises(asyncssh.SFTPError, match="file of this name"):
                await sftp.mkdir("students.csv")
            with pytest.raises(asyncssh.SFTPError, match="still being sent"):
                await sftp.rename("students.csv", "teachers.csv")
        assert files(home) == ["students.csv"]

    with_client(config, act)


def test_who_holds_an_upload_open_and_sends_nothing_is_idle_whatever_else_he_asks_for(config: Config, home: Path) -> None:
    async def go() -> None:
        async with listening(replace(config, server=replace(config.server, idle_seconds=0.5))) as listener:
            async with await connecting(listener) as connection, connection.start_sftp_client() as sftp:
                async with sftp.open("students.csv", "wb") as file:
                    await file.write(b"whole")
                for _ in range(10):
                    await sftp.stat("students.csv")
                    await asyncio.sleep(0.1)
                await sftp.open("junk.tmp", "wb")
                with pytest.raises((asyncssh.Error, OSError)):
                    while True:
                        await sftp.stat("students.csv")
                        await asyncio.sleep(0.1)
            await until(lambda: not parts(home))

    asyncio.run(go())


def test_a_client_offers_only_so_many_keys(config: Config) -> None:
    async def go(strangers: int) -> bool:
        keys = [*(asyncssh.generate_private_key("ssh-ed25519") for _ in range(strangers)), KEY]
        async with listening(config) as listener:
            try:
                async with await connecting(listener, client_keys=keys, preferred_auth="publickey"):
                    return True
            except asyncssh.PermissionDenied:
                return False

    assert asyncio.run(go(KEY_TRIES - 1))
    assert not asyncio.run(go(KEY_TRIES))


class Claim(asyncssh.SSHKeyPair):
    """Who knows a public key alone: he offers it, and signs with another."""

    def __init__(self, offered: asyncssh.SSHKey, held: asyncssh.SSHKey) -> None:
        algorithm = offered.algorithm
        super().__init__(algorithm, algorithm, (algorithm,), (algorithm,), offered.public_data, b"")
        self._held = held

    def sign(self, data: bytes) -> bytes:
        return self._held.sign(data, self.sig_algorithm)


def test_to_know_a_public_key_is_no_log_in(config: Config) -> None:
    async def go() -> None:
        bounded = replace(config, server=replace(config.server, ban_score=3))
        with structlog.testing.capture_logs() as logs:
            async with listening(bounded) as listener:
                for _ in range(4):
                    with pytest.raises((asyncssh.Error, OSError)):
                        await connecting(listener, client_keys=[Claim(KEY, STRANGER)], preferred_auth="publickey")
                await until(lambda: any(each["event"] == "address_banned" for each in logs))

    asyncio.run(go())


async def gone_on_with(client: asyncssh.SFTPClient, name: str) -> None:
    """Opens what stands under a name to change some of it."""
    await client.open(name, "r+b")


def test_a_copy_of_what_stands_keeps_no_log_in_waiting(config: Config, home: Path) -> None:
    """More of them at once than the event loop's own threads are."""

    async def go() -> None:
        home.mkdir(parents=True)
        with (home / "big.csv").open("wb") as file:
            os.truncate(file.fileno(), 256 << 20)
        async with listening(config) as listener:
            connections = [await connecting(listener) for _ in range(12)]
            clients = [await each.start_sftp_client() for each in connections]
            copying = [asyncio.create_task(gone_on_with(each, "big.csv")) for each in clients]
            await until(lambda: parts(home))
            async with await connecting(listener, "shelbyville", **{"client_keys": None, "password": "correct horse battery staple"}):
                assert not all(each.done() for each in copying)
            for each in connections:
                each.abort()
            await asyncio.gather(*copying, return_exceptions=True)
            await until(lambda: not parts(home))

    asyncio.run(go())


def test_a_client_that_is_gone_before_its_upload_could_begin_leaves_nothing(config: Config, home: Path) -> None:
    async def go() -> None:
        home.mkdir(parents=True)
        (home / "big.csv").write_bytes(BIG * 100)
        async with listening(config) as listener:
            connection = await connecting(listener)
            writer, _, _ = await connection.open_session(subsystem="sftp", encoding=None)
            writer.write(Packets.packet(1, 3) + Packets.packet(3, 1, b"big.csv", 0x2, 0))
            await until(lambda: parts(home))
            connection.abort()
            await until(lambda: not parts(home))
            assert cut_off(home) == {}
            assert not listener.acceptor.hall.uploads._open  # type: ignore[union-attr]

    asyncio.run(go())
