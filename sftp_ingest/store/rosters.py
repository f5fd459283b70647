"""The roster that a district has now, read from its tables into frames as fast as the database can tell it."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
from psycopg import sql
from sqlalchemy import Connection

from sftp_ingest.model import ENTITIES, Entity, Roster

_ROWS = 50_000
"""How many rows of SQLite are in Python's hands at once, and how many records are asked for by their ids."""

_BLOCK_BYTES = 8 << 20
"""How much CSV is read at once; no cell is longer."""


def current(connection: Connection, district_id: str) -> Roster:
    """All records of the district, those that left included: per entity a frame of Arrow text, absence "", and the boolean column `active`.

    Attendance is not among them: there may be years of it.
    """
    return Roster({entity.name: _read(connection, district_id, entity) for entity in ENTITIES.values() if not entity.incremental})


def whole(connection: Connection, district_id: str, entity: str) -> pd.DataFrame:
    """All records of one entity, of attendance too, as a frame like those of `current`."""
    return _read(connection, district_id, ENTITIES[entity])


def attendance(connection: Connection, district_id: str, ids: Sequence[str]) -> pd.DataFrame:
    """The district's attendance of these ids, none of them twice, as a frame like those of `current`."""
    read, entity = _reader(connection), ENTITIES["attendance"]
    pieces = [ids[begin : begin + _ROWS] for begin in range(0, len(ids), _ROWS)]
    return frame_of(pa.concat_tables([schema_of((*entity.columns, "active")).empty_table(), *(read(connection, district_id, entity, each) for each in pieces)]))


def _read(connection: Connection, district_id: str, entity: Entity) -> pd.DataFrame:
    return frame_of(_reader(connection)(connection, district_id, entity, None))


def _reader(connection: Connection) -> Callable[[Connection, str, Entity, Sequence[str] | None], pa.Table]:
    """Reads all records of an entity, or only those of the ids that it is given."""
    return _from_postgresql if connection.dialect.name == "postgresql" else _from_sqlite


def frame_of(table: pa.Table) -> pd.DataFrame:
    """The table as a frame like those of `current`."""
    return table.to_pandas(types_mapper=lambda kind: pd.ArrowDtype(kind) if pa.types.is_string(kind) else None)


def _from_postgresql(connection: Connection, district_id: str, entity: Entity, ids: Sequence[str] | None) -> pa.Table:
    columns = (*entity.columns, "active")
    given = {"district_id": district_id, **entity.fixed}
    # COPY takes no parameters, so psycopg quotes the values itself.
    statement = sql.SQL("COPY (SELECT {columns} FROM {table} WHERE {where}) TO STDOUT (FORMAT csv)").format(
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        table=sql.Identifier(entity.table),
        where=sql.SQL(" AND ").join(
            [
                *(sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value)) for name, value in given.items()),
                *([] if ids is None else [sql.SQL("{} = ANY({})").format(sql.Identifier(entity.key[0]), sql.Literal(list(ids)))]),
            ]
        ),
    )
    driver: Any = connection.connection.driver_connection
    sink = pa.BufferOutputStream()
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        for block in copy:
            sink.write(block)
    text = sink.getvalue()
    if not text.size:  # the reader refuses an empty file
        return schema_of(columns).empty_table()
    return pa.csv.read_csv(
        pa.BufferReader(text),
        read_options=pa.csv.ReadOptions(column_names=columns, block_size=_BLOCK_BYTES),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(column_types=schema_of(columns), true_values=["t"], false_values=["f"]),
    )


def _from_sqlite(connection: Connection, district_id: str, entity: Entity, ids: Sequence[str] | None) -> pa.Table:
    columns = (*entity.columns, "active")
    given = {"district_id": district_id, **entity.fixed}
    told = ", ".join(f"ifnull(CAST(\"{name}\" AS TEXT), '')" for name in entity.columns)
    where = " AND ".join([*(f'"{name}" = ?' for name in given), *([] if ids is None else [f'"{entity.key[0]}" IN (SELECT value FROM json_each(?))'])])
    driver: Any = connection.connection.driver_connection
    cursor = driver.execute(f'SELECT {told}, active FROM "{entity.table}" WHERE {where}', (*given.values(), *([] if ids is None else [json.dumps(ids)])))
    schema = schema_of(columns)
    with _uncollected():
        return pa.Table.from_batches(_batches(iter(lambda: cursor.fetchmany(_ROWS), []), schema), schema)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Millions of tuples come and go, none of them in a circle: looking for circles among them would take a third of the time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _batches(blocks: Iterator[Sequence[tuple[str | int, ...]]], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for rows in blocks:
        *text, active = zip(*rows, strict=True)
        yield pa.record_batch([*(pa.array(column, pa.string()) for column in text), pa.array(map(bool, active), pa.bool_())], schema=schema)


def schema_of(columns: Sequence[str]) -> pa.Schema:
    """The types of such a frame's columns, as Arrow has them."""
    return pa.schema([(name, pa.bool_() if name == "active" else pa.string()) for name in columns])


def table_of(frame: pd.DataFrame, columns: Sequence[str]) -> pa.Table:
    """These columns of a frame of text, and of `active`, in a table; cells that Arrow has already stay where they are."""
    schema = schema_of(columns)
    return pa.table([_arrow(frame[name], kind) for name, kind in zip(columns, schema.types, strict=True)], schema=schema)


def _arrow(column: pd.Series, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    return column.array.__arrow_array__() if column.dtype == pd.ArrowDtype(kind) else pa.array(column.to_numpy(), kind)
