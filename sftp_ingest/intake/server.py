"""The SFTP server's port: who comes in by it has a session, and, once logged in, a home."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

import asyncssh
import structlog

from sftp_ingest.config import Config, Server
from sftp_ingest.errors import ConfigError
from sftp_ingest.intake import hostkeys
from sftp_ingest.intake.audit import Audit
from sftp_ingest.intake.connection import CIPHERS, KEY_EXCHANGES, MACS, OLDER_MACS, POST_QUANTUM, SIGNATURES, Connection
from sftp_ingest.intake.defender import Defender, networks, plain_address, within
from sftp_ingest.intake.home import Home
from sftp_ingest.intake.hostkeys import HostKeys, read_host_keys
from sftp_ingest.intake.keys import check_authorities
from sftp_ingest.intake.proxy import real_address
from sftp_ingest.intake.session import Hall, Lookup, Session
from sftp_ingest.intake.upload import remove_cut, tidy_parts

KEEPALIVE_SECONDS = 30
CLOSING_SECONDS = 5
BACKLOG = 128
BREATH_SECONDS = 0.5
HOST_KEYS_SECONDS = 2.0
TIDY_SECONDS = 3600
COUNTS_SECONDS = 5.0
FIRST_DESCRIPTOR = 3

log = structlog.get_logger()


async def listen(config: Config, lookup: Lookup, on_activity: Callable[[str], None]) -> Listener:
    """A server that accepts log-ins at `config.server`. Raises ConfigError where it cannot.

    `on_activity` is called in the event loop with the district's id whenever a session begins, ends, or touches a file.
    """
    listener = Listener(config, lookup, on_activity)
    await listener.start()
    return listener


class Listener:
    """The open port, and everyone who came in by it."""

    def __init__(self, config: Config, lookup: Lookup, on_activity: Callable[[str], None]) -> None:
        self.port = 0
        self._audit = Audit(config)
        self._hall = Hall(config, lookup, on_activity, Home, Defender(config.server, self._audit.refuse), self._audit)
        self._options: asyncssh.SSHServerConnectionOptions
        self._sockets: list[socket.socket] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._proxies = networks(config.server.proxies)
        self._announced: set[asyncio.Task[None]] = set()

    @property
    def sessions(self) -> set[Session]:
        """Everyone who is connected."""
        return self._hall.sessions

    async def start(self) -> None:
        """Tidies away the parts of a server that was killed, then opens the port. Raises ConfigError."""
        config = self._hall.config
        check_authorities(config.server.user_authorities)
        seen = hostkeys.signature(config)
        self._options = await self._agreed(read_host_keys(config))
        config.homes.mkdir(mode=0o700, parents=True, exist_ok=True)
        tidy_parts(config.homes)
        self._audit.start()
        self._sockets = await _open(config.server)
        self.port = self._sockets[0].getsockname()[1]
        self._tasks = [
            *(asyncio.create_task(self._accept(each)) for each in self._sockets),
            *(asyncio.create_task(each) for each in (self._follow_host_keys(seen), self._tidy(), self._count())),
        ]

    async def drain(self, grace: float) -> None:
        """Accepts nobody from now on, waits until no upload is open or `grace` seconds have passed, then ends all sessions."""
        waiting = [*self._tasks, *self._announced]
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for door in self._sockets:
            door.close()
        await self._hall.uploads.stillness(grace)
        for session in self.sessions:
            session.ending = "stopped"
        connections = [session.connection for session in self.sessions]
        for connection in connections:
            connection.close()
        for connection in connections:
            await connection.wait_closed()
        await self._hall.uploads.stillness(CLOSING_SECONDS)  # what was cut off just now is still being thrown away
        self._hall.passwords.close()
        await asyncio.to_thread(self._audit.close)

    async def _agreed(self, keys: HostKeys) -> asyncssh.SSHServerConnectionOptions:
        """What is offered to every client."""
        options: asyncssh.SSHServerConnectionOptions = await asyncssh.SSHServerConnectionOptions.construct(
            server_factory=lambda: Session(self._hall),
            server_version="sftp_ingest",
            server_host_keys=[*keys.used, *keys.announced],
            send_server_host_keys=True,
            kex_algs=POST_QUANTUM if self._hall.config.server.post_quantum_only else KEY_EXCHANGES,
            encryption_algs=CIPHERS,
            mac_algs=(*MACS, *OLDER_MACS) if self._hall.config.server.older_clients else MACS,
            signature_algs=SIGNATURES,
            compression_algs=None,
            host_based_auth=False,
            gss_host=None,
            agent_forwarding=False,
            x11_forwarding=False,
            login_timeout=self._hall.config.server.login_seconds,
            keepalive_interval=KEEPALIVE_SECONDS,
            config=None,
        )
        return options

    async def _follow_host_keys(self, seen: object) -> None:
        """Serves what lies in the files of the host keys, also when that changes."""
        config = self._hall.config
        while True:
            await asyncio.sleep(HOST_KEYS_SECONDS)
            if (now := hostkeys.signature(config)) == seen:
                continue
            seen = now
            try:
                self._options = await self._agreed(read_host_keys(config))
                log.info("host_keys_changed", fingerprints=list(hostkeys.fingerprints(config).values()))
            except ConfigError as fault:  # the keys that were read before are as good as they were
                log.error("host_keys_unreadable", fault=str(fault))

    async def _tidy(self) -> None:
        """Keeps nothing of an upload that nobody will go on with."""
        while True:
            await asyncio.to_thread(remove_cut, self._hall.config.homes)
            await asyncio.to_thread(self._audit.forget)
            await asyncio.sleep(TIDY_SECONDS)

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(COUNTS_SECONDS)
            self._audit.write_counts()

    async def _accept(self, door: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, address = await loop.sock_accept(door)
            except OSError as fault:  # no descriptor is left, and there will be one when somebody goes
                log.error("accept_failed", fault=fault.strerror)
                await asyncio.sleep(BREATH_SECONDS)
                continue
            peer = plain_address(address[0])
            if not within(peer, self._proxies):
                await self._receive(client, peer)
            elif len(self._announced) < BACKLOG:
                task = asyncio.create_task(self._receive_from_proxy(client, peer))
                self._announced.add(task)
                task.add_done_callback(self._announced.discard)
            else:
                client.close()

    async def _receive_from_proxy(self, client: socket.socket, proxy: str) -> None:
        try:
            async with asyncio.timeout(self._hall.config.server.login_seconds):
                peer = await real_address(client)
        except (OSError, ValueError, TimeoutError):
            log.warning("proxy_unheard", peer=proxy)
            client.close()
            return
        await self._receive(client, plain_address(peer or proxy))

    async def _receive(self, client: socket.socket, peer: str) -> None:
        if not self._hall.defender.arrived(peer):
            client.close()
            return
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: Connection(self._options, peer), client)
        except OSError:  # gone already
            client.close()
            self._hall.defender.left(peer, stranger=True)


async def _open(server: Server) -> list[socket.socket]:
    """The sockets that systemd opened for us, else a listening one for every address that the host stands for. Raises ConfigError."""
    opened = _inherited()
    if opened:
        return opened
    try:
        found = await asyncio.get_running_loop().getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            opened.append(socket.create_server(address, family=family, backlog=BACKLOG))
            opened[-1].setblocking(False)
    except OSError as fault:
        for each in opened:
            each.close()
        raise ConfigError(f"server.host, server.port: {server.host} port {server.port} cannot be opened: {fault.strerror}") from fault
    return opened


def _inherited() -> list[socket.socket]:
    """What sd_listen_fds(3) describes; runs are not to inherit it in their turn."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    found = [socket.socket(fileno=FIRST_DESCRIPTOR + number) for number in range(int(os.environ.get("LISTEN_FDS", "0")))]
    for each in found:
        each.set_inheritable(False)
        each.setblocking(False)
    return found
