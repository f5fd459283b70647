"""A copy of a district's roster in files, read in a moment, and believed only where the database says that its roster still is the copied one.

There are two files: the roster as it once was, and what changed since; a night that changes little writes the second one only.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from sftp_ingest import boot, memory
from sftp_ingest.model import ENTITIES, ChangeSet, Roster
from sftp_ingest.roster import afterwards, layers, shelf
from sftp_ingest.roster.arrow import Encoded, in_one_piece, places_of
from sftp_ingest.roster.diff import MEMBERSHIPS
from sftp_ingest.roster.layers import Layers
from sftp_ingest.store import rosters

_COPIED = tuple(each.name for each in ENTITIES.values() if not each.incremental)
_PART, _LATER = ".part", ".later"
_TOLD = b"sftp_ingest"
_MOST_LATER = 0.1
"""Where more than this share of the records changed since, the roster is written anew."""

_MOST_TEXTS = 0.5
"""A column with no more distinct texts than this share of its cells is kept encoded: what names other records is looked through once for each of them."""

_PLACES = "replaced"

_NAMED = {name for columns in MEMBERSHIPS.values() for name in columns.values()}
"""Entities whose records are named by memberships."""


@dataclass(frozen=True)
class Copy:
    """A roster as `rosters.current` gives it. The tables were read for it at `read_at`, all that changed since was a run's own doing.

    `token` is the roster's in the database, and blank where no file keeps the copy yet; `base` is the one that it had when all of it was written.
    """

    roster: Roster
    read_at: datetime
    token: str = ""
    base: str = ""


def read(path: Path, token: str) -> Copy | None:
    """The copy of the roster that has this token; None where there is no such copy. Its cells stay in the file, and are read when they are needed."""
    if not token:
        return None
    try:
        told, base, let_go = _tables(path)
        if any(_schema(base[name]) != rosters.schema_of((*ENTITIES[name].columns, "active")) for name in _COPIED):
            return None
        later: dict[str, pa.Table] = {}
        if told["token"] != token:
            since, later, _ = _tables(path.with_suffix(_LATER))
            if since["token"] != token or since["base"] != told["token"]:
                return None
        kept = {name: _layers(base[name], later.get(name), later.get(f"{name} {_PLACES}"), let_go) for name in _COPIED}
        return Copy(layers.roster(kept), datetime.fromisoformat(told["read_at"]), token, told["token"])
    except (OSError, pa.ArrowInvalid, ValueError, KeyError, IndexError):
        return None


def _layers(base: pa.Table, later: pa.Table | None, places: pa.Table | None, let_go: Callable[[], None]) -> Layers:
    replaced = np.zeros(len(base), dtype=bool)
    if places is not None:
        replaced[places[_PLACES].to_numpy()] = True
    return Layers(base, rosters.schema_of(base.column_names).empty_table() if later is None else later, replaced, let_go)


def follow(path: Path, copy: Copy, change_set: ChangeSet, token: str) -> Callable[[], None]:
    """Writes the copy as it is once the changes are applied; the roster then has this token. What comes back puts it in the place of the one before.

    Where many records changed, or no file keeps the copy yet, all of it is written. Raises OSError where the disk says no; then none is kept.
    """
    if copy.base:
        after = layers.after(layers.of(copy.roster), change_set)
        if sum(len(each.later) for each in after.values()) <= _MOST_LATER * sum(len(each.base) for each in after.values()):
            tables = {name: after[name].later for name in _COPIED}
            tables |= {f"{name} {_PLACES}": pa.table({_PLACES: np.flatnonzero(after[name].replaced)}) for name in _COPIED}
            part = _written(path, {"token": token, "base": copy.base}, tuple(tables), lambda name: tables[name])
            return partial(os.replace, part, path.with_suffix(_LATER))

    ids: dict[str, pa.Array] = {}

    def whole(name: str) -> pa.Table:
        records = afterwards.one(name, copy.roster.entities[name], change_set)
        table = _encoded(rosters.table_of(records, (*ENTITIES[name].columns, "active")), {column: ids[of] for column, of in MEMBERSHIPS.get(name, {}).items()})
        if name in _NAMED:  # by themselves, for with them the file would stay in which all columns of the table lie
            ids[name] = shelf.put(in_one_piece(table[ENTITIES[name].key[0]]))
        return table

    part = _written(path, {"token": token, "read_at": copy.read_at.isoformat()}, _COPIED, whole)

    def put() -> None:
        part.replace(path)
        path.with_suffix(_LATER).unlink(missing_ok=True)

    return put


def remove(path: Path) -> int:
    """Keeps no copy any more; how many files that were."""
    removed = 0
    for each in (path, path.with_suffix(_LATER), path.with_suffix(_PART)):
        with suppress(FileNotFoundError):
            each.unlink()
            removed += 1
    return removed


# ---------------------------------------------------------------- tables in a file


def _encoded(table: pa.Table, ids: Mapping[str, pa.Array]) -> pa.Table:
    """The table with its columns encoded where that is shorter; `ids` are, by column, those of the records that it names."""
    return pa.table(shelf.columns(lambda name: _shorter(in_one_piece(table[name]), ids.get(name)), table.column_names, len(table)))


def _shorter(cells: pa.Array, ids: pa.Array | None) -> pa.Array:
    """The cells encoded, where most of their texts come again: as places among the `ids`, if there are any and all cells are among them."""
    if not pa.types.is_string(cells.type):
        return cells
    if ids is not None and len(ids) <= _MOST_TEXTS * len(cells):
        places = places_of(cells, ids)
        if not (places < 0).any():
            return Encoded(ids, places).cells
    encoded = cells.dictionary_encode()
    return encoded if len(encoded.dictionary) <= _MOST_TEXTS * len(cells) else cells


def _schema(table: pa.Table) -> pa.Schema:
    """The types of the cells themselves, encoded or not."""
    return pa.schema([(each.name, each.type.value_type if pa.types.is_dictionary(each.type) else each.type) for each in table.schema])


def _written(copy: Path, told: Mapping[str, str], names: Sequence[str], table: Callable[[str], pa.Table]) -> Path:
    """A file with these tables, each made when it is its turn. Where the disk says no, nothing of the copy is kept."""
    part = copy.with_suffix(_PART)
    part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    heading = {_TOLD: json.dumps({"told": {**told, "boot": boot.this()}, "tables": names})}
    try:
        with open(part, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as sink:
            for name in names:
                made = table(name).replace_schema_metadata(heading).combine_chunks()
                with pa.ipc.new_stream(sink, made.schema) as stream:
                    stream.write_table(made)
                del made  # before the next one is
    except OSError:
        remove(copy)
        raise
    return part


def _tables(path: Path) -> tuple[dict[str, str], dict[str, pa.Table], Callable[[], None]]:
    """What is told of the tables in a file, the tables, and how to let go of those of their cells that were looked at.

    Raises OSError, ArrowInvalid, ValueError or KeyError where it is no such file, or an old one.
    """
    with path.open("rb") as file:
        mapped = memory.mapped(file)
    read: list[pa.Table] = []
    names = [""]
    told: dict[str, str] = {}
    source = pa.BufferReader(pa.py_buffer(mapped))
    while len(read) < len(names):
        with pa.ipc.open_stream(source) as stream:
            heading = json.loads((stream.schema.metadata or {}).get(_TOLD, b"{}"))
            told, names = heading["told"], heading["tables"]
            if told["boot"] != boot.this():
                raise ValueError
            read.append(stream.read_all().replace_schema_metadata(None))
    return told, dict(zip(names, read, strict=True)), partial(_let_go, mapped)


def _let_go(mapped: mmap.mmap) -> None:
    """At once, and not only in a moment as `memory.letting_go` does: a night that changes little looks through a whole column in less time."""
    mapped.madvise(mmap.MADV_DONTNEED)
    pa.default_memory_pool().release_unused()  # what was looked up with is kept for the next time otherwise, and there may be none
