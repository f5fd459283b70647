"""A change set becomes rows, and an entry for each change, inside the caller's transaction: all of it, or StoreError."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain, islice
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from sqlalchemy import ColumnElement, Connection, Executable, FromClause, Index, Table, Text, and_, literal, literal_column, not_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.expression import UnaryExpression
from sqlalchemy.sql.operators import custom_op

from sftp_ingest.errors import StoreError
from sftp_ingest.model import ENTITIES, ChangeSet, Entity
from sftp_ingest.store import bulk, rosters, tables

_CELLS = 1_000_000
"""How many cells are turned into CSV, or into Python's objects, at once."""

_ROWS = 50_000
"""How many entries of changes are made at once, and how many rows are written at most."""

_TOGETHER = 100
"""How many rows each of SQLite's statements writes: one for every row takes a fourth to a third longer, for each is begun and ended."""

_FORMER = "former_{}"
"""In the entry of an enrollment that moved: the value with which the student had once left the section that he is in now, where it was another."""

_ENTRY = ("entity", "key", "operation", "before", "after")

_SPECIAL = r'["\\\x00-\x1f]'
"""What JSON spells in another way within text."""

_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

_INSERTS: Mapping[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}


def apply(connection: Connection, district_id: str, run_id: int, change_set: ChangeSet, now: datetime) -> None:
    """Writes every change of the set; the transaction is the caller's to keep, or to undo after a StoreError.

    Raises StoreError, transient, where a row is not as the change set was computed from: absent, there already, or left, or not left, in between.
    """
    new = {name: (changes["operation"] == "created").to_numpy(dtype=bool) for name, changes in change_set.changes.items()}
    with bulk.put_off(connection, sum(int(each.sum()) for each in new.values())):
        for entity in ENTITIES.values():
            changes = change_set.changes.get(entity.name)
            if changes is None or changes.empty:
                continue
            created = new[entity.name]
            if created.any():
                _create(connection, district_id, run_id, entity, changes if created.all() else changes[created])
            if not created.all():
                _change(connection, district_id, run_id, entity, changes[~created], now)


def _create(connection: Connection, district_id: str, run_id: int, entity: Entity, created: pd.DataFrame) -> None:
    """New records go straight into their table; one that is there already breaks the primary key."""
    same_for_all = {"district_id": district_id, **entity.fixed, "active": True, "first_seen_run": run_id, "last_changed_run": run_id}
    _load(connection, entity.table, rosters.table_of(created, entity.columns), same_for_all)


def _change(connection: Connection, district_id: str, run_id: int, entity: Entity, changes: pd.DataFrame, now: datetime) -> None:
    """All other changes go into a table of this transaction, and from there to their records, in a few statements for any number of rows."""
    live = tables.rosters[entity.table]
    relocates = "from_section_id" in changes.columns
    described = [*(live.c[name].label(name) for name in entity.columns), literal_column("''", Text).label("operation")]
    if relocates:
        described.append(live.c.section_id.label("from_section_id"))
    staging = select(*described).limit(0).into("staged", temporary=True)
    connection.execute(staging)
    staged = staging.table
    _load(connection, "staged", rosters.table_of(changes, staged.c.keys()))
    if connection.dialect.name == "postgresql":
        # A planner that knows neither table may compare every row with every row; with these indexes no plan it can choose is a bad one.
        Index("staged_here", *(staged.c[name] for name in entity.key)).create(connection)
        if relocates:
            Index("staged_there", staged.c.student_id, staged.c.from_section_id).create(connection)
        connection.execute(text("ANALYZE staged"))

    counts = changes["operation"].value_counts().to_dict()
    operation = staged.c.operation
    fixed = {"district_id": district_id, **entity.fixed}
    mine = and_(*(live.c[name] == value for name, value in fixed.items()))
    here = and_(mine, *(live.c[name] == _sought(connection, staged.c[name]) for name in entity.key))
    gone = {"active": False, "deactivated_at": now, "last_changed_run": run_id}
    back = {"active": True, "deactivated_at": None, "last_changed_run": run_id}

    _write(connection, counts.get("deactivated", 0), update(live).where(here, operation == "deactivated", live.c.active).values(gone))
    if relocates:
        # Old places are left before new ones are taken, for one student's old place may be another of their moves' new one.
        left = {"section_id": staged.c.from_section_id, "student_id": staged.c.student_id}
        there = and_(mine, *(live.c[name] == _sought(connection, told) for name, told in left.items()))
        _write(connection, counts.get("moved", 0), update(live).where(there, operation == "moved", live.c.active).values(gone))
        _write(connection, counts.get("moved", 0), _taking_places(connection, live, staged, entity, {**fixed, "first_seen_run": run_id, **back}))
    kept = ("updated", "reactivated") if relocates else ("updated", "reactivated", "moved")
    values = {**{name: staged.c[name] for name in entity.values}, **back}
    kept_rows, statements = and_(here, operation.in_(kept), live.c.active == (operation != "reactivated")), []
    if linked := [name for name in entity.values if any(name in each.columns for each in live.indexes)]:
        # SQLite writes the indexes of a column that is named anew, also where its value is as it was.
        alike = and_(*(live.c[name].is_not_distinct_from(staged.c[name]) for name in linked))
        statements.append(update(live).where(kept_rows, alike).values({name: value for name, value in values.items() if name not in linked}))
        kept_rows = and_(kept_rows, not_(alike))
    statements.append(update(live).where(kept_rows).values(values))
    _write(connection, sum(counts.get(each, 0) for each in kept), *statements)
    staged.drop(connection)


def _sought(connection: Connection, cell: ColumnElement[str]) -> ColumnElement[str]:
    """The staged cell, so that the record of each staged row is looked up, and not a staged row for each of a district's millions of records.

    To SQLite a cell with a plus before it is one that no index of its own leads to.
    """
    return UnaryExpression(cell, operator=custom_op("+")) if connection.dialect.name == "sqlite" else cell


def _taking_places(connection: Connection, live: Table, staged: FromClause, entity: Entity, stamps: Mapping[str, object]) -> Executable:
    """The statement that enrolls whoever moved: in a new row, or in the one they once left there."""
    new = {**{name: staged.c[name] for name in entity.columns}, **{name: literal(value, live.c[name].type) for name, value in stamps.items()}}
    taking = _INSERTS[connection.dialect.name](live).from_select(list(new), select(*new.values()).where(staged.c.operation == "moved"))
    again = [*entity.values, "active", "deactivated_at", "last_changed_run"]
    statement: Executable = taking.on_conflict_do_update(
        index_elements=list(live.primary_key.columns), set_={name: taking.excluded[name] for name in again}, where=live.c.active.is_(False)
    )
    return statement


def _write(connection: Connection, rows: int, *statements: Executable) -> None:
    """Together they write to so many rows."""
    if rows and sum(connection.execute(each, execution_options={"preserve_rowcount": True}).rowcount for each in statements) != rows:
        raise StoreError("the roster changed under the run", transient=True)


# ---------------------------------------------------------------- the entries


def record_changes(connection: Connection, district_id: str, run_id: int, change_set: ChangeSet, baseline: bool) -> None:
    """Writes one entry a change, in the caller's transaction: key, operation and the values that differ, before and after.

    `baseline`, for a district's first roster, writes a single entry instead, with the number of records per entity.
    """
    if baseline:
        counts = {name: len(frame) for name, frame in change_set.changes.items()}
        told: Iterable[pa.Table] = [pa.table([["all"], ["{}"], ["baseline"], [""], [_json(counts)]], _ENTRY)]
    else:
        told = _entries(change_set)
    written = 0
    for entries in told:
        numbers = np.arange(written + 1, written + 1 + len(entries))
        written += len(entries)
        _load(connection, "changes", entries.append_column("sequence", pa.array(numbers)), {"run_id": run_id, "district_id": district_id})


def _entries(change_set: ChangeSet) -> Iterator[pa.Table]:
    for entity in ENTITIES.values():
        changes = change_set.changes.get(entity.name)
        if changes is not None:
            frames = (changes, change_set.before[entity.name])
            for first in range(0, len(changes), _ROWS):
                yield _entries_of(entity, *(each.iloc[first : first + _ROWS].reset_index(drop=True) for each in frames))


def _entries_of(entity: Entity, changes: pd.DataFrame, before: pd.DataFrame) -> pa.Table:
    compared = entity.values
    former: dict[str, tuple[pd.Series, pd.Series]] = {}
    if "from_section_id" in changes.columns:  # of who moved, the place is what differs, though it is part of the key
        compared = ("section_id", *entity.values)
        moved = changes["operation"] == "moved"
        left_once = moved & (before["school_id"] != "")
        former = {_FORMER.format(name): (before[name], left_once & (before[name] != changes[name])) for name in entity.values}
        before = before.assign(
            section_id=changes["from_section_id"].where(moved, changes["section_id"]),
            **{name: changes[f"from_{name}"].where(moved, before[name]) for name in entity.values},
        )
    held, wanted, told = _in_one_piece(before, compared), _in_one_piece(changes, compared), _in_one_piece(changes, (*entity.key, "operation"))
    operation = told["operation"]
    was, becomes = {}, {}
    for name in compared:
        differs = pc.not_equal(held[name], wanted[name])
        if pc.any(differs).as_py():
            was[name] = _pairs(name, _quoted(held[name]), differs)
            becomes[name] = _pairs(name, _quoted(wanted[name]), differs)
    for name, (cells, told_of) in former.items():
        if told_of.any():
            was[name] = _pairs(name, _quoted(pa.array(cells)), pa.array(told_of.to_numpy(dtype=bool)))
    left, came_back = (pc.equal(operation, each) for each in ("deactivated", "reactivated"))
    either = pc.or_(left, came_back)
    if pc.any(either).as_py():
        was["active"] = _pairs("active", pc.if_else(left, "true", "false"), either)
        becomes["active"] = _pairs("active", pc.if_else(left, "false", "true"), either)
    everywhere = pa.repeat(True, len(changes))
    key = _objects([_pairs(name, _quoted(told[name]), everywhere) for name in entity.key], len(changes))
    was_there = pc.if_else(pc.equal(operation, "created"), "", _objects(was.values(), len(changes)))
    return pa.table([pa.repeat(entity.name, len(changes)), key, operation, was_there, _objects(becomes.values(), len(changes))], _ENTRY)


def _in_one_piece(frame: pd.DataFrame, columns: Sequence[str]) -> pa.RecordBatch:
    return rosters.table_of(frame, columns).combine_chunks().to_batches()[0]


def _quoted(cells: pa.Array) -> pa.Array:
    """The cells as JSON spells text."""
    special = pc.match_substring_regex(cells, _SPECIAL)
    if pc.any(special).as_py():
        spelled = (_json(cell)[1:-1] for cell in cells.filter(special).to_pylist())
        cells = pc.replace_with_mask(cells, special, pa.array(spelled, pa.string()))
    return pc.binary_join_element_wise('"', cells, '"', "")


def _pairs(name: str, values: pa.Array, told: pa.Array) -> pa.Array:
    """A pair of a JSON object in each row that tells it, and null in the others."""
    return pc.if_else(told, pc.binary_join_element_wise(f'"{name}":', values, ""), pa.scalar(None, pa.string()))


def _objects(pairs: Iterable[pa.Array], rows: int) -> pa.Array:
    """A JSON object a row, of the pairs that it tells."""
    inside = pc.binary_join_element_wise(pa.repeat("", rows), *pairs, ",", null_handling="skip")  # a row of nothing but nulls it would leave out
    return pc.binary_join_element_wise("{", pc.utf8_slice_codeunits(inside, 1), "}", "")


# ---------------------------------------------------------------- many rows at once


def _says_something(cells: pa.ChunkedArray) -> bool:
    """Whether any cell is more than empty text."""
    return bool(not pa.types.is_string(cells.type) or pc.any(pc.not_equal(cells, "")).as_py())


def _absent(cells: pa.Array) -> pa.Array:
    """The cells with null for empty text, which in a frame says that there is no value, as NULL does in a table."""
    if not pa.types.is_string(cells.type):
        return cells
    blank = pc.equal(cells, "")
    return pc.if_else(blank, pa.scalar(None, pa.string()), cells) if pc.any(blank).as_py() else cells


def _load(connection: Connection, table: str, rows: pa.Table, same: Mapping[str, object] | None = None) -> None:
    """Writes all rows, through the driver itself; `same` is what further columns say in each of them."""
    driver: Any = connection.connection.driver_connection
    told = [name for name in rows.column_names if _says_something(rows[name])]  # of 42 columns of a student, two thirds
    same = same or {}
    names = ", ".join(f'"{name}"' for name in (*told, *same))
    batches = (
        pa.record_batch([_absent(cells) for cells in batch.columns], told) for batch in rows.select(told).to_batches(min(_ROWS, _CELLS // max(len(told), 1)))
    )
    if connection.dialect.name == "postgresql":
        plain = pa.csv.WriteOptions(include_header=False)  # a null is nothing at all, which to COPY is NULL
        for batch in batches:  # each with a statement of its own: the server looks at references, and forgets them, at the end of it
            sink = pa.BufferOutputStream()
            stamped = pa.record_batch([*batch.columns, *(pa.repeat(value, len(batch)) for value in same.values())], [*told, *same])
            pa.csv.write_csv(stamped, sink, plain)
            with driver.cursor() as cursor, cursor.copy(f'COPY "{table}" ({names}) FROM STDIN (FORMAT csv)') as copy:
                copy.write(memoryview(sink.getvalue()))
    else:
        stamps = (str(literal(value).compile(connection, compile_kwargs={"literal_binds": True})) for value in same.values())
        row = f"({', '.join(['?'] * len(told) + list(stamps))})"
        for batch in batches:
            cells = chain.from_iterable(zip(*(column.to_numpy(zero_copy_only=False).tolist() for column in batch.columns), strict=True))
            for rows_each, times in ((_TOGETHER, len(batch) // _TOGETHER), (1, len(batch) % _TOGETHER)):
                if times:  # SQLite reads a statement also where it has nothing to write
                    statement = f'INSERT INTO "{table}" ({names}) VALUES {", ".join([row] * rows_each)}'
                    driver.executemany(statement, (tuple(islice(cells, rows_each * len(told))) for _ in range(times)))
            del cells  # before those of the next batch are there too
