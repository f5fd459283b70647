"""Who came, from where, and what was sent: a line for each, by day and district, and a count of those who were not let in; never a cell of a file."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from sftp_ingest.config import Config

KEPT_DAYS = 180
REFUSED = ".refused"
"""Where strangers are counted; no district has such an id."""

BREATH_SECONDS = 0.05
"""Lines that come this close after one another are written together: hundreds of small files arrive in a second."""
SMALL_BYTES = 64 << 10
"""A file of at most this is read at one go."""

log = structlog.get_logger()


@dataclass(frozen=True)
class _Entry:
    """What will be a line; of a file, which comes with a descriptor to read it from, and of a session's end the log tells then, with whose they were."""

    at: datetime
    district: str
    event: str
    session: str
    facts: dict[str, object]
    account: str = ""
    peer: str = ""
    size: int = 0
    descriptor: int | None = None


class Audit:
    """Writes in a thread of its own, in the order of what happened, so that no client waits for it."""

    def __init__(self, config: Config) -> None:
        self._folder = config.sessions
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="audit")
        self._entries: deque[_Entry] = deque()
        self._woken = False
        self._day = _today()
        self._refused: Counter[str] = Counter()
        self._written: Counter[str] = Counter()

    def tell(self, district: str, event: str, session: str, **facts: object) -> None:
        """One line of the district's day."""
        self._add(_Entry(datetime.now(UTC), district, event, session, facts))

    def received(self, district: str, account: str, session: str, file: str, size: int, descriptor: int) -> None:
        """A file that stands under its name; the descriptor is read for its checksum, and closed."""
        self._add(_Entry(datetime.now(UTC), district, "file", session, {"file": file, "bytes": size}, account, size=size, descriptor=descriptor))

    def closed(self, district: str, account: str, peer: str, session: str, **facts: object) -> None:
        """A session's end, of which the log tells too, behind all files that it brought."""
        self._add(_Entry(datetime.now(UTC), district, "closed", session, facts, account, peer))

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

    def _add(self, entry: _Entry) -> None:
        self._entries.append(entry)
        if not self._woken:
            self._woken = True
            self._thread.submit(self._write_entries)

    def _write_entries(self) -> None:
        time.sleep(BREATH_SECONDS)
        self._woken = False  # before we look: what is added from now on may be seen too late
        lines: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for entry in [self._entries.popleft() for _ in range(len(self._entries))]:
            if entry.size > SMALL_BYTES:
                self._write(lines)  # need not wait for a large file to be read
            with _told_of(entry.district, 1):
                lines[entry.district, f"{entry.at:%Y-%m-%d}"].append(_line(entry))
        self._write(lines)

    def _write(self, lines: dict[tuple[str, str], list[str]]) -> None:
        for (district, day), found in lines.items():
            with _told_of(district, len(found)):
                self._append(self._folder / district / f"{day}.jsonl", found)
        lines.clear()

    def _append(self, path: Path, lines: list[str]) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(lines))

    def _write_counts(self, day: date, counts: dict[str, int]) -> None:
        path = self._folder / REFUSED / f"{day}.json"
        part = path.with_suffix(".part")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part.write_text(json.dumps(counts, sort_keys=True), encoding="utf-8")
            part.replace(path)
        except OSError as fault:
            log.error("audit_failed", fault=fault.strerror)


@contextmanager
def _told_of(district: str, lines: int) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        log.error("audit_failed", district=district, lines=lines, fault=fault.strerror)


def _line(entry: _Entry) -> str:
    """The entry as it is written, once the file that it may be of was read; of that, and of a session's end, the log tells in the same order."""
    facts = entry.facts
    if entry.descriptor is not None:
        facts = {**facts, "sha256": _sha256(entry.descriptor)}
        log.info("file_received", district=entry.district, account=entry.account, **facts)
    if entry.event == "closed":
        log.info("session_closed", district=entry.district, account=entry.account, peer=entry.peer, ending=facts["ending"], files=facts["received"])
    return json.dumps({"at": entry.at.isoformat(timespec="milliseconds"), "session": entry.session, "event": entry.event, **facts}) + "\n"


def _sha256(descriptor: int) -> str:
    """The checksum of all that the descriptor, which is closed, is of. Raises OSError."""
    with open(descriptor, "rb", buffering=0) as content:
        content.seek(0)
        begin = content.read(SMALL_BYTES + 1)
        if len(begin) <= SMALL_BYTES:
            return hashlib.sha256(begin).hexdigest()
        content.seek(0)
        return hashlib.file_digest(content, "sha256").hexdigest()


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
