"""A sync report left where the district finds it: in its own home, under reports/, as HTML, text and JSON."""

from __future__ import annotations

import json
import os
import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import structlog

from sftp_ingest.model import SyncReport
from sftp_ingest.report import pages, summary, text

FOLDER = "reports"
KEPT_RUNS = 60

_OURS = re.compile(r"(?P<stem>\d{8}T\d{6}-(run-\d+|check))\.(html|txt|json)")

_log = structlog.get_logger()


def leave_in_home(report: SyncReport, home: Path) -> Path:
    """Write the report, and the same as `latest` or, of a preview, `latest-preview`, into the home's reports folder; returns the path of the HTML page.

    Every file appears whole or not at all. Reports of older runs than the newest 60 are removed. Raises OSError where the disk says no.
    """
    folder = home / FOLDER
    folder.mkdir(mode=0o755, exist_ok=True)
    moment = (report.finished_at or report.received_at or datetime.now(UTC)).astimezone(UTC)
    stem = f"{moment:%Y%m%dT%H%M%S}-{'check' if report.run is None else f'run-{report.run}'}"
    forms = {
        "html": pages.html(report),
        "txt": text.plain(report),
        "json": json.dumps(summary.as_json(report), indent=2, ensure_ascii=False) + "\n",
    }
    for name in (stem, "latest-preview" if report.preview else "latest"):
        for form, content in forms.items():
            _write_whole(folder / f"{name}.{form}", content)
    _prune(folder)
    _log.info("report_left", district=report.district, run=report.run, outcome=report.outcome)
    return folder / f"{stem}.html"


def is_left(run: int, home: Path) -> bool:
    """Whether the report of the run lies in the home already."""
    return any((home / FOLDER).glob(f"*-run-{run}.json"))


def _write_whole(path: Path, content: str) -> None:
    """Write under a hidden name that the SFTP server never shows, then put it in place at once."""
    handle, name = tempfile.mkstemp(prefix=".upload-", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _prune(folder: Path) -> None:
    """Remove our oldest reports; whatever else lies in the folder stays."""
    ours = [(match["stem"], path) for path in folder.iterdir() if (match := _OURS.fullmatch(path.name))]
    kept = set(sorted({stem for stem, _ in ours}, reverse=True)[:KEPT_RUNS])
    for stem, path in ours:
        if stem not in kept:
            path.unlink(missing_ok=True)
