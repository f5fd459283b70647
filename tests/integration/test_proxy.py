"""Where a client really comes from, and who opened the port: the PROXY protocol from named proxies, and sockets from systemd."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address

import asyncssh
import pytest
import structlog

from sftp_ingest.config import Config, Settings
from sftp_ingest.intake import server
from sftp_ingest.intake.proxy import SIGNATURE
from tests.integration.port import KEY, PATIENCE_SECONDS, SERVING, by_password, connecting, listening, until


def header(source: str, *, command: int = 0x21, more: bytes = b"") -> bytes:
    """What a proxy sends first, for a client at that address."""
    address = ip_address(source)
    kind, nowhere = (0x11, bytes(4)) if address.version == 4 else (0x21, bytes(16))
    rest = address.packed + nowhere + bytes(4) + more
    return SIGNATURE + bytes([command, kind]) + len(rest).to_bytes(2, "big") + rest


async def through_a_proxy(listener: server.Listener, first: bytes, **how: object) -> asyncssh.SSHClientConnection:
    wire = socket.create_connection(("127.0.0.1", listener.port))
    wire.sendall(first)
    wire.setblocking(False)
    asked = {"client_keys": [KEY], "known_hosts": None, "config": None, "agent_path": None, "gss_host": None, "preferred_auth": "publickey", **how}
    try:
        return await asyncssh.connect(sock=wire, username="springfield", **asked)
    except BaseException:
        wire.close()
        raise


@pytest.fixture
def proxied(config: Config) -> Config:
    return replace(
        config,
        server=replace(config.server, proxies=("127.0.0.0/8",), ban_score=2, login_seconds=5),
        districts={"springfield": Settings(networks=("192.0.2.0/24", "2001:db8::/32"))},
    )


async def refused(attempt: Awaitable[object]) -> None:
    with pytest.raises((asyncssh.DisconnectError, OSError)):
        await attempt


@pytest.mark.parametrize("source", ["192.0.2.7", "2001:db8::7"])
def test_the_address_that_counts_is_the_one_behind_the_proxy(proxied: Config, source: str) -> None:
    async def go() -> None:
        async with listening(proxied) as listener:
            with structlog.testing.capture_logs() as logs:
                for more in (b"", bytes(100)):
                    async with await through_a_proxy(listener, header(source, more=more)) as connection, connection.start_sftp_client() as sftp:
                        assert await sftp.realpath(".") == "/"
                await refused(through_a_proxy(listener, header("198.51.100.1")))
                await refused(through_a_proxy(listener, header("127.0.0.1", command=0x20)))
                await until(lambda: sum(each["event"] == "login_refused" for each in logs) == 2)
            assert [each["peer"] for each in logs if each["event"] == "session_opened"] == [source] * 2
            assert [each["peer"] for each in logs if each["event"] == "login_refused"] == ["198.51.100.1", "127.0.0.1"]

    asyncio.run(go())


def test_a_guesser_behind_the_proxy_is_banned_alone(proxied: Config) -> None:
    async def go() -> None:
        async with listening(proxied) as listener:
            for _ in range(2):
                await refused(through_a_proxy(listener, header("192.0.2.7"), **by_password("wrong")))
            await refused(through_a_proxy(listener, header("192.0.2.7")))
            (await through_a_proxy(listener, header("192.0.2.8"))).close()

    asyncio.run(go())


UNHEARD = {
    "nothing": (b"", "took longer"),
    "half": (SIGNATURE, "took longer"),
    "version 1": (b"PROXY TCP4 192.0.2.7 192.0.2.1 1 22\r\n", "version 1, not 2"),
    "a client's greeting": (b"SSH-2.0-OpenSSH_9.2p1\r\n", "no header"),
    "cut": (header("192.0.2.7")[:-1], "took longer"),
    "a socket of unix": (SIGNATURE + b"\x21\x31\0\x0c" + bytes(12), "no address"),
    "no address": (SIGNATURE + b"\x21\x11\0\0", "no address"),
}


@pytest.mark.parametrize(("first", "why"), UNHEARD.values(), ids=UNHEARD)
def test_a_proxy_that_does_not_say_for_whom_it_comes_is_not_heard_and_the_log_says_why(proxied: Config, first: bytes, why: str) -> None:
    async def go() -> None:
        async with listening(replace(proxied, server=replace(proxied.server, login_seconds=1))) as listener:
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(first)
            async with asyncio.timeout(PATIENCE_SECONDS):
                with suppress(ConnectionResetError):
                    assert await reader.read(100) == b""
            writer.close()

    with structlog.testing.capture_logs() as logs:
        asyncio.run(go())
    assert [why in each["fault"] for each in logs if each["event"] == "proxy_unheard"] == [True]


def test_who_is_no_proxy_is_not_believed(config: Config) -> None:
    async def go() -> None:
        async with listening(config) as listener:
            await refused(through_a_proxy(listener, header("192.0.2.7")))
            (await connecting(listener)).close()

    asyncio.run(go())


AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.parametrize("acceptors", ["1", "2"])
def test_a_port_that_systemd_opened_is_taken_over(config: Config, acceptors: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        arguments = [sys.executable, "-c", AS_SYSTEMD, str(door.fileno()), sys.executable, "-c", SERVING, str(config.file), str(config.data), acceptors]
        with subprocess.Popen(arguments, pass_fds=[door.fileno()], stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                assert int(process.stdout.readline()) == port
                with socket.create_connection(("127.0.0.1", port)) as client:
                    assert client.recv(8) == b"SSH-2.0-"
            finally:
                process.kill()
