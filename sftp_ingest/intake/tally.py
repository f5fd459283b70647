"""Numbers that several processes count together, in memory that they share; they are gone with the last of them."""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

COLUMNS = 8
ROWS = 1 << 20
"""More than there will be homes; a row takes memory only once something is counted in it."""

_BYTES = 8


class Tally:
    """Rows of whole numbers, zero at first. Whoever has the `descriptor` counts in the same rows, unless one process counts `alone`."""

    def __init__(self, descriptor: int | None = None, *, alone: bool = False) -> None:
        self._alone = alone
        self.descriptor = os.memfd_create("tally") if descriptor is None else descriptor
        os.ftruncate(self.descriptor, ROWS * COLUMNS * _BYTES)
        self._numbers = memoryview(mmap.mmap(self.descriptor, ROWS * COLUMNS * _BYTES)).cast("q")
        weakref.finalize(self, os.close, self.descriptor)
        self._thread = threading.Lock()  # the kernel's lock keeps processes apart, not threads

    @contextmanager
    def row(self, number: int) -> Iterator[memoryview]:
        """The row's numbers, for nobody else to read or write meanwhile; of a process that dies, the kernel opens the lock."""
        row = self._numbers[number * COLUMNS : (number + 1) * COLUMNS]
        with self._thread:
            if self._alone:
                yield row
                return
            fcntl.lockf(self.descriptor, fcntl.LOCK_EX, 1, number)
            try:
                yield row
            finally:
                fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1, number)
