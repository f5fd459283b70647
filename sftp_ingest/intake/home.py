"""A district's home as its client sees it."""

from __future__ import annotations

import asyncio
import io
import os
import stat
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import asyncssh
import structlog
from asyncssh.channel import SSHChannel

from sftp_ingest.intake import durable, paths
from sftp_ingest.intake.channel import Place
from sftp_ingest.intake.inbox import CUT_PREFIX, PART_PREFIX, PREVIEW, REPORTS
from sftp_ingest.intake.listing import Listing, told
from sftp_ingest.intake.session import Session
from sftp_ingest.intake.upload import Upload, cut, cut_facts, drop_cut

READ_BYTES = 256 << 10
"""The most that one request reads, however much it asks for; a client asks again for the rest."""
TURN_BYTES = 4 << 20
"""After so many bytes written at one go, as when a client copies a file into another, other sessions have a turn."""

KEPT: tuple[list[str], ...] = ([], [REPORTS], [PREVIEW])
"""The folders that every home has and keeps; their times and permissions are ours."""

log = structlog.get_logger()


class Home(Place):
    """A district's home as its client sees it: `/`, with a `reports` folder that only we write.

    Every path is first resolved as text, so that `..` ends at `/`, and then walked from the home one folder at a time with
    O_NOFOLLOW, so that the kernel itself refuses a symbolic link in any place; nothing is looked up by its whole path.
    """

    def __init__(self, session: Session, chan: SSHChannel[bytes]) -> None:
        super().__init__(cast("asyncssh.SSHServerChannel[bytes]", chan))
        self._session = session
        self._around = sys.exception()
        self._unshared = 0
        self._open: list[Upload] = []
        self._closing = 0
        self._closed = asyncio.Event()
        self._left = False
        self._status = 0

    def map_path(self, path: bytes) -> bytes:
        """Refuses all that is not allowed below: links of both kinds, and whatever a later asyncssh may add."""
        raise asyncssh.SFTPPermissionDenied("Not allowed here")

    # ---------------------------------------------------------------- files

    async def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        """The file, open for reading; or an upload, where the client means to write."""
        self._session.handle_opened()
        try:
            await self._after_closing()
            if pflags & (asyncssh.FXF_WRITE | asyncssh.FXF_APPEND):
                return await self._open_upload(path, pflags)
            with self._at(path) as (folder, name):
                return paths.open_file(folder, cut(name) if cut_facts(folder, name) else name)
        except BaseException:
            self._session.handle_closed()
            raise

    def read(self, file_obj: object, offset: int, size: int) -> bytes:
        """Bytes of an open file; of an upload, what was written so far."""
        self._session.touch()
        return os.pread(cast(io.FileIO, file_obj).fileno(), min(size, READ_BYTES), offset) if offset <= sys.maxsize - READ_BYTES else b""

    def write(self, file_obj: object, offset: int, data: bytes) -> int | Awaitable[int]:
        """Writes in the event loop: a thread for every packet costs four times as much as the disk. Now and then others have their turn."""
        self._session.touch(sent=True)
        written = _upload(file_obj).write_at(data, offset)
        self._unshared += written
        return self._share(written) if self._unshared >= TURN_BYTES else written

    async def close(self, file_obj: object) -> None:
        """The client's own CLOSE gives an upload its name; at the end of a session it is hidden until its client goes on with it, or thrown away.

        asyncssh calls this for both. What tells them apart is that it cleans up inside the `except` that caught the end of the session,
        be that a hang-up, a lost connection, our own goodbye or a broken packet, while a CLOSE is never served inside one. The state of
        the connection would not do: a CLOSE may still be served when the connection is gone, and a broken packet ends a session
        on a connection that is well. (`_around` is what the event loop itself may be running inside of.)
        """
        self._session.handle_closed()
        if not isinstance(file_obj, Upload):
            cast(io.FileIO, file_obj).close()
        elif sys.exception() is self._around:
            self._closing += 1
            self._closed.clear()
            try:
                await self._commit(file_obj)
            finally:
                self._closing -= 1
                if not self._closing:
                    self._closed.set()
        else:
            self._abandon(file_obj)
        self._tell()

    def exit(self) -> None:
        """Says how it ended, once all is closed: scp, and scripts around `ssh -s`, take a channel that ends without a status for a failure."""
        in_order = isinstance(sys.exception(), EOFError)
        cast("asyncssh.SSHServerChannel[bytes]", self.channel).exit(self._status if in_order else 1)

    def leave(self) -> None:
        """Gives up whatever is still open: nobody speaks here any more, however that came about."""
        self._left = True
        for upload in list(self._open):
            self._abandon(upload)

    async def fsync(self, file_obj: object) -> None:
        """Makes what was written so far durable, under its hidden name; who asks for that waits for the name to be durable as well."""
        if isinstance(file_obj, Upload):
            file_obj.awaited = True
        await asyncio.to_thread(os.fsync, cast(io.FileIO, file_obj).fileno())

    async def setstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        """Sets times and size; where the file is sealed, and where its size changes, of a new inode in its place.

        Owners and permissions are ours: accepted, for clients send them, and ignored.
        """
        if paths.names(path) in KEPT and attrs.size is None:
            return
        await self._after_closing()
        with self._at(path, change=True) as (folder, name):
            if upload := self._own(folder, name):
                self.fsetstat(upload, attrs)
                return
            if cut_facts(folder, name):
                self._set_cut(folder, name, attrs)
                return
            there = paths.facts(folder, name)
            if not stat.S_ISREG(there.st_mode):
                if attrs.size is not None:
                    raise asyncssh.SFTPPermissionDenied("Not a file")
                return
            if attrs.size is None and attrs.mtime is None:
                return
            if attrs.size is None and there.st_nlink == 1:
                _set_times(attrs, partial(os.utime, name, dir_fd=folder, follow_symlinks=False))
                return
            upload = await self._begin(path, folder, name, there, copy=True)
            try:
                self.fsetstat(upload, attrs)
            except OSError:
                self._open.remove(upload)
                self._discard(upload)
                raise
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

    async def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
        """Facts about a file or folder; of an upload of this client's, or of one that was cut off, how much of it is there."""
        await self._after_closing()
        with self._at(path) as (folder, name):
            if upload := self._own(folder, name):
                return self.fstat(upload)
            return told(cut_facts(folder, name) or paths.facts(folder, name))

    async def stat(self, path: bytes) -> asyncssh.SFTPAttrs:
        """As `lstat`: links are not followed."""
        return await self.lstat(path)

    def fstat(self, file_obj: object) -> asyncssh.SFTPAttrs:
        """As `lstat`, of an open file."""
        return told(os.fstat(cast(io.FileIO, file_obj).fileno()))

    def statvfs(self, path: bytes) -> os.statvfs_result:
        """How much room there is."""
        with self._at(path) as (folder, _):
            return os.statvfs(folder)

    def realpath(self, path: bytes) -> bytes:
        """The path from the home down, resolved as text."""
        return os.fsencode("/" + "/".join(paths.names(path)))

    def scandir(self, path: bytes) -> Listing:
        """What lies in a folder, without the parts of open uploads."""
        with self._at(path) as (parent, name):
            folder = os.open(name, paths.FOLDER, dir_fd=parent)
        try:
            return Listing(self._session, folder)
        except BaseException:
            os.close(folder)
            raise

    async def rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Gives a file or folder another name, in place of what had that name: how WinSCP and others end an upload.

        Raises SFTPFailure where the upload of the file was cut off: under its new name it might be taken for whole; where it is still being sent;
        and where folders would lie too deep within one another.
        """
        await self._after_closing()
        with self._at(oldpath, change=True) as (source, old), self._at(newpath, change=True) as (target, new):
            if cut_facts(source, old):
                raise asyncssh.SFTPFailure("The upload of this file was cut off; go on with it, or send it again")
            if self._own(source, old) and not paths.facts_if_any(source, old):
                raise asyncssh.SFTPFailure("This file is still being sent; close it first")
            room = paths.DEEPEST - len(paths.names(newpath))
            if not await asyncio.to_thread(paths.no_deeper, source, old, room):
                raise asyncssh.SFTPInvalidFilename("This is too deep")
            replaced = paths.facts_if_any(target, new)
            moved = paths.facts(source, old)
            await asyncio.to_thread(paths.move, source, old, target, new)
            if replaced and not os.path.samestat(replaced, moved):
                self._session.room.gone(replaced.st_size if stat.S_ISREG(replaced.st_mode) else 0, files=1)
            drop_cut(target, new, self._session.room)
        self._tell()

    async def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        """As `rename`."""
        await self.rename(oldpath, newpath)

    async def remove(self, path: bytes) -> None:
        """Removes a file; what was sealed of it stays sealed. One that this client is still sending comes to nothing when it is closed."""
        await self._after_closing()
        with self._at(path, change=True) as (folder, name):
            there, begun = paths.facts_if_any(folder, name), cut_facts(folder, name) is not None
            drop_cut(folder, name, self._session.room)
            while sent := self._own(folder, name):
                sent.removed = begun = True
            if there or not begun:
                os.unlink(name, dir_fd=folder)
            if there:
                self._session.room.gone(there.st_size, files=1)
        self._tell()

    async def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        """Makes a folder; the one for previews is there already, and a client's script may make it all the same."""
        if paths.names(path) == [PREVIEW]:
            return
        with self._at(path, change=True) as (folder, name):
            if cut_facts(folder, name) or self._own(folder, name):
                raise asyncssh.SFTPFailure("There is a file of this name")
            await self._session.room.another()
            try:
                os.mkdir(name, 0o700, dir_fd=folder)
            except OSError:
                self._session.room.gone(0, files=1)
                raise

    async def rmdir(self, path: bytes) -> None:
        """Removes an empty folder."""
        await self._after_closing()
        with self._at(path, change=True) as (folder, name):
            os.rmdir(name, dir_fd=folder)
        self._session.room.gone(0, files=1)

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
        names = paths.names(path)
        if any(each.startswith((PART_PREFIX, CUT_PREFIX)) for each in names):
            raise asyncssh.SFTPPermissionDenied("Names like that are kept for the server")
        if change and (names in KEPT or names[0] == REPORTS):
            raise asyncssh.SFTPPermissionDenied("The home itself, its reports and its folder for previews are kept by the server")
        with paths.walked(self._session.home, names[:-1]) as folder:
            yield folder, names[-1] if names else "."

    async def _open_upload(self, path: bytes, pflags: int) -> Upload:
        with self._at(path, change=True) as (folder, name):
            begun, standing = cut_facts(folder, name), paths.facts_if_any(folder, name)
            there = begun or standing
            if there is None and not pflags & asyncssh.FXF_CREAT:
                raise asyncssh.SFTPNoSuchFile("No such file")
            if there is not None and pflags & asyncssh.FXF_EXCL:
                raise asyncssh.SFTPFileAlreadyExists("File already exists")
            if there is not None and not stat.S_ISREG(there.st_mode):
                raise asyncssh.SFTPPermissionDenied("Not a file")
            anew, append, exclusive = (bool(pflags & each) for each in (asyncssh.FXF_TRUNC, asyncssh.FXF_APPEND, asyncssh.FXF_EXCL))
            if begun and anew:
                drop_cut(folder, name, self._session.room)
            resumed = begun is not None and not anew
            copy = there is not None and not anew and not resumed
            return await self._begin(path, folder, name, standing, append=append, exclusive=exclusive, copy=copy, resumed=resumed)

    def _set_cut(self, folder: int, name: str, attrs: asyncssh.SFTPAttrs) -> None:
        """Sets times and size of what was cut off, which makes nothing whole."""
        upload = Upload(folder, name, paths.facts_if_any(folder, name), self._session.room, resumed=True)
        try:
            self.fsetstat(upload, attrs)
        except OSError:
            upload.pardon()
            raise
        finally:
            upload.give_up()

    async def _after_closing(self) -> None:
        """Some clients, such as sshfs, ask for more without waiting for the answer to their CLOSE."""
        if self._closing:
            await self._closed.wait()

    def _own(self, folder: int, name: str) -> Upload | None:
        """What this client is sending to that place: sshfs and others want to see it grow."""
        place = Upload.place_of(folder, name) if self._open else None
        return next((each for each in reversed(self._open) if each.place == place and not each.removed), None)

    async def _share(self, written: int) -> int:
        self._unshared = 0
        await asyncio.sleep(0)
        return written

    async def _begin(
        self,
        path: bytes,
        folder: int,
        name: str,
        standing: os.stat_result | None,
        *,
        append: bool = False,
        exclusive: bool = False,
        copy: bool = False,
        resumed: bool = False,
    ) -> Upload:
        room = self._session.room
        if not resumed:
            await room.another()
        try:
            upload = Upload(folder, name, standing, room, append=append, exclusive=exclusive, copy=copy, resumed=resumed)
            upload.asked, upload.whose = path, {"district": self._session.district, "account": self._session.account}
        except OSError:
            room.gone(0, files=0 if resumed else 1)
            raise
        self._session.hall.uploads.opened(upload)
        self._session.upload_opened()
        try:
            if copy:
                await asyncio.get_running_loop().run_in_executor(self._session.hall.copying, upload.fill_from, folder, name)
            if self._left:
                raise asyncssh.SFTPConnectionLost("Nobody is there any more")
        except BaseException:
            self._discard(upload)
            raise
        self._open.append(upload)
        self._tell()
        return upload

    async def _commit(self, upload: Upload) -> None:
        self._open.remove(upload)
        if upload.removed:
            self._discard(upload)
            return
        content = upload.sha256 or os.dup(upload.fileno())
        flusher = self._session.hall.flusher
        try:
            if upload.awaited or flusher.busy or not durable.mark(upload.fileno()):
                size = await asyncio.to_thread(upload.commit)
            else:
                size = upload.commit(flusher)
        except OSError as fault:
            if isinstance(content, int):
                os.close(content)
            log.error("upload_failed", **upload.whose, file=upload.path, fault=fault.strerror)
            raise
        finally:
            self._ended(upload)
        self._afterwards(lambda: self._session.received(upload.path, size, content))

    def _abandon(self, upload: Upload) -> None:
        self._status = 1
        self._open.remove(upload)
        size = upload.size
        kept = upload.give_up()
        self._ended(upload)
        log.warning("upload_abandoned", **upload.whose, file=upload.path, bytes=size, kept=kept)

    def _discard(self, upload: Upload) -> None:
        upload.discard()
        self._ended(upload)

    def _ended(self, upload: Upload) -> None:
        self._session.hall.uploads.ended(upload)
        self._session.upload_ended()

    def _tell(self) -> None:
        self._afterwards(lambda: self._session.hall.porter.active(self._session.district))

    def _afterwards(self, work: Callable[[], None]) -> None:
        """Does it as soon as the client has its answer, for which it need not wait."""
        asyncio.get_running_loop().call_soon(work)


def _upload(file_obj: object) -> Upload:
    if not isinstance(file_obj, Upload):
        raise asyncssh.SFTPPermissionDenied("Open for reading only")
    return file_obj


def _set_times(attrs: asyncssh.SFTPAttrs, utime: Callable[..., None]) -> None:
    if attrs.atime is not None and attrs.mtime is not None:
        utime(times=(attrs.atime, attrs.mtime))
