"""What a client is told of folders, and of the files in them."""

from __future__ import annotations

import os
from contextlib import suppress

import asyncssh

from sftp_ingest.intake.inbox import CUT_PREFIX, PART_PREFIX
from sftp_ingest.intake.session import Session

LAST_SECOND = 2**32 - 1
"""Of the times that SFTP's third version knows; the first one is 0."""


class Listing:
    """A folder that a client reads, page by page; it counts as an open file until the client closes it, or is gone.

    An upload that was cut off is shown under its own name, so that clients see how much of it there is.
    """

    def __init__(self, session: Session, folder: int) -> None:
        session.handle_opened()
        self._session = session
        self._folder = folder
        self._own = [".", ".."]
        self._cut = {each.removeprefix(CUT_PREFIX) for each in os.listdir(folder) if each.startswith(CUT_PREFIX)}
        self._entries = os.scandir(folder)

    def __aiter__(self) -> Listing:
        return self

    async def __anext__(self) -> asyncssh.SFTPName:
        if self._own:
            return self._named(self._own.pop(0), os.fstat(self._folder))
        for entry in self._entries:
            if not entry.name.startswith(PART_PREFIX) and entry.name not in self._cut:
                with suppress(FileNotFoundError):  # gone since the folder was read
                    return self._named(entry.name.removeprefix(CUT_PREFIX), entry.stat(follow_symlinks=False))
        raise StopAsyncIteration

    def __del__(self) -> None:
        if hasattr(self, "_entries"):  # asyncssh forgets a folder that was closed, and says nothing
            self._entries.close()
            os.close(self._folder)
            self._session.handle_closed()

    def _named(self, name: str, facts: os.stat_result) -> asyncssh.SFTPName:
        return asyncssh.SFTPName(os.fsencode(name), attrs=told(facts))


def told(facts: os.stat_result) -> asyncssh.SFTPAttrs:
    """The facts as they are sent; of a time that a client cannot be told, as a file from elsewhere may have, the nearest that he can."""
    attrs = asyncssh.SFTPAttrs.from_local(facts)
    attrs.atime, attrs.mtime = (min(max(int(each), 0), LAST_SECOND) for each in (facts.st_atime, facts.st_mtime))
    return attrs
