"""The chores that APScheduler runs: look at homes until they are settled, look again at all of them, notice overdue districts, keep what is kept small."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Literal

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy import Engine

from sftp_ingest import forks, retention
from sftp_ingest.config import Config
from sftp_ingest.errors import ConfigError, StoreError
from sftp_ingest.intake import crossing, inbox
from sftp_ingest.model import District
from sftp_ingest.store import ledger, register

log = structlog.get_logger()

_SOONEST_SECONDS = 0.2
"""A home that is still busy is not looked at more often than this."""

_LOOKS = 4
"""So many homes are looked at at once; none waits for one with large files to be sealed, while others have their turn."""

_RETENTION_HOURS = 1
_BREATH_SECONDS = 0.2

ATTENDANCE_KEPT = timedelta(days=183)
"""Clever keeps attendance for six months past its date: contract 1.9."""


def overdue_since(engine: Engine, config: Config, district: District, now: datetime) -> datetime | None:
    """Since when the district's nightly delivery is overdue, or None. A paused district owes nothing."""
    if district.paused:
        return None
    last = ledger.last_delivery(engine, district.id)
    due = (last.received_at if last else district.created_at) + timedelta(hours=config.settings(district.id).overdue_hours)
    return due if due < now else None


class Sweeps:
    """Looks at homes when told to, and from time to time anyway: events get lost, daemons get killed."""

    def __init__(self, config: Config, engine: Engine, wake_runner: Callable[[], None]) -> None:
        self._config = config
        self._engine = engine
        self._wake_runner = wake_runner
        self._overdue: set[str] = set()
        self._stopping = threading.Event()
        self._looked_at: set[str] = set()
        self._turning = threading.Lock()
        self._executors = {"default": ThreadPoolExecutor(_LOOKS), "retention": ThreadPoolExecutor(1)}  # no home waits while files are compressed
        self._scheduler = BackgroundScheduler(executors=self._executors, timezone=UTC, job_defaults={"misfire_grace_time": None})

    @property
    def alive(self) -> bool:
        """Whether the scheduler runs."""
        return bool(self._scheduler.running)

    def start(self) -> None:
        """Adopt deliveries that were sealed but never recorded, look at all homes now, and go on doing so."""
        self._adopt()
        seconds = self._config.runs.sweep_seconds
        self._scheduler.add_job(self._look_at_all, "interval", seconds=seconds, next_run_time=datetime.now(UTC), id="homes", coalesce=True)
        self._scheduler.add_job(self._notice_overdue, "interval", seconds=seconds, next_run_time=datetime.now(UTC), id="overdue", coalesce=True)
        self._scheduler.add_job(self._forget_attendance, "interval", days=1, next_run_time=datetime.now(UTC), id="attendance", coalesce=True)
        now = datetime.now(UTC)
        self._scheduler.add_job(self._keep, "interval", hours=_RETENTION_HOURS, next_run_time=now, id="retention", executor="retention", coalesce=True)
        self._scheduler.start()

    def stop(self) -> None:
        """Finish the looks in progress, begin no other; compressing is broken off, and loses nothing by it."""
        self._stopping.set()
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)  # its own wait keeps the lock that a look needs to plan another one, for ever
            for each in self._executors.values():
                each.shutdown(wait=True)

    def ring(self, district: str) -> None:
        """Something happened in the district's home: look when it could be settled. A look that is planned already looks early enough."""
        if self._scheduler.running and self._scheduler.get_job(f"home-{district}") is None:
            self._look_later(district, self._config.settings(district).settle_seconds)

    def _look_later(self, district: str, seconds: float) -> None:
        at = datetime.now(UTC) + timedelta(seconds=max(seconds, _SOONEST_SECONDS))
        # While one look is sealing, another may come to see that, and plan the next.
        self._scheduler.add_job(self._look, "date", run_date=at, args=(district,), id=f"home-{district}", replace_existing=True, max_instances=2)

    def _look_at_all(self) -> None:
        try:
            for district in register.districts(self._engine):
                self._look_later(district.id, 0)
        except StoreError as fault:
            log.error("ledger_unreachable", error=str(fault))
        self._wake_runner()

    def _look(self, district: str) -> None:
        """Look at the home, unless another look is still sealing it: then later."""
        with self._turning:
            busy = district in self._looked_at
            self._looked_at.add(district)
        if busy:
            self._look_later(district, self._config.settings(district).settle_seconds)
            return
        try:
            self._look_closely(district)
        except StoreError as fault:
            log.error("ledger_unreachable", error=str(fault))
        finally:
            with self._turning:
                self._looked_at.remove(district)

    def _look_closely(self, district: str) -> None:
        """Seal the home and its preview folder, each if it is settled and holds anything new, else look again when it may be."""
        known = register.district(self._engine, district)
        if known is None or self._stopping.is_set():
            return
        home = self._config.homes / district
        waits = [self._seal(district, home / inbox.PREVIEW, "preview"), None if known.paused else self._seal(district, home, "sftp")]
        if soonest := [seconds for seconds in waits if seconds is not None]:
            self._look_later(district, min(soonest))

    def _seal(self, district: str, home: Path, origin: Literal["sftp", "preview"]) -> float | None:
        """Seal what lies there if it is settled and new; otherwise the seconds until it may be, or None where there is nothing to wait for."""
        if not home.is_dir():
            return None
        now = time.time()
        quiet = self._config.settings(district).settle_seconds
        previous = ledger.last_delivery(self._engine, district, origin)  # what an operator synced from a folder does not make the home new
        astray = previous is None or inbox.is_astray(previous)
        settled = inbox.settled(home, quiet, now, astray=astray)
        if settled is None:
            state = inbox.state(home, astray=astray)
            return state.last_activity + quiet - now if state.files or state.uploading else None
        if previous is not None and previous.signature == settled.signature:
            return None
        since = previous.received_at if previous else datetime.min.replace(tzinfo=UTC)
        crossed = partial(crossing.crossed, self._config.sessions, district, since)
        try:
            delivery = inbox.seal(home, self._config.deliveries, district, settled, datetime.now(UTC), previous, origin, crossed)
        except (OSError, ConfigError) as fault:
            log.error("seal_failed", district=district, error=fault.strerror if isinstance(fault, OSError) else str(fault))
            return None
        if delivery is None:
            return quiet
        try:
            run = ledger.record(self._engine, delivery, datetime.now(UTC))
        except ConfigError:  # erased since it was looked up
            shutil.rmtree(delivery.folder, ignore_errors=True)
            return None
        log.info("delivery_sealed", district=district, delivery=delivery.id, origin=origin, files=len(delivery.files), run=run)
        if mixed := sum(each.crossed for each in delivery.files):
            log.warning("delivery_crossed", district=district, delivery=delivery.id, files=mixed)
        self._wake_runner()
        return None

    def _adopt(self) -> None:
        """Record deliveries that a killed daemon sealed and could not record any more. Raises StoreError where the database does not answer."""
        for district in register.districts(self._engine):
            recorded = {each.id for each in ledger.deliveries(self._engine, district.id)}
            for delivery in inbox.sealed(self._config.deliveries, district.id):
                if delivery.id not in recorded:
                    run = ledger.record(self._engine, delivery, datetime.now(UTC))
                    log.warning("delivery_adopted", district=district.id, delivery=delivery.id, run=run)

    def _keep(self) -> None:
        """Compress and prune in a process of its own, which may be ended at any moment."""
        now = datetime.now(UTC)
        try:
            if not retention.is_due(self._config, self._engine, now):
                return
        except StoreError as fault:
            log.error("ledger_unreachable", error=str(fault))
            return
        process = forks.begun(retention.in_own_process, self._config.file, now, name="retention")
        while process.is_alive():
            if self._stopping.is_set():
                process.terminate()
            process.join(_BREATH_SECONDS)
        if process.exitcode and not self._stopping.is_set():
            log.error("retention_broke", exitcode=process.exitcode)

    def _forget_attendance(self) -> None:
        """Delete attendance that is older than Clever keeps it."""
        try:
            forgotten = ledger.forget_attendance(self._engine, (datetime.now(UTC) - ATTENDANCE_KEPT).date())
        except StoreError as fault:
            log.error("ledger_unreachable", error=str(fault))
            return
        if forgotten:
            log.info("attendance_forgotten", records=forgotten)

    def _notice_overdue(self) -> None:
        """Log a district once when it becomes overdue, and once when it no longer is."""
        now = datetime.now(UTC)
        try:
            since = {each.id: overdue_since(self._engine, self._config, each, now) for each in register.districts(self._engine)}
        except StoreError as fault:
            log.error("ledger_unreachable", error=str(fault))
            return
        late = {district for district, moment in since.items() if moment is not None}
        for district in sorted(late - self._overdue):
            log.warning("delivery_overdue", district=district, since=str(since[district]))
        for district in sorted(self._overdue - late):
            log.info("delivery_no_longer_overdue", district=district)
        self._overdue = late


State = Literal["ok", "new", "paused", "overdue", "refused", "on_hold", "failed"]


def state_of(engine: Engine, config: Config, district: District, now: datetime) -> State:
    """One word for an operator: how the district stands. A hold, a refusal and a missed night never look well (law 9)."""
    if district.paused:
        return "paused"
    if overdue_since(engine, config, district, now):
        return "overdue"
    if ledger.holds(engine, district.id, "open"):
        return "on_hold"
    runs = ledger.runs(engine, district.id, limit=20)
    last = next((run for run in runs if run.state == "closed" and run.outcome != "previewed" and run.reverts is None), None)
    if last is None:
        return "new"
    if last.outcome == "refused":
        return "refused"
    return "failed" if last.outcome == "failed" else "ok"
