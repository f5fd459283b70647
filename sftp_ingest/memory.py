"""How a process that holds millions of rows for a moment gives their memory back at once."""

from __future__ import annotations

import ctypes
import mmap
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

import pyarrow as pa

_LARGE = 5 << 18
"""Pieces of so many bytes are asked of the kernel one by one, and go back to it when they are free; those of a mebibyte, as files are read, are used again."""

_M_MMAP_THRESHOLD = -3
"""Of glibc's malloc.h."""

_MOMENT = 0.02
"""Seconds, in which no more than some fifty megabytes are looked at."""

_mapped: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
_changing = threading.Lock()


def give_back_at_once() -> None:
    """Free memory goes back to the machine from now on, instead of being kept for the next piece of its size: a run has few that are alike.

    Left alone, glibc keeps what is free in pieces up to 32 MB, and Arrow's own allocator besides: about a fifth of a run's peak.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    with suppress(AttributeError):  # of another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)


def mapped(file: IO[bytes]) -> mmap.mmap:
    """What was written to the file, to be read where it lies. What has been looked at of it counts as memory of this process, see `letting_go`."""
    file.flush()
    lying = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with _changing:
        _mapped.add(lying)
    return lying


@contextmanager
def letting_go() -> Iterator[None]:
    """Inside, the kernel is had to forget at every moment that this process has looked at what is mapped: it keeps it, or reads it again."""
    over = threading.Event()
    thread = threading.Thread(target=_let_go_until, args=(over,), name="letting go", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _let_go_until(over: threading.Event) -> None:
    while not over.wait(_MOMENT):
        with _changing:
            for each in _mapped:
                each.madvise(mmap.MADV_DONTNEED)
