"""The files of a delivery, those that lie by themselves, compressed ones and those in zip archives, are listed and read; nothing is unpacked on disk."""

from __future__ import annotations

import hashlib
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath

from sftp_ingest import zstd
from sftp_ingest.errors import DeliveryError
from sftp_ingest.findings import Finding, finding
from sftp_ingest.model import PACKED, DeliveredFile, Delivery
from sftp_ingest.roster import shelf
from sftp_ingest.roster.shelf import Data

MOST_MEMBERS = 100
LARGEST_MEMBER = 4 << 30
LARGEST_ARCHIVE = 8 << 30
"""Bytes, unpacked: of one file of an archive, and of all of a delivery's archives together."""

HIGHEST_RATIO = 200
SMALL_MEMBER = 1 << 20
"""A file of an archive larger than this may not shrink by more than the ratio: roster text shrinks by ten, a bomb by a thousand."""

_MOST_ENTRIES = 10_000
_LONGEST_DIRECTORY = 16 << 20
"""Looked at before anything of an archive's directory is read, which an attacker may make as long as the archive."""

_PIECE = 1 << 20
"""Bytes of a file that are in memory at once, where it is read in pieces."""

_SIDE_FOLDERS = frozenset({"customsections", "customstudents", "customteachers", "customcontacts", "extensionfields", "preferred-sis-data"})
"""Folders that mean something (contract 1.9); a common folder of any other name is only how the archive was made."""


def listed(delivery: Delivery) -> tuple[Delivery, tuple[Finding, ...]]:
    """The delivery with the files of its .zip archives in their place, as if they lay by themselves, and what is wrong with the archives.

    Files that were compressed since they were sealed are said to lie in an archive, so that whoever looks for them finds them.

    Raises DeliveryError where an archive is gone or has changed since it was sealed.
    """
    delivery = replace(delivery, files=tuple(_as_it_lies(delivery.folder, each) for each in delivery.files))
    archives = [each for each in delivery.files if each.name.lower().endswith(".zip") and "/" not in each.name]
    if not archives:
        return delivery, ()
    files = [each for each in delivery.files if each not in archives]
    taken = {each.name.lower() for each in files}
    found: list[Finding] = []
    room = LARGEST_ARCHIVE
    for archive in sorted(archives, key=lambda each: ((delivery.folder / each.name).stat().st_mtime_ns, each.name), reverse=True):
        members, fault = _members(delivery.folder / archive.name, archive)
        room -= sum(each.size for each in members)
        if fault is None and room < 0:
            fault = finding("archive_too_large", archive.name, hint=f"it holds more than {LARGEST_ARCHIVE >> 30} GiB")
        if fault is not None:
            found.append(fault)
            continue
        for member in members:
            if member.name.lower() in taken:
                found.append(finding("archive_twin", member.name, hint=f"once more in {archive.name}"))
            else:
                taken.add(member.name.lower())
                files.append(member)
    return replace(delivery, files=tuple(files)), tuple(found)


def content(folder: Path, sealed: DeliveredFile) -> Data | None:
    """The bytes of a delivery's file as they were sent, or None where it lies in a zip archive and is damaged there; those of a large file are put away.

    Raises DeliveryError where the file is gone, has changed since it was sealed, or was compressed and cannot be decompressed, OSError where
    the disk has no room for what is put away.
    """
    if sealed.member:
        return _unpacked(folder / sealed.archive, sealed)
    return shelf.gathered(blocks(folder, sealed), sealed.size)


def blocks(folder: Path, sealed: DeliveredFile) -> Iterator[bytes]:
    """As `content`, of a file that is in no zip archive, in pieces; that it is the file that was sealed is only known behind the last of them.

    The next piece is read, and hashed, while the one before is looked at.
    """
    pieces = _checked(folder, sealed)
    if sealed.size <= _PIECE:
        yield from pieces
        return
    with ThreadPoolExecutor(1) as ahead:
        following = ahead.submit(next, pieces, b"")
        while piece := following.result():
            following = ahead.submit(next, pieces, b"")
            yield piece


def whole_lines(blocks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in parts of about this size, each of which ends where a line does, but for the last where the file does not."""
    parts: list[bytes] = []
    for block in blocks:
        end = block.rfind(b"\n") + 1
        parts.append(block[:end])
        if end and sum(map(len, parts)) >= size:
            yield b"".join(parts)
            parts = []
        parts.append(block[end:])
    if rest := b"".join(parts):
        yield rest


def _checked(folder: Path, sealed: DeliveredFile) -> Iterator[bytes]:
    sealed = _as_it_lies(folder, sealed)
    digest = hashlib.sha256()
    try:
        for piece in zstd.blocks(folder / sealed.archive, sealed.size) if sealed.archive else _plain(folder / sealed.name):
            digest.update(piece)
            yield piece
    except OSError as fault:
        raise _unreadable(folder, sealed, fault) from fault
    if digest.hexdigest() != sealed.sha256:
        raise _not_as_sealed(folder, sealed)


def _plain(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            yield piece


def _unreadable(folder: Path, sealed: DeliveredFile, fault: OSError) -> DeliveryError:
    return DeliveryError(f"{folder.name}/{sealed.name} cannot be read: {fault.strerror}")


def _not_as_sealed(folder: Path, sealed: DeliveredFile) -> DeliveryError:
    return DeliveryError(f"{folder.name}/{sealed.name} is not the file that was sealed")


def check_there(delivery: Delivery) -> None:
    """Raises DeliveryError where a sealed file is gone, or has not the size that it was sealed with; no file is read."""
    for each in (_as_it_lies(delivery.folder, each) for each in delivery.files):
        try:
            size = (delivery.folder / (each.archive or each.name)).stat().st_size
        except OSError as fault:
            raise _unreadable(delivery.folder, each, fault) from fault
        if not each.archive and size != each.size:
            raise DeliveryError(f"{delivery.folder.name}/{each.name} has changed since it was sealed")


def _as_it_lies(folder: Path, sealed: DeliveredFile) -> DeliveredFile:
    """The file as it was sealed while it still lies so, else said to lie in the compressed one beside it."""
    packed = f"{sealed.name}{PACKED}"
    if sealed.archive or (folder / sealed.name).exists() or not (folder / packed).exists():
        return sealed
    return replace(sealed, archive=packed)


def _members(path: Path, archive: DeliveredFile) -> tuple[list[DeliveredFile], Finding | None]:
    """The files of an archive, or what is wrong with it."""

    def refused(code: str, hint: str) -> tuple[list[DeliveredFile], Finding | None]:
        return [], finding(code, archive.name, hint=hint)

    try:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != archive.sha256:
                raise DeliveryError(f"{path.parent.name}/{path.name} is not the file that was sealed")
            if _directory_too_long(file.seek(0, 2), path):
                return refused("archive_too_large", f"it holds more than {MOST_MEMBERS} files")
    except OSError as fault:
        raise DeliveryError(f"{path.parent.name}/{path.name} cannot be read: {fault.strerror}") from fault
    try:
        with zipfile.ZipFile(path) as opened:
            entries = opened.infolist()
    except (zipfile.BadZipFile, RuntimeError, ValueError, OSError, struct.error):  # RuntimeError: a kind of archive that zipfile does not know
        return refused("archive_unreadable", "it is no .zip archive, or damaged")
    found: list[tuple[PurePosixPath, zipfile.ZipInfo]] = []
    for entry in entries:
        if _leads_out(entry.filename):
            return refused("archive_unreadable", "the name of a file in it leads out of it")
        place = PurePosixPath(entry.filename.replace("\\", "/"))
        if not entry.is_dir() and not any(part.startswith(".") or part == "__MACOSX" for part in place.parts) and place.parts:
            found.append((place, entry))
    if len(found) > MOST_MEMBERS:
        return refused("archive_too_large", f"it holds more than {MOST_MEMBERS} files")
    for _, entry in found:
        if entry.flag_bits & 1:
            return refused("archive_unreadable", "it is encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            return refused("archive_unreadable", "it is compressed in a way that is not common to all .zip archives")
        if entry.file_size > LARGEST_MEMBER:
            return refused("archive_too_large", f"a file in it holds more than {LARGEST_MEMBER >> 30} GiB")
        if entry.file_size > max(SMALL_MEMBER, HIGHEST_RATIO * entry.compress_size):
            return refused("archive_too_large", f"a file in it is more than {HIGHEST_RATIO} times as large as it is packed")
    above = _common_folders([place for place, _ in found])
    members = [
        DeliveredFile("/".join(place.parts[above:]), entry.file_size, "", archive.resent, archive.name, entry.filename, archive.crossed)
        for place, entry in found
    ]
    names = {each.name.lower() for each in members}
    return (members, None) if len(names) == len(members) else refused("archive_unreadable", "two files in it have one name")


def _common_folders(places: Sequence[PurePosixPath]) -> int:
    """How many folders, one in the other, all files of an archive lie in that mean nothing."""
    above = 0
    while places and all(len(each.parts) > above + 1 for each in places):
        here = {each.parts[above] for each in places}
        if len(here) > 1 or here.pop().lower() in _SIDE_FOLDERS:
            break
        above += 1
    return above


def _leads_out(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name


def _directory_too_long(size: int, path: Path) -> bool:
    """Whether the archive's last record, which tells how long its directory is, tells of more than any roster needs."""
    with path.open("rb") as file:
        file.seek(max(0, size - (1 << 16) - 22))
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        return False  # no archive at all, which is told elsewhere
    entries, length = struct.unpack_from("<HI", tail, at + 10)
    return bool(entries > _MOST_ENTRIES or length > _LONGEST_DIRECTORY)


def _unpacked(path: Path, member: DeliveredFile) -> Data | None:
    try:
        return shelf.gathered(_pieces(path, member), member.size)
    except _DamagedError:
        return None


class _DamagedError(Exception):
    """What an archive says of a file in it is not so."""


def _pieces(path: Path, member: DeliveredFile) -> Iterator[bytes]:
    """What the archive has of the file, as much as was promised and looked at. Raises _DamagedError where it has more or less, or cannot be read."""
    size = member.size
    try:
        with zipfile.ZipFile(path) as opened, opened.open(member.member) as stream:
            while size > 0 and (piece := stream.read(min(size, _PIECE))):
                size -= len(piece)
                yield piece
            if size or stream.read(1):
                raise _DamagedError
    except (zipfile.BadZipFile, zlib.error, RuntimeError, KeyError, EOFError, ValueError, OSError, struct.error) as fault:
        raise _DamagedError from fault
