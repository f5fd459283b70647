"""Every trace of a district, or of one person, goes, from the database and from our folders; what comes back is a certificate that counts it."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import re
import time
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import structlog
from sqlalchemy import Engine

from sftp_ingest import copies
from sftp_ingest.config import Config
from sftp_ingest.errors import ConfigError, DeliveryError, StoreError
from sftp_ingest.findings import refuses
from sftp_ingest.intake import inbox, kept, trees
from sftp_ingest.intake.session import sessions_lock
from sftp_ingest.model import Delivery, Role
from sftp_ingest.roster import decoding, files
from sftp_ingest.roster.shelf import Data
from sftp_ingest.runner import district_lock
from sftp_ingest.store import database, ledger, register, tables
from sftp_ingest.store import erasure as stored
from sftp_ingest.store.erasure import Marks

log = structlog.get_logger()

PATIENCE = 10.0
"""How many seconds an erasure waits for a sweep, which is over in moments, before it says that something is in the way."""

_OF_RUN = re.compile(r"-run-(?P<run>\d+)(-receipt)?\.\w+$")
_LATEST = re.compile(r"(latest(?:-[a-z]+)??)(\.|-receipt\.|-rejected-).*")  # of a delivery, a preview, a revert
_BACKUPS = "backups of the database and of these folders, and copies that anybody made of them"
_TOLD = "mails, logs and reports that were passed on; the log names districts, runs and files, and no person"
_PAGES = {
    "sqlite": "SQLite's file was written anew and its write-ahead log emptied, so nothing of the rows is left in either",
    "postgresql": (
        "PostgreSQL has vacuumed the tables: the rows are gone, but their bytes stay in the files until the room is used again or VACUUM FULL "
        "rewrites the tables; its write-ahead log, archives and replicas keep them for as long as they are kept"
    ),
}
_READER = "The rows are deleted, but a reader was in the way of emptying SQLite's write-ahead log for too long: stop the daemon, and erase again"


@dataclass(frozen=True)
class Certificate:
    """What was erased: `rows` by table, `files` by folder, nothing that names a person but the id that was asked for.

    `pages` says what became of the bytes of deleted rows, `unreached` what cannot be erased from here.
    """

    kind: Literal["district", "person"]
    district: str
    person: str
    erased_at: datetime
    rows: Mapping[str, int]
    files: Mapping[str, int]
    pages: str
    unreached: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """Whether there was nothing to erase."""
        return not any(self.rows.values()) and not any(self.files.values())


# ---------------------------------------------------------------- a district


def district(config: Config, engine: Engine, district_id: str, now: datetime) -> Certificate:
    """Erase the district: first its rows, which closes its door, then its folders. Begun again after a crash, it goes on where it was.

    Raises ConfigError, before anything is erased, where the id cannot be one, a run is running, or the district has a session.
    """
    if not register.DISTRICT_ID.fullmatch(district_id):
        raise ConfigError("a district's id is 1 to 63 small letters, digits, - and _, and begins with a letter or a digit")
    with _alone(config, engine, district_id), _no_session(config, district_id):
        rows = stored.district(engine, district_id)
        counts = {
            "home": _remove_tree(config.homes / district_id),
            "deliveries": _remove_deliveries(config.deliveries / district_id),
            "reports": _remove_tree(config.reports / district_id),
            "sessions": _remove_tree(config.sessions / district_id),
            "rosters": copies.remove(config.copy_of(district_id)),
        }
        pages = _scrubbed(engine, tables.metadata.tables.keys())
        for lock in (sessions_lock(config, district_id), config.locks / f"{district_id}.lock"):
            lock.unlink(missing_ok=True)
    unreached = [_BACKUPS, _TOLD, "the district's own files, which its program would send again if it were added again"]
    if district_id in config.districts:
        unreached.append(f"[districts.{district_id}] in {config.file.name}, and the folder of rules that it may name: take them out by hand")
    certificate = Certificate("district", district_id, "", now, rows, counts, pages, tuple(unreached))
    log.info("district_erased", district=district_id, rows=sum(rows.values()), files=sum(counts.values()))
    return certificate


# ---------------------------------------------------------------- a person


def person(config: Config, engine: Engine, district_id: str, person_id: str, role: Role | None, now: datetime) -> Certificate:
    """Erase a person in one role or, where he has no two that may be two people's, in all: kept files first, then, in one transaction, his rows.

    A sealed delivery, a zip of details or a file of rejected rows that tells of him goes whole: without his lines it would not be what was
    sealed. Begun again after a crash, it goes on where it was. Raises ConfigError, before anything is erased, where there is no such district,
    its run is not closed, an open hold is about a delivery that tells of him, or his id is that of a student and of someone who is none.
    """
    if register.district(engine, district_id) is None:
        raise ConfigError(f"there is no district {district_id}")
    if not person_id.strip():
        raise ConfigError("ID must not be blank")
    with _alone(config, engine, district_id):
        if why := stored.in_the_way(engine, district_id):
            raise ConfigError(why)
        roles = _roles(engine, district_id, person_id, role)
        marks = stored.marks(engine, district_id, person_id, roles)
        telling = [each for each in inbox.sealed(config.deliveries, district_id) if _tells(each, marks)]
        _refuse_held(engine, telling, district_id)
        counts = {
            "deliveries": kept.remove(config.deliveries, district_id, [each.id for each in telling]),
            "reports": _remove_telling(config.reports / district_id, marks),
            "home/reports": _remove_quoting(config.homes / district_id / inbox.REPORTS, marks),
            "home, cut off": _remove_cut(config.homes / district_id),
            "rosters": copies.remove(config.copy_of(district_id)),
        }
        rows = stored.person(engine, district_id, marks, roles)
        pages = _scrubbed(engine, rows.keys())
        again = _in_home(config, district_id, marks)
    unreached = [
        _BACKUPS,
        _TOLD,
        "the district's own files: they bring the person back with the next delivery unless its student information system no longer sends him",
        *([f"{again} files in the district's home tell of him; they are the district's, to be sent anew without him or deleted by it"] if again else []),
        "texts of other records that name him, such as a school's principal",
    ]
    certificate = Certificate("person", district_id, person_id, now, rows, counts, pages, tuple(unreached))
    log.info("person_erased", district=district_id, rows=sum(rows.values()), files=sum(counts.values()))
    return certificate


def _roles(engine: Engine, district_id: str, person_id: str, role: Role | None) -> frozenset[str]:
    """The roles to erase. Of someone whose rows are gone already, all: only files can be left."""
    if role is not None:
        return frozenset({role})
    found = stored.roles(engine, district_id, person_id)
    if len(found - {"teacher", "staff"}) + bool(found & {"teacher", "staff"}) > 1:
        raise ConfigError(f"this is the id of more than one person perhaps ({', '.join(sorted(found))}); --role says which one to erase")
    return found or frozenset(stored.ROLES)


def _refuse_held(engine: Engine, telling: Collection[Delivery], district_id: str) -> None:
    held = {hold.run: hold.id for hold in ledger.holds(engine, district_id, "open")}
    ids = {each.id for each in telling}
    for run, hold in held.items():
        known = ledger.run(engine, run)
        if known is not None and known.delivery in ids:
            raise ConfigError(f"hold {hold} is open, and its delivery tells of this person; nothing was erased, release or discard it first")


def _tells(delivery: Delivery, marks: Marks) -> bool:
    """Whether a file of the delivery has his id for a cell, in whatever column; also where that cannot be told any more."""
    try:
        listed, faults = files.listed(delivery)
        if refuses(faults):
            return True
        for each in listed.files:
            data = files.content(delivery.folder, each)
            if data is None or _has_cell(decoding.decode(data).data, marks.id):
                return True
    except (DeliveryError, OSError):
        return True
    return False


def _has_cell(text: Data, cell: str) -> bool:
    """Whether the cell stands in a CSV text by itself, quoted or not."""
    border = rb"""[,;|\t\r\n"' ]"""
    wanted = re.escape(cell.replace('"', '""').encode())
    return re.search(rb"(?:^|(?<=" + border + rb"))" + wanted + rb"(?=" + border + rb"|$)", text, re.IGNORECASE) is not None


def _in_home(config: Config, district_id: str, marks: Marks) -> int:
    """How many of the files that the district left in its home tell of him."""
    home = config.homes / district_id
    found = 0
    for folder in (home, home / inbox.PREVIEW):
        here = inbox.state(folder).files if folder.is_dir() else ()
        for each in here:
            path = folder / each.name
            if not path.exists():  # taken away by the district since
                continue
            found += _zip_tells(path, marks) if each.name.lower().endswith(".zip") else _has_cell(decoding.decode(path.read_bytes()).data, marks.id)
    return found


# ---------------------------------------------------------------- details that were kept, here and in the home


def _remove_telling(folder: Path, marks: Marks) -> int:
    """Remove the zips of details and the files of rejected rows that tell of him, and what a killed run left half written; how many that were.

    Pages, texts and receipts hold no cell of a person but ids that findings quote.
    """
    removed = 0
    if not folder.is_dir():
        return removed
    for path in sorted(folder.iterdir()):
        told = path.name.startswith(inbox.PART_PREFIX) or (path.suffix == ".zip" and _zip_tells(path, marks))
        if told or (path.suffix == ".csv" and _csv_tells(path.name, path.read_bytes(), marks)):
            path.unlink()
            removed += 1
    return removed


def _remove_cut(home: Path) -> int:
    """Remove what uploads that were cut off have left, whomever it tells of; how many that were."""
    removed = 0
    for folder, _, names in trees.walk(home):
        for name in (each for each in names if each.startswith(inbox.CUT_PREFIX)):
            with suppress(FileNotFoundError):  # its client has gone on with it just now
                os.unlink(name, dir_fd=folder)
                removed += 1
    return removed


def _remove_quoting(folder: Path, marks: Marks) -> int:
    """As `_remove_telling`; with them go the pages, texts and receipts of runs whose findings quote his id, also where they are the latest."""
    removed = 0
    for path in sorted(folder.glob("*")):
        if latest := _LATEST.fullmatch(path.name):
            run = _run_of(folder / f"{latest[1]}.json")
        else:
            run = int(match["run"]) if (match := _OF_RUN.search(path.name)) else None
        if run in marks.runs and path.is_file() and path.suffix != ".json":
            path.unlink()
            removed += 1
    for path in sorted(folder.glob("*.json")):  # last, because they tell which run the latest is of
        match = _OF_RUN.search(path.name)
        if (int(match["run"]) if match else _run_of(path)) in marks.runs:
            path.unlink()
            removed += 1
    return removed + _remove_telling(folder, marks)


def _run_of(report: Path) -> int | None:
    """The run that a report, or a receipt, left as JSON is of."""
    try:
        return int(json.loads(report.read_text(encoding="utf-8"))["run"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _zip_tells(path: Path, marks: Marks) -> bool:
    try:
        with zipfile.ZipFile(path) as details:
            return any(name.endswith(".csv") and _csv_tells(name, details.read(name), marks) for name in details.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, EOFError):
        return True


def _csv_tells(name: str, data: bytes, marks: Marks) -> bool:
    """Whether a file of details tells of him: by his id, by an id of his attendance, by his last name in the name of a section."""
    text = decoding.decode(data).data
    if _has_cell(text, marks.id):
        return True
    if name.startswith("attendance-") and marks.attendance:
        rows = csv.reader(io.StringIO(text[:].decode("utf-8", errors="replace"), newline=""))
        return any(cell.removeprefix("'") in marks.attendance for row in rows for cell in row)
    return "sections-" in name and marks.in_name(text[:].decode("utf-8", errors="replace"))


# ---------------------------------------------------------------- alone, and to the last byte


@contextmanager
def _alone(config: Config, engine: Engine, district_id: str) -> Iterator[None]:
    """While no run of the district, and no sweep over its deliveries, is in progress. Raises ConfigError where one still is after PATIENCE."""
    until = time.monotonic() + PATIENCE
    while True:
        with district_lock(config, engine, district_id) as ours:
            if ours:
                yield
                return
        if time.monotonic() > until:
            raise ConfigError(f"a run of {district_id}, or a sweep over its deliveries, is in progress; nothing was erased, try again when it has ended")
        time.sleep(0.1)


@contextmanager
def _no_session(config: Config, district_id: str) -> Iterator[None]:
    """While the district has no session, and can begin none. Raises ConfigError where it has one."""
    with sessions_lock(config, district_id).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{district_id} is connected to the daemon; nothing was erased, try again when its session has ended") from None
        yield


def _remove_deliveries(folder: Path) -> int:
    """As `_remove_tree`, once nobody seals there."""
    if not folder.is_dir():
        return 0
    with inbox.sealing_lock(folder, wait=True):
        return _remove_tree(folder)


def _remove_tree(folder: Path) -> int:
    """Remove a folder, where there is one, with all that lies in it; how many files that were."""
    return trees.remove(folder) if folder.is_dir() else 0


def _scrubbed(engine: Engine, names: Collection[str]) -> str:
    """What became of the bytes of the deleted rows. The rows themselves are gone by now, so this is told and not raised."""
    try:
        done = database.scrub(engine, names)
    except StoreError as fault:
        return f"The rows are deleted, but their bytes could not be taken out of the database's files: {fault}. Erase again"
    return _PAGES[engine.dialect.name] if done else _READER


def as_json(certificate: Certificate) -> dict[str, Any]:
    """The certificate as plain values, for --json."""
    told = vars(certificate) | {"erased_at": certificate.erased_at.isoformat(), "unreached": list(certificate.unreached)}
    return {key: dict(value) if isinstance(value, Mapping) else value for key, value in told.items()}
