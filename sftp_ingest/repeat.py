"""A delivery of the very files that were applied last is told in the words of that night, without reading them again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Engine

from sftp_ingest import __version__
from sftp_ingest.config import Settings
from sftp_ingest.findings import Finding
from sftp_ingest.model import ChangeSet, Counts, Delivery, Details, Outcome, Rejections, SyncRun
from sftp_ingest.roster import files, formats
from sftp_ingest.store import ledger, states
from sftp_ingest.store.database import reading
from sftp_ingest.store.ledger import Applied
from sftp_ingest.store.states import State

LONGEST = timedelta(days=7)
"""After so long the files are read again, whatever is known of them: an audit of all that is said here."""

OF_THE_FILES_ALONE = frozenset(
    {
        "encoding_guessed", "file_deprecated", "file_name_case", "file_unknown", "file_unterminated", "header_misspelt", "header_unnamed",
        "quote_smart", "quote_unescaped", "record_overridden", "row_blank", "row_repeated", "row_trailing_commas", "section_without_students",
        "value_converted", "value_excel_date",
    }
)  # fmt: skip
"""Findings that say the same of the same files whatever was there before them; all others may hang on the night before, or on its roster."""


BY_TIME = frozenset({"file_twin", "archive_twin"})
"""Of two files with one name the newer counts, which their content does not tell."""


@dataclass(frozen=True)
class Repeat:
    """What a full pass would come to: the run is unchanged, with these counts and findings."""

    counts: Mapping[str, Counts]
    findings: tuple[Finding, ...]
    details: Details
    state: State


def fingerprint(delivery: Delivery, settings: Settings) -> str:
    """What, other than the files and the roster, decides on what is read in them: this program, the contract, the district's settings.

    Raises ContractError where the district's own contract folder is wrong, DeliveryError where an archive is not what it was.
    """
    format, rules = formats.read_as(files.listed(delivery)[0], settings)
    told = (__version__, format.NAME, rules.digest, sorted(settings.keep_sensitive), settings.strict, settings.derive)
    return hashlib.sha256(repr(told).encode()).hexdigest()


def same_files(one: Delivery, other: Delivery) -> bool:
    """Whether both hold the same files under the same names, byte for byte."""
    told = [{(each.name, each.sha256, each.resent, each.crossed) for each in delivery.files} for delivery in (one, other)]
    return told[0] == told[1]


def as_known(state: State, applied: Applied | None, delivery: Delivery, rules: str) -> bool:
    """Whether the roster is, untouched, what the same files came to last, by the same rules."""
    return applied is not None and state.run == applied.run.id and not state.touched and state.rules == rules and same_files(applied.delivery, delivery)


def repeatable(outcome: Outcome, findings: Sequence[Finding], rejections: Mapping[str, Rejections], *, as_known: bool) -> bool:
    """Whether the same files would be told in the same words.

    So it is where nothing was left out and what was found is of the files alone: the roster then is what they say. And so it is where they
    were the files of the night before, and it was `as_known`: all that went in is as it was, so all that comes out is as well.
    """
    codes = {each.code for each in findings}
    if not codes.isdisjoint(BY_TIME):
        return False
    return (as_known and outcome == "unchanged") or (not rejections and codes <= OF_THE_FILES_ALONE)


def of(engine: Engine, run: SyncRun, delivery: Delivery, applied: Applied, rules: str) -> Repeat | None:
    """The night's outcome, or None where the files have to be read. Raises DeliveryError where a sealed file is not there as it was sealed."""
    with reading(engine) as connection:
        state = states.of(connection, run.district)
    if run.approved_digest or not state.repeatable or not as_known(state, applied, delivery, rules):
        return None
    if not lately(state, delivery):
        return None
    files.check_there(delivery)
    findings = ledger.findings(engine, applied.run.id)
    counts = {name: _again(each) for name, each in applied.run.counts.items()}
    if applied.run.outcome == "unchanged":
        details = Details({}, {}, {}, None, None, findings, same_as=applied.run.id)
    else:
        rows = {file: shape.rows for file, shape in applied.shapes.items()}
        details = Details(rows, dict.fromkeys(rows, 0), {}, ChangeSet({}, {}, {}, {}), None, findings)
    return Repeat(counts, findings, details, state)


def lately(state: State, delivery: Delivery) -> bool:
    """Whether the files were read as a whole not long before, and in the same year: a year of two digits means another century one day."""
    return state.read_at is not None and delivery.received_at - state.read_at <= LONGEST and delivery.received_at.year == state.read_at.year


def _again(counts: Counts) -> Counts:
    active = counts.existing + counts.created + counts.reactivated - counts.deactivated
    return Counts(existing=active, rows=counts.rows, unchanged=active, rejected=counts.rejected)
