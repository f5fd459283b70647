"""A file on its way in: hidden until its client closes it, and then there whole; cut off, it waits under a hidden name for its client to go on."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import os
import secrets
from bisect import bisect_left, bisect_right
from contextlib import suppress
from itertools import count

import structlog

from sftp_ingest.intake import durable, paths
from sftp_ingest.intake.durable import Flusher
from sftp_ingest.intake.inbox import CUT_PREFIX, PART_PREFIX
from sftp_ingest.intake.room import Room

LONGEST_NAME = 255
SHORT_BYTES = 64 << 10
"""The checksum of a file no longer than this is made of its bytes as they come in, which takes less than to read them again."""
MOST_SPANS = 1000
"""Into no more pieces with gaps between them may an upload fall while it comes in; clients that send blocks side by side have a few dozen."""

_NUMBERS = count(secrets.randbits(31))
"""Of this process's parts; another one of its number may have left some behind."""

log = structlog.get_logger()


class Spans:
    """Which bytes of a file were sent, from its first one on."""

    def __init__(self, size: int) -> None:
        self._begins, self._ends = [0], [size]

    @property
    def whole(self) -> int:
        """So many bytes from the first one on are without a gap."""
        return self._ends[0]

    @property
    def gaps(self) -> int:
        """How many gaps there are before the last byte that was sent."""
        return len(self._ends) - 1

    def add(self, begin: int, end: int) -> None:
        """Bytes were sent, whether or not some of them had been."""
        first, behind = bisect_left(self._ends, begin), bisect_right(self._begins, end)  # those that it touches
        if first < behind:
            begin, end = min(begin, self._begins[first]), max(end, self._ends[behind - 1])
        self._begins[first:behind], self._ends[first:behind] = [begin], [end]

    def cut(self, size: int) -> None:
        """What is behind so many bytes is gone."""
        kept = max(bisect_left(self._begins, size), 1)
        self._begins, self._ends = self._begins[:kept], [min(each, size) for each in self._ends[:kept]]


class Upload(io.FileIO):
    """A file on its way: an open part file, hidden in the folder where it will appear, so that appearing is one atomic rename.

    Whatever was there under the name before is a different inode and stays as it is, in deliveries that were sealed from it.
    """

    def __init__(
        self,
        folder: int,
        target: str,
        standing: os.stat_result | None,
        room: Room,
        *,
        append: bool = False,
        exclusive: bool = False,
        copy: bool = False,
        resumed: bool = False,
    ) -> None:
        """Begins an upload to the name of what is `standing` there, or where it is `resumed` goes on with one that was cut off. Raises OSError.

        A `copy` of what stands under the name cannot be resumed, and need not: the client finds it there as it was.
        """
        self._nameless = f"{parts_of(os.getpid())}{next(_NUMBERS):08x}"
        named = f"{self._nameless}-{target}"
        self.resumable = not copy and len(os.fsencode(named)) <= LONGEST_NAME
        self.target = target
        self.asked, self.whose = b"", dict[str, str]()  # the path that its client asked for; and who that is, as log lines have it
        self.removed = False
        self.awaited = False  # whether its client asked for it to be durable
        self._before = standing.st_ino if standing else None
        self._folder = os.dup(folder)
        self._part = named if self.resumable else self._nameless
        try:
            if resumed:
                os.rename(cut(target), self._part, src_dir_fd=folder, dst_dir_fd=folder)
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (0 if resumed else os.O_CREAT | os.O_EXCL)
            super().__init__(os.open(self._part, flags, 0o600, dir_fd=folder), "r+b")
        except OSError:
            os.close(self._folder)
            raise
        self.size = os.fstat(self.fileno()).st_size if resumed else 0
        self._sent = Spans(self.size)
        self._digest = None if self.size else hashlib.sha256()  # of what was written, as long as that is short and comes in its order
        self._room = room
        self._append = append
        self._exclusive = exclusive
        self._fault: OSError | None = None
        self.place = self.place_of(folder, target)

    @staticmethod
    def place_of(folder: int, name: str) -> tuple[int, int, str]:
        """What tells a name in a folder from all others, also when a folder above it is renamed."""
        facts = os.fstat(folder)
        return facts.st_dev, facts.st_ino, name

    @property
    def path(self) -> str:
        """The path as log lines have it."""
        return paths.plain(self.asked)

    @property
    def sha256(self) -> str | None:
        """The checksum of what was written, where that is short and came in its order."""
        return self._digest.hexdigest() if self._digest else None

    def fill_from(self, folder: int, name: str) -> None:
        """Begins with what stands under the name now."""
        with paths.open_file(folder, name) as source:
            while block := source.read(1 << 20):
                self.write_at(block, self.size)

    def write_at(self, data: bytes, offset: int) -> int:
        """Writes all of `data`. Raises OSError, also where there is no room; after that the upload can no longer be committed."""
        if not data:
            return 0
        if self._append:
            offset = self.size
        try:
            in_order = offset == self.size
            end = max(self.size, offset + len(data))
            if end > self.size:
                self._room.grow(self.size, end, offset)
                self.size = end
            self._expect_gaps(offset)
            written = 0
            while written < len(data):  # a disk that is nearly full takes less than it is given
                written += os.pwrite(self.fileno(), memoryview(data)[written:], offset + written)
            if offset < self._sent.whole:
                self.resumable = False
            self._sent.add(offset, offset + written)
            if self._digest and in_order and end <= SHORT_BYTES:
                self._digest.update(data)
            else:
                self._digest = None
            if self._sent.gaps > MOST_SPANS:
                raise OSError(errno.EINVAL, "Too many parts of this file are missing")
        except OSError as fault:
            self._fault = fault
            raise
        return written

    def truncate(self, size: int | None = None) -> int:
        """Cuts the file, or makes it longer. Raises OSError as `write_at` does."""
        wanted = self.size if size is None else size
        try:
            self._room.grow(self.size, wanted, wanted)
            self.size = wanted
            self._digest = None
            self._expect_gaps(wanted)
            self._sent.cut(wanted)
            return super().truncate(wanted)
        except OSError as fault:
            self._fault = fault
            raise

    def pardon(self) -> None:
        """What was refused changed nothing, and is forgotten."""
        self._fault = None

    def _expect_gaps(self, offset: int) -> None:
        """Before there is a gap, the part loses its name: of those that a killed server leaves, none may have one, as nobody would know where."""
        if offset > self._sent.whole and self._part != self._nameless:
            os.rename(self._part, self._nameless, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            self._part = self._nameless

    def commit(self, flusher: Flusher | None = None) -> int:
        """Gives the file its name, once it is durable, or has a mark and is left to the `flusher`; its size in bytes.

        Raises OSError, and leaves no trace, where that fails or a part was never sent.
        """
        try:
            if self._fault:
                raise self._fault
            if self._sent.whole < self.size:
                raise OSError(errno.EINVAL, "A part of this file was never sent")
            if not flusher:
                os.fsync(self.fileno())
                durable.unmark(self.fileno())
            replaced = paths.facts_if_any(self._folder, self.target)
            if self._exclusive:  # a link fails where the name was taken meanwhile, a rename would not
                os.link(self.part, self.target, src_dir_fd=self._folder, dst_dir_fd=self._folder)
                os.unlink(self.part, dir_fd=self._folder)
            else:
                os.replace(self.part, self.target, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            drop_cut(self._folder, self.target, self._room)  # of another upload, in whichever process: what is whole is not gone on with
            if not flusher:
                os.fsync(self._folder)
        except OSError:
            self.discard()
            raise
        if replaced:
            self._room.gone(replaced.st_size, files=1)
        if flusher:
            flusher.add(self.fileno(), self.size, self._folder, self.place[:2], self._take_back)
        self.close()
        return self.size

    def give_up(self) -> bool:
        """Keeps what came in one piece for the client to go on with, whether or not that is anything; otherwise leaves nothing behind."""
        with suppress(OSError):
            whole = self._sent.whole
            if self.resumable and whole and not self._fault and not self.removed and self._standing() in (self._before, None):
                if self.size > whole:
                    super().truncate(whole)
                    self._room.gone(self.size - whole)
                    self.size = whole
                drop_cut(self._folder, self.target, self._room)
                os.rename(self.part, cut(self.target), src_dir_fd=self._folder, dst_dir_fd=self._folder)
                self.close()
                return True
        self.discard()
        return False

    def discard(self) -> None:
        """Leaves nothing behind."""
        with suppress(OSError):  # what cannot be removed now is removed at the next start
            os.unlink(self.part, dir_fd=self._folder)
        self._room.gone(self.size, files=1)
        self.close()

    def _take_back(self, file: int, folder: int, fault: OSError) -> None:
        """The disk did not take the file, which was told to be whole."""
        log.error("upload_failed", **self.whose, file=self.path, fault=fault.strerror)
        with suppress(OSError):  # it is doubted, and so sealed in no delivery, until the next start does better
            set_back(folder, self.target, file)

    def _standing(self) -> int | None:
        """The inode that has the name; another than when we began is of an upload that overtook this one, in whichever process."""
        facts = paths.facts_if_any(self._folder, self.target)
        return facts.st_ino if facts else None

    @property
    def part(self) -> str:
        """The hidden name."""
        return self._part

    def close(self) -> None:
        """Closes the part file and its folder, and decides nothing."""
        if not self.closed:
            super().close()
            os.close(self._folder)


class Uploads:
    """Every upload that has not been closed."""

    def __init__(self) -> None:
        self._open: set[Upload] = set()
        self._still = asyncio.Event()
        self._still.set()

    def opened(self, upload: Upload) -> None:
        """Keeps count of an upload until `ended`. Of several to one place, only what came last is worth going on with."""
        for each in self._open:
            if each.place == upload.place:
                each.resumable = False
        self._open.add(upload)
        self._still.clear()

    def ended(self, upload: Upload) -> None:
        """The upload stands under its name, or is gone."""
        self._open.discard(upload)
        if not self._open:
            self._still.set()

    async def stillness(self, seconds: float) -> None:
        """Waits until no upload is open, or for so long."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._still.wait(), seconds)


def cut(name: str) -> str:
    """The hidden name of an upload that was cut off."""
    return f"{CUT_PREFIX}{name}"


def cut_facts(folder: int, name: str) -> os.stat_result | None:
    """What was cut off of an upload to that name, which is what its client finds there; None where nothing was."""
    return paths.facts_if_any(folder, cut(name)) if len(os.fsencode(name)) <= LONGEST_NAME - len(CUT_PREFIX) else None


def drop_cut(folder: int, name: str, room: Room) -> None:
    """What was cut off is not gone on with."""
    facts = cut_facts(folder, name)
    if facts:
        with suppress(FileNotFoundError):  # another session was quicker
            os.unlink(cut(name), dir_fd=folder)
            room.gone(facts.st_size, files=1)


def set_back(folder: int, name: str, file: int) -> None:
    """An open file counts as whole no longer; unless its client has put another in its place, it may go on with it. Raises OSError."""
    facts, there = os.fstat(file), paths.facts_if_any(folder, name)
    if not there or not os.path.samestat(facts, there):
        return
    if facts.st_nlink > 1 or len(os.fsencode(cut(name))) > LONGEST_NAME:  # a delivery may have it
        os.unlink(name, dir_fd=folder)
        return
    durable.doubt(file)
    keep_begin(folder, name, name)


def keep_begin(folder: int, name: str, target: str) -> None:
    """Hides a file for the client to go on with as an upload to `target`, less what is behind its first hole; of an empty one nothing is left."""
    with io.FileIO(os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder), "r+b") as file:
        whole = os.lseek(file.fileno(), 0, os.SEEK_HOLE) if os.fstat(file.fileno()).st_size else 0
        file.truncate(whole)  # what was written out of order may have left a hole, and what did not come to the disk as well
        if whole:
            os.rename(name, cut(target), src_dir_fd=folder, dst_dir_fd=folder)
            durable.unmark(file.fileno())
        else:
            os.unlink(name, dir_fd=folder)


def parts_of(process: int) -> str:
    """How the names of all its parts begin, so that they are known when it has died."""
    return f"{PART_PREFIX}{process:08x}"
