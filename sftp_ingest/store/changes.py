"""The change log read back: what a run changed, what later runs changed again, and all that was done to one record."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from sftp_ingest.model import ENTITIES, Change
from sftp_ingest.store import tables

Record = tuple[str, tuple[str, ...]]
"""An entity, and the values of a record's key in its order."""


@dataclass(frozen=True)
class Known:
    """A record of the roster: its key, whether it is active, and the run that brought it."""

    key: tuple[str, ...]
    active: bool
    first_seen_run: int


_AT_ONCE = 200
"""So many records are asked for in one statement."""


def of_run(connection: Connection, run_id: int) -> Iterator[Change]:
    """The entries of a run, in their order."""
    table = tables.changes
    for row in connection.execute(select(table).where(table.c.run_id == run_id).order_by(table.c.sequence)).mappings():
        yield _change(row)


def later(connection: Connection, district_id: str, run_id: int) -> set[Record]:
    """The records that later runs of the district changed, but for runs that were reverted and the reverts themselves."""
    runs, table = tables.sync_runs, tables.changes
    query = select(runs.c.id, runs.c.reverts).where(runs.c.district_id == district_id, runs.c.id > run_id, runs.c.outcome.in_(("successful", "on_hold")))
    undone: set[int] = set()
    stand = []
    for each, reverts in connection.execute(query.order_by(runs.c.id.desc())):
        if each in undone:
            continue
        if reverts is None:
            stand.append(each)
        elif reverts > run_id:
            undone.add(reverts)
        elif reverts < run_id:  # what it put back, it changed since the run that is asked about
            stand.append(each)
    found: set[Record] = set()
    for each in stand:
        for row in connection.execute(select(table.c.entity, table.c.key, table.c.operation, table.c.before).where(table.c.run_id == each)):
            if row.entity in ENTITIES:
                found.add(record(row.entity, row.key))
                if row.entity == "enrollments" and row.operation == "moved":
                    found.add(_left(row.key, row.before))
    return found


def of_records(connection: Connection, district_id: str, records: Iterable[Record]) -> list[Change]:
    """All entries about these records, oldest first. Of an enrollment also the moves out of it, where the student's other enrollments are asked for too."""
    table = tables.changes
    found: dict[tuple[int, int], Change] = {}
    by_entity: dict[str, list[str]] = {}
    for entity, key in records:
        by_entity.setdefault(entity, []).append(_text(entity, key))
    for entity, named in by_entity.items():  # one by one: SQLite uses all of the index for one entity, and the district alone for any of several
        for start in range(0, len(named), _AT_ONCE):
            query = select(table).where(table.c.district_id == district_id, table.c.entity == entity, tables.record.in_(named[start : start + _AT_ONCE]))
            for row in connection.execute(query).mappings():
                found[row["run_id"], row["sequence"]] = _change(row)
    return [found[place] for place in sorted(found)]


def records_with(connection: Connection, district_id: str, entity: str, column: str, identifier: str) -> list[Known]:
    """The records of an entity, those that left included, that have the id in a column of their key."""
    kind, live = ENTITIES[entity], tables.rosters[ENTITIES[entity].table]
    query = select(*(live.c[name] for name in kind.key), live.c.active, live.c.first_seen_run).where(
        live.c.district_id == district_id, live.c[column] == identifier, *(live.c[name] == value for name, value in kind.fixed.items())
    )
    return [Known(tuple(key), active, run) for *key, active, run in connection.execute(query.order_by(*(live.c[name] for name in kind.key)))]


def enrollments_of(connection: Connection, district_id: str, students: Sequence[str]) -> list[Record]:
    """Every enrollment that these students have or had."""
    live = tables.rosters["enrollments"]
    found: list[Record] = []
    for start in range(0, len(students), _AT_ONCE):
        query = select(live.c.section_id, live.c.student_id).where(live.c.district_id == district_id, live.c.student_id.in_(students[start : start + _AT_ONCE]))
        found += [("enrollments", (section, student)) for section, student in connection.execute(query)]
    return found


def baseline(connection: Connection, district_id: str) -> int | None:
    """The run that brought the district's first roster, or None."""
    table, runs = tables.changes, tables.sync_runs
    query = select(table.c.run_id).join(runs, runs.c.id == table.c.run_id)
    return connection.scalar(query.where(runs.c.district_id == district_id, table.c.sequence == 1, table.c.operation == "baseline").limit(1))


def record(entity: str, key: Mapping[str, str]) -> Record:
    """The record that a key names."""
    return entity, tuple(key[name] for name in ENTITIES[entity].key)


def _left(key: Mapping[str, str], before: Mapping[str, Any]) -> Record:
    return "enrollments", (str(before["section_id"]), key["student_id"])


def _text(entity: str, key: tuple[str, ...]) -> str:
    """A key as the upserter writes it."""
    return json.dumps(dict(zip(ENTITIES[entity].key, key, strict=True)), ensure_ascii=False, separators=(",", ":"))


def _change(row: RowMapping) -> Change:
    return Change(row["run_id"], row["sequence"], row["entity"], row["key"], row["operation"], row["before"], row["after"])
