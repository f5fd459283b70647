"""How much more a home may hold; what is over is refused before it is written, and the operator hears of it once an hour."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from time import monotonic_ns

import structlog

from sftp_ingest.config import Server
from sftp_ingest.intake import paths, trees
from sftp_ingest.intake.inbox import REPORTS
from sftp_ingest.intake.tally import Tally

GAP_BYTES = 64 << 20
"""No client writes so far past the end of what it has sent; what lies between would be read as NULs."""
STEP_BYTES = 16 << 20
"""After so many bytes it is looked again how much the disk still holds."""
LOOK_SECONDS = 0.1
"""So soon after a look a further file is not worth another."""
MEASURED_SECONDS = 30
TOLD_SECONDS = 3600

_FILES, _BYTES, _MEASURED = range(3)  # the columns of a home's row; a time is one of the monotonic clock, or 0 for never
_TOLD = {"file_bytes": 3, "gap": 4, "home_bytes": 5, "home_files": 6, "reserve_bytes": 7}

log = structlog.get_logger()


class Room:
    """The bounds of one home, for all its sessions together. What it holds is measured now and then, and counted in between.

    Every refusal is an OSError whose number asyncssh knows the SFTP code of.
    """

    def __init__(self, server: Server, district: str, home: Path, tally: Tally, row: int) -> None:
        self._server = server
        self._district = district
        self._home = home
        self._tally = tally
        self._row = row
        self._since_look = self._looked = 0

    async def another(self) -> None:
        """Takes in one more file or folder. Raises OSError where the home or the disk has no room for it."""
        if not _within(self._looked, LOOK_SECONDS):
            self._look_at_the_disk(0)
        with self._tally.row(self._row) as held:
            fits = _within(held[_MEASURED], MEASURED_SECONDS) and held[_FILES] < self._server.home_files
            held[_FILES] += fits
        if fits:
            return
        files, size = await asyncio.to_thread(_measure, self._home)
        with self._tally.row(self._row) as held:
            held[_BYTES], held[_MEASURED] = size, monotonic_ns()
            fits = files < self._server.home_files
            held[_FILES] = files + fits
        if not fits:
            raise self._refusal("home_files", errno.EDQUOT, "The home holds too many files")

    def grow(self, before: int, after: int, begin: int) -> None:
        """Takes in what makes a file of `before` bytes one of `after`, written from `begin` on. Raises OSError where that is too much."""
        more = after - before
        if after > self._server.file_bytes:
            raise self._refusal("file_bytes", errno.EFBIG, "The file is too large")
        if begin > before + GAP_BYTES:
            raise self._refusal("gap", errno.EINVAL, "This is too far past the end of the file")
        with self._tally.row(self._row) as held:
            fits = held[_BYTES] + more <= self._server.home_bytes
            held[_BYTES] += more if fits else 0
        if not fits:
            raise self._refusal("home_bytes", errno.EDQUOT, "The home is full")
        self._since_look += more
        if self._since_look >= STEP_BYTES:
            try:
                self._look_at_the_disk(more)
            except OSError:
                self.gone(more)
                raise

    def gone(self, size: int, files: int = 0) -> None:
        """So many bytes, and files, are there no more."""
        with self._tally.row(self._row) as held:
            held[_BYTES] -= size
            held[_FILES] -= files

    def _look_at_the_disk(self, wanted: int) -> None:
        disk = os.statvfs(self._home)
        if disk.f_bavail * disk.f_frsize - wanted < self._server.reserve_bytes:
            raise self._refusal("reserve_bytes", errno.ENOSPC, "The disk is full")
        self._since_look, self._looked = 0, monotonic_ns()

    def _refusal(self, bound: str, number: int, sentence: str) -> OSError:
        with self._tally.row(self._row) as held:
            told = _within(held[_TOLD[bound]], TOLD_SECONDS)
            held[_TOLD[bound]] = held[_TOLD[bound]] if told else monotonic_ns()
        if not told:
            log.error("bound_reached", district=self._district, bound=bound)
        return OSError(number, sentence)


def forget_measure(tally: Tally, row: int) -> None:
    """What the row's home holds is measured before the next file is taken in."""
    with tally.row(row) as held:
        held[_MEASURED] = 0


def _within(moment: int, seconds: float) -> bool:
    return moment > 0 and monotonic_ns() - moment < seconds * 1e9


def _measure(home: Path) -> tuple[int, int]:
    files = size = 0
    for number, (folder, folders, names) in enumerate(trees.walk(home)):
        if not number and REPORTS in folders:
            folders.remove(REPORTS)
        there = [facts.st_size for name in names if (facts := paths.facts_if_any(folder, name))]
        files += len(folders) + len(there)
        size += sum(there)
    return files, size
