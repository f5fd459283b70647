"""Ten thousand hostile requests and strangers: afterwards the server serves, has no more memory than before, and nothing beyond the home has changed."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import asyncssh

from sftp_ingest.config import Config
from sftp_ingest.intake import server
from tests.integration.port import BIG, Packets, connecting, listening, parts, until
from tests.integration.test_jail import TRICKS, told

REQUESTS = 7_000
STRANGERS = 1_500
MESSAGES = 1_500
WARM = 0.3
"""After this share of it all, memory has grown as much as it will."""
GROWTH_KIB = 24 << 10

EXTENSIONS = (
    *(b"posix-rename@openssh.com", b"hardlink@openssh.com", b"statvfs@openssh.com", b"fstatvfs@openssh.com", b"fsync@openssh.com"),
    *(b"lsetstat@openssh.com", b"limits@openssh.com", b"copy-data", b"ranges@asyncssh.com", b"nonsense"),
)


def memory_kib() -> int:
    """What this process, which is both the server and its enemies, has in memory now."""
    return int(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")))


class Enemy:
    """Whoever knows the protocol and means no good; the same one every time."""

    def __init__(self, seed: int, outside: Path) -> None:
        self.dice = random.Random(seed)
        self.paths = [each.format(outside=outside).encode() for each in TRICKS]
        self.paths += [b"/", b".", b"students.csv", b"reports", b"preview", b"folder", b"folder/x.csv"]

    def blob(self, most: int = 40) -> bytes:
        return self.dice.randbytes(self.dice.randrange(most))

    def path(self) -> bytes:
        return self.dice.choice([self.dice.choice(self.paths), self.dice.choice(self.paths) + b"/" + self.blob(), self.blob(400)])

    def number(self) -> int:
        return self.dice.choice([0, 1, 255, 65536, 1 << 31, (1 << 32) - 1, self.dice.getrandbits(32)])

    def handle(self) -> bytes:
        return self.dice.choice([self.dice.randrange(12).to_bytes(4, "big")] * 6 + [self.blob(10)])

    def attributes(self) -> list[int]:
        return self.dice.choice([[0], [1, self.number(), self.number()], [4, self.number()], [8, self.number(), self.number()], [self.number()]])

    def request(self, number: int) -> bytes:
        """A packet that has the right form, or had it before something was done to it."""
        handle, far = self.handle(), (self.number(), self.number())
        kind, fields = self.dice.choice(
            [
                (3, [self.path(), self.dice.choice([1, 2, 0x1A, 0x2A, 0x3F, self.number()]), *self.attributes()]),
                (3, [b"students.csv", 0x1A, 0]),
                (4, [handle]),
                (5, [handle, *far, self.number()]),
                (6, [handle, *self.dice.choice([far, (0, self.dice.randrange(1000))]), self.blob(300)]),
                (self.dice.choice([7, 11, 13, 15, 16, 17, 19]), [self.path()]),
                (8, [handle]),
                (9, [self.path(), *self.attributes()]),
                (10, [handle, *self.attributes()]),
                (12, [handle]),
                (14, [self.path(), *self.attributes()]),
                (self.dice.choice([18, 20]), [self.path(), self.path()]),
                (200, [self.dice.choice(EXTENSIONS), *self.dice.choice([[self.path(), self.path()], [handle], [handle, *far, *far, handle, *far]])]),
                (self.dice.randrange(256), [self.blob(60)]),
            ]
        )
        packet = Packets.packet(kind, number, *fields)
        fate = self.dice.random()
        if fate < 0.02:  # cut, with a length that says so
            body = packet[4 : self.dice.randrange(5, len(packet) + 1)]
            packet = struct.pack(">I", len(body)) + body
        elif fate < 0.04:  # one bit is another
            changed = bytearray(packet)
            changed[self.dice.randrange(4, len(changed))] ^= 1 << self.dice.randrange(8)
            packet = bytes(changed)
        elif fate < 0.045:  # a length that lies
            packet = struct.pack(">I", self.number()) + packet[4:]
        return packet


async def ask_wildly(listener: server.Listener, enemy: Enemy, requests: int) -> None:
    """So many requests, in as many sessions as the server makes of them."""
    asked = 0
    while asked < requests:
        async with await connecting(listener) as connection:
            writer, reader, _ = await connection.open_session(subsystem="sftp", encoding=None)
            writer.write(Packets.packet(1, 3))
            with suppress(asyncssh.Error, OSError, EOFError, TimeoutError):
                for _ in range(40):
                    many = enemy.dice.randrange(1, 20)
                    writer.write(b"".join(enemy.request(number) for number in range(many)))
                    asked += many
                    async with asyncio.timeout(0.05):  # a lie about a length makes the server wait for what does not come
                        while await reader.read(1 << 16):
                            pass
                    if writer.is_closing() or asked >= requests:
                        break


async def knock_wildly(listener: server.Listener, enemy: Enemy, strangers: int) -> None:
    """So many connections that never become sessions."""
    greeting = b"SSH-2.0-enemy\r\n"
    for _ in range(strangers):
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        body = bytes([4, enemy.dice.choice([20, 21, 30, 50, enemy.dice.randrange(256)])]) + enemy.blob(300)
        writer.write(
            enemy.dice.choice(
                [
                    enemy.blob(400),
                    b"GET / HTTP/1.1\r\n\r\n",
                    b"SSH-1.5-old\r\n",
                    b"SSH-2.0-" + b"a" * 9000,
                    greeting + struct.pack(">I", len(body)) + body,
                    greeting + struct.pack(">I", enemy.number()) + enemy.blob(200),
                    greeting * 50,
                    b"",
                ]
            )
        )
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(0.02):
                await reader.read(1 << 14)
        writer.transport.abort()


async def speak_wildly(listener: server.Listener, enemy: Enemy, messages: int) -> None:
    """So many messages of SSH itself, from one who has logged in."""
    said = 0
    while said < messages:
        async with await connecting(listener) as connection:
            for _ in range(50):
                kind = enemy.dice.choice([80, 90, 93, 94, 95, 96, 97, 98, enemy.dice.randrange(1, 256)])
                shapes = [lambda: enemy.number().to_bytes(4, "big"), lambda: Packets.packet(1, enemy.blob())]
                fields = [enemy.dice.choice(shapes)() for _ in range(enemy.dice.randrange(5))]
                with suppress(asyncssh.Error, OSError, AttributeError):
                    connection.send_packet(kind, *fields)
                said += 1
            await asyncio.sleep(0)


def rounds(total: int) -> Iterator[int]:
    """The whole in twenty parts."""
    yield from [total // 20] * 20


def test_ten_thousand_hostile_requests_leave_the_server_as_it_was(config: Config, home: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.csv").write_bytes(b"not yours")
    before = told(outside)
    open_to_all = replace(config, server=replace(config.server, trusted=("127.0.0.0/8",), file_bytes=1 << 20, home_files=500, login_seconds=5))

    async def go() -> None:
        async with listening(open_to_all) as listener:
            enemy = Enemy(7, outside)
            warm = 0
            for part, (requests, strangers, messages) in enumerate(zip(rounds(REQUESTS), rounds(STRANGERS), rounds(MESSAGES), strict=True)):
                await asyncio.gather(ask_wildly(listener, enemy, requests), knock_wildly(listener, enemy, strangers), speak_wildly(listener, enemy, messages))
                if part == int(20 * WARM):
                    warm = memory_kib()
            await until(lambda: not listener.guests)
            grown = memory_kib() - warm
            assert grown < GROWTH_KIB, f"{grown} KiB"
            assert parts(home) == []
            async with (
                await connecting(listener) as connection,
                connection.start_sftp_client() as sftp,
                sftp.open("after.csv", "wb") as file,
            ):
                await file.write(BIG[: 1 << 19])
        assert (home / "after.csv").read_bytes() == BIG[: 1 << 19]

    asyncio.run(go())
    assert told(outside) == before
    assert [path.name for path in config.homes.iterdir()] == ["springfield"]
    assert not [path for path in home.rglob("*") if path.is_symlink()]
