"""The SFTP server's port: who comes in by it has a session, and, once logged in, a home."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import asyncssh

from sftp_ingest.config import Config
from sftp_ingest.errors import ConfigError
from sftp_ingest.intake.home import Home
from sftp_ingest.intake.session import Hall, Lookup, Session
from sftp_ingest.intake.upload import remove_parts

# AES-GCM costs a third less than ChaCha20 here; the client's order decides, but not every client has one of its own.
CIPHERS = (
    "aes256-gcm@openssh.com",
    "aes128-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
)
KEEPALIVE_SECONDS = 30
CLOSING_SECONDS = 5


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
        self._hall = Hall(config, lookup, on_activity)

    @property
    def sessions(self) -> set[Session]:
        """Everyone who is connected."""
        return self._hall.sessions

    async def start(self) -> None:
        """Clears away parts of a server that was killed, then opens the port. Raises ConfigError."""
        config = self._hall.config
        server = config.server
        try:
            key = asyncssh.read_private_key(config.host_key)
        except OSError as fault:
            raise ConfigError(f"server.host_key: {config.host_key} cannot be read: {fault.strerror}") from fault
        except asyncssh.KeyImportError as fault:
            raise ConfigError(f"server.host_key: {config.host_key} is not a private key; move it away, and `sftp-ingest init` makes another") from fault
        config.homes.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_parts(config.homes)
        try:
            self._acceptor = await asyncssh.listen(
                server.host,
                server.port,
                server_factory=partial(Session, self._hall),
                server_host_keys=[key],
                sftp_factory=_home_of,
                sftp_version=3,
                allow_scp=False,
                allow_pty=False,
                agent_forwarding=False,
                x11_forwarding=False,
                host_based_auth=False,
                gss_host=None,
                encryption_algs=CIPHERS,
                login_timeout=server.login_seconds,
                keepalive_interval=KEEPALIVE_SECONDS,
                config=None,
            )
        except OSError as fault:
            raise ConfigError(f"server.host, server.port: {server.host} port {server.port} cannot be opened: {fault.strerror}") from fault
        self.port = self._acceptor.get_port()

    async def drain(self, grace: float) -> None:
        """Accepts nobody from now on, waits until no upload is open or `grace` seconds have passed, then ends all sessions."""
        self._acceptor.close()
        await self._hall.uploads.stillness(grace)
        connections = [session.connection for session in self.sessions]
        for connection in connections:
            connection.close()
        for connection in connections:
            await connection.wait_closed()
        await self._hall.uploads.stillness(CLOSING_SECONDS)  # what was cut off just now is still being thrown away
        self._hall.passwords.close()


def _home_of(chan: asyncssh.SSHServerChannel[bytes]) -> Home:
    return Home(cast(Session, chan.get_connection().get_owner()), chan)
