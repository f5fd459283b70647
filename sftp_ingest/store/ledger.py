"""The ledger: what districts delivered, the runs over it, what was found and what waits for a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Engine, RowMapping, Select, and_, delete, exists, func, insert, or_, select, update

from sftp_ingest.errors import HoldError, RunError, StoreError
from sftp_ingest.findings import Finding, Reading
from sftp_ingest.model import (
    ColumnShape,
    Counts,
    DeliveredFile,
    Delivery,
    FileShape,
    Hold,
    HoldReason,
    HoldRecord,
    LeftAlone,
    Outcome,
    Preview,
    SyncRun,
)
from sftp_ingest.store import register, tables
from sftp_ingest.store.database import insisting, reading, writing

_APPLIED: tuple[Outcome, ...] = ("successful", "unchanged", "on_hold")
"""Outcomes after which the roster is what the delivery says, but for what waits."""

# ---------------------------------------------------------------- deliveries


@insisting
def record(engine: Engine, delivery: Delivery, now: datetime) -> int:
    """The id of the run made for the delivery; recorded twice, it keeps the run it has. Raises ConfigError where there is no such district."""
    with writing(engine) as connection:
        register.lock(connection, delivery.district)
        known = connection.scalar(select(func.min(tables.sync_runs.c.id)).where(tables.sync_runs.c.delivery_id == delivery.id))
        if known is not None:
            return int(known)
        row = {
            "id": delivery.id,
            "district_id": delivery.district,
            "received_at": delivery.received_at,
            "folder": str(delivery.folder),
            "origin": delivery.origin,
            "signature": delivery.signature,
            "files": [asdict(each) for each in delivery.files],
        }
        connection.execute(insert(tables.deliveries), row)
        return _new_run(connection, delivery.district, delivery.id, now)


def delivery(engine: Engine, delivery_id: str) -> Delivery | None:
    """The delivery of this id, or None."""
    with reading(engine) as connection:
        row = connection.execute(select(tables.deliveries).where(tables.deliveries.c.id == delivery_id)).mappings().one_or_none()
    return _delivery(row) if row else None


def deliveries(engine: Engine, district_id: str) -> list[Delivery]:
    """All deliveries of a district, newest first."""
    with reading(engine) as connection:
        return [_delivery(row) for row in connection.execute(_deliveries_of(district_id)).mappings()]


def last_delivery(engine: Engine, district_id: str, origin: Literal["sftp", "folder", "preview"] | None = None) -> Delivery | None:
    """The delivery of this origin that was received last, else of any but previews; None where there is none."""
    column = tables.deliveries.c.origin
    with reading(engine) as connection:
        query = _deliveries_of(district_id).where(column == origin if origin else column != "preview")
        row = connection.execute(query.limit(1)).mappings().one_or_none()
    return _delivery(row) if row else None


@dataclass(frozen=True)
class Applied:
    """A delivery that was applied, the run that did it, and the shapes of its files by name."""

    delivery: Delivery
    run: SyncRun
    shapes: Mapping[str, FileShape]


def last_applied(engine: Engine, district_id: str) -> Applied | None:
    """What the roster came from last; None before the first delivery. Reverts deliver nothing."""
    applied = and_(tables.sync_runs.c.outcome.in_(_APPLIED), tables.sync_runs.c.reverts.is_(None))
    runs, deliveries = tables.sync_runs, tables.deliveries
    last = select(runs).where(runs.c.district_id == district_id, applied).order_by(runs.c.id.desc()).limit(1)
    with reading(engine) as connection:
        run = connection.execute(last).mappings().one_or_none()
        if run is None:
            return None
        row = connection.execute(select(deliveries).where(deliveries.c.id == run["delivery_id"])).mappings().one()
    return Applied(_delivery(row), _run(run), {name: _shape(shape) for name, shape in (row["headers"] or {}).items()})


def save_headers(connection: Connection, delivery_id: str, shapes: Mapping[str, FileShape]) -> None:
    """Keeps the shapes of an applied delivery's files, for the next night to be compared with."""
    headers = {name: asdict(shape) for name, shape in shapes.items()}
    connection.execute(update(tables.deliveries).where(tables.deliveries.c.id == delivery_id).values(headers=headers))


def _shape(kept: Mapping[str, Any]) -> FileShape:
    shapes = {column: ColumnShape(**each) for column, each in kept.get("shapes", {}).items()}
    return FileShape(tuple(kept["columns"]), kept["terminated"], kept.get("rows", 0), shapes, kept.get("measures", {}), kept.get("changed", 0))


def _deliveries_of(district_id: str) -> Select[Any]:
    table = tables.deliveries
    return select(table).where(table.c.district_id == district_id).order_by(table.c.received_at.desc(), table.c.id.desc())


def _delivery(row: RowMapping) -> Delivery:
    return Delivery(
        id=row["id"],
        district=row["district_id"],
        received_at=row["received_at"],
        folder=Path(row["folder"]),
        files=tuple(DeliveredFile(**each) for each in row["files"]),
        origin=row["origin"],
        signature=row["signature"],
    )


# ---------------------------------------------------------------- runs


@insisting
def claim(engine: Engine, claimed_by: str, now: datetime, district: str | None = None, run: int | None = None) -> SyncRun | None:
    """The oldest pending run whose time has come, now running and the caller's alone; None where there is none (of the district or id asked for).

    However many ask at once, each run goes to one of them, and no district has two runs running.
    """
    runs = tables.sync_runs
    due = select(runs.c.id, runs.c.district_id).where(_free(), or_(runs.c.not_before.is_(None), runs.c.not_before <= now)).order_by(runs.c.id)
    if district is not None:
        due = due.where(runs.c.district_id == district)
    if run is not None:
        due = due.where(runs.c.id == run)
    with reading(engine) as connection:
        candidates = connection.execute(due).all()
    claimed = {"state": "running", "started_at": now, "claimed_by": claimed_by, "attempts": runs.c.attempts + 1}
    for candidate in candidates:
        with writing(engine) as connection:
            if not register.locked(connection, candidate.district_id):  # erased since
                continue
            row = connection.execute(update(runs).where(runs.c.id == candidate.id, _free()).values(claimed).returning(runs)).mappings().one_or_none()
        if row is not None:  # else someone else was first
            return _run(row)
    return None


def _free() -> ColumnElement[bool]:
    """Whether a run waits, and none of its district is running."""
    runs, other = tables.sync_runs, tables.sync_runs.alias("other")
    return and_(runs.c.state == "pending", ~exists().where(other.c.district_id == runs.c.district_id, other.c.state == "running"))


@insisting
def requeue(engine: Engine, run_id: int, not_before: datetime | None) -> None:
    """Gives a running run back, to be claimed again from `not_before` on. Raises StoreError where it is not running."""
    with writing(engine) as connection:
        _change_running(connection, run_id, state="pending", not_before=not_before, started_at=None, claimed_by=None)


def close(
    connection: Connection,
    run_id: int,
    outcome: Outcome,
    now: datetime,
    counts: Mapping[str, Counts],
    seconds: Mapping[str, float],
    findings: Iterable[Finding],
    error: str = "",
    preview: Preview | None = None,
    left_alone: Mapping[str, LeftAlone] = {},
) -> None:
    """Ends a running run, with its findings, in the caller's transaction; where the delivery was applied, holds of older ones are superseded.

    `left_alone` is what a revert did not touch.
    Raises StoreError where the run is not running (any more): the caller's transaction must not be kept then.
    """
    told = {name: asdict(each) for name, each in counts.items()}
    _change_running(
        connection,
        run_id,
        state="closed",
        outcome=outcome,
        finished_at=now,
        counts=told,
        seconds=dict(seconds),
        error=error,
        preview=asdict(preview) if preview else None,
        left_alone={name: asdict(each) for name, each in left_alone.items()} or None,
    )
    rows = [_finding_row(run_id, position, each) for position, each in enumerate(findings)]
    if rows:
        connection.execute(insert(tables.findings), rows)
    if outcome not in _APPLIED:  # a delivery that was not believed takes no older one's place
        return
    runs, holds, deliveries = tables.sync_runs, tables.holds, tables.deliveries
    columns = (deliveries.c.received_at, deliveries.c.district_id, runs.c.reverts)
    received_at, district_id, reverts = connection.execute(select(*columns).join(runs, runs.c.delivery_id == deliveries.c.id).where(runs.c.id == run_id)).one()
    if reverts is not None:
        return
    older = select(deliveries.c.id).where(deliveries.c.district_id == district_id, deliveries.c.received_at < received_at)
    superseded = update(holds).where(holds.c.district_id == district_id, holds.c.state == "open", holds.c.delivery_id.in_(older))
    connection.execute(superseded.values(state="superseded", decided_at=now))


def run(engine: Engine, run_id: int) -> SyncRun | None:
    """The run of this id, or None."""
    with reading(engine) as connection:
        row = connection.execute(select(tables.sync_runs).where(tables.sync_runs.c.id == run_id)).mappings().one_or_none()
    return _run(row) if row else None


def runs(engine: Engine, district: str | None = None, limit: int = 50) -> list[SyncRun]:
    """The last runs, newest first, of one district or of all."""
    query = select(tables.sync_runs).order_by(tables.sync_runs.c.id.desc()).limit(limit)
    if district is not None:
        query = query.where(tables.sync_runs.c.district_id == district)
    with reading(engine) as connection:
        return [_run(row) for row in connection.execute(query).mappings()]


@insisting
def forget_attendance(engine: Engine, before: date) -> int:
    """Deletes the attendance of earlier dates, of all districts; how many records that were."""
    table = tables.rosters["attendance"]
    with writing(engine) as connection:
        return connection.execute(delete(table).where(table.c.date < before.isoformat())).rowcount


def running(engine: Engine) -> list[SyncRun]:
    """The runs that somebody has claimed and not ended, oldest first."""
    query = select(tables.sync_runs).where(tables.sync_runs.c.state == "running").order_by(tables.sync_runs.c.id)
    with reading(engine) as connection:
        return [_run(row) for row in connection.execute(query).mappings()]


def findings(engine: Engine, run_id: int) -> tuple[Finding, ...]:
    """What was found in a run, in the order of finding."""
    query = select(tables.findings).where(tables.findings.c.run_id == run_id).order_by(tables.findings.c.position)
    with reading(engine) as connection:
        return tuple(_finding(row) for row in connection.execute(query).mappings())


def revertible(engine: Engine, run_id: int) -> SyncRun:
    """The run of this id. Raises RunError where there is none, nothing of it that could be reverted, or a whole revert of it that stands."""
    changes = tables.changes
    found = run(engine, run_id)
    if found is None:
        raise RunError(f"there is no run {run_id}")
    if found.state != "closed":
        raise RunError(f"run {run_id} has not ended yet")
    with reading(engine) as connection:
        first = connection.scalar(select(changes.c.operation).where(changes.c.run_id == run_id).order_by(changes.c.sequence).limit(1))
        already = _standing_revert(connection, found)
    if first == "baseline":
        raise RunError(f"run {run_id} brought the first roster of {found.district}, which the change log tells in one entry: it cannot be reverted")
    if first is None:
        raise RunError(f"run {run_id} has no changes in the change log; there is nothing to revert")
    if already is not None:
        raise RunError(f"run {run_id} is reverted already, by run {already}")
    return found


def _standing_revert(connection: Connection, undone: SyncRun) -> int | None:
    """The last run that reverted this one, where it changed anything and left nothing alone, and none that did was reverted itself since."""
    runs = tables.sync_runs
    query = select(runs.c.id, runs.c.reverts, runs.c.left_alone).where(
        runs.c.district_id == undone.district, runs.c.id > undone.id, runs.c.outcome == "successful", runs.c.reverts.is_not(None)
    )
    rows = connection.execute(query.order_by(runs.c.id.desc())).all()  # a revert comes after its run
    ours = {row.id for row in rows if row.reverts == undone.id}
    reverted: set[int] = set()
    for row in rows:
        if row.id in reverted:
            continue
        if row.reverts == undone.id:
            return None if row.left_alone else int(row.id)
        if row.reverts in ours:
            return None
        reverted.add(row.reverts)
    return None


@insisting
def revert(engine: Engine, run_id: int, now: datetime) -> int:
    """The id of the new run that is to undo a run. Raises RunError where that one cannot be reverted."""
    undone = revertible(engine, run_id)
    with writing(engine) as connection:
        register.lock(connection, undone.district)
        return _new_run(connection, undone.district, undone.delivery, now, reverts=run_id)


def _new_run(connection: Connection, district_id: str, delivery_id: str, now: datetime, approved_digest: str = "", reverts: int | None = None) -> int:
    row = {
        "district_id": district_id,
        "delivery_id": delivery_id,
        "state": "pending",
        "created_at": now,
        "attempts": 0,
        "approved_digest": approved_digest,
        "counts": {},
        "seconds": {},
        "error": "",
        "reverts": reverts,
    }
    return int(connection.scalars(insert(tables.sync_runs).values(row).returning(tables.sync_runs.c.id)).one())


def _change_running(connection: Connection, run_id: int, **values: object) -> None:
    runs = tables.sync_runs
    if connection.execute(update(runs).where(runs.c.id == run_id, runs.c.state == "running").values(values)).rowcount != 1:
        raise StoreError(f"run {run_id} is not running")


def _run(row: RowMapping) -> SyncRun:
    return SyncRun(
        id=row["id"],
        district=row["district_id"],
        delivery=row["delivery_id"],
        state=row["state"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        outcome=row["outcome"],
        attempts=row["attempts"],
        approved_digest=row["approved_digest"],
        counts={name: Counts(**each) for name, each in row["counts"].items()},
        seconds=row["seconds"],
        error=row["error"],
        preview=Preview(row["preview"]["outcome"], _hold_of(row["preview"]["hold"]) if row["preview"]["hold"] else None) if row["preview"] else None,
        reverts=row["reverts"],
        left_alone={name: LeftAlone(each["count"], tuple(each["ids"])) for name, each in (row["left_alone"] or {}).items()},
    )


def _finding_row(run_id: int, position: int, each: Finding) -> dict[str, object]:
    row = asdict(each)
    return {"run_id": run_id, "position": position, "column_name": row.pop("column"), **row}


def _finding(row: RowMapping) -> Finding:
    return Finding(
        code=row["code"],
        severity=row["severity"],
        file=row["file"],
        column=row["column_name"],
        count=row["count"],
        lines=tuple(row["lines"]),
        values=tuple(row["values"]),
        hint=row["hint"],
        cause=row["cause"],
        readings=tuple(Reading(**each) for each in row["readings"]),
        left_out=row["left_out"],
    )


# ---------------------------------------------------------------- holds


def open_hold(connection: Connection, run: SyncRun, hold: Hold, now: datetime) -> int:
    """The id of the hold opened for the run, in the caller's transaction."""
    row = {
        "run_id": run.id,
        "district_id": run.district,
        "delivery_id": run.delivery,
        "state": "open",
        "created_at": now,
        "digest": hold.digest,
        "reasons": [asdict(each) for each in hold.reasons],
        "scope": dict(hold.scope),
        "decided_by": "",
    }
    return int(connection.scalars(insert(tables.holds).values(row).returning(tables.holds.c.id)).one())


def holds(engine: Engine, district: str | None = None, state: str | None = None) -> list[HoldRecord]:
    """All holds, newest first, of one district or of all, in one state or in any."""
    query = select(tables.holds).order_by(tables.holds.c.id.desc())
    if district is not None:
        query = query.where(tables.holds.c.district_id == district)
    if state is not None:
        query = query.where(tables.holds.c.state == state)
    with reading(engine) as connection:
        return [_hold(row) for row in connection.execute(query).mappings()]


def hold_of(engine: Engine, run_id: int) -> HoldRecord | None:
    """The hold that the run opened, or None."""
    with reading(engine) as connection:
        row = connection.execute(select(tables.holds).where(tables.holds.c.run_id == run_id)).mappings().one_or_none()
    return _hold(row) if row else None


def why_held(engine: Engine, run_id: int, *, released: bool = False) -> tuple[HoldReason, ...]:
    """Why the run was held, as long as nobody has released it, or with `released` also after that."""
    held = hold_of(engine, run_id)
    return held.hold.reasons if held is not None and (released or held.state != "released") else ()


@insisting
def release(engine: Engine, hold_id: int, by: str, now: datetime) -> int:
    """The id of the new run that may apply what was held, and nothing else. Raises HoldError where the hold is not open."""
    with writing(engine) as connection:
        held = _decide(connection, hold_id, "released", by, now)
        return _new_run(connection, held["district_id"], held["delivery_id"], now, held["digest"])


@insisting
def discard(engine: Engine, hold_id: int, by: str, now: datetime) -> None:
    """Ends a hold without applying it. Raises HoldError where the hold is not open."""
    with writing(engine) as connection:
        _decide(connection, hold_id, "discarded", by, now)


def _decide(connection: Connection, hold_id: int, state: str, by: str, now: datetime) -> RowMapping:
    holds = tables.holds
    decided = update(holds).where(holds.c.id == hold_id, holds.c.state == "open").values(state=state, decided_by=by, decided_at=now).returning(holds)
    row = connection.execute(decided).mappings().one_or_none()
    if row is None:
        found = connection.scalar(select(holds.c.state).where(holds.c.id == hold_id))
        raise HoldError(f"hold {hold_id} is {found} already" if found else f"there is no hold {hold_id}")
    return row


def _hold_of(kept: Mapping[str, Any] | RowMapping) -> Hold:
    return Hold(tuple(HoldReason(**each) for each in kept["reasons"]), kept["scope"], kept["digest"])


def _hold(row: RowMapping) -> HoldRecord:
    return HoldRecord(
        id=row["id"],
        run=row["run_id"],
        district=row["district_id"],
        state=row["state"],
        created_at=row["created_at"],
        hold=_hold_of(row),
        decided_by=row["decided_by"],
        decided_at=row["decided_at"],
    )
