"""Which format a delivery is in, told by the names of its files; a module that satisfies `Format` is one."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Protocol

from sftp_ingest.config import Settings
from sftp_ingest.model import Assembled, Delivery, Frames, Roster, Verdict
from sftp_ingest.roster import clever, contract, oneroster, overlay
from sftp_ingest.roster.contract import Contract


class Format(Protocol):
    """A set of files with a contract under schemas/NAME, and the way from a verdict on them to a roster."""

    NAME: str

    def prepare(self, frames: Frames, contract: Contract, now: Roster, *, strict: bool) -> Frames:
        """The frames of the files as those of the tables that are judged."""

    def assemble(self, verdict: Verdict, contract: Contract, now: Roster) -> Assembled:
        """The roster that the files describe; `now` is what the district has, for files that tell only what changed."""


FORMATS: Mapping[str, Format] = {clever.NAME: clever, oneroster.NAME: oneroster}


def of(delivery: Delivery, asked: str = "auto") -> Format:
    """The format that was asked for, or with *auto* the one of whose core files the greater share is here; Clever's on a tie, or where there are none.

    A manifest counts as a core file: changes may come with one other file.
    """
    if asked != "auto":
        return FORMATS[asked]
    return max(FORMATS.values(), key=lambda format: _share(delivery, contract.load(format.NAME)))


def read_as(listed: Delivery, settings: Settings) -> tuple[Format, Contract]:
    """The format of a delivery whose archives are listed, and the contract by which the district's deliveries in it are judged.

    Raises ContractError where the district's own contract folder is wrong.
    """
    format = of(listed, settings.format)
    return format, overlay.rules(format.NAME, settings.contract, settings.keep_sensitive)


def _share(delivery: Delivery, rules: Contract) -> Fraction:
    core = {table.file.lower() for table in rules.tables.values() if table.core or table.pairs}
    sent = {contract.in_home(each.name, rules).lower() for each in delivery.files}
    return Fraction(len(core & sent), len(core))
