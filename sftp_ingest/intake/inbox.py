"""A home that has gone quiet becomes a sealed delivery: hard links, checksums, one record; no server and no database."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from sftp_ingest import zstd
from sftp_ingest.errors import ConfigError, DeliveryError
from sftp_ingest.intake import durable
from sftp_ingest.model import PACKED, DeliveredFile, Delivery

PART_PREFIX = ".upload-"
"""What the server names a file that its client has not closed yet."""
CUT_PREFIX = ".cut-"
"""What the server names an upload that was cut off, until its client goes on with it; it is no part of any delivery."""
REPORTS = "reports"
"""The folder of a home that is ours to write and the district's to read."""
PREVIEW = "preview"
"""The folder of a home that is a home in small: what lies there is told in full and never applied."""
SIDE_FOLDERS = (
    *("customcontacts", "customsections", "customstudents", "customteachers", "extensionfields", "preferred-sis-data"),
    *("oneroster", "oneroster11", "oneroster12"),
)
"""The folders of a home whose files belong to its delivery: contract 1.9."""
_PLACES = ("", *SIDE_FOLDERS)
"""Where the files of a delivery lie, seen from a home; the first is the home itself."""
RECORD = "delivery.json"
"""What a sealed folder says of itself; a file that a client gives this name is never sealed."""


@dataclass(frozen=True)
class HomeFile:
    """One visible file of a home, in its top folder or, as `folder/name`, in one below it; `size` in bytes."""

    name: str
    inode: int
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class HomeState:
    """What lies in these `folders` of a home at one moment: its files by name, its last activity (epoch seconds), and whether an upload is open.

    `signature` tells one set of files from another. It leaves out the change time, which our own hard links touch.
    """

    files: tuple[HomeFile, ...]
    last_activity: float
    uploading: bool
    signature: str
    folders: tuple[str, ...]


def state(home: Path, *, astray: bool = False) -> HomeState:
    """What lies in `home` now; a home that does not exist yet is an empty one. Hidden files and other sub-folders are not looked at.

    With `astray` these folders are, where no file lies in its place: who begins with all files in a folder of their own is to be told so.
    """
    seen = _state(home, _PLACES)
    return _state(home, (*_PLACES, *_other_folders(home))) if astray and not seen.files else seen


def is_astray(delivery: Delivery) -> bool:
    """Whether none of the files lay in its place."""
    return not any(each.name.rpartition("/")[0] in _PLACES for each in delivery.files)


def _other_folders(home: Path) -> list[str]:
    """The folders of a home that mean nothing, in order of name."""
    try:
        with os.scandir(home) as entries:
            names = sorted(each.name for each in entries if each.is_dir(follow_symlinks=False) and not each.name.startswith("."))
    except FileNotFoundError:
        return []
    return [name for name in names if name not in (REPORTS, PREVIEW, *SIDE_FOLDERS)]


def _state(home: Path, folders: tuple[str, ...]) -> HomeState:
    """What lies in these folders of the home."""
    files: list[HomeFile] = []
    activity = [0.0]
    uploading = False
    for folder in folders:
        try:
            if folder and not stat.S_ISDIR((home / folder).lstat().st_mode):
                continue
            times = (home / folder).stat()
            names = sorted(path.name for path in (home / folder).iterdir())
        except FileNotFoundError:
            continue
        if not folder or names:
            activity.append(times.st_mtime)
        for name in names:
            try:
                facts = (home / folder / name).lstat()
            except FileNotFoundError:  # renamed or removed while we looked; the folder's own time tells of it
                continue
            part = name.startswith(PART_PREFIX)
            visible = stat.S_ISREG(facts.st_mode) and not name.startswith(".") and (name != RECORD or bool(folder))
            uploading = uploading or part
            if visible:
                files.append(HomeFile(f"{folder}/{name}" if folder else name, facts.st_ino, facts.st_size, facts.st_mtime_ns))
            if part or visible:
                activity.append(facts.st_ctime)  # a client may set the modification time to last year, never the change time
    return HomeState(tuple(files), max(activity), uploading, _signature(files), folders)


def settled(home: Path, quiet_seconds: float, now: float, *, astray: bool = False) -> HomeState | None:
    """The `state` of a home that holds files and has been quiet for `quiet_seconds` at `now` (epoch seconds); None while it has not."""
    seen = state(home, astray=astray)
    if seen.uploading or not seen.files or now - seen.last_activity < quiet_seconds:
        return None
    return seen


def seal(
    home: Path,
    deliveries: Path,
    district: str,
    state: HomeState,
    now: datetime,
    previous: Delivery | None,
    origin: Literal["sftp", "preview"] = "sftp",
    crossed: Callable[[Sequence[DeliveredFile]], Collection[str]] = lambda _: (),
) -> Delivery | None:
    """The files of `state` as a delivery of hard links in `deliveries`, or None where the home is no longer as `state` says.

    What was linked can never change, because every upload is a new inode. `previous` tells which files the district sent again, and
    `crossed` names those of the files that are not of one night with the others.
    Raises ConfigError where homes and deliveries lie on different file systems, OSError where a file is not on the disk and does not come there.
    """
    with _workshop(deliveries, district, now) as folder:
        files = []
        try:
            for file in state.files:
                (folder / file.name).parent.mkdir(mode=0o700, exist_ok=True)
                os.link(home / file.name, folder / file.name, follow_symlinks=False)
            if _disturbed(home, state):
                return None
            for file in state.files:
                durable.settle(folder / file.name)
                sha256 = _sha256(folder / file.name)
                resent = not _lay_there(previous, file, sha256)
                files.append(DeliveredFile(file.name, file.size, sha256, resent))
        except FileNotFoundError:
            return None
        except OSError as fault:
            if fault.errno == errno.EXDEV:
                raise ConfigError("data: homes/ and deliveries/ must lie on one file system, for deliveries are hard links") from fault
            raise
        if _disturbed(home, state):
            return None
        mixed = {*crossed(files), *_still_crossed(previous, files)}
        told = tuple(replace(each, crossed=each.name in mixed) for each in files)
        return _close(Delivery(_id(folder), district, now, folder, told, origin, state.signature))


def copy_in(source: Path, deliveries: Path, district: str, now: datetime) -> Delivery:
    """A delivery made of copies of the files in `source` that `as_delivery` finds, for files that came another way than SFTP.

    Raises ConfigError where `source` is no folder or holds no such file, DeliveryError where it is a damaged sealed delivery.
    """
    names, packed = _files_in(source), _packed_in(source)
    with _workshop(deliveries, district, now) as folder:
        files = []
        for name in names:
            copy = folder / name
            copy.parent.mkdir(mode=0o700, exist_ok=True)
            if name in packed:
                with copy.open("wb") as file:
                    file.writelines(zstd.blocks(source / f"{name}{PACKED}", packed[name].size))
            else:
                shutil.copyfile(source / name, copy)
            durable.make_durable(copy)
            files.append(DeliveredFile(name, copy.stat().st_size, _sha256(copy)))
        return _close(Delivery(_id(folder), district, now, folder, tuple(files), "folder"))


def as_delivery(source: Path, now: datetime) -> Delivery:
    """The .csv files of a folder and of its side folders, and its .zip archives, as a delivery that nobody sealed.

    In the folder of a sealed delivery, compressed files are found too. Raises ConfigError where `source` is no folder or holds no such file,
    DeliveryError where it is a sealed delivery whose record cannot be read.
    """
    packed = _packed_in(source)
    files = tuple(
        replace(packed[name], resent=True) if name in packed else DeliveredFile(name, (source / name).stat().st_size, _sha256(source / name))
        for name in _files_in(source)
    )
    return Delivery("", "", now, source, files, "folder")


def _files_in(source: Path) -> list[str]:
    if not source.is_dir():
        raise ConfigError(f"FOLDER: {source} is a file; give the folder that it lies in" if source.exists() else f"FOLDER: there is no folder {source}")
    folders = [source / each for each in _PLACES if (source / each).is_dir()]
    files = [path for folder in folders for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    found = [path for path in files if path.suffix.lower() == ".csv" or (path.suffix.lower() == ".zip" and path.parent == source)]
    names = {*(str(path.relative_to(source)) for path in found), *(name for name in _packed_in(source) if name.lower().endswith(".csv"))}
    if not names:
        raise ConfigError(f"FOLDER: there is no .csv or .zip file in {source}")
    return sorted(names)


def _packed_in(source: Path) -> dict[str, DeliveredFile]:
    """Of the folder of a sealed delivery, the files that are there compressed only, by the name that they were sent under."""
    if not (source / RECORD).is_file() or not any(path for folder in _PLACES for path in (source / folder).glob(f"*{PACKED}")):
        return {}
    return {each.name: each for each in _read(source / RECORD).files if (source / f"{each.name}{PACKED}").exists() and not (source / each.name).exists()}


def sealed(deliveries: Path, district: str) -> list[Delivery]:
    """Every sealed delivery of the district, oldest first. Clears away what a crash left half sealed. Raises DeliveryError on an unreadable record."""
    folder = deliveries / district
    if not folder.is_dir():
        return []
    with sealing_lock(folder, wait=False) as free:
        if free:
            clear(folder)
    found = [_read(path) for path in folder.glob(f"[!.]*/{RECORD}")]
    return sorted(found, key=lambda each: (each.received_at, each.id))


def _signature(files: list[HomeFile]) -> str:
    facts = [[os.fsencode(each.name).hex(), each.inode, each.size, each.mtime_ns] for each in files]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _disturbed(home: Path, before: HomeState) -> bool:
    now = _state(home, before.folders)
    return now.uploading or now.signature != before.signature


def _lay_there(previous: Delivery | None, file: HomeFile, sha256: str) -> bool:
    """Whether the file is the very one that `previous` sealed, left in the home and not sent again."""
    if previous is None or not any(each.name == file.name and each.sha256 == sha256 for each in previous.files):
        return False
    try:
        return (previous.folder / file.name).lstat().st_ino == file.inode
    except FileNotFoundError:  # the raw files are kept for a limited time only
        return False


def _still_crossed(previous: Delivery | None, files: Sequence[DeliveredFile]) -> set[str]:
    """What was crossed before, and lies there still."""
    before = {each.name for each in previous.files if each.crossed} if previous else set()
    return {each.name for each in files if not each.resent and each.name in before}


@contextmanager
def _workshop(deliveries: Path, district: str, now: datetime) -> Iterator[Path]:
    """A fresh hidden folder to seal in, gone afterwards unless it was closed; one sealing at a time for a district."""
    parent = deliveries / district
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with sealing_lock(parent, wait=True):
        clear(parent)
        folder = parent / f".{now.astimezone(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}.tmp"
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def sealing_lock(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Holds the sealing lock of a district's folder, which dies with its holder; yields False where it was taken and `wait` is false."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


def clear(folder: Path) -> None:
    """Remove what was half sealed, or half removed, in a district's folder; to be called with its sealing lock."""
    for leftover in folder.glob(".*.tmp"):
        shutil.rmtree(leftover)


def _id(folder: Path) -> str:
    return folder.name.removeprefix(".").removesuffix(".tmp")


def _close(delivery: Delivery) -> Delivery:
    """Writes the record and gives the folder its name: from here on the delivery exists, whatever happens to the machine."""
    record = {
        "id": delivery.id,
        "district": delivery.district,
        "received_at": delivery.received_at.isoformat(),
        "origin": delivery.origin,
        "signature": delivery.signature,
        "files": [{"name": each.name, "size": each.size, "sha256": each.sha256, "resent": each.resent, "crossed": each.crossed} for each in delivery.files],
    }
    folder = delivery.folder
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    durable.make_durable(folder / RECORD)
    for each in {(folder / file.name).parent for file in delivery.files} | {folder}:
        durable.make_durable(each)
    final = folder.rename(folder.with_name(delivery.id))
    durable.make_durable(final.parent)
    return replace(delivery, folder=final)


def _read(path: Path) -> Delivery:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return Delivery(
            id=record["id"],
            district=record["district"],
            received_at=datetime.fromisoformat(record["received_at"]),
            folder=path.parent,
            files=tuple(DeliveredFile(**each) for each in record["files"]),
            origin=record["origin"],
            signature=record["signature"],
        )
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise DeliveryError(f"the record {path} cannot be read: {type(fault).__name__}") from fault


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
