"""What a server that was killed, or a machine that went down, has left half done in the homes; and what no client goes on with any more."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from time import time

import structlog

from sftp_ingest.intake import durable, paths, trees
from sftp_ingest.intake.inbox import CUT_PREFIX, PART_PREFIX
from sftp_ingest.intake.upload import keep_begin, parts_of, set_back

CUT_SECONDS = 2 * 86_400
"""So long a client may wait before it goes on with an upload that was cut off."""

_RESUMABLE = re.compile(rf"{re.escape(PART_PREFIX)}[0-9a-f]{{8,}}-(.+)")

log = structlog.get_logger()


def tidy_parts(homes: Path, process: int | None = None) -> None:
    """Makes of the parts that a killed server has left, or one process of it, what a cut connection makes of them; tells of one where that fails."""
    begin = PART_PREFIX if process is None else parts_of(process)
    for folder, _, names in trees.walk(homes):
        found = {name: facts for name in names if name.startswith(begin) and (facts := paths.facts_if_any(folder, name))}
        for part in sorted(found, key=lambda each: found[each].st_mtime_ns):  # the last one stays
            named = _RESUMABLE.fullmatch(part)
            try:
                whole = found[part].st_nlink > 1  # it had its name already, and may be sealed under it
                if not named or not stat.S_ISREG(found[part].st_mode) or not found[part].st_size or whole or _later(folder, named[1], found[part]):
                    os.unlink(part, dir_fd=folder)
                    continue
                keep_begin(folder, part, named[1])
            except OSError as fault:
                log.error("part_not_tidied", fault=fault.strerror)


def take_back_lost(homes: Path) -> None:
    """Makes of the files that had their names for a moment when the machine went down what a cut connection makes of them, and tells of each.

    Those that a killed server has left to the disk come there now.
    """
    for home in homes.iterdir():
        for folder, _, names in trees.walk(home):
            for name in names:
                if name.startswith((PART_PREFIX, CUT_PREFIX)):
                    continue
                try:
                    _take_back_if_lost(home.name, folder, name)
                except OSError as fault:
                    log.error("upload_not_taken_back", district=home.name, fault=fault.strerror)


def _take_back_if_lost(district: str, folder: int, name: str) -> None:
    facts = paths.facts_if_any(folder, name)
    if not facts or not stat.S_ISREG(facts.st_mode):
        return
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        if not durable.is_marked(file):
            return
        if durable.is_lost(file):
            log.error("upload_lost", district=district, file=paths.plain(os.fsencode(name)), bytes=facts.st_size)
            set_back(folder, name, file)
        else:
            os.fsync(file)
            os.fsync(folder)
            durable.unmark(file)
    finally:
        os.close(file)


def remove_cut(homes: Path) -> None:
    """Clears away what was cut off and is not gone on with any more; tells of one where that fails."""
    for folder, _, names in trees.walk(homes):
        for name in names:
            facts = paths.facts_if_any(folder, name) if name.startswith(CUT_PREFIX) else None
            if facts and time() - facts.st_ctime > CUT_SECONDS:
                try:
                    os.unlink(name, dir_fd=folder)
                except FileNotFoundError:  # its client has gone on with it just now
                    continue
                except OSError as fault:
                    log.error("cut_not_removed", fault=fault.strerror)


def _later(folder: int, name: str, part: os.stat_result) -> bool:
    there = paths.facts_if_any(folder, name)
    return there is not None and there.st_ctime_ns > part.st_ctime_ns
