"""Who came, from where, and what was sent: a line for each, by day and district, and a count of those who were not let in; never a cell of a file."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from sftp_ingest.config import Config

KEPT_DAYS = 180
REFUSED = ".refused"
"""Where strangers are counted; no district has such an id."""

log = structlog.get_logger()


class Audit:
    """Writes in a thread of its own, in the order of what happened, so that no client waits for it."""

    def __init__(self, config: Config) -> None:
        self._folder = config.sessions
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="audit")
        self._day = _today()
        self._refused: Counter[str] = Counter()
        self._written: Counter[str] = Counter()

    def tell(self, district: str, event: str, session: str, **facts: object) -> None:
        """One line of the district's day."""
        self._thread.submit(self._append, district, event, session, datetime.now(UTC), facts)

    def received(self, district: str, account: str, session: str, file: str, size: int, descriptor: int) -> None:
        """A file that stands under its name; the descriptor is read for its checksum, and closed."""
        self._thread.submit(self._read, district, account, session, file, size, descriptor, datetime.now(UTC))

    def refuse(self, reason: str) -> None:
        """Counts someone who was not let in."""
        self._refused[reason] += 1

    def write_counts(self) -> None:
        """Writes how many were not let in today, where that has changed."""
        if self._refused != self._written:
            self._written = self._refused.copy()
            self._thread.submit(self._write_counts, self._day, dict(self._refused))
        if self._day != _today():
            self._day, self._refused, self._written = _today(), Counter(), Counter()

    def start(self) -> None:
        """Goes on with the counts of today, and forgets what is old."""
        self._refused.update(refused(self._folder, self._day))
        self._written = self._refused.copy()
        self.forget()

    def forget(self) -> None:
        """Removes the days that are no longer kept."""
        oldest = (_today() - timedelta(days=KEPT_DAYS)).isoformat()
        for path in self._folder.glob("*/*.json*"):
            if path.name < oldest:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Returns when all is written."""
        self.write_counts()
        self._thread.shutdown()

    def _read(self, district: str, account: str, session: str, file: str, size: int, descriptor: int, now: datetime) -> None:
        with open(descriptor, "rb") as content:
            content.seek(0)
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        log.info("file_received", district=district, account=account, file=file, bytes=size, sha256=sha256)
        self._append(district, "file", session, now, {"file": file, "bytes": size, "sha256": sha256})

    def _append(self, district: str, event: str, session: str, now: datetime, facts: dict[str, object]) -> None:
        line = json.dumps({"at": now.isoformat(timespec="milliseconds"), "session": session, "event": event, **facts}) + "\n"
        folder = self._folder / district
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with (folder / f"{now:%Y-%m-%d}.jsonl").open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as fault:
            log.error("audit_failed", district=district, fault=fault.strerror)

    def _write_counts(self, day: date, counts: dict[str, int]) -> None:
        path = self._folder / REFUSED / f"{day}.json"
        part = path.with_suffix(".part")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part.write_text(json.dumps(counts, sort_keys=True), encoding="utf-8")
            part.replace(path)
        except OSError as fault:
            log.error("audit_failed", fault=fault.strerror)


def sessions(folder: Path, district: str, since: date) -> list[dict[str, Any]]:
    """The district's sessions that were open since that day, oldest first: what their lines say, with the files in `files`."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((folder / district).glob("*.jsonl")):
        if path.stem < since.isoformat():
            continue
        for line in _lines(path):
            one = found.setdefault(line["session"], {"district": district, "opened_at": "", "files": []})
            at, event = line.pop("at"), line.pop("event")
            if event == "file":
                one["files"].append({"at": at, **{key: line[key] for key in ("file", "bytes", "sha256")}})
            else:
                one.update({f"{event}_at": at, **line})
    return list(found.values())


def refused(folder: Path, day: date) -> dict[str, int]:
    """How many were not let in on that day, by reason."""
    with suppress(OSError, ValueError):
        counts: dict[str, int] = json.loads((folder / REFUSED / f"{day}.json").read_text(encoding="utf-8"))
        return counts
    return {}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):  # a machine that went down may have left half a line
            yield json.loads(line)


def _today() -> date:
    return datetime.now(UTC).date()
