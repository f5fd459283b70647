"""One connection: who is at the other end, and how long it has been silent."""

from __future__ import annotations

import asyncio
import fcntl
import re
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, cast

import asyncssh
import structlog
from asyncssh.channel import SSHChannel

from sftp_ingest.config import Config
from sftp_ingest.errors import IngestError
from sftp_ingest.intake.audit import Audit
from sftp_ingest.intake.channel import CHANNELS, Channel, Place, Subsystem
from sftp_ingest.intake.connection import Connection
from sftp_ingest.intake.defender import networks, within
from sftp_ingest.intake.durable import Flusher
from sftp_ingest.intake.inbox import PREVIEW, REPORTS
from sftp_ingest.intake.keys import Admission
from sftp_ingest.intake.porter import Porter
from sftp_ingest.intake.room import Room
from sftp_ingest.intake.upload import Uploads
from sftp_ingest.intake.wire import FarPorter
from sftp_ingest.model import Account

PASSWORD_TRIES = 6
UNKNOWN = "(unknown)"

log = structlog.get_logger()


def sessions_lock(config: Config, district: str) -> Path:
    """The file that every session of the district holds a shared lock of; who has the exclusive one knows that there is none, and none can begin."""
    return config.locks / f"{district}.sessions"


@dataclass
class Hall:
    """What all connections of one process share."""

    config: Config
    porter: Porter | FarPorter
    home_of: Callable[[Session, SSHChannel[bytes]], Place]
    audit: Audit
    uploads: Uploads = field(default_factory=Uploads)
    flusher: Flusher = field(default_factory=Flusher)
    sessions: set[Session] = field(default_factory=set)
    rooms: dict[int, Room] = field(default_factory=dict)
    copying: ThreadPoolExecutor = field(default_factory=partial(ThreadPoolExecutor, 2, "copying"))
    """Where what stands is copied for an upload that goes on with it: gigabytes perhaps, for which nobody's log-in should wait."""


class Session(asyncssh.SSHServer):
    """One connection: who is at the other end, and since when it has been silent."""

    def __init__(self, hall: Hall) -> None:
        self.hall = hall
        self.district = self.account = ""  # those that were let in
        self._touched = self._sent = 0.0  # when the client asked for something, and when it last sent some of a file
        self._sending = 0  # uploads that are open
        self.connection: Connection
        self.home: Path  # `/` to the district
        self.room: Room
        self._handles = 0
        self.peer = ""
        self._name = ""
        self._asking: Account | None = None  # whose name was given
        self._candidate: Account | None = None  # the same, where it may log in from there
        self._proven: Account | None = None  # whose key or password was checked last
        self._met = False  # a key or password was good
        self._proof = ""  # the key's fingerprint, or that it was the password
        self._id = secrets.token_hex(6)
        self._files = self._bytes = 0
        self.ending = ""  # why we ended it
        self._wrong = 0
        self._row: int | None = None  # of the home's numbers, where there is room for a session
        self._loop = asyncio.get_running_loop()
        self._watch: asyncio.TimerHandle | None = None
        self._presence: IO[str] | None = None
        self._channels = 0
        self._parted = False

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Someone is at the door."""
        self.connection = cast(Connection, conn)
        self.connection.on_proof = self._ask_for_admission
        self.peer = self.connection.peer
        self.hall.sessions.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; its open uploads go with it, see `Home.close`."""
        self.hall.sessions.discard(self)
        self.hall.porter.left(self.connection.guest, not self._wrong and not self._met)
        if self._watch:
            self._watch.cancel()
        if self._presence:
            self._presence.close()
        if self.district:
            # Who closes his channel and leaves may be gone before he has heard us out; then his goodbye is not read any more.
            ending = self.ending or ("lost" if exc and not self._parted else "closed")
            seconds = round(self._loop.time() - self._opened, 1)
            told = {"ending": ending, "seconds": seconds, "received": self._files, "received_bytes": self._bytes}
            self.hall.audit.closed(self.district, self.account, self.peer, self._id, **told)
            self.hall.porter.active(self.district)
            return
        if self._name:  # the name given may be a password typed into the wrong field
            self.hall.porter.refused("login")
            elsewhere = {"reason": "network"} if self._asking and not self._candidate else {}
            district, account = (self._asking.district, self._asking.name) if self._asking else (UNKNOWN, UNKNOWN)
            log.warning("login_refused", district=district, account=account, peer=self.peer, **elsewhere)

    async def begin_auth(self, username: str) -> bool:
        """Looks the name up; known or not, it is asked for a key or a password."""
        try:
            asking = await self.hall.porter.account(username)
        except IngestError as fault:
            log.error("lookup_failed", fault=str(fault))
            raise asyncssh.ServiceNotAvailable("Try again later") from fault
        self._name, self._asking = username, asking
        self._candidate = asking if asking and self._may_come_from_here(asking) else None
        proven = partial(self._prove, self._candidate)
        self.connection.set_authorized_keys(Admission(self._candidate, self.hall.config.server.user_authorities, self.peer, proven))
        return True

    def public_key_auth_supported(self) -> bool:
        """Offered to everyone, so that the offer tells nothing."""
        return True

    def password_auth_supported(self) -> bool:
        """Offered to everyone, so that the offer tells nothing."""
        return True

    async def validate_password(self, username: str, password: str) -> bool:
        """Whether the password is the account's. Ends the connection after too many wrong ones, of its own or of its address."""
        account = self._candidate if username == self._name else None
        met = await self.hall.porter.verified(account.password_hash if account else "", password, self.peer)
        self._prove(account, "password")
        if not met:
            self._wrong += 1
            if await self.hall.porter.offended(self.peer) or self._wrong >= PASSWORD_TRIES:
                raise asyncssh.PermissionDenied("Too many wrong passwords")
        return met

    def auth_completed(self) -> None:
        """Opens the home of the account whose key or password was good; a client may have sent another name since."""
        account = cast(Account, self._proven)
        district = account.district
        if self._row is None:
            log.warning("session_refused", district=district, account=account.name, peer=self.peer, reason="sessions_per_district")
            raise asyncssh.DisconnectError(asyncssh.DISC_TOO_MANY_CONNECTIONS, "Too many sessions")
        self.home = self.hall.config.homes / district
        try:
            self._presence = _present(self.hall.config, district)
            for folder in (self.home, self.home / REPORTS, self.home / PREVIEW):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as fault:
            log.error("home_unavailable", district=district, folder=str(fault.filename or self.home), fault=fault.strerror)
            raise asyncssh.ServiceNotAvailable("Try again later") from fault
        self.district, self.account = district, account.name
        self.room = self.hall.rooms.setdefault(self._row, Room(self.hall.config.server, district, self.home, self.hall.porter.tally, self._row))
        self.touch()
        self._look_at_the_clock()
        self._opened = self._loop.time()
        version = re.sub(r"[^ -~]", "?", str(self.connection.get_extra_info("client_version")))[:64]
        told = {"account": self.account, "peer": self.peer, "client_version": version, "cipher": self.connection.get_extra_info("recv_cipher")}
        log.info("session_opened", district=self.district, **told)
        agreed = {"mac": self.connection.get_extra_info("recv_mac"), "host_key": self.connection.host_key_algorithm}
        self.hall.audit.tell(self.district, "opened", self._id, **told, **agreed, proof=self._proof)
        self.hall.porter.active(self.district)

    def session_requested(self) -> tuple[Channel, Subsystem]:
        """A channel on which SFTP may be spoken. Raises ChannelOpenError where there are too many."""
        if self._channels >= CHANNELS:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_RESOURCE_SHORTAGE, "Too many channels")
        self._channels += 1
        self._parted = False
        return Channel(self.connection), Subsystem(self.connection, partial(self.hall.home_of, self), self._channel_ended)

    def received(self, file: str, size: int, content: int | str) -> None:
        """A file stands under its name; there is its checksum, or a descriptor of its content, which is ours to close."""
        self._files += 1
        self._bytes += size
        self.hall.audit.received(self.district, self.account, self._id, file, size, content)

    def touch(self, *, sent: bool = False) -> None:
        """The client asked for something, or sent some of a file."""
        self._touched = self._loop.time()
        if sent:
            self._sent = self._touched

    def upload_opened(self) -> None:
        """Who holds an upload open is idle, whatever else he asks for, when he sends nothing: the rest of the night waits for it."""
        self._sending += 1
        self.touch(sent=True)

    def upload_ended(self) -> None:
        """One less is open."""
        self._sending -= 1

    def handle_opened(self) -> None:
        """Counts a file or folder that the client holds open, until `handle_closed`. Raises SFTPFailure where it holds too many."""
        if self._handles >= self.hall.config.server.handles_per_session:
            raise asyncssh.SFTPFailure("Too many open files")
        self._handles += 1

    def handle_closed(self) -> None:
        """One less is open."""
        self._handles -= 1

    def _channel_ended(self, in_order: bool) -> None:
        self._channels -= 1
        self._parted = in_order and not self._channels

    async def _ask_for_admission(self) -> None:
        self._met = True
        self._row = await self.hall.porter.admitted(self.connection.guest, cast(Account, self._proven).district)

    def _prove(self, account: Account | None, proof: str) -> None:
        self._proven, self._proof = account if proof else None, proof

    def _may_come_from_here(self, account: Account) -> bool:
        allowed = self.hall.config.settings(account.district).networks
        return not allowed or within(self.peer, networks(allowed))

    def _look_at_the_clock(self) -> None:
        patience = self.hall.config.server.idle_seconds
        left = (min(self._touched, self._sent) if self._sending else self._touched) + patience - self._loop.time()
        if left > 0:
            self._watch = self._loop.call_later(left, self._look_at_the_clock)
        elif patience:
            self.ending = "idle"
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
