"""One connection: who is at the other end, and how long it has been silent."""

from __future__ import annotations

import asyncio
import fcntl
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, cast

import asyncssh
import structlog
from asyncssh.channel import SSHChannel

from sftp_ingest.config import Config
from sftp_ingest.errors import IngestError
from sftp_ingest.intake import login
from sftp_ingest.intake.connection import CHANNELS, Channel, Connection, Subsystem
from sftp_ingest.intake.inbox import PREVIEW, REPORTS
from sftp_ingest.intake.upload import Uploads
from sftp_ingest.model import District

Lookup = Callable[[str], District | None]
"""The district of a log-in name, or None; called in a thread, so it may block."""

PASSWORD_TRIES = 6

log = structlog.get_logger()


def sessions_lock(config: Config, district: str) -> Path:
    """The file that every session of the district holds a shared lock of; who has the exclusive one knows that there is none, and none can begin."""
    return config.locks / f"{district}.sessions"


@dataclass
class Hall:
    """What all connections of one server share.

    `on_activity` is called in the event loop with the district's id whenever a session begins, ends, or touches a file.
    """

    config: Config
    lookup: Lookup
    on_activity: Callable[[str], None]
    home_of: Callable[[Session, SSHChannel[bytes]], asyncssh.SFTPServer]
    passwords: login.Passwords = field(default_factory=login.Passwords)
    uploads: Uploads = field(default_factory=Uploads)
    sessions: set[Session] = field(default_factory=set)


class Session(asyncssh.SSHServer):
    """One connection: who is at the other end, and since when it has been silent."""

    def __init__(self, hall: Hall) -> None:
        self.hall = hall
        self.district = ""  # the one that was let in
        self.touched = 0.0
        self.connection: Connection
        self.home: Path  # `/` to the district
        self._peer = ""
        self._name = ""
        self._asking: District | None = None  # whose name was given
        self._proven = ""  # whose key or password was checked last
        self._tries = 0
        self._loop = asyncio.get_running_loop()
        self._watch: asyncio.TimerHandle | None = None
        self._presence: IO[str] | None = None
        self._channels = 0

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Someone is at the door."""
        self.connection = cast(Connection, conn)
        self._peer = conn.get_extra_info("peername")[0]
        self.hall.sessions.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; its open uploads go with it, see `Home.close`."""
        self.hall.sessions.discard(self)
        if self._watch:
            self._watch.cancel()
        if self._presence:
            self._presence.close()
        if self.district:
            log.info("session_closed", district=self.district, peer=self._peer)
            self.hall.on_activity(self.district)
        elif self._name:  # the name given may be a password typed into the wrong field
            log.warning("login_refused", district=self._asking.id if self._asking else "(unknown)", peer=self._peer)

    async def begin_auth(self, username: str) -> bool:
        """Looks the name up; known or not, it is asked for a key or a password."""
        try:
            asking = await asyncio.to_thread(self.hall.lookup, username)
        except IngestError as fault:
            log.error("lookup_failed", fault=str(fault))
            raise asyncssh.ServiceNotAvailable("Try again later") from fault
        self._name, self._asking = username, asking
        return True

    def public_key_auth_supported(self) -> bool:
        """Offered to everyone, so that the offer tells nothing."""
        return True

    def password_auth_supported(self) -> bool:
        """Offered to everyone, so that the offer tells nothing."""
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Whether the key is one of the district's; asyncssh checks the signature."""
        district = self._candidate(username)
        self._proven = district.id if district else ""
        return district is not None and any(key == each for each in login.keys_of(district))

    async def validate_password(self, username: str, password: str) -> bool:
        """Whether the password is the district's. Ends the connection after too many wrong ones."""
        district = self._candidate(username)
        met = await self.hall.passwords.verified(district.password_hash if district else "", password)
        self._proven = district.id if district else ""
        if not met:
            self._tries += 1
            if self._tries >= PASSWORD_TRIES:
                raise asyncssh.PermissionDenied("Too many wrong passwords")
        return met

    def auth_completed(self) -> None:
        """Opens the home of the district whose key or password was good; a client may have sent another name since."""
        self.home = self.hall.config.homes / self._proven
        try:
            self._presence = _present(self.hall.config, self._proven)
            for folder in (self.home, self.home / REPORTS, self.home / PREVIEW):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as fault:
            log.error("home_unavailable", district=self._proven, fault=fault.strerror)
            raise asyncssh.ServiceNotAvailable("Try again later") from fault
        self.district = self._proven
        self.touch()
        self._look_at_the_clock()
        version = str(self.connection.get_extra_info("client_version"))
        log.info("session_opened", district=self.district, peer=self._peer, client_version=re.sub(r"[^ -~]", "?", version)[:64])
        self.hall.on_activity(self.district)

    def session_requested(self) -> tuple[Channel, Subsystem]:
        """A channel on which SFTP may be spoken. Raises ChannelOpenError where there are too many."""
        if self._channels >= CHANNELS:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_RESOURCE_SHORTAGE, "Too many channels")
        self._channels += 1
        return Channel(self.connection), Subsystem(self.connection, partial(self.hall.home_of, self), self._channel_ended)

    def touch(self) -> None:
        """The client asked for something."""
        self.touched = self._loop.time()

    def _channel_ended(self) -> None:
        self._channels -= 1

    def _candidate(self, username: str) -> District | None:
        return self._asking if username == self._name else None

    def _look_at_the_clock(self) -> None:
        patience = self.hall.config.server.idle_seconds
        left = self.touched + patience - self._loop.time()
        if left > 0:
            self._watch = self._loop.call_later(left, self._look_at_the_clock)
        elif patience:
            self.connection.close()


def _present(config: Config, district: str) -> IO[str]:
    """The open file that tells other processes, by a shared lock, that the district has a session. Raises OSError while the district is being erased."""
    path = sessions_lock(config, district)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file
