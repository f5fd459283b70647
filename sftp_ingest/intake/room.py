"""How much more a home may hold; what is over is refused before it is written, and the operator hears of it once an hour."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from time import monotonic

import structlog

from sftp_ingest.config import Server
from sftp_ingest.intake.inbox import REPORTS

GAP_BYTES = 64 << 20
"""No client writes so far past the end of what it has sent; what lies between would be read as NULs."""
STEP_BYTES = 16 << 20
"""After so many bytes it is looked again how much the disk still holds."""
MEASURED_SECONDS = 30
TOLD_SECONDS = 3600

log = structlog.get_logger()


class Room:
    """The bounds of one home, for all its sessions together. What it holds is measured now and then, and counted in between.

    Every refusal is an OSError whose number asyncssh knows the SFTP code of.
    """

    def __init__(self, server: Server, district: str, home: Path) -> None:
        self._server = server
        self._district = district
        self._home = home
        self._files = 0
        self._bytes = 0
        self._since_look = 0
        self._measured = -float(MEASURED_SECONDS)
        self._told: dict[str, float] = {}

    async def another(self) -> None:
        """Takes in one more file or folder. Raises OSError where the home or the disk has no room for it."""
        if monotonic() - self._measured >= MEASURED_SECONDS or self._files >= self._server.home_files:
            self._files, self._bytes = await asyncio.to_thread(_measure, self._home)
            self._measured = monotonic()
        if self._files >= self._server.home_files:
            raise self._refusal("home_files", errno.EDQUOT, "The home holds too many files")
        self._look_at_the_disk(0)
        self._files += 1

    def grow(self, before: int, after: int, begin: int) -> None:
        """Takes in what makes a file of `before` bytes one of `after`, written from `begin` on. Raises OSError where that is too much."""
        if after > self._server.file_bytes:
            raise self._refusal("file_bytes", errno.EFBIG, "The file is too large")
        if begin > before + GAP_BYTES:
            raise self._refusal("gap", errno.EINVAL, "This is too far past the end of the file")
        if self._bytes + after - before > self._server.home_bytes:
            raise self._refusal("home_bytes", errno.EDQUOT, "The home is full")
        self._since_look += after - before
        if self._since_look >= STEP_BYTES:
            self._look_at_the_disk(after - before)
        self._bytes += after - before

    def gone(self, size: int, files: int = 0) -> None:
        """So many bytes, and files, are there no more."""
        self._bytes -= size
        self._files -= files

    def _look_at_the_disk(self, wanted: int) -> None:
        disk = os.statvfs(self._home)
        if disk.f_bavail * disk.f_frsize - wanted < self._server.reserve_bytes:
            raise self._refusal("reserve_bytes", errno.ENOSPC, "The disk is full")
        self._since_look = 0

    def _refusal(self, bound: str, number: int, sentence: str) -> OSError:
        now = monotonic()
        if now - self._told.get(bound, -float(TOLD_SECONDS)) >= TOLD_SECONDS:
            self._told[bound] = now
            log.error("bound_reached", district=self._district, bound=bound)
        return OSError(number, sentence)


def _measure(home: Path) -> tuple[int, int]:
    files = size = 0
    for folder, folders, names, descriptor in os.fwalk(home):  # does not walk into links
        if Path(folder) == home and REPORTS in folders:
            folders.remove(REPORTS)
        files += len(folders) + len(names)
        for name in names:
            try:
                size += os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_size
            except FileNotFoundError:  # gone since the folder was read
                files -= 1
    return files, size
