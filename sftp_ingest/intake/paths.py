"""Paths of a home, walked one folder at a time so that no link in any place of them is ever followed."""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from posixpath import normpath

import asyncssh

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
DEEPEST = 32
"""How many folders deep a path may go; each is opened on the way."""
ODD = "(odd name)"
"""What stands in log lines for a name that is not told there."""


def names(path: bytes) -> list[str]:
    """The names from the home down. Raises SFTPInvalidFilename where they are not plain UTF-8 text."""
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise asyncssh.SFTPInvalidFilename("Names must be UTF-8") from fault
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise asyncssh.SFTPInvalidFilename("Names must not have control characters")
    found = [each for each in normpath("/" + text).split("/") if each]
    if len(found) > DEEPEST:
        raise asyncssh.SFTPInvalidFilename("This is too deep")
    return found


@contextmanager
def walked(home: Path, folders: list[str]) -> Iterator[int]:
    """The folder at the end of the way from the home down, as a descriptor. Raises OSError where there is none; a symbolic link is none."""
    folder = os.open(home, FOLDER)
    try:
        for each in folders:
            inner = os.open(each, FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


def open_file(folder: int, name: str) -> io.FileIO:
    """A regular file, for reading; looked at first, for a device might do something when it is opened, and then again. Raises SFTPError or OSError.

    O_NONBLOCK lest a pipe, put there in between, keeps us waiting.
    """
    if not stat.S_ISREG(facts(folder, name).st_mode):
        raise asyncssh.SFTPPermissionDenied("Not a file")
    file = io.FileIO(name, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise asyncssh.SFTPPermissionDenied("Not a file")
    return file


def facts(folder: int, name: str) -> os.stat_result:
    """What a name in a folder stands for; a link stands for itself. Raises OSError."""
    return os.stat(name, dir_fd=folder, follow_symlinks=False)


def facts_if_any(folder: int, name: str) -> os.stat_result | None:
    """As `facts`, or None where there is nothing of that name."""
    try:
        return facts(folder, name)
    except FileNotFoundError:
        return None


def no_deeper(folder: int, name: str, levels: int) -> bool:
    """Whether what a name stands for has folders within one another in no more than so many levels below it; a file has none. Raises OSError."""
    if levels < 0:
        return False
    if not stat.S_ISDIR(facts(folder, name).st_mode):
        return True
    inner = os.open(name, FOLDER, dir_fd=folder)
    try:
        with os.scandir(inner) as entries:
            return all(no_deeper(inner, each.name, levels - 1) for each in entries if each.is_dir(follow_symlinks=False))
    finally:
        os.close(inner)


def move(source: int, old: str, target: int, new: str) -> None:
    """Renames, for good. Raises OSError."""
    os.replace(old, new, src_dir_fd=source, dst_dir_fd=target)
    os.fsync(target)
    os.fsync(source)


def plain(path: bytes) -> str:
    """A path from the home down, fit for a log line: clients choose names, and might put a pupil's into one."""
    return "/".join(each if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", each) else ODD for each in names(path))
