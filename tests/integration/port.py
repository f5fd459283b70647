"""The SFTP server as tests start it: a real listener on loopback, with two districts, and clients that come to it."""

from __future__ import annotations

import asyncio
import os
import shutil
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import asyncssh
import pytest

from sftp_ingest.config import Config
from sftp_ingest.intake import passwords, server
from sftp_ingest.intake.inbox import CUT_PREFIX, PART_PREFIX
from sftp_ingest.logs import set_up_logging
from sftp_ingest.model import Account
from tests.conftest import PATIENCE_SECONDS

SSH = shutil.which("ssh")
SFTP = shutil.which("sftp")
PASSWORD = "correct horse battery staple"
HASH = passwords.hash_password(PASSWORD)
KEY = asyncssh.generate_private_key("ssh-ed25519")
STRANGER = asyncssh.generate_private_key("ssh-ed25519")
BIG = os.urandom(1 << 20)
LOGGING = partial(set_up_logging, "json")
"""How acceptors in processes of their own log."""


SERVING = """
import asyncio, sys
from functools import partial
from pathlib import Path
from sftp_ingest.config import Config, Server
from sftp_ingest.intake import server
from sftp_ingest.logs import set_up_logging

async def serve():
    config = Config(Path(sys.argv[1]), Path(sys.argv[2]), "", server=Server(acceptors=int(sys.argv[3])))
    listener = await server.listen(config, lambda name: None, lambda district: None, partial(set_up_logging, "json"))
    print(listener.port, flush=True)
    await asyncio.Event().wait()

asyncio.run(serve())
"""
"""A server in a process of its own, told its configuration, the folder of its data, and how many acceptors; it prints its port."""

needs_openssh = pytest.mark.skipif(SFTP is None, reason="OpenSSH's sftp is not installed")


class Districts:
    """The accounts of two districts, one with a key and a password, one with a password alone; and what the server says of them."""

    def __init__(self) -> None:
        springfield = Account("springfield", "springfield", datetime.now(UTC), HASH, (KEY.export_public_key().decode().strip(),))
        shelbyville = Account("shelbyville", "shelbyville", datetime.now(UTC), HASH)
        self.known = {each.name: each for each in (springfield, shelbyville)}
        self.activity: list[str] = []

    def lookup(self, name: str) -> Account | None:
        return self.known.get(name)


@asynccontextmanager
async def listening(config: Config, districts: Districts | None = None) -> AsyncIterator[server.Listener]:
    districts = districts or Districts()
    listener = await server.listen(config, districts.lookup, districts.activity.append, LOGGING)
    try:
        yield listener
    finally:
        await listener.drain(0)


def connecting(listener: server.Listener, username: str = "springfield", **how: object) -> Awaitable[asyncssh.SSHClientConnection]:
    with_key = {"client_keys": [KEY], "preferred_auth": "publickey"}
    asked = {"known_hosts": None, "config": None, "agent_path": None, "gss_host": None, **(how or with_key)}
    return asyncssh.connect("127.0.0.1", listener.port, username=username, **asked)


def by_password(password: str) -> dict[str, object]:
    return {"client_keys": None, "password": password, "preferred_auth": "password"}


def with_client(config: Config, act: Callable[[asyncssh.SFTPClient], Awaitable[None]], districts: Districts | None = None) -> None:
    async def go() -> None:
        async with listening(config, districts) as listener, await connecting(listener) as connection, connection.start_sftp_client() as sftp:
            await act(sftp)

    asyncio.run(go())


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not true():
            await asyncio.sleep(0.01)


def parts(home: Path) -> list[Path]:
    return list(home.rglob(f"{PART_PREFIX}*"))


def files(home: Path) -> list[str]:
    """What stands there under its name."""
    return sorted(path.name for path in home.iterdir() if path.is_file() and not path.name.startswith(CUT_PREFIX))


def cut_off(home: Path) -> dict[str, bytes]:
    """What waits for its client to go on with it."""
    return {path.name.removeprefix(CUT_PREFIX): path.read_bytes() for path in home.glob(f"{CUT_PREFIX}*")}


def put_sealed(home: Path, name: str, content: bytes) -> Path:
    """A file in the home with a second hard link, as a sealed delivery has; returns the link."""
    home.mkdir(parents=True, exist_ok=True)
    (home / name).write_bytes(content)
    link = home.parent.parent / f"sealed-{name}"
    link.hardlink_to(home / name)
    return link


class Packets:
    """SFTP spoken by hand, to say what no client would."""

    def __init__(self, writer: asyncssh.SSHWriter[bytes], reader: asyncssh.SSHReader[bytes]) -> None:
        self.writer, self.reader = writer, reader

    @staticmethod
    def packet(kind: int, *fields: int | bytes) -> bytes:
        body = bytes([kind]) + b"".join(struct.pack(">I", each) if isinstance(each, int) else struct.pack(">I", len(each)) + each for each in fields)
        return struct.pack(">I", len(body)) + body

    async def ask(self, kind: int, *fields: int | bytes) -> bytes:
        self.writer.write(self.packet(kind, *fields))
        return await self.answer()

    async def answer(self) -> bytes:
        """The next one, from its kind on."""
        size = struct.unpack(">I", await self.reader.readexactly(4))[0]
        return await self.reader.readexactly(size)

    async def open(self, name: bytes, flags: int = 0x1A) -> bytes:
        await self.ask(1, 3)
        return await self.open_more(name, flags)

    async def open_more(self, name: bytes, flags: int = 0x1A) -> bytes:
        return (await self.ask(3, 1, name, flags, 0))[9:]

    @classmethod
    def write(cls, handle: bytes, data: bytes) -> bytes:
        return cls.packet(6, 2, handle, 0, 0, data)


def run_openssh(program: str | None, port: int, key: Path, *arguments: str, batch: str = "") -> subprocess.CompletedProcess[str]:
    """What OpenSSH's `ssh` or `sftp` says; arguments before the host begin with a dash, as a word of their own or with their value joined on."""
    options = ["IdentitiesOnly=yes", "IdentityAgent=none", "LogLevel=ERROR", f"Port={port}", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"]
    before = [each for each in arguments if each.startswith("-")]  # OpenSSH takes the first value that it is given
    command = [str(program), "-F", "none", "-i", str(key), *before, *(f"-o{each}" for each in options), "springfield@127.0.0.1"]
    command += [each for each in arguments if each not in before]
    return subprocess.run(command, input=batch, capture_output=True, text=True, timeout=60, check=False)


def run_sftp(port: int, key: Path, batch: str) -> subprocess.CompletedProcess[str]:
    """OpenSSH's `sftp` with a batch of commands."""
    return run_openssh(SFTP, port, key, "-b-", batch=batch)


def private_key(folder: Path) -> Path:
    """The district's key in a file, as OpenSSH wants it."""
    path = folder / "key"
    KEY.write_private_key(path)
    path.chmod(0o600)
    return path
