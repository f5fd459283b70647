"""A sync report left where the district finds it: in its own home, under reports/, as HTML, text and JSON, with all details."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path

import structlog

from sftp_ingest.model import SyncReport
from sftp_ingest.report import archive, pages, receipt, summary, text
from sftp_ingest.report.summary import FixIt

FOLDER = "reports"
KEPT_RUNS = 60

_OURS = re.compile(r"(?P<stem>\d{8}T\d{6}-(run-\d+|check))(-receipt)?\.(html|txt|json|zip)")

_log = structlog.get_logger()


def leave_in_home(report: SyncReport, home: Path, details: Path | None = None) -> Path:
    """Write the report, and the same as `latest`, into the home's reports folder; returns the path of the HTML page.

    Of a preview it is `latest-preview`, of a revert `latest-revert`, of a delivery that came before the last one none: what the last one came to
    stays where a district looks for it.
    With it come a receipt, a zip of all of it and the run's `details`, and the rejected rows as `latest-rejected-<file>.csv`. A full disk
    costs the details first, and the receipt says so. Every file appears whole or not at all, the JSON last. Reports of older runs than the
    newest 60 are removed. Raises OSError where the disk says no.
    """
    folder = home / FOLDER
    folder.mkdir(mode=0o755, exist_ok=True)
    moment = (report.finished_at or report.received_at or datetime.now(UTC)).astimezone(UTC)
    stem = f"{moment:%Y%m%dT%H%M%S}-{'check' if report.run is None else f'run-{report.run}'}"
    latest = "latest-preview" if report.preview else "latest" if report.reverts is None else "latest-revert"
    if report.outcome == "superseded":  # a newer delivery is what the district looks for
        latest = stem
    told, fix_it = _leave_details(report, folder, (stem, latest), details)
    forms = {
        ".html": pages.html(report, fix_it),
        ".txt": text.plain(report, fix_it),
        "-receipt.json": told,
        ".json": _json(summary.as_json(report)),
    }
    for ending, content in forms.items():
        for name in (stem, latest):
            with archive.whole(folder / f"{name}{ending}", 0o644) as file:
                file.write(content.encode("utf-8", errors="replace"))
    _prune(folder)
    _log.info("report_left", district=report.district, run=report.run, outcome="previewed" if report.preview else report.outcome)
    return folder / f"{stem}.html"


def is_left(run: int, home: Path) -> bool:
    """Whether the report of the run lies in the home already."""
    return any((home / FOLDER).glob(f"*-run-{run}.json"))


def in_one_zip(report: SyncReport, path: Path, details: Path | None) -> str:
    """Write the zip with the report, its receipt and the run's details; returns the receipt. Raises OSError where the disk says no."""
    return _zip(report, path, details)


def beside(name: str, details: Path | None) -> FixIt | None:
    """Where the details lie that were written as the zip `name` beside the report; None where there are none."""
    contents = archive.contents(details) if details else None
    holds = archive.told(contents) if contents else ""
    return FixIt(f"In the zip beside this report: {holds}.", name) if holds else None


def _leave_details(report: SyncReport, folder: Path, names: tuple[str, str], details: Path | None) -> tuple[str, FixIt | None]:
    """Leave the zip and the rejected rows, or where the disk has no room for them, none of an earlier night; returns the receipt, and where they lie."""
    stem, latest = names
    loose: set[str] = set()
    fix_it: FixIt | None = None
    try:
        told = _zip(report, folder / f"{stem}.zip", details)
        if details is not None:
            for name, content in archive.rejected(details):
                loose.add(f"{latest}-{name}")
                with archive.whole(folder / f"{latest}-{name}") as file:
                    file.writelines(content)
        _link(folder / f"{stem}.zip", folder / f"{latest}.zip")
        fix_it = beside(f"{stem}.zip", details)
    except OSError as fault:
        _log.error("details_not_left", district=report.district, run=report.run, error=fault.strerror)
        told = _json(receipt.make(report, None, None))
        loose.clear()
        for name in (f"{stem}.zip", f"{latest}.zip"):
            (folder / name).unlink(missing_ok=True)
    for path in folder.glob(f"{latest}-{archive.REJECTED}*.csv"):
        if path.name not in loose:
            path.unlink(missing_ok=True)
    return told, fix_it


def _zip(report: SyncReport, path: Path, details: Path | None) -> str:
    contents = archive.contents(details) if details else None
    told = _json(receipt.make(report, contents, path.name if details else None))
    holds = archive.told(contents) if contents else ""
    page = pages.html(report, FixIt(f"The other files of this archive: {holds}.") if holds else None)
    archive.complete(path, details, {"report.html": page, "receipt.json": told})
    return told


def _json(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _link(path: Path, name: Path) -> None:
    """The file under a second name too, so that a big one lies on the disk once."""
    part = name.with_name(f"{archive.PART}{path.name}")
    part.unlink(missing_ok=True)
    os.link(path, part)
    part.replace(name)
    part.unlink(missing_ok=True)  # still there where both were one already


def _prune(folder: Path) -> None:
    """Remove our oldest reports, and parts that a killed run left; whatever else lies in the folder stays."""
    for part in folder.glob(f"{archive.PART}*"):
        part.unlink(missing_ok=True)
    ours = [(match["stem"], path) for path in folder.iterdir() if (match := _OURS.fullmatch(path.name))]
    kept = set(sorted({stem for stem, _ in ours}, reverse=True)[:KEPT_RUNS])
    for stem, path in ours:
        if stem not in kept:
            path.unlink(missing_ok=True)
