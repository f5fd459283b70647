"""The door to the database: an engine for SQLite or PostgreSQL, its transactions, its schema, and its faults told in one sentence."""

from __future__ import annotations

import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from importlib import resources
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import psycopg
import structlog
from psycopg import sql
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from sftp_ingest.errors import CollisionError, ConfigError, StoreError

log = structlog.get_logger()

P = ParamSpec("P")
T = TypeVar("T")

BUSY_SECONDS = 60
"""How long a writer waits for another writer of the same SQLite file."""

COLLISIONS = 5
"""So many times a transaction is done in all, while others are in its way."""

_COLLISION = "40"
_MIGRATIONS = "sftp_ingest.store:migrations"
_UPGRADE = "run `sftp-ingest database upgrade`"

# Beginning of SQLite's error name or of PostgreSQL's SQLSTATE → what to say, and whether trying again may help. The first that fits speaks.
_FAULTS = (
    ("SQLITE_BUSY", "the database is locked by another process", True),
    ("SQLITE_LOCKED", "the database is locked by another process", True),
    ("SQLITE_FULL", "the disk of the database is full", True),
    ("SQLITE_IOERR_SHMSIZE", "the disk of the database is full", True),
    ("SQLITE_IOERR", "the disk of the database does not answer", True),
    ("SQLITE_CANTOPEN", "the database file cannot be opened", False),
    ("SQLITE_READONLY", "the database may be read but not written", False),
    ("SQLITE_CORRUPT", "the database file is damaged", False),
    ("SQLITE_NOTADB", "the file that database.url names is not a SQLite database", False),
    ("SQLITE_CONSTRAINT_PRIMARYKEY", "someone else wrote the same record first", True),
    ("SQLITE_CONSTRAINT_UNIQUE", "someone else wrote the same record first", True),
    ("SQLITE_CONSTRAINT", "a value breaks a rule of its table", False),
    ("08", "the connection to the database was lost", True),
    ("22", "a value does not fit its column", False),
    ("23505", "someone else wrote the same record first", True),
    ("23", "a value breaks a rule of its table", False),
    ("28", "the database does not let this user in", False),
    ("3D", "there is no database of this name", False),
    (_COLLISION, "another transaction was in the way", True),
    ("42501", "the database does not allow this user to do that", False),
    ("53100", "the disk of the database is full", True),
    ("53", "the database has no room for more work", True),
    ("55", "the database is locked by another process", True),
    ("57", "the database broke the work off", True),
    ("58", "the disk of the database does not answer", True),
)


def open_engine(url: str) -> Engine:
    """An engine for `sqlite:///file` or `postgresql://…`; nothing is connected yet. Raises ConfigError for any other URL, StoreError without a folder.

    Only `upgrade` makes the file of a SQLite database: everybody else gets a StoreError where there is none.
    """
    parsed = check_url(url)
    if parsed.drivername.startswith("sqlite"):
        return _open_sqlite(parsed)
    # The encoding is said aloud because COPY is given bytes: those are UTF-8 whatever the database was made with.
    return create_engine(parsed.set(drivername="postgresql+psycopg"), hide_parameters=True, pool_pre_ping=True, connect_args={"client_encoding": "utf8"})


def check_url(url: str) -> URL:
    """The URL in its parts. Raises ConfigError where it is none, or none of a database that is known here."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError("database.url is not a database URL, such as sqlite:////srv/sftp-ingest.db or postgresql://user@host/name") from None
    kind = parsed.drivername.partition("+")[0]
    if kind not in ("sqlite", "postgresql", "postgres"):
        raise ConfigError(f"database.url begins with {kind}; sqlite and postgresql are known")
    return parsed


def _open_sqlite(url: URL) -> Engine:
    if not url.database or url.database == ":memory:":
        raise ConfigError("database.url must name a file: every run is a process of its own and has to find the same database")
    if url.query:
        raise ConfigError("database.url: nothing may follow the file of a SQLite database; a ? in its name is written %3F")
    path = Path(url.database).absolute()
    if not path.parent.is_dir():
        raise StoreError(f"the folder of the database does not exist: {path.parent}")
    engine = create_engine(url.set(drivername="sqlite+pysqlite"), hide_parameters=True, creator=lambda: _connected(path))

    @event.listens_for(engine, "connect")
    def note(_connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        entry.info["file"] = _file(path)

    @event.listens_for(engine, "checkout")
    def look(_connection: DBAPIConnection, entry: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
        if entry.info["file"] != _file(path):  # what is written to a file without a name is lost
            raise DisconnectionError

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that first reads and then writes fails at once, whatever the timeout, when someone else wrote in between.
        # Taking the write lock at the beginning makes it wait its turn instead; only transactions that say so are without it.
        only_reads = connection.get_execution_options().get("only_reads", False)
        connection.exec_driver_sql("BEGIN" if only_reads else "BEGIN IMMEDIATE")

    return engine


def _file(path: Path) -> tuple[int, int] | None:
    """What tells the file that lies there from another one that takes its place; None where none lies there."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def _connected(path: Path) -> sqlite3.Connection:
    """A connection to the SQLite database in this file, which must be there already. Raises StoreError."""
    try:
        # isolation_level: Python's own BEGIN comes late and leaves tables outside the transaction; the engine's own is above
        made = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
            made.execute(f"PRAGMA {pragma}")
    except sqlite3.Error as fault:
        raise _unopened(path, fault) from None
    return made


def _unopened(path: Path, fault: sqlite3.Error) -> StoreError:
    """The fault of a connection, with the path of the file where the file is to blame.

    The file is not opened to find out: to close it again would give up what other connections of this process have locked.
    """
    name = getattr(fault, "sqlite_errorname", "")
    try:
        path.stat()
    except FileNotFoundError:
        return StoreError(f"there is no database at {path}; `sftp-ingest database upgrade` makes an empty one")
    except OSError as refused:
        return StoreError(f"the database {path} cannot be opened: {refused.strerror}")
    if not name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")):
        return _told(fault)
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        cause = "its disk may be read but not written"
    elif not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
        cause = "this user may not read and write it"
    elif not os.access(path.parent, os.W_OK | os.X_OK, effective_ids=True):
        cause = "this user may not write into its folder"
    else:
        cause = "SQLite does not say why"
    return StoreError(f"the database {path} cannot be opened: {cause} ({name})")


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that may write: kept at the end, undone by any exception. Faults of the database come out as StoreError."""
    with faults(), engine.begin() as connection:
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads, all of it as it was at one moment, and waits for no writer. Faults of the database come out as StoreError."""
    options: dict[str, Any] = {"only_reads": True}
    if engine.dialect.name == "postgresql":  # which else would tell every statement of another moment: one table before a run, the next one after it
        options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with faults(), engine.execution_options(**options).begin() as connection:
        yield connection


def insisting(work: Callable[P, T]) -> Callable[P, T]:
    """The same function, whose work is all in one transaction: done again, a few times, where another transaction was in the way of it."""

    @wraps(work)
    def insist(*args: P.args, **kwargs: P.kwargs) -> T:
        for attempt in range(1, COLLISIONS):
            try:
                return work(*args, **kwargs)
            except CollisionError as fault:
                log.warning("transaction_again", attempt=attempt, error=str(fault))
                time.sleep(0.05 * 2**attempt)
        return work(*args, **kwargs)

    return insist


@contextmanager
def erasing(engine: Engine) -> Iterator[Connection]:
    """As `writing`; what is deleted is overwritten in the pages of SQLite too, where it could be read until they are used again."""
    with writing(engine) as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA secure_delete = ON").close()
        yield connection


@contextmanager
def unlinked(engine: Engine) -> Iterator[Connection]:
    """As `writing`, on SQLite and without a look at any reference: that is for the caller, before the end."""
    with faults(), engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.execute("PRAGMA foreign_keys = OFF")  # of no effect inside a transaction
        try:
            with connection.begin():
                yield connection
        finally:
            driver.execute("PRAGMA foreign_keys = ON")


@contextmanager
def locked(engine: Engine, name: str) -> Iterator[bool]:
    """Whether the lock of this name is ours as long as this lasts, or as our connection does. SQLite, whose machine has locks of its own, has none: true.

    Raises StoreError.
    """
    if engine.dialect.name != "postgresql":
        yield True
        return
    with faults(), engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        ours = connection.scalar(text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))"), {"name": name})
        try:
            yield bool(ours)
        finally:
            if ours:
                with suppress(DBAPIError):  # a connection that is lost has taken the lock along
                    connection.execute(text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))"), {"name": name})


def scrub(engine: Engine, names: Iterable[str]) -> bool:
    """Leave nothing of deleted rows in the database's own files, as far as it can be done from here; whether it could.

    SQLite writes its file anew, which rids it of what was deleted before without care, and empties its write-ahead log; false where a reader
    was in the way for longer than BUSY_SECONDS. PostgreSQL vacuums the tables of these names. Raises StoreError.
    """
    with faults():
        pooled = engine.raw_connection()
        try:
            driver: Any = pooled.driver_connection
            if engine.dialect.name == "sqlite":
                driver.execute("VACUUM")
                return not driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            driver.rollback()  # whatever the pool asked it: what follows must not be inside a transaction
            driver.autocommit = True
            for name in names:
                driver.execute(sql.SQL("VACUUM {}").format(sql.Identifier(name)))
            return True
        finally:
            pooled.invalidate()


@contextmanager
def faults() -> Iterator[None]:
    """Turns faults of the database into StoreError. The driver's own words may quote a row and so are left behind, also in the traceback."""
    try:
        yield
    except (DBAPIError, PoolTimeoutError, psycopg.Error, sqlite3.Error) as fault:
        raise _told(fault) from None


def _told(fault: Exception) -> StoreError:
    driver = fault.orig if isinstance(fault, DBAPIError) else fault
    if isinstance(driver, psycopg.Error):
        name, place = driver.sqlstate or "", driver.diag.constraint_name or driver.diag.column_name or driver.diag.table_name
    else:
        name, place = getattr(driver, "sqlite_errorname", ""), None
    for beginning, sentence, transient in _FAULTS:
        if name.startswith(beginning):
            told = f"{sentence} ({place or name})"
            return CollisionError(told) if beginning == _COLLISION else StoreError(told, transient=transient)
    if isinstance(driver, PoolTimeoutError):
        return StoreError("no connection to the database became free", transient=True)
    if isinstance(driver, psycopg.OperationalError) and not name:
        # Without an SQLSTATE the fault comes from the connection itself: it tells of hosts and users, never of rows.
        return StoreError(f"the database does not answer: {str(driver).partition(chr(10))[0]}", transient=True)
    return StoreError(f"the database refused a statement ({name or type(driver).__name__})")


# ---------------------------------------------------------------- the schema


def upgrade(engine: Engine) -> None:
    """Brings the schema to this program's version, in one transaction; where it is there already, nothing happens.

    Makes the file of a SQLite database where there is none, for nobody but this user, whatever the umask.
    Raises StoreError if it is newer, or where what is stored breaks a rule of it; then nothing was changed.
    """
    if engine.dialect.name == "sqlite":
        _make(Path(engine.url.database or "").absolute())
    with _rebuilding(engine) as connection:
        before, known = _revision(connection), _revisions()
        if before == known[-1]:
            return
        _refuse_newer(before, known)
        from alembic import command  # here, for it takes a third of the time in which any other command begins
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", _MIGRATIONS)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    log.info("database_upgraded", before=before, after=known[-1])


def _make(path: Path) -> None:
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))


@contextmanager
def _rebuilding(engine: Engine) -> Iterator[Connection]:
    """As `writing`. SQLite changes a table by making it anew, and must not miss the old one meanwhile: it looks at all references before the end."""
    if engine.dialect.name != "sqlite":
        with writing(engine) as connection:
            yield connection
        return
    with unlinked(engine) as connection:
        yield connection
        told = connection.exec_driver_sql("PRAGMA foreign_key_check")
        broken = Counter((table, parent) for table, _, parent, _ in told)
        if broken:
            (table, parent), count = broken.most_common(1)[0]
            raise StoreError(f"{count:,} rows of {table} name none of {parent}; the tables stay as they are until that is mended")


def check(engine: Engine) -> None:
    """Nothing, if the schema is this program's. Raises StoreError if it is absent, older or newer."""
    with reading(engine) as connection:
        revision = _revision(connection)
    if revision is None:
        raise StoreError(f"the database has no tables yet; {_UPGRADE}")
    known = _revisions()
    _refuse_newer(revision, known)
    if revision != known[-1]:
        raise StoreError(f"the tables of the database are older than this program; {_UPGRADE}")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def _revisions() -> list[str]:
    """All that this program knows, the first one first: the file of a migration begins with its revision."""
    files = resources.files("sftp_ingest.store.migrations.versions").iterdir()
    return sorted(each.name.partition("_")[0] for each in files if each.name[0].isdigit())


def _refuse_newer(revision: str | None, known: Sequence[str]) -> None:
    if revision is not None and revision not in known:
        raise StoreError(f"the tables of the database are newer than this program ({revision}); install the program that made them")
