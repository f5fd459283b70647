"""Serves the connections that are handed to it: the sessions of one process, which is the daemon's own or one beside it."""

from __future__ import annotations

import asyncio
import socket

import asyncssh

from sftp_ingest.config import Config
from sftp_ingest.intake.audit import Audit
from sftp_ingest.intake.connection import CIPHERS, KEY_EXCHANGES, MACS, OLDER_MACS, POST_QUANTUM, SIGNATURES, Connection
from sftp_ingest.intake.home import Home
from sftp_ingest.intake.hostkeys import read_host_keys
from sftp_ingest.intake.porter import Porter
from sftp_ingest.intake.session import Hall, Session
from sftp_ingest.intake.wire import FarPorter

CLOSING_SECONDS = 5


class Acceptor:
    """The hall of a process, and what is offered to everyone who comes into it."""

    def __init__(self, config: Config, porter: Porter | FarPorter, audit: Audit) -> None:
        self.hall = Hall(config, porter, Home, audit)
        self._options: asyncssh.SSHServerConnectionOptions

    async def start(self) -> None:
        """Is ready for guests. Raises ConfigError."""
        await self.renew()

    async def renew(self) -> None:
        """Offers the host keys that lie in their files now. Raises ConfigError where they cannot be read, and changes nothing then."""
        server, keys = self.hall.config.server, read_host_keys(self.hall.config)
        self._options = await asyncssh.SSHServerConnectionOptions.construct(
            server_factory=lambda: Session(self.hall),
            server_version="sftp_ingest",
            server_host_keys=[*keys.used, *keys.announced],
            send_server_host_keys=True,
            kex_algs=POST_QUANTUM if server.post_quantum_only else KEY_EXCHANGES,
            encryption_algs=CIPHERS,
            mac_algs=(*MACS, *OLDER_MACS) if server.older_clients else MACS,
            signature_algs=SIGNATURES,
            compression_algs=None,
            host_based_auth=False,
            gss_host=None,
            agent_forwarding=False,
            x11_forwarding=False,
            login_timeout=server.login_seconds,
            config=None,
        )

    async def take(self, client: socket.socket, guest: int, peer: str) -> None:
        """Serves a guest of the porter's, who comes from the address `peer`."""
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: Connection(self._options, guest, peer), client)
        except OSError:  # gone already
            client.close()
            self.hall.porter.left(guest)

    async def drain(self, grace: float) -> None:
        """Waits until no upload is open or `grace` seconds have passed, then ends all sessions. What was closed is on the disk when it returns."""
        await self.hall.uploads.stillness(grace)
        for session in self.hall.sessions:
            session.ending = "stopped"
        connections = [session.connection for session in self.hall.sessions]
        for connection in connections:
            connection.close()
        for connection in connections:
            await connection.wait_closed()
        await self.hall.uploads.stillness(CLOSING_SECONDS)  # what was cut off just now is still being thrown away
        await asyncio.to_thread(self.hall.flusher.close)
