"""Which format a delivery is in, told by the names of its files; a module that satisfies `Format` is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from sftp_ingest.model import Assembled, Delivery, Frames, Roster, Verdict
from sftp_ingest.roster import clever
from sftp_ingest.roster.contract import Contract


class Format(Protocol):
    """A set of files with a contract under schemas/NAME, and the way from a verdict on them to a roster."""

    NAME: str

    def prepare(self, frames: Frames, contract: Contract, now: Roster, *, strict: bool) -> Frames:
        """The frames of the files as those of the tables that are judged."""

    def assemble(self, verdict: Verdict, contract: Contract, now: Roster) -> Assembled:
        """The roster that the files describe; `now` is what the district has, for files that tell only what changed."""


FORMATS: Mapping[str, Format] = {clever.NAME: clever}


def of(delivery: Delivery, asked: str = "auto") -> Format:
    """The format that was asked for, or with *auto* the one whose files these are; Clever's where they are nobody's."""
    if asked != "auto":
        return FORMATS[asked]
    return FORMATS[clever.NAME]
