"""What the ledger says of keeping: which deliveries are closed, which one the roster came from, and which changes are too old to be kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Engine, delete, select

from sftp_ingest.model import Delivery
from sftp_ingest.store import ledger, tables
from sftp_ingest.store.database import erasing, insisting, reading


@dataclass(frozen=True)
class Standing:
    """How a delivery stands: its runs by number, whether all of them are closed and no hold of it is open, and whether it was the last applied."""

    delivery: Delivery
    runs: tuple[int, ...]
    closed: bool
    last_applied: bool


def standings(engine: Engine, district_id: str) -> list[Standing]:
    """How all deliveries of the district stand, oldest first."""
    runs, holds = tables.sync_runs, tables.holds
    found = ledger.deliveries(engine, district_id)[::-1]
    applied = ledger.last_applied(engine, district_id)
    with reading(engine) as connection:
        held = set(connection.scalars(select(holds.c.delivery_id).where(holds.c.district_id == district_id, holds.c.state == "open")))
        rows = connection.execute(select(runs.c.id, runs.c.delivery_id, runs.c.state).where(runs.c.district_id == district_id).order_by(runs.c.id)).all()
    numbers: dict[str, list[int]] = {}
    for row in rows:
        numbers.setdefault(row.delivery_id, []).append(row.id)
    open_ones = held | {row.delivery_id for row in rows if row.state != "closed"}
    last = applied.delivery.id if applied else None
    return [Standing(each, tuple(numbers[each.id]), each.id not in open_ones, each.id == last) for each in found if each.id in numbers]


def old_changes(engine: Engine, district_id: str, before: datetime) -> bool:
    """Whether there are entries of runs of the district that ended earlier."""
    with reading(engine) as connection:
        return connection.scalar(select(tables.changes.c.run_id).where(_of_runs_before(district_id, before)).limit(1)) is not None


@insisting
def forget_changes(engine: Engine, district_id: str, before: datetime) -> int:
    """Deletes the entries of the district's runs that ended earlier; how many that were. The runs themselves, and what they found, stay."""
    with erasing(engine) as connection:
        return connection.execute(delete(tables.changes).where(_of_runs_before(district_id, before))).rowcount


def _of_runs_before(district_id: str, before: datetime) -> ColumnElement[bool]:
    runs = tables.sync_runs
    return tables.changes.c.run_id.in_(select(runs.c.id).where(runs.c.district_id == district_id, runs.c.finished_at < before))
