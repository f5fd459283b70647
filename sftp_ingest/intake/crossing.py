"""Two sessions that send different nights into one home at the same time: what they leave behind may be of neither."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from pathlib import Path

import structlog

from sftp_ingest.intake import audit, paths
from sftp_ingest.model import DeliveredFile

log = structlog.get_logger()


@dataclass(frozen=True)
class _Sending:
    """What one session sent, path → the checksums of all that it sent there, and when its first and its last file were whole."""

    sent: dict[str, set[str]]
    began: datetime
    ended: datetime

    @property
    def checksums(self) -> set[str]:
        """Of all that it sent."""
        return set().union(*self.sent.values())

    def crosses(self, other: _Sending) -> bool:
        """Whether both were sending at the same time, and not the same under one name."""
        if self.began > other.ended or other.began > self.ended:
            return False
        return any(self.sent[path].isdisjoint(other.sent[path]) for path in self.sent.keys() & other.sent.keys())


def crossed(record: Path, district: str, since: datetime, files: Sequence[DeliveredFile]) -> set[str]:
    """The names of those of the `files` that only one of two nights has which were sent at once; none where one of the two stands whole.

    `record` holds what was sent. A client that sends over several connections never sends two contents of one name, and one that sends
    a night anew after its connection broke, or corrects a file, does so after what it sent before: neither crosses anything. A record that
    cannot be read is told in the log, and crosses nothing.
    """
    try:
        sendings = _sendings(record, district, since)
    except OSError as fault:
        log.error("audit_failed", district=district, fault=fault.strerror)
        return set()
    last = {checksum: number for number, each in sorted(enumerate(sendings), key=lambda told: told[1].ended) for checksum in each.checksums}
    of = defaultdict(set)
    for file in files:
        if file.resent and file.sha256 in last:
            of[last[file.sha256]].add(file)
    found: set[str] = set()
    for one, other in combinations(sorted(of), 2):
        if sendings[one].crosses(sendings[other]):
            alone = [{each.name for each in of[mine] if each.sha256 not in sendings[their].checksums} for mine, their in ((one, other), (other, one))]
            found |= set().union(*alone) if all(alone) else set()
    return found


def _sendings(record: Path, district: str, since: datetime) -> list[_Sending]:
    """What every session sent after that moment; a name or a checksum that is not on record could be anyone's."""
    found = []
    for session in audit.sessions(record, district, since.date()):
        sent: defaultdict[str, set[str]] = defaultdict(set)
        times = []
        for file in session["files"]:
            at = datetime.fromisoformat(file["at"])
            if at > since and file["sha256"] and paths.ODD not in file["file"]:
                sent[file["file"]].add(file["sha256"])
                times.append(at)
        if times:
            found.append(_Sending(sent, min(times), max(times)))
    return found
