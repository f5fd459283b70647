"""A copy of a district's roster in a file, read in a moment, and believed only where the database says that its roster still is the copied one."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from sftp_ingest.model import ENTITIES, Roster
from sftp_ingest.store import rosters

_COPIED = tuple(each.name for each in ENTITIES.values() if not each.incremental)
_PART = ".part"
_TOLD = b"sftp_ingest"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
"""Changes whenever the machine starts: what was written before may not have come to the disk, and nobody has waited for it."""


@dataclass(frozen=True)
class Copy:
    """A roster as `rosters.current` gives it. The tables were read for it at `read_at`, all that changed since was a run's own doing.

    `token` is the roster's in the database, and blank where no file keeps the copy yet.
    """

    roster: Roster
    read_at: datetime
    token: str = ""


def read(path: Path, token: str) -> Copy | None:
    """The copy of the roster that has this token; None where there is no such copy. Its cells stay in the file, and are read when they are needed."""
    if not token:
        return None
    try:
        with pa.memory_map(str(path)) as source:
            tables = {}
            for name in _COPIED:
                with pa.ipc.open_stream(source) as stream:
                    told = json.loads((stream.schema.metadata or {}).get(_TOLD, b"{}"))
                    if told.get("token") != token or told.get("boot") != _boot() or stream.schema.names != [*ENTITIES[name].columns, "active"]:
                        return None
                    tables[name] = stream.read_all()
    except (OSError, pa.ArrowInvalid, ValueError):
        return None
    return Copy(Roster({name: rosters.frame_of(table) for name, table in tables.items()}), datetime.fromisoformat(told["read_at"]), token)


def write(path: Path, copy: Copy) -> None:
    """Keeps the copy in place of the one before. Raises OSError where the disk says no; then none is kept."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_suffix(_PART)
    told = {_TOLD: json.dumps({"token": copy.token, "boot": _boot(), "read_at": copy.read_at.isoformat()})}
    try:
        with open(part, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as sink:
            for name in _COPIED:
                columns = (*ENTITIES[name].columns, "active")
                table = rosters.table_of(copy.roster.entities[name], columns).replace_schema_metadata(told)
                with pa.ipc.new_stream(sink, table.schema) as stream:
                    stream.write_table(table.combine_chunks())
        part.replace(path)
    except OSError:
        remove(path)
        raise


def remove(path: Path) -> int:
    """Keeps no copy any more; how many files that were."""
    removed = 0
    for each in (path, path.with_suffix(_PART)):
        with suppress(FileNotFoundError):
            each.unlink()
            removed += 1
    return removed


def _boot() -> str:
    return _BOOT.read_text(encoding="ascii").strip()
