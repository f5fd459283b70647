"""A folder with all that lies below it, walked and removed one folder at a time: how deep it goes, and how long its paths are, is not for us to choose."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sftp_ingest.intake.paths import DEEPEST, FOLDER


def walk(top: Path) -> Iterator[tuple[int, list[str], list[str]]]:
    """Every folder from `top` down: its descriptor, which is closed later, the names of the folders in it, and all other names.

    Of the folders, those are walked into that are still in the list at the next step. It goes as deep as paths may from the folder of all homes;
    links are not followed, and what is gone meanwhile, or cannot be read, is left out.
    """
    way: list[tuple[int, list[str]]] = []
    try:
        if found := _opened(top, None):
            way.append(found[:2])
            yield found
        while way:
            folder, ahead = way[-1]
            if not ahead or len(way) > DEEPEST + 1:
                os.close(way.pop()[0])
            elif found := _opened(ahead.pop(), folder):
                way.append(found[:2])
                yield found
    finally:
        for folder, _ in way:
            os.close(folder)


def remove(top: Path) -> int:
    """Removes a folder with all that lies in it, however deep; how many files that were. Begun again, it goes on where it was. Raises OSError.

    What lies deeper is first moved up, so that no path is ever long and two folders at most are open.
    """
    folder = os.open(top, FOLDER)
    try:
        count = _empty(folder)
    finally:
        os.close(folder)
    top.rmdir()
    return count


def _empty(folder: int) -> int:
    """Removes all that lies in a folder; how many files that were."""
    count = 0
    while names := os.listdir(folder):
        for name in names:
            try:
                os.unlink(name, dir_fd=folder)
                count += 1
            except IsADirectoryError:
                inner = os.open(name, FOLDER, dir_fd=folder)
                try:
                    count += _flatten(inner, folder)
                finally:
                    os.close(inner)
                os.rmdir(name, dir_fd=folder)
    return count


def _flatten(folder: int, above: int) -> int:
    """Removes the files of a folder, and moves its folders to the one above it; how many files that were."""
    count = 0
    for name in os.listdir(folder):
        try:
            os.unlink(name, dir_fd=folder)
            count += 1
        except IsADirectoryError:
            os.rename(name, secrets.token_hex(16), src_dir_fd=folder, dst_dir_fd=above)
    return count


def _opened(name: str | Path, above: int | None) -> tuple[int, list[str], list[str]] | None:
    with suppress(OSError):
        folder = os.open(name, FOLDER, dir_fd=above)
        try:
            with os.scandir(folder) as entries:
                kinds: dict[bool, list[str]] = {True: [], False: []}
                for each in entries:
                    kinds[each.is_dir(follow_symlinks=False)].append(each.name)
            return folder, kinds[True], kinds[False]
        except BaseException:
            os.close(folder)
            raise
    return None
