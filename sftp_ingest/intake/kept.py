"""Sealed deliveries are kept small and for some nights only: their files are compressed, then removed, and are readable at every moment until then."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import structlog

from sftp_ingest import zstd
from sftp_ingest.intake import durable, inbox
from sftp_ingest.model import PACKED, DeliveredFile, Delivery

log = structlog.get_logger()

PART = ".packing"
"""The hidden name of a file that is being compressed; no sealed file is hidden."""

_LONGEST_NAME = 255


def unpacked(delivery: Delivery, home: Path) -> list[DeliveredFile]:
    """The files of the delivery that could be compressed.

    Left as they are: zip archives, which do not shrink; files that still lie in `home`, which as links to it take no room; and a file
    beside which another was sent under the very name that it would get.
    """
    names = {each.name for each in delivery.files}
    return [
        each
        for each in delivery.files
        if each.size
        and not each.name.lower().endswith(".zip")
        and f"{each.name}{PACKED}" not in names
        and len(os.fsencode(Path(each.name).name)) + len(PACKED) <= _LONGEST_NAME
        and (inode := _inode(delivery.folder / each.name)) is not None
        and inode != _inode(home / each.name)
    ]


def pack(delivery: Delivery, home: Path) -> int:
    """Compress the delivery's files, each with the time of the one it replaces; how many that were.

    The compressed file is written under a hidden name, made durable, read back and compared, and only then takes its place beside the other,
    which is removed last: whenever this is broken off, one of the two is whole. A file that is not what was sealed stays as it is, and is
    logged. Raises OSError where the disk says no.
    """
    packed = 0
    for file in unpacked(delivery, home):
        path = delivery.folder / file.name
        part = path.with_name(PART)
        try:
            facts = path.stat()
            zstd.compress(path, part)
            if path.stat().st_size != file.size or _sha256(zstd.blocks(part, file.size)) != file.sha256:
                log.error("sealed_file_changed", district=delivery.district, delivery=delivery.id)
                continue
            os.utime(part, ns=(facts.st_atime_ns, facts.st_mtime_ns))
            durable.make_durable(part)
            part.replace(path.with_name(f"{path.name}{PACKED}"))
            durable.make_durable(path.parent)
            path.unlink()
            packed += 1
        finally:
            part.unlink(missing_ok=True)
    return packed


def remove(deliveries: Path, district: str, ids: Iterable[str]) -> int:
    """Remove sealed deliveries of the district, each at once or not at all, and what an earlier removal left; how many files that were.

    Raises OSError where the disk says no.
    """
    parent = deliveries / district
    if not parent.is_dir():
        return 0
    removed = 0
    with inbox.sealing_lock(parent, wait=True):
        for each in ids:
            folder = parent / each
            if folder.is_dir():
                removed += sum(path.is_file() for path in folder.rglob("*"))
                folder.rename(parent / f".{each}.tmp")
        inbox.clear(parent)
    return removed


def _sha256(blocks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def _inode(path: Path) -> int | None:
    try:
        return path.lstat().st_ino
    except FileNotFoundError:
        return None
