"""A file on its way in: hidden until its client closes it, and then there whole."""

from __future__ import annotations

import asyncio
import io
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import cast

from sftp_ingest.intake import paths
from sftp_ingest.intake.inbox import PART_PREFIX
from sftp_ingest.intake.room import Room


class Upload(io.FileIO):
    """A file on its way: an open part file, hidden in the folder where it will appear, so that appearing is one atomic rename.

    Whatever was there under the name before is a different inode and stays as it is, in deliveries that were sealed from it.
    """

    def __init__(self, folder: int, target: str, room: Room, *, append: bool = False, exclusive: bool = False) -> None:
        self._folder = os.dup(folder)
        try:
            super().__init__(f"{PART_PREFIX}{secrets.token_hex(8)}", "x+b", opener=lambda name, flags: os.open(name, flags, 0o600, dir_fd=folder))
        except OSError:
            os.close(self._folder)
            raise
        self.target = target
        self.size = 0
        self._room = room
        self._append = append
        self._exclusive = exclusive
        self._fault: OSError | None = None

    def fill_from(self, folder: int, name: str) -> None:
        """Begins with what stands under the name now."""
        with paths.open_file(folder, name) as source:
            while block := source.read(1 << 20):
                self.write_at(block, self.size)

    def write_at(self, data: bytes, offset: int) -> int:
        """Writes all of `data`. Raises OSError, also where there is no room; after that the upload can no longer be committed."""
        if self._append:
            offset = self.size
        try:
            end = max(self.size, offset + len(data))
            if end > self.size:
                self._room.grow(self.size, end, offset)
                self.size = end
            written = 0
            while written < len(data):  # a disk that is nearly full takes less than it is given
                written += os.pwrite(self.fileno(), memoryview(data)[written:], offset + written)
        except OSError as fault:
            self._fault = fault
            raise
        return written

    def truncate(self, size: int | None = None) -> int:
        """Cuts the file, or makes it longer. Raises OSError as `write_at` does."""
        wanted = self.size if size is None else size
        try:
            self._room.grow(self.size, wanted, self.size)
            self.size = wanted
            return super().truncate(wanted)
        except OSError as fault:
            self._fault = fault
            raise

    def commit(self) -> int:
        """Makes the file durable and gives it its name; its size in bytes. Raises OSError, and leaves no trace, where that fails."""
        try:
            if self._fault:
                raise self._fault
            os.fsync(self.fileno())
            size = os.fstat(self.fileno()).st_size
            replaced = paths.facts_if_any(self._folder, self.target)
            if self._exclusive:  # a link fails where the name was taken meanwhile, a rename would not
                os.link(self.part, self.target, src_dir_fd=self._folder, dst_dir_fd=self._folder)
                os.unlink(self.part, dir_fd=self._folder)
            else:
                os.replace(self.part, self.target, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            os.fsync(self._folder)
        except OSError:
            self.discard()
            raise
        if replaced:
            self._room.gone(replaced.st_size, files=1)
        self.close()
        return size

    def discard(self) -> None:
        """Leaves nothing behind."""
        with suppress(OSError):  # what cannot be removed now is removed at the next start
            os.unlink(self.part, dir_fd=self._folder)
        self._room.gone(self.size, files=1)
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


class Uploads:
    """Every upload that has not been closed."""

    def __init__(self) -> None:
        self._open: set[Upload] = set()
        self._still = asyncio.Event()
        self._still.set()

    def opened(self, upload: Upload) -> None:
        """Keeps count of an upload until `ended`."""
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


def remove_parts(homes: Path) -> None:
    """Clears away what a server that was killed has left."""
    for folder, _, names in os.walk(homes):  # does not walk into links
        for name in names:
            if name.startswith(PART_PREFIX):
                (Path(folder) / name).unlink()
