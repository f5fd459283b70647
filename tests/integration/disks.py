"""Disks of a test's own: on which there is soon no room, or whose power can be cut."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

_SHUTDOWN, _WRITE_NOTHING = 0x8004587D, 2
"""EXT4_IOC_SHUTDOWN of Linux's ext4.h, and its flag for a disk that takes nothing any more, the journal least of all."""


@contextmanager
def a_disk_of(folder: Path, size: str) -> Iterator[None]:
    """Inside, the folder is a disk of this size, empty at first; where none can be mounted the test is skipped."""
    folder.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False).returncode:
        pytest.skip("a small tmpfs cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def a_disk_to_cut(folder: Path, image: Path) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Inside, the folder is a disk of its own with a journal. What is called cuts the power at once; after that block the machine is up again.

    Whatever the kernel had not written by then is gone. Who is root may do so; for others the test is skipped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with image.open("wb") as file:
        file.truncate(64 << 20)
    program = shutil.which("mkfs.ext4", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if os.geteuid() or program is None or subprocess.run([program, "-q", str(image)], check=False).returncode or not _mounted(image, folder):
        pytest.skip("no disk can be mounted here")

    @contextmanager
    def cut() -> Iterator[None]:
        top = os.open(folder, os.O_RDONLY)
        fcntl.ioctl(top, _SHUTDOWN, struct.pack("I", _WRITE_NOTHING))
        os.close(top)
        yield
        subprocess.run(["umount", str(folder)], check=True)
        assert _mounted(image, folder)

    try:
        yield cut
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _mounted(image: Path, folder: Path) -> bool:
    return subprocess.run(["mount", "-o", "loop", str(image), str(folder)], capture_output=True, check=False).returncode == 0
