"""Uploads that are cut, by the client or by `kill -9` of the daemon, at any moment: only whole files are ever delivered, and a client can go on."""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import asyncssh
import pytest

from sftp_ingest import sample
from sftp_ingest.config import FILE_NAME
from sftp_ingest.intake import durable
from sftp_ingest.intake.inbox import CUT_PREFIX, PART_PREFIX
from tests.acceptance.conftest import Home, eventually
from tests.integration.port import Packets

DISTRICT = "springfield"
NAMES = ("schools.csv", "students.csv", "teachers.csv", "sections.csv", "enrollments.csv")
BLOCK = 32 << 10
BLOCKS = 40
KILLS = 8
CUTS = 200
QUIET_SECONDS = 2.5


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home.make(tmp_path / "home", f"sqlite:///{tmp_path / 'sftp-ingest.db'}", DISTRICT)
    made.serve()
    yield made
    made.close()


def with_acceptors(home: Home, number: int) -> None:
    """The same daemon, anew, with so many processes that serve."""
    config = home.folder / FILE_NAME
    home.stop()
    config.write_text(re.sub(r"(?m)^acceptors = \d+", f"acceptors = {number}", config.read_text(encoding="utf-8")), encoding="utf-8")
    home.serve()


def content(name: str, night: int) -> bytes:
    return random.Random(f"{name} {night}").randbytes(BLOCK * BLOCKS)


async def send(client: asyncssh.SFTPClient, name: str, data: bytes, begin: int = 0) -> None:
    async with client.open(name, asyncssh.FXF_WRITE | asyncssh.FXF_CREAT | (0 if begin else asyncssh.FXF_TRUNC), encoding=None) as file:
        for offset in range(begin, len(data), BLOCK):
            await file.write(data[offset : offset + BLOCK], offset)


def test_kill_at_random_leaves_whole_files_and_parts_to_go_on_with(home: Home) -> None:
    dice = random.Random(5)
    folder = home.home_of(DISTRICT)
    resumed = 0

    async def be_killed(night: int) -> None:
        async def one(name: str) -> None:
            with suppress(asyncssh.Error, OSError):
                async with home.connect(DISTRICT) as connection, connection.start_sftp_client() as client:
                    await send(client, name, content(name, night))

        sending = [asyncio.create_task(one(name)) for name in NAMES]
        done = folder / f"{dice.choice(NAMES)}"
        threshold = dice.randrange(BLOCKS) * BLOCK
        while not all(task.done() for task in sending):
            if any(path.stat().st_size >= threshold for path in folder.glob(f"{PART_PREFIX}*-{done.name}")):
                break
            await asyncio.sleep(0)
        home.kill()
        await asyncio.gather(*sending)

    async def go_on(night: int) -> int:
        went_on = 0
        async with home.connect(DISTRICT) as connection, connection.start_sftp_client() as client:
            for name in NAMES:
                data = content(name, night)
                if (folder / name).exists() and (folder / name).read_bytes() == data:
                    continue
                begin = (await client.stat(name)).size or 0 if (folder / f"{CUT_PREFIX}{name}").exists() else 0
                went_on += begin > 0
                await send(client, name, data, begin)
        return went_on

    for night in range(KILLS):
        asyncio.run(be_killed(night))
        for name in NAMES:
            if (folder / name).exists():
                assert (folder / name).read_bytes() in (content(name, night), content(name, night - 1))
        home.serve()
        assert not list(folder.glob(f"{PART_PREFIX}*"))
        for part in folder.glob(f"{CUT_PREFIX}*"):
            assert content(part.name.removeprefix(CUT_PREFIX), night).startswith(part.read_bytes())
        resumed += asyncio.run(go_on(night))
        assert {name: (folder / name).read_bytes() for name in NAMES} == {name: content(name, night) for name in NAMES}
        assert not list(folder.glob(f"{CUT_PREFIX}*"))
    assert resumed > KILLS / 2
    whole = {content(name, night) for name in NAMES for night in range(KILLS)}
    for delivery in home.sealed(DISTRICT):
        assert all(path.read_bytes() in whole for path in delivery.glob("*.csv"))


def test_of_two_hundred_uploads_that_are_cut_at_random_none_is_delivered(home: Home) -> None:
    dice = random.Random(7)
    folder = home.home_of(DISTRICT)

    async def cut(number: int) -> None:
        connection = await home.connect(DISTRICT)
        writer, reader, _ = await connection.open_session(subsystem="sftp", encoding=None)
        name = f"{number}.csv".encode()
        packets = b"".join(
            [
                b"\0\0\0\x05\x01\0\0\0\x03",
                Packets.packet(3, 1, name, 0x1A, 0),
                *(Packets.packet(6, 2, b"\0\0\0\0", 0, block * BLOCK, os.urandom(BLOCK)) for block in range(4)),
            ]
        )
        writer.write(packets[: dice.randrange(100, len(packets))])
        with suppress(asyncssh.Error, OSError):
            if dice.random() < 0.8:
                await reader.readexactly(dice.randrange(1, 60))
        if dice.random() < 0.5:
            connection.abort()
        else:
            connection.close()
            await connection.wait_closed()

    async def all_of_them() -> None:
        for begin in range(0, CUTS, 10):
            await asyncio.gather(*(cut(number) for number in range(begin, begin + 10)))

    asyncio.run(all_of_them())
    eventually(lambda: len(home.events("session_closed")) == CUTS, "all sessions to end")
    time.sleep(QUIET_SECONDS)
    assert not list(folder.glob(f"{PART_PREFIX}*"))
    assert not [path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith(CUT_PREFIX)]
    assert len(list(folder.glob(f"{CUT_PREFIX}*"))) > CUTS / 4
    assert home.sealed(DISTRICT) == home.runs(DISTRICT) == []


def test_a_night_that_was_on_its_way_to_the_disk_when_the_machine_went_down_is_believed_once_it_was_sent_again(home: Home, tmp_path: Path) -> None:
    [night] = sample.write(tmp_path / "nights", students=50, nights=1, seed=3, faults=False)
    folder = home.home_of(DISTRICT)
    home.stop()
    folder.mkdir(parents=True, exist_ok=True)
    names = [path.name for path in night.folder.glob("*.csv")]
    for name in names:
        shutil.copy(night.folder / name, folder)
        with (folder / name).open("r+b") as file:
            if not durable.mark(file.fileno()):
                pytest.skip("this file system keeps no marks")
            os.setxattr(file.fileno(), durable.MARK, b"another start of the machine")
            file.truncate((folder / name).stat().st_size // 2)
    home.serve()
    assert sorted(each["file"] for each in home.events("upload_lost")) == sorted(names)
    time.sleep(QUIET_SECONDS)
    assert home.sealed(DISTRICT) == home.runs(DISTRICT) == home.events("seal_failed") == []
    home.push(night.folder, DISTRICT)
    assert home.wait_for_runs(1, DISTRICT).outcome == "successful"


def test_acceptors_end_with_a_daemon_that_is_killed_alone_and_their_uploads_can_be_gone_on_with(home: Home) -> None:
    with_acceptors(home, 2)
    folder, data = home.home_of(DISTRICT), content("students.csv", 1)
    acceptors = [each for each in home.children() if b"sftp_ingest.intake.apart" in Path(f"/proc/{each}/cmdline").read_bytes()]
    assert len(acceptors) == 2

    async def be_cut() -> None:
        async with home.connect(DISTRICT) as connection, connection.start_sftp_client() as client:
            file = await client.open("students.csv", "wb")
            await file.write(data[:BLOCK])
            home.kill(children=False)
            await connection.wait_closed()

    asyncio.run(be_cut())
    eventually(lambda: not any(Path(f"/proc/{each}").exists() for each in acceptors), "the acceptors to end")
    home.serve()
    assert [path.read_bytes() for path in folder.glob(f"{CUT_PREFIX}*")] == [data[:BLOCK]]

    async def go_on() -> None:
        async with home.connect(DISTRICT) as connection, connection.start_sftp_client() as client:
            await send(client, "students.csv", data, BLOCK)

    asyncio.run(go_on())
    assert (folder / "students.csv").read_bytes() == data
    assert home.stop() == 0
    assert not home.events("acceptor_died")
