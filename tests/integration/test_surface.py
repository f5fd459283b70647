"""What the SFTP server offers to a stranger, and what it does not: measured with ssh-audit, tried with OpenSSH's clients and asyncssh's."""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest
from asyncssh.constants import MSG_KEXINIT
from asyncssh.packet import SSHPacket, String, UInt32

from sftp_ingest.config import Config
from sftp_ingest.intake import hostkeys
from sftp_ingest.intake.channel import CHANNELS
from sftp_ingest.intake.connection import CIPHERS, KEY_EXCHANGES, MACS, SIGNATURES
from tests.integration.port import KEY, SFTP, SSH, Packets, connecting, listening, needs_openssh, private_key, run_openssh, until

Attempt = Callable[[asyncssh.SSHClientConnection, Path], Awaitable[object]]

UNPROTECTED = "does not provide protection against post-quantum attacks"


def audited(config: Config) -> tuple[int, dict[str, list[str]]]:
    """What ssh-audit says of the server: its exit code, and every fail and warn by algorithm."""

    async def go() -> subprocess.CompletedProcess[bytes]:
        async with listening(config) as listener:
            command = [sys.executable, "-m", "ssh_audit.ssh_audit", "--json", "--skip-rate-test", "-p", str(listener.port), "127.0.0.1"]
            return await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=120, check=False)

    done = asyncio.run(go())
    told = json.loads(done.stdout)
    algorithms = [each for group in ("kex", "key", "enc", "mac") for each in told[group]]
    assert {each["algorithm"] for each in told["key"]} == {"ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256"}
    assert told["cves"] == []
    return done.returncode, {each["algorithm"]: faults for each in algorithms if (faults := each["notes"].get("fail", []) + each["notes"].get("warn", []))}


@pytest.fixture
def with_both_keys(config: Config) -> Config:
    hostkeys.make_host_key(config.host_keys[1])
    return config


# ---------------------------------------------------------------- algorithms


def test_ssh_audit_finds_nothing_to_fail_or_warn_of_where_every_client_must_have_a_hybrid(with_both_keys: Config) -> None:
    code, faults = audited(replace(with_both_keys, server=replace(with_both_keys.server, post_quantum_only=True)))
    assert (code, faults) == (0, {})


def test_all_that_ssh_audit_warns_of_is_what_clients_without_a_hybrid_need(with_both_keys: Config) -> None:
    _, faults = audited(with_both_keys)
    assert faults == {"curve25519-sha256": [UNPROTECTED], "curve25519-sha256@libssh.org": [UNPROTECTED]}


@pytest.mark.parametrize(
    ("known", "chosen"),
    [
        (CIPHERS, "aes256-gcm@openssh.com"),
        (["chacha20-poly1305@openssh.com", "aes256-ctr", "aes128-gcm@openssh.com"], "aes128-gcm@openssh.com"),
        (["chacha20-poly1305@openssh.com", "aes256-ctr"], "chacha20-poly1305@openssh.com"),
        (["aes256-ctr"], "aes256-ctr"),
    ],
)
def test_who_knows_aes_gcm_speaks_it_whatever_he_would_like_better_and_all_others_are_served(config: Config, known: Sequence[str], chosen: str) -> None:
    async def go() -> None:
        async with listening(config) as listener, await connecting(listener, client_keys=[KEY], encryption_algs=known) as connection:
            assert connection.get_extra_info("send_cipher") == chosen

    asyncio.run(go())


async def offered(reader: asyncio.StreamReader) -> list[str]:
    """The ciphers that a server tells, behind its version, without encryption."""
    await reader.readline()
    packet = await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
    kept = SSHPacket(packet[1:])
    kept.get_bytes(1 + 16)
    return [each.decode() for each in [kept.get_namelist() for _ in range(3)][-1]]


def told(sends: Sequence[str], hears: Sequence[str]) -> bytes:
    """A client's version and the algorithms that it knows, as it sends them."""
    lists = [KEY_EXCHANGES, SIGNATURES, sends, hears, MACS, MACS, ["none"], ["none"], [], []]
    payload = bytes([MSG_KEXINIT]) + bytes(16) + b"".join(String(",".join(each)) for each in lists) + bytes(5)
    padding = 16 - (5 + len(payload)) % 8
    return b"SSH-2.0-dribbler\r\n" + UInt32(1 + len(payload) + padding) + bytes([padding]) + payload + bytes(padding)


@pytest.mark.parametrize(("hears", "found"), [(CIPHERS, ["aes256-gcm@openssh.com"]), (["chacha20-poly1305@openssh.com"], list(CIPHERS))])
def test_what_a_client_knows_in_both_directions_is_understood_in_whatever_pieces_it_comes(config: Config, hears: Sequence[str], found: list[str]) -> None:
    async def go() -> None:
        async with listening(config) as listener:
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            for each in told(["chacha20-poly1305@openssh.com", "aes256-gcm@openssh.com"], hears):
                writer.write(bytes([each]))
                await asyncio.sleep(0)
            assert await offered(reader) == found
            writer.close()

    asyncio.run(go())


def test_who_waits_for_the_servers_algorithms_before_he_tells_his_own_hears_of_all(config: Config) -> None:
    async def go() -> None:
        async with listening(config) as listener:
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(b"SSH-2.0-waits\r\n")
            assert await offered(reader) == list(CIPHERS)
            writer.close()

    asyncio.run(go())


@pytest.mark.parametrize("algorithm", ["ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256"])
def test_a_client_may_know_the_server_by_either_of_its_keys(with_both_keys: Config, algorithm: str) -> None:
    async def go() -> None:
        known = [asyncssh.read_private_key(each).convert_to_public() for each in with_both_keys.host_keys]
        async with listening(with_both_keys) as listener:
            how = {"client_keys": [KEY], "known_hosts": (known, [], []), "server_host_key_algs": [algorithm]}
            async with await connecting(listener, **how) as connection, connection.start_sftp_client():
                pass

    asyncio.run(go())


@pytest.mark.parametrize(
    "how",
    [
        {"server_host_key_algs": ["ssh-rsa"]},
        {"mac_algs": ["hmac-sha2-256"], "encryption_algs": ["aes128-ctr"]},
        {"encryption_algs": ["aes128-cbc"]},
        {"kex_algs": ["ecdh-sha2-nistp256"]},
        {"kex_algs": ["diffie-hellman-group14-sha256"]},
        {"compression_algs": ["zlib@openssh.com"]},
    ],
)
def test_what_is_weak_is_not_agreed_to(with_both_keys: Config, how: dict[str, object]) -> None:
    async def go() -> None:
        async with listening(with_both_keys) as listener:
            with pytest.raises(asyncssh.KeyExchangeFailed):
                await connecting(listener, client_keys=[KEY], **how)

    asyncio.run(go())


# ---------------------------------------------------------------- nothing but SFTP


def shell(connection: asyncssh.SSHClientConnection, folder: Path) -> Awaitable[object]:
    return connection.create_process()


def terminal(connection: asyncssh.SSHClientConnection, folder: Path) -> Awaitable[object]:
    return connection.create_process(term_type="xterm")


def command(connection: asyncssh.SSHClientConnection, folder: Path) -> Awaitable[object]:
    return connection.create_process("id")


def scp(connection: asyncssh.SSHClientConnection, folder: Path) -> Awaitable[object]:
    (folder / "students.csv").write_bytes(b"x")
    return asyncssh.scp(str(folder / "students.csv"), (connection, "/"))


def other_subsystem(connection: asyncssh.SSHClientConnection, folder: Path) -> Awaitable[object]:
    return connection.open_session(subsystem="netconf")


def local_port(connection: asyncssh.SSHClientConnection, folder: Path) -> Awaitable[object]:
    return connection.open_connection("127.0.0.1", 22)


def remote_port(connection: asyncssh.SSHClientConnection, folder: Path) -> Awaitable[object]:
    return connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", 22)


def local_socket(connection: asyncssh.SSHClientConnection, folder: Path) -> Awaitable[object]:
    return connection.open_unix_connection(str(folder / "socket"))


def remote_socket(connection: asyncssh.SSHClientConnection, folder: Path) -> Awaitable[object]:
    return connection.forward_remote_path(str(folder / "socket"), str(folder / "other"))


def x11(connection: asyncssh.SSHClientConnection, folder: Path) -> Awaitable[object]:
    return connection.open_session(subsystem="sftp", x11_forwarding=True, x11_display="127.0.0.1:0", encoding=None)


def tunnel(connection: asyncssh.SSHClientConnection, folder: Path) -> Awaitable[object]:
    return connection.open_tun()


ATTEMPTS = (shell, terminal, command, scp, other_subsystem, local_port, remote_port, local_socket, remote_socket, x11, tunnel)


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda each: each.__name__)
def test_all_but_sftp_is_refused(config: Config, tmp_path: Path, attempt: Attempt) -> None:
    async def go() -> None:
        async with listening(config) as listener, await connecting(listener) as connection:
            with pytest.raises((asyncssh.ChannelOpenError, asyncssh.ChannelListenError, asyncssh.ProcessError, asyncssh.SFTPError)):
                await attempt(connection, tmp_path)
            async with connection.start_sftp_client() as sftp:
                assert await sftp.listdir("/") != []

    asyncio.run(go())


@needs_openssh
@pytest.mark.parametrize(
    "arguments", [("-T",), ("-tt",), ("id",), ("-s", "netconf"), ("-W127.0.0.1:22",), ("-N", "-oExitOnForwardFailure=yes", "-R0:127.0.0.1:22")], ids=" ".join
)
def test_openssh_gets_nothing_but_sftp_either(config: Config, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    async def go() -> None:
        async with listening(config) as listener:
            done = await asyncio.to_thread(run_openssh, SSH, listener.port, private_key(tmp_path), *arguments)
            assert done.returncode != 0
            assert done.stdout == ""

    asyncio.run(go())


@pytest.mark.parametrize(
    ("request_name", "fields"),
    [(b"env", (b"LANG", b"C")), (b"auth-agent-req@openssh.com", ()), (b"exec", (b"id",)), (b"shell", ()), (b"subsystem", (b"sftp",)), (b"nonsense", ())],
)
def test_an_open_sftp_channel_grants_no_further_request(config: Config, request_name: bytes, fields: tuple[bytes, ...]) -> None:
    async def go() -> None:
        async with listening(config) as listener, await connecting(listener) as connection:
            channel, _ = await connection.create_session(asyncssh.SSHClientSession, subsystem="sftp", encoding=None)
            answer = await channel._make_request(request_name, *(len(each).to_bytes(4, "big") + each for each in fields))
            assert answer is False

    asyncio.run(go())


@needs_openssh
def test_the_environment_that_openssh_sends_is_ignored(config: Config, tmp_path: Path) -> None:
    async def go() -> None:
        async with listening(config) as listener:
            done = await asyncio.to_thread(run_openssh, SFTP, listener.port, private_key(tmp_path), "-b-", "-oSetEnv=LANG=C", batch="pwd\n")
            assert (done.returncode, "Remote working directory: /" in done.stdout) == (0, True)

    asyncio.run(go())


@needs_openssh
def test_every_answer_is_one_packet(config: Config, tmp_path: Path) -> None:
    """asyncssh puts an empty packet before each, which costs as much again and protects only a mode of ciphers that is not offered."""

    async def go() -> None:
        async with listening(config) as listener:
            done = await asyncio.to_thread(run_openssh, SFTP, listener.port, private_key(tmp_path), "-b-", "-oLogLevel=DEBUG3", batch="pwd\nls\n")
            assert (done.returncode, "SSH2_MSG_SERVICE_ACCEPT" in done.stderr, "SSH2_MSG_IGNORE" in done.stderr) == (0, True, False), done.stderr

    asyncio.run(go())


def test_a_connection_has_only_so_many_channels(config: Config) -> None:
    async def go() -> None:
        async with listening(config) as listener, await connecting(listener) as connection:
            opened = [await connection.start_sftp_client() for _ in range(CHANNELS)]
            with pytest.raises(asyncssh.ChannelOpenError):
                await connection.start_sftp_client()
            opened[0].exit()
            await opened[0].wait_closed()
            assert await (await connection.start_sftp_client()).listdir("/") != []

    asyncio.run(go())


def test_a_client_that_leaves_answers_unread_gets_no_more_of_them(config: Config, home: Path) -> None:
    """16 MiB are asked for 400 times over one connection that nothing is read from; what piles up is bounded all the same."""
    home.mkdir(parents=True)
    (home / "big.csv").write_bytes(bytes(16 << 20))

    async def go() -> None:
        async with listening(config) as listener, await connecting(listener) as connection:
            writer, reader, _ = await connection.open_session(subsystem="sftp", encoding=None, window=1 << 30)
            client = Packets(writer, reader)
            handle = await client.open(b"big.csv", 1)
            connection._transport.pause_reading()
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            writer.write(b"".join(client.packet(5, 2, handle, 0, 0, 16 << 20) for _ in range(400)))
            [session] = listener.acceptor.hall.sessions
            await until(lambda: not session.connection.taken.is_set())
            await asyncio.sleep(0.5)
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            assert grown < 64 << 10, f"{grown} KiB"
            connection.abort()

    asyncio.run(go())
