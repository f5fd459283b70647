"""Files come to the disk a moment after their clients were answered; if the machine goes down before, a mark keeps them from being believed."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sftp_ingest import boot

MARK = "user.sftp_ingest.boot"
"""The attribute of a file that is whole, though perhaps not on the disk; its value tells during which start of the machine that was true."""

BREATH_SECONDS = 0.25
"""Files that are closed this soon after one another come to the disk together, which costs little more than for one of them."""
MOST_WAITING = 500
"""More files wait for the disk at no time; the client of the next waits for it himself."""
SMALL_BYTES = 1 << 20


def mark(descriptor: int) -> bool:
    """Marks a file before it gets its name, so that it never has that without the mark; False where the file system keeps no marks."""
    try:
        os.setxattr(descriptor, MARK, boot.this().encode())
    except OSError:
        return False
    return True


def unmark(descriptor: int) -> None:
    """Takes the mark away, if there is one: the file is on the disk, or counts as whole no longer."""
    with suppress(OSError):  # there is none
        os.removexattr(descriptor, MARK)


def doubt(descriptor: int) -> None:
    """Has a file count as lost, whatever happens to it or to us from now on."""
    with suppress(OSError):
        os.setxattr(descriptor, MARK, b"doubted")


def is_marked(descriptor: int) -> bool:
    """Whether a file has a mark, of whichever start of the machine."""
    return _mark(descriptor) is not None


def is_lost(descriptor: int) -> bool:
    """Whether the machine went down while a file had its mark, or the disk refused it: nobody knows how much of it is there."""
    return _mark(descriptor) not in (None, boot.this().encode())


def make_durable(path: Path) -> None:
    """Wait until a file, or the names in a folder, would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def settle(path: Path) -> None:
    """Makes a file durable, whoever wrote it, and takes its mark away. Raises OSError, also where it `is_lost`; then all is as it was."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if is_lost(descriptor):
            raise OSError(errno.EIO, "A file of this home was on its way to the disk when the machine went down; it is taken back when the daemon begins")
        os.fsync(descriptor)
        unmark(descriptor)
    finally:
        os.close(descriptor)


def _mark(descriptor: int) -> bytes | None:
    with suppress(OSError):
        return os.getxattr(descriptor, MARK)
    return None


@dataclass(frozen=True)
class _Waiting:
    """A file under its name, open, and which folder that is in; and who is told where they do not come to the disk."""

    file: int
    small: bool
    place: tuple[int, int]
    failed: Callable[[int, int, OSError], None]


class Flusher:
    """Brings files and their names to the disk, in a thread of its own."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="flusher")
        self._waiting: list[_Waiting] = []
        self._folders: dict[tuple[int, int], int] = {}  # of those that wait: many have one in common
        self._count = 0  # of those that wait, and of those that are on their way
        self._changing = threading.Lock()
        self._closing = threading.Event()

    @property
    def busy(self) -> bool:
        """Whether it takes no more files for now, or at the end none at all."""
        return self._closing.is_set() or self._count >= MOST_WAITING

    def add(self, file: int, size: int, folder: int, place: tuple[int, int], failed: Callable[[int, int, OSError], None]) -> None:
        """Takes a marked file of so many bytes that has its name now, and its folder, of which the device and inode are `place`.

        The descriptors stay the caller's. Where the disk refuses one, `failed` is called with both, and with the reason, in the thread.
        """
        with self._changing:
            if place not in self._folders:
                self._folders[place] = os.dup(folder)
            self._waiting.append(_Waiting(os.dup(file), size <= SMALL_BYTES, place, failed))
            self._count += 1
            first = len(self._waiting) == 1
        if first:
            with suppress(RuntimeError):  # closed just now; sealing brings it to the disk
                self._thread.submit(self._flush)

    def close(self) -> None:
        """Returns when all is on the disk."""
        self._closing.set()
        self._thread.shutdown()

    def _flush(self) -> None:
        self._closing.wait(BREATH_SECONDS)
        with self._changing:
            waiting, self._waiting = self._waiting, []
            folders, self._folders = self._folders, {}
        try:
            for each in waiting:
                if each.small:
                    os.posix_fadvise(each.file, 0, 0, os.POSIX_FADV_DONTNEED)  # begins to write them all, so that one turn of the journal serves them
            inside: dict[tuple[int, int], list[_Waiting]] = {place: [] for place in folders}
            for each in waiting:
                if _done(each.file, [each], folders):
                    inside[each.place].append(each)
            kept = [each for place, those in inside.items() if _done(folders[place], those, folders) for each in those]
            for each in kept:
                unmark(each.file)
            if kept:
                os.fsync(kept[-1].file)  # the end of all marks, too, comes to the disk with it: one that came back would be of a file that is lost
        finally:
            with self._changing:
                self._count -= len(waiting)
            for descriptor in (*folders.values(), *(each.file for each in waiting)):
                os.close(descriptor)


def _done(descriptor: int, waiting: list[_Waiting], folders: Mapping[tuple[int, int], int]) -> bool:
    """Waits for the disk; False where that fails, of which those are told who wait for it."""
    try:
        os.fsync(descriptor)
    except OSError as fault:
        for each in waiting:
            each.failed(each.file, folders[each.place], fault)
        return False
    return True
