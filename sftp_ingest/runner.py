"""Claims pending runs and sees them to their end: one process a run, one run a district at a time."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import structlog
from sqlalchemy import Engine

from sftp_ingest import forks
from sftp_ingest.config import Config, load
from sftp_ingest.errors import ConfigError, DeliveryError, IngestError, StoreError
from sftp_ingest.logs import set_up_logging
from sftp_ingest.model import Details, Outcome, SyncReport, SyncRun
from sftp_ingest.report import archive, notify, summary
from sftp_ingest.store import database, ledger, register

POLITENESS = 10
"""By so much a run stands back, as nice(1) has it, where an upload wants the processor at the same time."""

log = structlog.get_logger()

HISTORY = 30
"""How many nights a report's picture shows."""

_IDLE_SECONDS = 1.0
_BUSY_SECONDS = 0.1

_CLAIM_TO_LOCK = timedelta(seconds=10)
"""A run that was claimed so lately may not have its district's lock yet, and is not orphaned for that."""


def me() -> str:
    """Who claims: this machine and this process."""
    return f"{socket.gethostname()}:{os.getpid()}"


@contextmanager
def district_lock(config: Config, engine: Engine, district: str) -> Iterator[bool]:
    """Whether this process may sync the district now. Kernel and database give the lock back when the process dies, however it dies.

    The kernel's keeps the files of one data folder apart; PostgreSQL's keeps daemons apart that share nothing but the database.
    """
    config.locks.mkdir(parents=True, exist_ok=True)
    with Path(config.locks / f"{district}.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        with database.locked(engine, f"sftp-ingest district {district}") as ours:
            yield ours


def execute(config: Config, engine: Engine, run: SyncRun, progress: Callable[[str], None] | None = None) -> Outcome | None:
    """See a claimed run to its end in this process, and tell the district. None where it was given back, to be tried again later.

    The one place where any fault of a run is caught: a fault of ours must not stop the nights of other districts.
    """
    # not above: the daemon imports this module, and only its runs need pandas' 100 MB and two seconds
    from sftp_ingest import memory, revert, sync
    from sftp_ingest.roster import shelf

    memory.give_back_at_once()
    with district_lock(config, engine, run.district) as ours, shelf.standing_in(config.rosters):
        if not ours:
            ledger.requeue(engine, run.id, datetime.now(UTC) + timedelta(seconds=1))
            return None
        try:
            see = partial(sync.sync, copy=config.copy_of(run.district)) if run.reverts is None else revert.revert
            outcome = see(engine, run, config.settings(run.district), progress=progress, keep=partial(_keep, config, run))
        except (StoreError, OSError) as fault:
            transient = not isinstance(fault, StoreError) or fault.transient
            sentence = str(fault) if isinstance(fault, StoreError) else f"the machine said no: {fault.strerror}"
            if transient and run.attempts < config.runs.attempts:
                log.warning("run_given_back", run=run.id, district=run.district, attempt=run.attempts, error=sentence)
                ledger.requeue(engine, run.id, datetime.now(UTC) + timedelta(seconds=config.runs.retry_seconds))
                return None
            outcome = _fail(engine, run, sentence)
        except IngestError as fault:
            outcome = _fail(engine, run, str(fault))
        except Exception as fault:  # its message may quote a cell, so only its kind and place are told
            places = "".join(traceback.format_tb(fault.__traceback__))
            log.error("run_broke", run=run.id, district=run.district, kind=type(fault).__name__, places=places)
            outcome = _fail(engine, run, f"a bug in sftp-ingest: {type(fault).__name__}; the log tells where")
        _tell_district(config, engine, run.id)
    return outcome


def _keep(config: Config, run: SyncRun, details: Details) -> None:
    """Keep the run's details until they are told. They are not worth a night: where the disk is full, the roster comes first."""
    path = archive.place(config.reports, run.district, run.id)
    try:
        if details.same_as is None:
            archive.write(details, path)
        else:
            archive.link(archive.place(config.reports, run.district, details.same_as), path)
    except OSError as fault:
        log.error("details_not_kept", run=run.id, district=run.district, error=fault.strerror)


def details_of(config: Config, report: SyncReport) -> Path | None:
    """The zip with the details of the reported run. None where there is none: of a run that came to nothing, of one long ago, or lost."""
    if report.run is None or report.outcome in ("failed", "superseded"):
        return None
    path = archive.place(config.reports, report.district, report.run)
    return path if archive.contents(path) is not None else None


def _fail(engine: Engine, run: SyncRun, sentence: str) -> Outcome:
    log.error("run_failed", run=run.id, district=run.district, error=sentence)
    with database.writing(engine) as connection:
        ledger.close(connection, run.id, "failed", datetime.now(UTC), {}, {}, (), error=sentence)
    return "failed"


def report_of(engine: Engine, run_id: int) -> SyncReport:
    """The report of a run, from what the ledger knows. Raises ConfigError where there is no such run."""
    run = ledger.run(engine, run_id)
    if run is None:
        raise ConfigError(f"there is no run {run_id}")
    district = register.district(engine, run.district)
    if district is None:
        raise DeliveryError(f"run {run_id} belongs to no district")
    held = ledger.hold_of(engine, run_id)
    history = [
        each
        for each in ledger.runs(engine, run.district, limit=HISTORY)
        if each.state == "closed" and each.outcome != "previewed" and each.reverts is None and each.id <= run_id
    ]
    return summary.make(
        district=district,
        run=run,
        delivery=ledger.delivery(engine, run.delivery),
        outcome=run.preview.outcome if run.preview else run.outcome or "failed",
        findings=ledger.findings(engine, run_id),
        counts=run.counts,
        hold=held.hold if held else run.preview.hold if run.preview else None,
        hold_state=held.state if held else "",
        hold_number=held.id if held else None,
        seconds=run.seconds,
        history=history[::-1],
    )


def _tell_district(config: Config, engine: Engine, run_id: int) -> None:
    """Leave the report in the home. The roster is right by now, so a full disk must not fail the run."""
    report = report_of(engine, run_id)
    home = config.homes / report.district
    try:
        if home.is_dir():
            notify.leave_in_home(report, home, details_of(config, report))
    except OSError as fault:
        log.error("report_not_left", run=run_id, district=report.district, error=fault.strerror)


def _in_own_process(config_file: Path, run: SyncRun) -> None:
    """What a run's process does."""
    os.nice(POLITENESS)
    config = load(config_file)
    set_up_logging(config.log_format)
    execute(config, database.open_engine(config.database_url), run)


class Runner:
    """A thread that claims what is pending and keeps a process for each run."""

    def __init__(self, config: Config, engine: Engine) -> None:
        self._config = config
        self._engine = engine
        self._bell = threading.Event()
        self._stopping = threading.Event()
        self._processes: dict[tuple[int, int], BaseProcess] = {}  # by run and attempt: another daemon may have the next one
        self._next_take_up = time.monotonic() + config.runs.sweep_seconds
        self._thread = threading.Thread(target=self._live, name="runner", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the thread does its work."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Take up what an earlier daemon left, and begin. Raises StoreError where the database does not answer."""
        self._take_up(timedelta(0))
        self._tell_what_was_not_told()
        self._thread.start()

    def wake(self) -> None:
        """There may be something to claim."""
        self._bell.set()

    def stop(self, grace: float) -> None:
        """Claim nothing more; runs in progress may end within the grace, after that they are broken off, to be taken up at the next start."""
        self._stopping.set()
        self._bell.set()
        self._thread.join()
        deadline = time.monotonic() + grace
        for process in self._processes.values():
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.terminate()
                process.join()
        self._reap()

    def _live(self) -> None:
        while not self._stopping.is_set():
            self._bell.wait(_BUSY_SECONDS if self._processes else _IDLE_SECONDS)
            self._bell.clear()
            try:
                self._reap()
                if time.monotonic() > self._next_take_up:
                    self._take_up(_CLAIM_TO_LOCK)
                    self._next_take_up = time.monotonic() + self._config.runs.sweep_seconds
                while len(self._processes) < self._config.runs.workers and not self._stopping.is_set() and self._begin():
                    pass
            except StoreError as fault:
                log.error("ledger_unreachable", error=str(fault))
                self._stopping.wait(_IDLE_SECONDS)

    def _begin(self) -> bool:
        run = ledger.claim(self._engine, me(), datetime.now(UTC))
        if run is None:
            return False
        log.info("run_begun", run=run.id, district=run.district, delivery=run.delivery, attempt=run.attempts)
        self._processes[run.id, run.attempts] = forks.begun(_in_own_process, self._config.file, run, name=f"run-{run.id}")
        return True

    def _reap(self) -> None:
        """Take leave of ended processes; a run whose process died without closing it is given back, or has failed once too often.

        Of one that was closed and whose process died before it told the district, it is told here.
        """
        for (run_id, attempt), process in list(self._processes.items()):
            if process.is_alive():
                continue
            process.join()
            del self._processes[run_id, attempt]
            run = ledger.run(self._engine, run_id)
            if run is not None and run.state == "running" and run.attempts == attempt:
                self._give_back(run, f"its process ended with {process.exitcode}")
            elif run is not None and run.state == "closed" and process.exitcode:
                _tell_district(self._config, self._engine, run_id)

    def _take_up(self, age: timedelta) -> None:
        """Give back the runs, begun at least so long ago, whose process is no more: their district's lock is free."""
        for run in ledger.running(self._engine):
            if (run.id, run.attempts) in self._processes or run.started_at is None or run.started_at > datetime.now(UTC) - age:
                continue
            with district_lock(self._config, self._engine, run.district) as ours:
                if ours:
                    self._give_back(run, "its process is gone")

    def _tell_what_was_not_told(self) -> None:
        """Leave the report of a district's last run where a killed daemon closed the run and no longer came to tell it."""
        for district in register.districts(self._engine):
            last = next((run for run in ledger.runs(self._engine, district.id, limit=5) if run.state == "closed"), None)
            if last is not None and not notify.is_left(last.id, self._config.homes / district.id):
                _tell_district(self._config, self._engine, last.id)

    def _give_back(self, run: SyncRun, why: str) -> None:
        if self._stopping.is_set() or run.attempts < self._config.runs.attempts:
            log.warning("run_given_back", run=run.id, district=run.district, attempt=run.attempts, error=why)
            ledger.requeue(self._engine, run.id, None)
        else:
            _fail(self._engine, run, f"{why}, {run.attempts} times")
