"""One delivery, from sealed files to a closed run: the page to read first."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
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
from sftp_ingest.model import (
    ENTITIES,
    ChangeSet,
    Counts,
    Delivery,
    Details,
    FileShape,
    Hold,
    HoldReason,
    Outcome,
    Preview,
    Rejections,
    Roster,
    SyncRun,
    Verdict,
)
from sftp_ingest.roster import (
    arrow,
    beside,
    clever,
    contract,
    delta,
    derive,
    diff,
    drift,
    excerpt,
    files,
    fixit,
    following,
    formats,
    holds,
    loader,
    manifest,
    references,
    validator,
)
from sftp_ingest.roster.excerpt import Known
from sftp_ingest.store import bulk, database, ledger, rosters, states, upserter
from sftp_ingest.store.ledger import Applied
from sftp_ingest.store.states import State

log = structlog.get_logger()

Progress = Callable[[str], None]
"""Told the name of each stage as it begins."""

Attendance = Callable[[Sequence[str]], pd.DataFrame]
"""Ids, none of them twice → the attendance of these that a district has."""


@dataclass
class Stages:
    """How long each stage took, in seconds, and who is told when one begins."""

    progress: Progress = lambda stage: None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        self.progress(name)
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - begun, 3)


@dataclass(frozen=True)
class Plan:
    """What a delivery would do: `flowing` is what may be applied now; nothing of it where the delivery is refused.

    `waiting` is what the hold keeps; `rows` and `rejections` are by file, as `rules`, the contract that it was judged by, spells it.
    """

    outcome: Outcome
    findings: tuple[Finding, ...]
    counts: Mapping[str, Counts]
    hold: Hold | None
    flowing: ChangeSet | None
    shapes: Mapping[str, FileShape]
    rules: contract.Contract
    rows: Mapping[str, int]
    rejections: Mapping[str, Rejections]
    waiting: ChangeSet | None = None
    lasting: bool = False
    """Whether the files tell the whole roster, so that told once more, they change nothing."""
    whole: bool = True
    """Whether the files were read as a whole, and not only those of their lines that are new."""
    partial: bool = False
    """Whether they tell only what has changed, as OneRoster's deltas do."""


def plan(
    delivery: Delivery,
    settings: Settings,
    now: Roster,
    *,
    before: Mapping[str, FileShape] | None = None,
    attendance: Attendance | None = None,
    approved: str = "",
    undecided: Sequence[HoldReason] = (),
    known: Known | None = None,
    stages: Stages | None = None,
) -> Plan:
    """Read, judge, compare and review a delivery against the roster held now; touches nothing but memory and the sealed files.

    Where the roster is `known` to be what another delivery says, only lines that are new may have to be read. `attendance` is asked for the
    attendance held now of the ids that the delivery tells of, whatever its dates. `undecided` is why the night before was held, if nobody released it.
    Raises ContractError where the district's own contract folder is wrong.
    """
    stages = stages or Stages()
    delivery, packed = files.listed(delivery)
    format, rules = formats.read_as(delivery, settings)
    if known is not None and format is clever and not packed:
        short = _of_new_lines(known, delivery, rules, settings, now, approved, stages)
        if short is not None:
            return short
    with stages.stage("load"):
        loaded = loader.load(delivery, rules, strict=settings.strict, before=before, packed=packed)
        frames = format.prepare(loaded, rules, now, strict=settings.strict)
        drifted = drift.found(before or {}, frames.shapes, loaded, rules)
        del loaded
        tonight = frames.shapes
    with stages.stage("validate"):
        ids = references.ids_of(now)
        verdict = validator.validate(frames, rules, today=delivery.received_at.date(), strict=settings.strict, known=ids, before=before)
        del frames
    if verdict.refused:
        counts = _counts(verdict, rules, now, None, None)
        return Plan("refused", verdict.findings + drifted, counts, None, None, tonight, rules, _rows(verdict, rules), verdict.rejections)
    with stages.stage("assemble"):
        assembled = format.assemble(verdict, rules, now)
        partial = _tells_changes(verdict)
        whole = not partial and not _tells_additions(assembled.roster)
        verdict = replace(verdict, tables={}, seen={}, aside={})  # of millions of rows, none should be there once more than it must
        assembled = derive.derive(assembled, now, settings.derive)
    with stages.stage("compare"):
        now = _with_attendance(now, assembled.roster, attendance)
        change_set = diff.compare(now, assembled.roster, assembled.seen, assembled.covered)

    def anew(waiting: ChangeSet) -> ChangeSet:
        return beside.changes(assembled, now, waiting, settings.derive)

    made = _reviewed(verdict, change_set, before or {}, tonight, rules, now, settings, approved, stages, anew, undecided)
    return replace(made, findings=made.findings + drifted, lasting=made.lasting and whole, partial=partial)


def _reviewed(
    verdict: Verdict,
    change_set: ChangeSet,
    before: Mapping[str, FileShape],
    tonight: Mapping[str, FileShape],
    rules: contract.Contract,
    now: Roster,
    settings: Settings,
    approved: str,
    stages: Stages,
    anew: holds.Anew | None = None,
    undecided: Sequence[HoldReason] = (),
) -> Plan:
    """The plan that a change set makes, as far as it may flow."""
    with stages.stage("review"):
        doubted = holds.doubted(verdict.findings, rules)
        review = holds.review(change_set, now, settings.limits, doubted=doubted, approved=approved, anew=anew, undecided=undecided)
    return Plan(
        outcome="on_hold" if review.hold else "unchanged" if change_set.empty else "successful",
        findings=verdict.findings + change_set.findings,
        counts=_counts(verdict, rules, now, change_set, review),
        hold=review.hold,
        flowing=review.flowing,
        shapes=drift.remembered(before, tonight, rules, waits=review.hold is not None, released=bool(approved)),
        rules=rules,
        rows=_rows(verdict, rules),
        rejections=verdict.rejections,
        waiting=review.waiting,
        lasting=review.hold is None,
    )


def _rows(verdict: Verdict, rules: contract.Contract) -> dict[str, int]:
    return {rules.tables[name].file: count for name, count in verdict.rows.items() if not rules.tables[name].of}


def _of_new_lines(known: Known, delivery: Delivery, rules: contract.Contract, settings: Settings, now: Roster, approved: str, stages: Stages) -> Plan | None:
    """The plan as a whole reading would come to it, or None where only that can tell: what flows beside a hold is derived from all rows."""
    with stages.stage("excerpt"):
        told = excerpt.read(known, delivery, rules, today=delivery.received_at.date())
    if told is None:
        return None
    with stages.stage("compare"):
        wanted = following.wanted(told, rules, now, settings.derive)
        if wanted is None:
            return None
        verdict, shapes = replace(told.verdict, tables={}), told.shapes
        del told  # its rows are in what is wanted now
        change_set = following.compare(wanted, now, settings.derive)
        del wanted
    made = _reviewed(verdict, change_set, known.shapes, shapes, rules, now, settings, approved, stages)
    return None if made.hold else replace(made, whole=False)


def _tells_changes(verdict: Verdict) -> bool:
    """Whether anything was told in changes, as OneRoster's deltas are."""
    return any(len(verdict.aside[name]) for name in (delta.DELTA, delta.ENDED) if name in verdict.aside)


def _tells_additions(wanted: Roster) -> bool:
    """Whether anything was told in additions, as attendance is."""
    return any(len(frame) for name, frame in wanted.entities.items() if ENTITIES[name].incremental)


def _overtaking(engine: Engine, delivery: Delivery, planned: Plan) -> Plan:
    """Where changes take the place of a delivery of which a part waits, it is told that this part is lost: they do not repeat it."""
    if not planned.partial or delivery.origin == "preview" or planned.outcome == "refused":
        return planned
    waiting = reversed(ledger.holds(engine, delivery.district, "open"))
    told = [finding("delta_overtook", manifest.FILE, hint=f"hold {each.id} waits no more") for each in waiting]
    return replace(planned, findings=(*planned.findings, *told))


def details(delivery: Delivery, planned: Plan) -> Details:
    """All that a report only counts. Raises DeliveryError where a sealed file is not what it was."""
    return Details(
        rows=planned.rows,
        left_out={file: len(each.lines) for file, each in planned.rejections.items()},
        rejected=fixit.tables(files.listed(delivery)[0], planned.rules, planned.rejections, planned.findings),
        done=planned.flowing,
        waiting=planned.waiting,
        findings=planned.findings,
    )


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


def _with_attendance(now: Roster, wanted: Roster, attendance: Attendance | None) -> Roster:
    """The roster with as much of its attendance as tonight's can be compared with: years of it are never read."""
    told = wanted.entities.get("attendance")
    if attendance is None or told is None or told.empty:
        return now
    return Roster({**now.entities, "attendance": attendance(told["attendance_id"].to_list())})


def _counts(verdict: Verdict, rules: contract.Contract, now: Roster, change_set: ChangeSet | None, review: holds.Review | None) -> dict[str, Counts]:
    """What the delivery does to every entity; what waits is counted as waiting, and not as done."""
    counts = {}
    for name in ENTITIES:
        tables = [table.name for table in rules.of(name)]
        rows, rejected = (sum(told.get(table, 0) for table in tables) for told in (verdict.rows, verdict.rejected))
        if change_set is None or review is None or name not in change_set.changes:
            active = now.entities[name]["active"].sum() if name in now.entities else 0
            counts[name] = Counts(existing=int(active), rows=rows, rejected=rejected, unchanged=int(active))
            continue
        done = review.flowing.changes[name]["operation"].value_counts().to_dict()
        counts[name] = replace(
            Counts(
                existing=change_set.existing[name],
                rows=rows,
                rejected=rejected,
                unchanged=review.flowing.unchanged[name],
                waiting=len(review.waiting.changes[name]) if review.waiting is not None else 0,
            ),
            **{str(operation): int(count) for operation, count in done.items()},
        )
    return counts


def empty_roster() -> Roster:
    """What a district has before its first delivery."""
    return Roster(
        {name: pd.DataFrame({column: pd.array([], dtype=arrow.TEXT) for column in entity.columns}).assign(active=False) for name, entity in ENTITIES.items()}
    )
