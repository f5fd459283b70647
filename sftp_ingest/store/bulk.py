"""A database's first large roster: what looks at every row by itself, keys, references and indexes, is put off until all are there, as a restore does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg.errors import DependentObjectsStillExist, InsufficientPrivilege, LockNotAvailable
from sqlalchemy import Connection, Engine, ForeignKeyConstraint, Select, Table, Text, column, exists, select, table, text
from sqlalchemy.exc import DBAPIError

from sftp_ingest.errors import StoreError
from sftp_ingest.store import database, tables

MANY = 50_000
"""From so many new rows on, taking keys, references and indexes away and putting them back costs less than looking at each row."""

_NOT_NOW = (LockNotAvailable, InsufficientPrivilege, DependentObjectsStillExist)
"""Somebody else is in one of the tables, they are another's to alter, or a table or view of the vendor's own rests on a key: then all goes row by row."""

_PUT_OFF = text(
    "SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname),"
    " format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)), contype = 'p', contype <> 'f'"
    " FROM pg_constraint WHERE conrelid = ANY(CAST(:names AS regclass[]))"
    " AND (contype = 'p' OR contype = 'f' AND confrelid = ANY(CAST(:names AS regclass[])))"
    " UNION ALL SELECT format('DROP INDEX %s', indexrelid::regclass), pg_get_indexdef(indexrelid), false, true FROM pg_index"
    " WHERE indrelid = ANY(CAST(:names AS regclass[])) AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = indexrelid)"
    " ORDER BY 3, 4"
)
"""What takes each away and puts it back, as PostgreSQL itself tells it: references between roster tables, indexes, and last the keys, which references
rest on."""

_ROOM_TO_SORT = text(
    "SELECT set_config('maintenance_work_mem', '256MB', true) WHERE pg_size_bytes(current_setting('maintenance_work_mem')) < pg_size_bytes('256MB')"
)
"""For this transaction alone: with 64 MB, as a server comes, a million students' keys and indexes are sorted in many more passes."""

_INDEXES = (
    select(column("name", Text), column("sql", Text))
    .select_from(table("sqlite_master"))
    .where(column("type") == "index", column("sql").is_not(None), column("tbl_name").in_(list(tables.rosters)))
)
"""SQLite's indexes of the roster tables but for the keys, in which the rows themselves lie, each with what makes it."""

_CACHE_KIB = 64 << 10
"""So much of SQLite's tables is kept in memory meanwhile, where it is 2 MB else: each enrollment's student is looked for among all of them."""


@contextmanager
def writing(engine: Engine, district_id: str, rows: int) -> Iterator[Connection]:
    """As `database.writing`, for a district's first roster of so many rows.

    Where they are many, SQLite looks at its references once, before the end, and not row by row. A row that names nothing ends it with StoreError.
    """
    if rows < MANY or engine.dialect.name != "sqlite":
        with database.writing(engine) as connection:
            yield connection
        return
    with database.unlinked(engine) as connection:
        yield connection
        for roster in tables.rosters.values():
            for reference in roster.foreign_key_constraints:
                if reference.referred_table in tables.rosters.values() and connection.scalar(_names_nothing(reference, district_id)):
                    raise StoreError(f"a value breaks a rule of its table ({reference.name})")


def _names_nothing(reference: ForeignKeyConstraint, district_id: str) -> Select[tuple[bool]]:
    """Whether the district has a row whose reference leads nowhere. Each record that is named is looked for once, in the order of an index on the names."""
    told = [each.parent for each in reference.elements if tables.ALWAYS not in each.parent.info]
    named = select(*told).where(reference.table.c.district_id == district_id, *(each.is_not(None) for each in told)).distinct().subquery()
    alike = (each.column == each.parent.info.get(tables.ALWAYS, named.c.get(each.parent.name)) for each in reference.elements)
    return select(exists(select(named).where(~exists().where(*alike))))


@contextmanager
def put_off(connection: Connection, rows: int) -> Iterator[None]:
    """Inside, where so many rows are new and the roster tables are empty, what can wait is made at the end, of all rows.

    That is the indexes on SQLite, and keys and references too on PostgreSQL. A row that is there twice or names nothing ends it as ever, with an
    exception of the driver; what was put off is afterwards as it was, also where others had changed it. Nobody else is in the tables meanwhile,
    and nobody is waited for: where someone is, nothing is put off.
    """
    if rows < MANY:
        yield
        return
    with _on_sqlite(connection) if connection.dialect.name == "sqlite" else _on_postgresql(connection):
        yield


@contextmanager
def _on_sqlite(connection: Connection) -> Iterator[None]:
    found = connection.execute(_INDEXES).all() if _is_empty(connection) else []
    for name, _ in found:
        connection.exec_driver_sql(f'DROP INDEX "{name}"')
    before = connection.scalar(text("PRAGMA cache_size"))
    connection.exec_driver_sql(f"PRAGMA cache_size = -{_CACHE_KIB}")
    yield
    for _, statement in found:
        connection.exec_driver_sql(statement)
    connection.exec_driver_sql(f"PRAGMA cache_size = {before}")


@contextmanager
def _on_postgresql(connection: Connection) -> Iterator[None]:
    missing = _taken_away(connection) if _is_empty(connection) else []
    yield
    connection.exec_driver_sql(f"ANALYZE {', '.join(map(_looked_up, tables.rosters.values()))}")  # else the planner knows nothing, here and on the next night
    connection.execute(_ROOM_TO_SORT)
    for statement in reversed(missing):  # keys first, and references, which are looked at by them, last
        connection.exec_driver_sql(statement)


def _looked_up(roster: Table) -> str:
    """The table with the columns that rows are found by: to look at all forty of a student takes five times as long, and can wait for autovacuum."""
    groups = [roster.primary_key.columns, *(each.columns for each in roster.foreign_key_constraints), *(each.columns for each in roster.indexes)]
    found = {each.name for columns in groups for each in columns}
    return f"{roster.name} ({', '.join(sorted(found))})"


def _is_empty(connection: Connection) -> bool:
    return not any(connection.scalar(select(exists().select_from(each))) for each in tables.rosters.values())


def _taken_away(connection: Connection) -> list[str]:
    """What puts back what was taken away."""
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(f"LOCK TABLE {', '.join(tables.rosters)} IN ACCESS EXCLUSIVE MODE NOWAIT")
            found = [(take, put) for take, put, *_ in connection.execute(_PUT_OFF, {"names": list(tables.rosters)})]
            for take, _ in found:
                connection.exec_driver_sql(take)
            return [put for _, put in found]
    except DBAPIError as fault:
        if isinstance(fault.orig, _NOT_NOW):
            return []
        raise
