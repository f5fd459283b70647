"""The SFTP server: a district logs in to its own jailed home, and what it sends appears there whole or not at all."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import re
import secrets
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from posixpath import normpath
from typing import IO, cast

import asyncssh
import structlog
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from sftp_ingest.config import Config
from sftp_ingest.errors import ConfigError, IngestError
from sftp_ingest.intake.inbox import PART_PREFIX, PREVIEW, REPORTS
from sftp_ingest.model import District

Lookup = Callable[[str], District | None]
"""The district of a log-in name, or None; called in a thread, so it may block."""

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
PASSWORD_TRIES = 6
CLOSING_SECONDS = 5
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

log = structlog.get_logger()


def make_host_key(path: Path) -> str:
    """Writes a new Ed25519 private key that only its owner can read, and returns its fingerprint. Raises ConfigError where `path` exists."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as fault:
        raise ConfigError(f"server.host_key: {path} exists; clients that know it would refuse another, so it is not replaced") from fault
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.export_private_key("openssh"))
    return key.get_fingerprint()


def hash_password(text: str) -> str:
    """The argon2id hash to keep in place of the password."""
    return PasswordHasher().hash(text)


def sessions_lock(config: Config, district: str) -> Path:
    """The file that every session of the district holds a shared lock of; who has the exclusive one knows that there is none, and none can begin."""
    return config.locks / f"{district}.sessions"


def check_key(line: str) -> None:
    """Nothing, where the line is an OpenSSH public key that can log in. Raises ConfigError otherwise."""
    try:
        asyncssh.import_public_key(line)
    except asyncssh.KeyImportError as fault:
        raise ConfigError("this is not an OpenSSH public key") from fault


async def listen(config: Config, lookup: Lookup, on_activity: Callable[[str], None]) -> Listener:
    """A server that accepts log-ins at `config.server`. Raises ConfigError where it cannot.

    `on_activity` is called in the event loop with the district's id whenever a session begins, ends, or touches a file.
    """
    listener = Listener(config, lookup, on_activity)
    await listener.start()
    return listener


class Listener:
    """The open port, everyone who is connected, and every upload that has not been closed."""

    def __init__(self, config: Config, lookup: Lookup, on_activity: Callable[[str], None]) -> None:
        self.config = config
        self.lookup = lookup
        self.on_activity = on_activity
        self.port = 0
        self.sessions: set[Session] = set()
        self._uploads: set[Upload] = set()
        self._still = asyncio.Event()
        self._still.set()
        self._verifiers = ThreadPoolExecutor(2, thread_name_prefix="password")  # 64 MiB each: more at once is a way to fell us
        self._nobody = hash_password(secrets.token_hex())

    async def start(self) -> None:
        """Clears away parts of a server that was killed, then opens the port. Raises ConfigError."""
        server = self.config.server
        try:
            key = asyncssh.read_private_key(self.config.host_key)
        except OSError as fault:
            raise ConfigError(f"server.host_key: {self.config.host_key} cannot be read: {fault.strerror}") from fault
        except asyncssh.KeyImportError as fault:
            raise ConfigError(f"server.host_key: {self.config.host_key} is not a private key; move it away, and `sftp-ingest init` makes another") from fault
        self.config.homes.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_parts(self.config.homes)
        try:
            self._acceptor = await asyncssh.listen(
                server.host,
                server.port,
                server_factory=partial(Session, self),
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
        await self._stillness(grace)
        connections = [session.connection for session in self.sessions]
        for connection in connections:
            connection.close()
        for connection in connections:
            await connection.wait_closed()
        await self._stillness(CLOSING_SECONDS)  # what was cut off just now is still being thrown away
        self._verifiers.shutdown(wait=False)

    async def verified(self, password_hash: str, password: str) -> bool:
        """Whether the password is the one hashed; an empty hash takes as long as any other, and is never met."""
        loop = asyncio.get_running_loop()
        met = await loop.run_in_executor(self._verifiers, _matches, password_hash or self._nobody, password)
        return met and bool(password_hash)

    def opened(self, upload: Upload) -> None:
        """Keeps count of an upload until `ended`."""
        self._uploads.add(upload)
        self._still.clear()

    def ended(self, upload: Upload) -> None:
        """The upload stands under its name, or is gone."""
        self._uploads.discard(upload)
        if not self._uploads:
            self._still.set()

    async def _stillness(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._still.wait(), seconds)


class Session(asyncssh.SSHServer):
    """One connection: who is at the other end, and since when it has been silent."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.district = ""  # the one that was let in
        self.touched = 0.0
        self.connection: asyncssh.SSHServerConnection
        self.home: Path  # `/` to the district
        self._peer = ""
        self._name = ""
        self._asking: District | None = None  # whose name was given
        self._proven = ""  # whose key or password was checked last
        self._tries = 0
        self._loop = asyncio.get_running_loop()
        self._watch: asyncio.TimerHandle | None = None
        self._presence: IO[str] | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Someone is at the door."""
        self.connection = conn
        self._peer = conn.get_extra_info("peername")[0]
        self.listener.sessions.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; its open uploads go with it, see `Home.close`."""
        self.listener.sessions.discard(self)
        if self._watch:
            self._watch.cancel()
        if self._presence:
            self._presence.close()
        if self.district:
            log.info("session_closed", district=self.district, peer=self._peer)
            self.listener.on_activity(self.district)
        elif self._name:  # the name given may be a password typed into the wrong field
            log.warning("login_refused", district=self._asking.id if self._asking else "(unknown)", peer=self._peer)

    async def begin_auth(self, username: str) -> bool:
        """Looks the name up; known or not, it is asked for a key or a password."""
        try:
            asking = await asyncio.to_thread(self.listener.lookup, username)
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
        return district is not None and any(key == each for each in _keys(district))

    async def validate_password(self, username: str, password: str) -> bool:
        """Whether the password is the district's. Ends the connection after too many wrong ones."""
        district = self._candidate(username)
        met = await self.listener.verified(district.password_hash if district else "", password)
        self._proven = district.id if district else ""
        if not met:
            self._tries += 1
            if self._tries >= PASSWORD_TRIES:
                raise asyncssh.PermissionDenied("Too many wrong passwords")
        return met

    def auth_completed(self) -> None:
        """Opens the home of the district whose key or password was good; a client may have sent another name since."""
        self.home = self.listener.config.homes / self._proven
        try:
            self._presence = _present(self.listener.config, self._proven)
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
        self.listener.on_activity(self.district)

    def touch(self) -> None:
        """The client asked for something."""
        self.touched = self._loop.time()

    def _candidate(self, username: str) -> District | None:
        return self._asking if username == self._name else None

    def _look_at_the_clock(self) -> None:
        patience = self.listener.config.server.idle_seconds
        left = self.touched + patience - self._loop.time()
        if left > 0:
            self._watch = self._loop.call_later(left, self._look_at_the_clock)
        elif patience:
            self.connection.close()


class Upload(io.FileIO):
    """A file on its way: an open part file, hidden in the folder where it will appear, so that appearing is one atomic rename.

    Whatever was there under the name before is a different inode and stays as it is, in deliveries that were sealed from it.
    """

    def __init__(self, folder: int, target: str, *, append: bool = False, exclusive: bool = False) -> None:
        self._folder = os.dup(folder)
        try:
            super().__init__(f"{PART_PREFIX}{secrets.token_hex(8)}", "x+b", opener=lambda name, flags: os.open(name, flags, 0o600, dir_fd=folder))
        except OSError:
            os.close(self._folder)
            raise
        self.target = target
        self._append = append
        self._exclusive = exclusive
        self._fault: OSError | None = None

    def fill_from(self, folder: int, name: str) -> None:
        """Begins with what stands under the name now."""
        with _open_file(folder, name) as source:
            while block := source.read(1 << 20):
                self.write_at(block, os.lseek(self.fileno(), 0, os.SEEK_END))

    def write_at(self, data: bytes, offset: int) -> int:
        """Writes all of `data`. After a write that failed the upload can no longer be committed."""
        if self._append:
            offset = os.fstat(self.fileno()).st_size
        try:
            written = 0
            while written < len(data):  # a disk that is nearly full takes less than it is given
                written += os.pwrite(self.fileno(), memoryview(data)[written:], offset + written)
        except OSError as fault:
            self._fault = fault
            raise
        return written

    def commit(self) -> int:
        """Makes the file durable and gives it its name; its size in bytes. Raises OSError, and leaves no trace, where that fails."""
        try:
            if self._fault:
                raise self._fault
            os.fsync(self.fileno())
            size = os.fstat(self.fileno()).st_size
            if self._exclusive:  # a link fails where the name was taken meanwhile, a rename would not
                os.link(self.part, self.target, src_dir_fd=self._folder, dst_dir_fd=self._folder)
                os.unlink(self.part, dir_fd=self._folder)
            else:
                os.replace(self.part, self.target, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            os.fsync(self._folder)
        except OSError:
            self.discard()
            raise
        self.close()
        return size

    def discard(self) -> None:
        """Leaves nothing behind."""
        with suppress(OSError):  # what cannot be removed now is removed at the next start
            os.unlink(self.part, dir_fd=self._folder)
        self.close()

    @property
    def part(self) -> str:
        """The hidden name."""
        return cast(str, self.name)

    def close(self) -> None:
        """Closes the part file and its folder, and decides nothing."""
        if not self.closed:
            super().close()
            os.close(self._folder)


class Home(asyncssh.SFTPServer):
    """A district's home as its client sees it: `/`, with a `reports` folder that only we write.

    Every path is first resolved as text, so that `..` ends at `/`, and then walked from the home one folder at a time with
    O_NOFOLLOW, so that the kernel itself refuses a symbolic link in any place; nothing is looked up by its whole path.
    """

    def __init__(self, session: Session, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        super().__init__(chan)
        self._session = session
        self._uploads = session.listener
        self._around = sys.exception()

    def map_path(self, path: bytes) -> bytes:
        """Refuses all that is not allowed below: links of both kinds, and whatever a later asyncssh may add."""
        raise asyncssh.SFTPPermissionDenied("Not allowed here")

    # ---------------------------------------------------------------- files

    async def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        """The file, open for reading; or an upload, where the client means to write."""
        if not pflags & (asyncssh.FXF_WRITE | asyncssh.FXF_APPEND):
            with self._at(path) as (folder, name):
                return _open_file(folder, name)
        with self._at(path, change=True) as (folder, name):
            there = _facts(folder, name)
            if there is None and not pflags & asyncssh.FXF_CREAT:
                raise asyncssh.SFTPNoSuchFile("No such file")
            if there is not None and pflags & asyncssh.FXF_EXCL:
                raise asyncssh.SFTPFileAlreadyExists("File already exists")
            if there is not None and not stat.S_ISREG(there.st_mode):
                raise asyncssh.SFTPPermissionDenied("Not a file")
            keep = there is not None and not pflags & asyncssh.FXF_TRUNC
            return await self._begin(folder, name, keep=keep, append=bool(pflags & asyncssh.FXF_APPEND), exclusive=bool(pflags & asyncssh.FXF_EXCL))

    def read(self, file_obj: object, offset: int, size: int) -> bytes:
        """Bytes of an open file; of an upload, what was written so far."""
        self._session.touch()
        return os.pread(cast(io.FileIO, file_obj).fileno(), size, offset)

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        """Writes in the event loop: a thread for every packet costs four times as much as the disk."""
        self._session.touch()
        return _upload(file_obj).write_at(data, offset)

    async def close(self, file_obj: object) -> None:
        """The client's own CLOSE gives an upload its name; the end of a session throws it away.

        asyncssh calls this for both. What tells them apart is that it cleans up inside the `except` that caught the end of the session,
        be that a hang-up, a lost connection, our own goodbye or a broken packet, while a CLOSE is never served inside one. The state of
        the connection would not do: a CLOSE may still be served when the connection is gone, and a broken packet ends a session
        on a connection that is well. (`_around` is what the event loop itself may be running inside of.)
        """
        if not isinstance(file_obj, Upload):
            cast(io.FileIO, file_obj).close()
        elif sys.exception() is self._around:
            await self._commit(file_obj)
        else:
            size = os.fstat(file_obj.fileno()).st_size
            file_obj.discard()
            self._uploads.ended(file_obj)
            log.warning("upload_abandoned", district=self._session.district, file=_plain(file_obj.target), bytes=size)
        self._tell()

    async def fsync(self, file_obj: object) -> None:
        """Makes what was written so far durable, under its hidden name."""
        await asyncio.to_thread(os.fsync, cast(io.FileIO, file_obj).fileno())

    async def setstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        """Sets times, and the size by way of a new inode. Owners and permissions are ours: accepted, for clients send them, and ignored."""
        with self._at(path, change=True) as (folder, name):
            if not stat.S_ISREG(_stat(folder, name).st_mode):
                return
            if attrs.size is None:
                _set_times(attrs, partial(os.utime, name, dir_fd=folder, follow_symlinks=False))
                return
            upload = await self._begin(folder, name, keep=True)
            self.fsetstat(upload, attrs)
            await self._commit(upload)

    async def lsetstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        """As `setstat`: there are no links."""
        await self.setstat(path, attrs)

    def fsetstat(self, file_obj: object, attrs: asyncssh.SFTPAttrs) -> None:
        """Sets size and times of an upload."""
        upload = _upload(file_obj)
        if attrs.size is not None:
            upload.truncate(attrs.size)
        _set_times(attrs, partial(os.utime, upload.fileno()))

    # ---------------------------------------------------------------- names

    def lstat(self, path: bytes) -> os.stat_result:
        """Facts about a file or folder."""
        with self._at(path) as (folder, name):
            return _stat(folder, name)

    def stat(self, path: bytes) -> os.stat_result:
        """As `lstat`: links are not followed."""
        return self.lstat(path)

    def statvfs(self, path: bytes) -> os.statvfs_result:
        """How much room there is."""
        with self._at(path) as (folder, _):
            return os.statvfs(folder)

    def realpath(self, path: bytes) -> bytes:
        """The path from the home down, resolved as text."""
        return os.fsencode("/" + "/".join(_names(path)))

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        """What lies in a folder, without the parts of open uploads."""
        for name, facts in self._listing(path):
            yield asyncssh.SFTPName(os.fsencode(name), attrs=asyncssh.SFTPAttrs.from_local(facts))

    async def rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Gives a file or folder another name, in place of what had that name: how WinSCP and others end an upload."""
        with self._at(oldpath, change=True) as (source, old), self._at(newpath, change=True) as (target, new):
            await asyncio.to_thread(_move, source, old, target, new)
        self._tell()

    async def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        """As `rename`."""
        await self.rename(oldpath, newpath)

    def remove(self, path: bytes) -> None:
        """Removes a file; what was sealed of it stays sealed."""
        with self._at(path, change=True) as (folder, name):
            os.unlink(name, dir_fd=folder)
        self._tell()

    def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        """Makes a folder; the one for previews is there already, and a client's script may make it all the same."""
        if _names(path) == [PREVIEW]:
            return
        with self._at(path, change=True) as (folder, name):
            os.mkdir(name, 0o700, dir_fd=folder)

    def rmdir(self, path: bytes) -> None:
        """Removes an empty folder."""
        with self._at(path, change=True) as (folder, name):
            os.rmdir(name, dir_fd=folder)

    def format_user(self, uid: int | None) -> str:
        """Who owns a file, for listings: the district, not the account that we run as."""
        return self._session.district

    def format_group(self, gid: int | None) -> str:
        """As `format_user`."""
        return self._session.district

    # ---------------------------------------------------------------- within

    @contextmanager
    def _at(self, path: bytes, *, change: bool = False) -> Iterator[tuple[int, str]]:
        """The folder of a path, as a descriptor, and the name in it. Raises SFTPError, or OSError where there is no such folder."""
        self._session.touch()
        names = _names(path)
        if any(each.startswith(PART_PREFIX) for each in names):
            raise asyncssh.SFTPPermissionDenied("Names like that are kept for the server")
        if change and (not names or names[0] == REPORTS):
            raise asyncssh.SFTPPermissionDenied("The home itself and its reports are kept by the server")
        folder = os.open(self._session.home, FOLDER)
        try:
            for each in names[:-1]:
                inner = os.open(each, FOLDER, dir_fd=folder)
                os.close(folder)
                folder = inner
            yield folder, names[-1] if names else "."
        finally:
            os.close(folder)

    def _listing(self, path: bytes) -> list[tuple[str, os.stat_result]]:
        with self._at(path) as (parent, name):
            folder = os.open(name, FOLDER, dir_fd=parent)
        try:
            facts = os.fstat(folder)
            found = [(".", facts), ("..", facts)]
            with os.scandir(folder) as entries:
                for entry in entries:
                    if not entry.name.startswith(PART_PREFIX):
                        with suppress(FileNotFoundError):  # gone since the folder was read
                            found.append((entry.name, entry.stat(follow_symlinks=False)))
            return found
        finally:
            os.close(folder)

    async def _begin(self, folder: int, name: str, *, keep: bool, append: bool = False, exclusive: bool = False) -> Upload:
        upload = Upload(folder, name, append=append, exclusive=exclusive)
        self._uploads.opened(upload)
        try:
            if keep:
                await asyncio.to_thread(upload.fill_from, folder, name)
        except BaseException:
            upload.discard()
            self._uploads.ended(upload)
            raise
        self._tell()
        return upload

    async def _commit(self, upload: Upload) -> None:
        try:
            size = await asyncio.to_thread(upload.commit)
        except OSError as fault:
            log.error("upload_failed", district=self._session.district, file=_plain(upload.target), fault=fault.strerror)
            raise
        finally:
            self._uploads.ended(upload)
        log.info("file_received", district=self._session.district, file=_plain(upload.target), bytes=size)

    def _tell(self) -> None:
        self._session.listener.on_activity(self._session.district)


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


def _home_of(chan: asyncssh.SSHServerChannel[bytes]) -> Home:
    return Home(cast(Session, chan.get_connection().get_owner()), chan)


def _names(path: bytes) -> list[str]:
    """The names from the home down. Raises SFTPInvalidFilename where they are not plain UTF-8 text."""
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise asyncssh.SFTPInvalidFilename("Names must be UTF-8") from fault
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise asyncssh.SFTPInvalidFilename("Names must not have control characters")
    return [each for each in normpath("/" + text).split("/") if each]


def _open_file(folder: int, name: str) -> io.FileIO:
    """A regular file, for reading; O_NONBLOCK lest something else, like a pipe, keeps us waiting."""
    file = io.FileIO(name, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise asyncssh.SFTPPermissionDenied("Not a file")
    return file


def _stat(folder: int, name: str) -> os.stat_result:
    return os.stat(name, dir_fd=folder, follow_symlinks=False)


def _facts(folder: int, name: str) -> os.stat_result | None:
    try:
        return _stat(folder, name)
    except FileNotFoundError:
        return None


def _move(source: int, old: str, target: int, new: str) -> None:
    os.replace(old, new, src_dir_fd=source, dst_dir_fd=target)
    os.fsync(target)
    os.fsync(source)


def _upload(file_obj: object) -> Upload:
    if not isinstance(file_obj, Upload):
        raise asyncssh.SFTPPermissionDenied("Open for reading only")
    return file_obj


def _set_times(attrs: asyncssh.SFTPAttrs, utime: Callable[..., None]) -> None:
    if attrs.atime is not None and attrs.mtime is not None:
        utime(times=(attrs.atime, attrs.mtime))


def _keys(district: District) -> list[asyncssh.SSHKey]:
    keys = []
    for line in district.keys:
        try:
            keys.append(asyncssh.import_public_key(line))
        except asyncssh.KeyImportError:
            log.warning("key_unreadable", district=district.id)
    return keys


def _matches(password_hash: str, password: str) -> bool:
    try:
        return PasswordHasher().verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False


def _remove_parts(homes: Path) -> None:
    for folder, _, names in os.walk(homes):  # does not walk into links
        for name in names:
            if name.startswith(PART_PREFIX):
                (Path(folder) / name).unlink()


def _plain(name: str) -> str:
    """A file name fit for a log line: clients choose names, and might put a pupil's into one."""
    return name if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name) else "(odd name)"
