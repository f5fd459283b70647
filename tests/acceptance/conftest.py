"""A home made by the real `init`, its real daemon on loopback, and the districts that push to it."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import asyncssh
import pytest
from sqlalchemy import Engine, select

from sftp_ingest.cli import main
from sftp_ingest.config import FILE_NAME
from sftp_ingest.model import SyncRun
from sftp_ingest.store import database, ledger, tables
from tests.conftest import PATIENCE_SECONDS

T = TypeVar("T")

if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # the suite may run under nohup, of which a daemon that a test starts should know nothing
    signal.signal(signal.SIGHUP, lambda *_: None)

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["sftp_ingest.ready", "sftp_ingest.cli", "sftp_ingest.sweeps", "sftp_ingest.intake.keys"])

_NOT_COMPARED = {"first_seen_run", "last_changed_run", "deactivated_at"}
_SETTINGS = {
    "settle_seconds = 300": "settle_seconds = 0.5",
    "sweep_seconds = 60": "sweep_seconds = 1",
    "attempts = 3": "attempts = 50",
    "grace_seconds = 30": "grace_seconds = 10",
    'format = "text"': 'format = "json"',
}


def run_command(*arguments: str, cwd: Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """The command line run to its end in `cwd`, in a process of its own with nothing of this shell's own configuration.

    The process is forked from one that has imported everything, so that a test of fifty commands need not wait for fifty imports.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, out, err = streams = [Path(folder) / each for each in ("in", "out", "err")]
        given.write_text(text or "", encoding="utf-8")
        process = _FORKS.Process(target=_command_line, args=(arguments, str(cwd), _environment(), [str(each) for each in streams]))
        process.start()
        process.join(PATIENCE_SECONDS)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(arguments, PATIENCE_SECONDS)
        return subprocess.CompletedProcess(arguments, process.exitcode, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8"))


def _command_line(arguments: Sequence[str], cwd: str, environment: dict[str, str], streams: Sequence[str]) -> None:
    for descriptor, (path, flags) in enumerate(zip(streams, (os.O_RDONLY, *2 * [os.O_WRONLY | os.O_CREAT]), strict=True)):
        os.dup2(os.open(path, flags, 0o600), descriptor)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = ["sftp-ingest", *arguments]
    main()


def run_program(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """As `run_command`, by a Python that has imported nothing yet."""
    command = [sys.executable, "-m", "sftp_ingest", *arguments]
    return subprocess.run(command, cwd=cwd, env=_environment(), capture_output=True, text=True, check=False, timeout=2 * PATIENCE_SECONDS)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("SFTP_INGEST_")}


def eventually(ask: Callable[[], T], what: str) -> T:
    """The first answer that is true of `ask`, asked again and again."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        answer = ask()
        if answer:
            return answer
        time.sleep(0.02)
    raise AssertionError(f"waited {PATIENCE_SECONDS:.0f} seconds in vain for {what}")


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file as Python's own reader sees them."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@dataclass
class Home:
    """One installation in a folder of its own, on its own database, with at most one daemon."""

    folder: Path
    database_url: str
    key: Path
    engine: Engine
    port: int = 0
    _daemon: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @classmethod
    def make(cls, folder: Path, database_url: str, *districts: str) -> Home:
        """What an operator does first: `init`, a few settings for impatient people, and a district or more with one key."""
        made = run_command("init", ".", "--host", "127.0.0.1", "--port", "0", "--database-url", database_url, cwd=_made(folder))
        assert made.returncode == 0, made.stderr
        config = folder / FILE_NAME
        text = config.read_text(encoding="utf-8")
        for default, impatient in _SETTINGS.items():
            assert default in text, default
            text = text.replace(default, impatient, 1)
        config.write_text(text, encoding="utf-8")
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(str(folder / "district_key"))
        key.write_public_key(str(folder / "district_key.pub"))
        (folder / "district_key").chmod(0o600)  # OpenSSH refuses a key that others may read
        home = cls(folder, database_url, folder / "district_key", database.open_engine(database_url))
        for district in districts:
            home.add(district)
        return home

    @property
    def log(self) -> str:
        """All that the daemons of this home have logged."""
        path = self.folder / "serve.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def events(self, name: str) -> list[dict[str, Any]]:
        """The logged events of this name, oldest first."""
        found = []
        for line in self.log.splitlines():
            with contextlib.suppress(ValueError):  # a line of another library, or one that is being written
                event = json.loads(line)
                if event["event"] == name:
                    found.append(event)
        return found

    def command(self, *arguments: str, code: int = 0, text: str | None = None) -> str:
        """What the command prints; it must end with `code`, and never with a traceback."""
        done = run_command(*arguments, cwd=self.folder, text=text)
        assert done.returncode == code, f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout

    def json(self, *arguments: str, code: int = 0) -> Any:
        """What the command prints with --json."""
        return json.loads(self.command(*arguments, "--json", code=code))

    def add(self, district: str) -> None:
        """A district that logs in with this home's key."""
        self.command("districts", "add", district, "--key", "district_key.pub")

    def home_of(self, district: str) -> Path:
        """The district's SFTP home."""
        return self.folder / "data" / "homes" / district

    def sealed(self, district: str) -> list[Path]:
        """The folders of the district's sealed deliveries, oldest first; the names of two of one second do not tell which that is."""
        records = (self.folder / "data" / "deliveries" / district).glob("[!.]*/delivery.json")
        return [path.parent for path in sorted(records, key=lambda path: str(json.loads(path.read_bytes())["received_at"]))]

    # ------------------------------------------------------------ the daemon

    def serve(self) -> None:
        """Start the daemon in a session of its own, and wait until it listens."""
        earlier = len(self.events("listening"))
        with (self.folder / "serve.log").open("ab") as log:
            self._daemon = daemon = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", "-m", "sftp_ingest", "serve"],
                cwd=self.folder,
                env=_environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

        def listening() -> list[dict[str, Any]]:
            assert daemon.poll() is None, self.log
            return self.events("listening")[earlier:]

        self.port = int(eventually(listening, "the daemon to listen")[0]["port"])

    def send(self, number: signal.Signals) -> None:
        """Send the daemon, and it alone, a signal."""
        assert self._daemon is not None
        self._daemon.send_signal(number)

    def stop(self, by: signal.Signals = signal.SIGTERM) -> int:
        """Ask the daemon to stop; its exit code."""
        assert self._daemon is not None
        self.send(by)
        try:
            code = self._daemon.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGABRT)
            self._daemon.wait(PATIENCE_SECONDS)
            raise AssertionError(f"the daemon does not stop; its log, and where its threads are:\n{self.log}") from None
        self._daemon = None
        return code

    def kill(self, *, children: bool = True) -> None:
        """`kill -9` the daemon, with all its children or alone."""
        assert self._daemon is not None
        if children:
            os.killpg(self._daemon.pid, signal.SIGKILL)
        else:
            self._daemon.kill()
        self._daemon.wait(PATIENCE_SECONDS)
        self._daemon = None

    def children(self) -> list[int]:
        """The processes that the daemon itself has started."""
        assert self._daemon is not None
        return _children(self._daemon.pid)

    def run_process(self) -> int | None:
        """The process of the run that the daemon has in progress: the child of the daemon's fork server."""
        return next((run for child in self.children() for run in _children(child)), None)

    def close(self) -> None:
        """Leave nothing running."""
        if self._daemon is not None:
            self.kill()
        self.engine.dispose()

    # ------------------------------------------------------------ the district's side

    def connect(self, district: str) -> Any:
        """The district's own connection, to be used in `async with`."""
        return asyncssh.connect("127.0.0.1", self.port, username=district, client_keys=[str(self.key)], known_hosts=None)

    def push(self, folder: Path, district: str, *names: str) -> None:
        """Upload the folder's files, or those named, in one session."""

        async def upload() -> None:
            async with self.connect(district) as connection, connection.start_sftp_client() as client:
                await client.put([str(path) for path in sorted(folder.glob("*.csv")) if not names or path.name in names])

        asyncio.run(upload())

    def fetch(self, path: str, district: str) -> str:
        """A text file of the district's home, read by the district's own client."""
        return self.fetch_bytes(path, district).decode("utf-8")

    def fetch_bytes(self, path: str, district: str) -> bytes:
        """A file of the district's home, read by the district's own client."""

        async def download() -> bytes:
            async with self.connect(district) as connection, connection.start_sftp_client() as client, client.open(path, "rb") as file:
                return bytes(await file.read())

        return asyncio.run(download())

    def listing(self, path: str, district: str) -> set[str]:
        """The names that the district's own client sees in a folder of its home."""

        async def names() -> set[str]:
            async with self.connect(district) as connection, connection.start_sftp_client() as client:
                return {str(name) for name in await client.listdir(path)} - {".", ".."}

        return asyncio.run(names())

    # ------------------------------------------------------------ what became of it

    def runs(self, district: str) -> list[SyncRun]:
        """The district's runs, oldest first."""
        return ledger.runs(self.engine, district, 1000)[::-1]

    def wait_for_runs(self, count: int, district: str) -> SyncRun:
        """The last of exactly `count` runs, once all are closed and its report lies in the home."""

        def closed() -> list[SyncRun]:
            found = self.runs(district)
            assert len(found) <= count, [(run.id, run.state, run.outcome) for run in found]
            return found if len(found) == count and all(run.state == "closed" for run in found) else []

        run = eventually(closed, f"{count} closed runs of {district}; the log says\n{self.log}")[-1]
        latest = self.home_of(district) / "reports" / "latest.json"
        eventually(lambda: latest.exists() and json.loads(latest.read_text(encoding="utf-8"))["run"] == run.id, f"the report of run {run.id}")
        return run

    def records(self, table: str, district: str, *, active: bool | None = True) -> list[dict[str, Any]]:
        """The district's rows of a roster table, in key order; only the active ones, or with `active=None` all."""
        found = tables.rosters[table]
        with database.reading(self.engine) as connection:
            rows = connection.execute(select(found).where(found.c.district_id == district).order_by(*found.primary_key.columns)).mappings().all()
        return [dict(row) for row in rows if active is None or row["active"] == active]

    def roster(self, district: str) -> dict[str, list[str]]:
        """Every row of every roster table, inactive ones too, without run numbers and times: what two homes must agree in."""
        return self.standing(district)[0]

    def standing(self, district: str) -> tuple[dict[str, list[str]], list[str]]:
        """The roster and the states of all runs, oldest first, as they are at one moment."""
        roster, runs = {}, tables.sync_runs
        with database.reading(self.engine) as connection:
            for name, table in tables.rosters.items():
                compared = [column for column in table.columns if column.name not in _NOT_COMPARED]
                rows = connection.execute(select(*compared).where(table.c.district_id == district)).mappings()
                roster[name] = sorted(repr(dict(row)) for row in rows)
            states = connection.scalars(select(runs.c.state).where(runs.c.district_id == district).order_by(runs.c.id)).all()
        return roster, list(states)


def _children(process: int) -> list[int]:
    """The processes that a process has started and that are still there."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return [int(child) for task in Path(f"/proc/{process}/task").iterdir() for child in (task / "children").read_text(encoding="ascii").split()]
    return []


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def home(tmp_path: Path, database_url: str) -> Iterator[Home]:
    """A home with the district `springfield`, once on each database."""
    made = Home.make(tmp_path / "home", database_url, "springfield")
    yield made
    made.close()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home on SQLite whose daemon serves all tests of a module; every test brings districts of its own."""
    folder = tmp_path_factory.mktemp("house")
    made = Home.make(folder, f"sqlite:///{folder / 'sftp-ingest.db'}")
    made.serve()
    yield made
    made.close()
