"""One delivery, from sealed files to a closed run: the page to read first."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pandas as pd
import structlog
from sqlalchemy import Connection, Engine

from sftp_ingest import copies, repeat
from sftp_ingest.config import Settings
from sftp_ingest.copies import Copy
from sftp_ingest.errors import DeliveryError
from sftp_ingest.findings import Finding, finding
from sftp_ingest.model import ChangeSet, Delivery, Details, Outcome, Preview, SyncRun
from sftp_ingest.planning import Plan, Progress, Stages, details, plan
from sftp_ingest.roster import manifest
from sftp_ingest.roster.excerpt import Known
from sftp_ingest.store import bulk, database, ledger, rosters, states, upserter
from sftp_ingest.store.ledger import Applied
from sftp_ingest.store.states import State

log = structlog.get_logger()


def sync(
    engine: Engine,
    run: SyncRun,
    settings: Settings,
    *,
    copy: Path | None = None,
    progress: Progress | None = None,
    keep: Callable[[Details], None] = lambda details: None,
) -> Outcome:
    """Bring the district to what the run's delivery says, in one transaction with the run's own end (law 3).

    `copy` is the file in which a copy of the roster is kept from run to run, where one is to be kept. `keep` is given the details before that
    transaction: once the run is closed, nobody could make them again.
    Raises DeliveryError where the sealed files are not what they were, ContractError where the district's own rules are wrong, StoreError
    where the database says no; then nothing was changed.
    """
    delivery = ledger.delivery(engine, run.delivery)
    if delivery is None:
        raise DeliveryError(f"run {run.id} has no delivery {run.delivery}")
    applied = ledger.last_applied(engine, run.district)
    stages = Stages(progress or (lambda stage: None))
    preview = delivery.origin == "preview"
    if not preview and applied is not None and applied.delivery.received_at > delivery.received_at:
        with database.writing(engine) as connection:
            ledger.close(connection, run.id, "superseded", datetime.now(UTC), {}, {}, ())
        return "superseded"
    rules = repeat.fingerprint(delivery, settings)
    if not preview and applied is not None:
        with stages.stage("repeat"):
            again = repeat.of(engine, run, delivery, applied, rules)
        if again is not None:
            return _repeated(engine, run, delivery, applied, again, stages, keep)
    with stages.stage("roster"), database.reading(engine) as connection:
        state = states.of(connection, run.district)
        held = _held(connection, run, state, applied, copy)
    planned = plan(
        delivery,
        settings,
        held.roster,
        before=applied.shapes if applied else None,
        attendance=partial(attendance_held, engine, run.district),
        approved=run.approved_digest,
        undecided=ledger.why_held(engine, applied.run.id, released=bool(run.approved_digest)) if applied else (),
        known=_known(engine, run, delivery, settings, applied, state, held, rules),
        stages=stages,
    )
    planned = _overtaking(engine, delivery, planned)

    def tell() -> None:
        keep(details(delivery, planned))

    if preview:
        with stages.stage("details"):
            tell()
        would = Preview(planned.outcome, planned.hold)
        with database.writing(engine) as connection:
            ledger.close(connection, run.id, "previewed", datetime.now(UTC), planned.counts, stages.seconds, planned.findings, preview=would)
        return "previewed"
    known = repeat.as_known(state, applied, delivery, rules)
    repeatable = planned.lasting and repeat.repeatable(planned.outcome, planned.findings, planned.rejections, as_known=known)
    token = held.token if held.token and planned.outcome == "unchanged" else secrets.token_hex(16)
    read_at = delivery.received_at if planned.whole else state.read_at
    after = State(run.id, rules, repeatable, read_at, state.touches, token=token)
    with ThreadPoolExecutor(1) as thread:
        kept = thread.submit(tell).result
        if planned.flowing is None or planned.flowing.size < bulk.MANY:  # else the database is busy for longer than details take
            with stages.stage("details"):
                kept()
        copied = nullcontext() if copy is None or planned.flowing is None or token == held.token else _copied(run, held, planned.flowing, token, copy)
        with copied:
            _apply(engine, run, planned, after, stages, kept, baseline=applied is None)
    _log(run, planned.outcome, planned.findings, stages)
    return planned.outcome


def _held(connection: Connection, run: SyncRun, state: State, applied: Applied | None, copy: Path | None) -> Copy:
    """The roster now: its copy, where that is known to be right and was compared with the tables lately, else what the tables say.

    A run that is tried once more reads the tables: it may have failed because the copy was wrong.
    """
    now = datetime.now(UTC)
    if copy is not None and applied is not None and state.run == applied.run.id and not state.touched and run.attempts <= 1:
        kept = copies.read(copy, state.token)
        if kept is not None and now - kept.read_at < repeat.LONGEST:
            return kept
    return Copy(rosters.current(connection, run.district), now)


def _known(engine: Engine, run: SyncRun, delivery: Delivery, settings: Settings, applied: Applied | None, state: State, held: Copy, rules: str) -> Known | None:
    """What is known of the roster, where it is exactly what was delivered last, by these rules and without a word to anybody."""
    if applied is None or not held.token or settings.strict or run.approved_digest:
        return None
    if not state.repeatable or state.rules != rules or not repeat.lately(state, delivery) or ledger.findings(engine, applied.run.id):
        return None
    return Known(applied.delivery, applied.shapes)


def _overtaking(engine: Engine, delivery: Delivery, planned: Plan) -> Plan:
    """Where changes take the place of a delivery of which a part waits, it is told that this part is lost: they do not repeat it."""
    if not planned.partial or delivery.origin == "preview" or planned.outcome == "refused":
        return planned
    waiting = reversed(ledger.holds(engine, delivery.district, "open"))
    told = [finding("delta_overtook", manifest.FILE, hint=f"hold {each.id} waits no more") for each in waiting]
    return replace(planned, findings=(*planned.findings, *told))


@contextmanager
def _copied(run: SyncRun, held: Copy, applied: ChangeSet, token: str, path: Path) -> Iterator[None]:
    """Inside, where the changes are applied, a copy of the roster is written for the next run, which without one does the same in more time.

    A run that is tried once more writes it afterwards: it may have been the copy that the database's disk had no room for.
    """
    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(copies.follow, path, held, applied, token) if run.attempts <= 1 else None
        try:
            yield
        except BaseException:  # the next run reads the tables
            if writing is not None:
                writing.exception()
            copies.remove(path)
            raise
    try:
        put = copies.follow(path, held, applied, token) if writing is None else writing.result()
        put()
    except OSError as fault:
        log.warning("copy_not_kept", run=run.id, district=run.district, error=fault.strerror)


@database.insisting
def _apply(engine: Engine, run: SyncRun, planned: Plan, state: State, stages: Stages, kept: Callable[[], None], *, baseline: bool) -> None:
    """Do what is planned, and close the run once its details are kept, which `kept` waits for.

    Done again it is as right as before: what it finds otherwise than planned, the upserter refuses.
    """
    moment = datetime.now(UTC)
    first = planned.flowing.size if planned.flowing is not None and baseline else 0
    with bulk.writing(engine, run.district, first) as connection:
        if planned.flowing is not None:
            with stages.stage("apply"), states.writing(connection):
                upserter.apply(connection, run.district, run.id, planned.flowing, moment)
            with stages.stage("changes"):
                upserter.record_changes(connection, run.district, run.id, planned.flowing, baseline=baseline)
            ledger.save_headers(connection, run.delivery, planned.shapes)
        with stages.stage("details"):
            kept()
        ledger.close(connection, run.id, planned.outcome, moment, planned.counts, stages.seconds, planned.findings)
        if planned.hold is not None:
            ledger.open_hold(connection, run, planned.hold, moment)
        if planned.flowing is not None:
            states.keep(connection, run.district, state)


@database.insisting
def _repeated(
    engine: Engine, run: SyncRun, delivery: Delivery, applied: Applied, again: repeat.Repeat, stages: Stages, keep: Callable[[Details], None]
) -> Outcome:
    """Close the run of a delivery that says nothing new."""
    with stages.stage("details"):
        keep(again.details)
    with database.writing(engine) as connection:
        ledger.save_headers(connection, delivery.id, applied.shapes)
        ledger.close(connection, run.id, "unchanged", datetime.now(UTC), again.counts, stages.seconds, again.findings)
        states.keep(connection, run.district, replace(again.state, run=run.id))
    _log(run, "unchanged", again.findings, stages)
    return "unchanged"


def _log(run: SyncRun, outcome: Outcome, findings: Sequence[Finding], stages: Stages) -> None:
    log.info("run_closed", run=run.id, district=run.district, outcome=outcome, findings=len(findings), seconds=round(sum(stages.seconds.values()), 2))


def attendance_held(engine: Engine, district: str, ids: Sequence[str]) -> pd.DataFrame:
    """The attendance of these ids, none of them twice, that the district has."""
    with database.reading(engine) as connection:
        return rosters.attendance(connection, district, ids)
