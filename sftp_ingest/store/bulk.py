"""A database's first large roster: its references are looked at all at once, when every row is there, which is a tenth of looking row by row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg.errors import InsufficientPrivilege, LockNotAvailable
from sqlalchemy import Connection, bindparam, exists, select, text
from sqlalchemy.exc import DBAPIError

from sftp_ingest.store import tables

MANY = 50_000
"""From so many new rows on, taking the references away and putting them back costs less than looking at each."""

_NOT_NOW = (LockNotAvailable, InsufficientPrivilege)
"""Somebody else is in one of the tables, or they are another's to alter: then all goes row by row."""

_REFERENCES = text(
    "SELECT conrelid::regclass::text, quote_ident(conname), pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE contype = 'f' AND conrelid = ANY(CAST(:names AS regclass[])) AND confrelid = ANY(CAST(:names AS regclass[])) ORDER BY oid"
).bindparams(bindparam("names"))


@contextmanager
def references_last(connection: Connection, rows: int) -> Iterator[None]:
    """Inside, where so many rows are new and the roster tables of PostgreSQL are empty, references between these wait; at the end all are looked at.

    That ends as ever with an exception of the driver where one names nothing; the constraints are the same as before, and so is whatever
    others have made of them. Nobody else is in the tables meanwhile, and nobody is waited for: where someone is, nothing is put off.
    """
    if rows < MANY or connection.dialect.name != "postgresql":
        yield
        return
    put_off = _taken_away(connection) if _is_empty(connection) else []
    yield
    connection.exec_driver_sql(f"ANALYZE {', '.join(tables.rosters)}")  # else the planner would know nothing of them, here and on the next night
    for table, name, definition in put_off:
        connection.exec_driver_sql(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")


def _is_empty(connection: Connection) -> bool:
    return not any(connection.scalar(select(exists().select_from(table))) for table in tables.rosters.values())


def _taken_away(connection: Connection) -> list[tuple[str, str, str]]:
    """The references that were taken away: table, name and definition, as PostgreSQL tells and takes them."""
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(f"LOCK TABLE {', '.join(tables.rosters)} IN ACCESS EXCLUSIVE MODE NOWAIT")
            found = [(table, name, definition) for table, name, definition in connection.execute(_REFERENCES, {"names": list(tables.rosters)})]
            for table, name, _ in found:
                connection.exec_driver_sql(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
            return found
    except DBAPIError as fault:
        if isinstance(fault.orig, _NOT_NOW):
            return []
        raise
