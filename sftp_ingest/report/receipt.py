"""A run told to the program that sent its files: small, stable, easy to poll."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from sftp_ingest.model import SyncReport
from sftp_ingest.report import summary

FORMAT = "sftp-ingest receipt"
VERSION = 1

Action = Literal["none", "correct", "resend", "wait"]
"""What the district has to do: *resend* all files mended, as nothing was applied; *correct* rows for the next night; *wait* for us; or nothing."""


def action(report: SyncReport) -> Action:
    """What the district has to do. Where several things are to be done, the one that matters most to it."""
    severities = {each.severity for each in report.findings}
    if report.outcome == "superseded":
        return "none"
    if report.outcome == "refused" or "refuse" in severities:
        return "resend"
    if report.outcome == "failed":
        return "wait"
    if "reject" in severities:
        return "correct"
    return "wait" if summary.is_open(report) else "none"


def next_step(report: SyncReport) -> str:
    """The same in a sentence for people; nothing where nothing is to be done."""
    sent = report.run is not None and not report.preview
    match action(report):
        case "resend":
            return "Mend the files as told below, and send all of them again." if sent else "Mend the files as told below before you send them."
        case "correct" if sent and summary.is_open(report):
            return "Mend the rows that were left out for the next night; the part that waits is up to us."
        case "correct" if sent:
            return "Mend the rows that were left out for the next night; nothing has to be sent again now."
        case "correct":
            return "Mend the rows as told below before you send them; as they are, they would be left out."
        case "wait" if sent:
            return "Nothing has to be sent again; what comes next is up to us."
        case _:
            return ""


def make(report: SyncReport, contents: Mapping[str, Any] | None, details: str | None) -> dict[str, Any]:
    """The receipt as plain JSON values: times in ISO 8601 and UTC, sizes in bytes. No cell of a person is in it.

    `contents` is what the zip of details says of itself, `details` its name; without them rows are not told by file.
    """
    by_file = contents["files"] if contents else {}
    findings: dict[str, dict[str, int]] = {"refuse": {}, "reject": {}, "warn": {}}
    for each in report.findings:
        of_severity = findings[each.severity]
        of_severity[each.code] = of_severity.get(each.code, 0) + each.count
    told = summary.as_json(report)
    return {
        "format": FORMAT,
        "version": VERSION,
        **{key: told[key] for key in ("district", "delivery", "run", "outcome", "preview", "reverts")},
        "action": action(report),
        **{key: told[key] for key in ("received_at", "finished_at")},
        "files": [
            {"name": each.name, "size": each.size, "sha256": each.sha256, **{key: by_file.get(each.name.lower(), {}).get(key) for key in _BY_FILE}}
            for each in report.files
        ],
        "counts": told["counts"],
        "findings": findings,
        "hold": report.hold and {"state": report.hold_state or "open", "reasons": [each.sentence for each in report.hold.reasons]},
        "details": details,
    }


_BY_FILE = ("rows", "rejected", "listed")
