"""Who came, from where, and what was sent: a line for each, by day and district, and a count of those who were not let in; never a cell of a file."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
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
TURN_BYTES = 4 << 20
"""So much of a district's files is read for their checksums before it is another's turn."""
WAITING_FILES, WAITING_BYTES = 1000, 1 << 30
"""Where so many files of a district, or so many bytes of them, wait to be read, the next is on record without its checksum: what waits is held open,
and stays on the disk even when its client has replaced it."""
CLOSING_SECONDS = 5.0
"""So long files are still read at the end; those that wait then are on record without their checksums."""

log = structlog.get_logger()


class _Content:
    """A file that is read for its checksum, a piece at a time."""

    def __init__(self, descriptor: int, size: int) -> None:
        self.size = size
        self.closed = False
        self._descriptor = descriptor
        self._digest = hashlib.sha256()
        self._read = 0

    def read(self, most: int) -> int:
        """Reads on, at most so many bytes, and closes at the end; how many that were. Raises OSError."""
        piece = os.pread(self._descriptor, min(most, self.size - self._read), self._read)
        self._digest.update(piece)
        self._read += len(piece)
        if self._read == self.size:
            self.close()
        elif not piece:
            raise OSError(errno.EIO, "The file ends too soon")
        return len(piece)

    @property
    def sha256(self) -> str | None:
        """The checksum, once all was read."""
        return self._digest.hexdigest() if self._read == self.size else None

    def close(self) -> None:
        """Reads no further."""
        os.close(self._descriptor)
        self.closed = True


@dataclass(frozen=True)
class _Entry:
    """What will be a line; of a file, which comes with what is to be read of it, and of a session's end the log tells then, with whose they were."""

    at: datetime
    district: str
    event: str
    session: str
    facts: dict[str, object]
    account: str = ""
    peer: str = ""
    content: _Content | None = None


class Audit:
    """Writes in a thread of its own, of each district in the order of what happened: no client waits for it, and no district for another's files."""

    def __init__(self, config: Config) -> None:
        self._folder = config.sessions
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="audit")
        self._entries: deque[_Entry] = deque()
        self._queues: defaultdict[str, deque[_Entry]] = defaultdict(deque)  # the thread's own
        self._waiting: defaultdict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))  # how many files of each district are to be read, and bytes
        self._counting = threading.Lock()
        self._until = 0.0  # once it is set, no file is read after it; a time of the monotonic clock
        self._woken = False
        self._day = _today()
        self._refused: Counter[str] = Counter()
        self._written: Counter[str] = Counter()

    def tell(self, district: str, event: str, session: str, **facts: object) -> None:
        """One line of the district's day."""
        self._add(_Entry(datetime.now(UTC), district, event, session, facts))

    def received(self, district: str, account: str, session: str, file: str, size: int, content: int | str) -> None:
        """A file that stands under its name, with its checksum; or with a descriptor that is read for it, unless too much waits for that, and closed."""
        facts: dict[str, object] = {"file": file, "bytes": size}
        if isinstance(content, str):
            self._add(_Entry(datetime.now(UTC), district, "file", session, {**facts, "sha256": content}, account))
            return
        with self._counting:
            files, waiting = self._waiting[district]
            soon = files < WAITING_FILES and waiting < WAITING_BYTES
            if soon:
                self._waiting[district] = files + 1, waiting + size
        entry = _Entry(datetime.now(UTC), district, "file", session, facts, account, content=_Content(content, size) if soon else None)
        if not soon:
            os.close(content)
            self._leave_out(entry, "Too many files wait to be read")
        self._add(entry)

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
        """Returns when all is written, which is soon."""
        self.write_counts()
        self._until = time.monotonic() + CLOSING_SECONDS
        self._thread.submit(self._write_all)
        self._thread.shutdown()

    def _add(self, entry: _Entry) -> None:
        self._entries.append(entry)
        self._wake(BREATH_SECONDS)

    def _wake(self, breath: float) -> None:
        if not self._woken:
            self._woken = True
            self._thread.submit(self._write_entries, breath)

    def _write_entries(self, breath: float) -> None:
        time.sleep(breath)
        self._woken = False  # before we look: what is added from now on may be seen too late
        self._take_turns()
        if self._queues:
            with suppress(RuntimeError):  # closed just now; what is left is written at the end
                self._wake(0)

    def _write_all(self) -> None:
        while self._entries or self._queues:
            self._take_turns()

    def _take_turns(self) -> None:
        """Writes what can be told of every district, once so much of its files was read."""
        for entry in [self._entries.popleft() for _ in range(len(self._entries))]:
            self._queues[entry.district].append(entry)
        lines: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for district, queue in list(self._queues.items()):
            left = TURN_BYTES
            while queue and left > 0:
                entry = queue[0]
                if entry.content and not entry.content.closed:
                    left -= self._read(entry, entry.content, left)
                if not entry.content or entry.content.closed:
                    lines[district, f"{entry.at:%Y-%m-%d}"].append(self._line(queue.popleft()))
            if not queue:
                del self._queues[district]
        self._write(lines)

    def _read(self, entry: _Entry, content: _Content, most: int) -> int:
        """Reads on in a file, or no more where that fails or the time is over; how many bytes that were."""
        try:
            if self._until and time.monotonic() > self._until:
                raise TimeoutError(errno.ETIMEDOUT, "The server stops")
            return content.read(most)
        except OSError as fault:
            content.close()
            self._leave_out(entry, fault.strerror)
            return 0

    def _leave_out(self, entry: _Entry, fault: str | None) -> None:
        log.warning("checksum_left_out", district=entry.district, account=entry.account, file=entry.facts["file"], fault=fault)

    def _line(self, entry: _Entry) -> str:
        """The entry as it is written; of a file, and of a session's end, the log tells in the same order."""
        facts = entry.facts
        if entry.content:
            with self._counting:
                files, size = self._waiting[entry.district]
                self._waiting[entry.district] = files - 1, size - entry.content.size
        if entry.event == "file":
            facts = {**facts, "sha256": entry.content.sha256 if entry.content else facts.get("sha256")}
            log.info("file_received", district=entry.district, account=entry.account, **facts)
        if entry.event == "closed":
            log.info("session_closed", district=entry.district, account=entry.account, peer=entry.peer, ending=facts["ending"], files=facts["received"])
        return json.dumps({"at": entry.at.isoformat(timespec="milliseconds"), "session": entry.session, "event": entry.event, **facts}) + "\n"

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


def sessions(folder: Path, district: str, since: date) -> list[dict[str, Any]]:
    """The district's sessions that were open since that day, oldest first: what their lines say, with the files in `files`.

    The `sha256` of a file that was not read is None.
    """
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
