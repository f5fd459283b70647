"""The ledger: districts, what they delivered, the runs over it, what was found and what waits for a person."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, Select, exists, func, insert, or_, select, update

from sftp_ingest.errors import ConfigError, HoldError, StoreError
from sftp_ingest.findings import Finding
from sftp_ingest.model import Counts, DeliveredFile, Delivery, District, FileShape, Hold, HoldReason, HoldRecord, Outcome, SyncRun
from sftp_ingest.store import tables
from sftp_ingest.store.database import reading, writing

DISTRICT_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""What a district may be called: its id is a log-in name and the name of a folder."""

# ---------------------------------------------------------------- districts


def add_district(engine: Engine, district_id: str, name: str, now: datetime) -> District:
    """The new district, without password and keys. Raises ConfigError where the id cannot be one, or is taken."""
    if not DISTRICT_ID.fullmatch(district_id):
        raise ConfigError("a district's id is 1 to 63 small letters, digits, - and _, and begins with a letter or a digit")
    with writing(engine) as connection:
        if connection.scalar(select(tables.districts.c.id).where(tables.districts.c.id == district_id)):
            raise ConfigError(f"there is a district {district_id} already")
        row = {"id": district_id, "name": name, "created_at": now, "password_hash": "", "authorized_keys": "", "paused": False}
        connection.execute(insert(tables.districts), row)
    return District(district_id, name, now)


def district(engine: Engine, district_id: str) -> District | None:
    """The district of this id, or None."""
    with reading(engine) as connection:
        row = connection.execute(select(tables.districts).where(tables.districts.c.id == district_id)).mappings().one_or_none()
    return _district(row) if row else None


def districts(engine: Engine) -> list[District]:
    """All districts, by id."""
    with reading(engine) as connection:
        return [_district(row) for row in connection.execute(select(tables.districts).order_by(tables.districts.c.id)).mappings()]


def set_paused(engine: Engine, district_id: str, paused: bool) -> None:
    """Pauses or resumes a district. Raises ConfigError where there is none of this id."""
    with writing(engine) as connection:
        _lock(connection, district_id)
        connection.execute(update(tables.districts).where(tables.districts.c.id == district_id).values(paused=paused))


def set_password_hash(engine: Engine, district_id: str, password_hash: str) -> None:
    """Keeps the argon2id hash of a password; an empty one forbids passwords. Raises ConfigError where there is no such district."""
    with writing(engine) as connection:
        _lock(connection, district_id)
        connection.execute(update(tables.districts).where(tables.districts.c.id == district_id).values(password_hash=password_hash))


def add_key(engine: Engine, district_id: str, key: str) -> None:
    """Lets the holder of an OpenSSH public key line in; a key that is there already stays once. Raises ConfigError where there is no such district."""
    line = key.strip()
    if not line or len(line.splitlines()) > 1:
        raise ConfigError("a public key is one line, as in the file id_ed25519.pub")
    with writing(engine) as connection:
        _lock(connection, district_id)
        here = tables.districts.c.id == district_id
        held = connection.scalars(select(tables.districts.c.authorized_keys).where(here)).one().splitlines()
        connection.execute(update(tables.districts).where(here).values(authorized_keys="\n".join(dict.fromkeys((*held, line)))))


def _lock(connection: Connection, district_id: str) -> None:
    """Waits until nobody else changes the district or its runs. SQLite's writers are one at a time anyway, and its SQL leaves the lock out."""
    row = select(tables.districts.c.id).where(tables.districts.c.id == district_id)
    if connection.scalar(row.with_for_update(key_share=True)) is None:  # key_share: rows that merely refer to the district may still be written
        raise ConfigError(f"there is no district {district_id}")


def _district(row: RowMapping) -> District:
    return District(row["id"], row["name"], row["created_at"], row["password_hash"], tuple(row["authorized_keys"].splitlines()), row["paused"])


# ---------------------------------------------------------------- deliveries


def record(engine: Engine, delivery: Delivery, now: datetime) -> int:
    """The id of the run made for the delivery; recorded twice, it keeps the run it has. Raises ConfigError where there is no such district."""
    with writing(engine) as connection:
        _lock(connection, delivery.district)
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


def last_delivery(engine: Engine, district_id: str) -> Delivery | None:
    """The delivery received last, or None."""
    with reading(engine) as connection:
        row = connection.execute(_deliveries_of(district_id).limit(1)).mappings().one_or_none()
    return _delivery(row) if row else None


def last_applied(engine: Engine, district_id: str) -> tuple[Delivery, Mapping[str, FileShape]] | None:
    """The delivery that the roster came from last, and the shapes of its files by name; None before the first."""
    applied = tables.sync_runs.c.outcome.in_(("successful", "unchanged", "on_hold"))
    query = (
        select(tables.deliveries)
        .join(tables.sync_runs, tables.sync_runs.c.delivery_id == tables.deliveries.c.id)
        .where(tables.sync_runs.c.district_id == district_id, applied)
        .order_by(tables.sync_runs.c.id.desc())
        .limit(1)
    )
    with reading(engine) as connection:
        row = connection.execute(query).mappings().one_or_none()
    if row is None:
        return None
    return _delivery(row), {name: FileShape(tuple(shape["columns"]), shape["terminated"]) for name, shape in (row["headers"] or {}).items()}


def save_headers(connection: Connection, delivery_id: str, shapes: Mapping[str, FileShape]) -> None:
    """Keeps the shapes of an applied delivery's files, for the next night to be compared with."""
    headers = {name: asdict(shape) for name, shape in shapes.items()}
    connection.execute(update(tables.deliveries).where(tables.deliveries.c.id == delivery_id).values(headers=headers))


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


def claim(engine: Engine, claimed_by: str, now: datetime, district_id: str | None = None, run_id: int | None = None) -> SyncRun | None:
    """The oldest pending run whose time has come, now running and ours alone; None where there is none, or none of the district or id asked for.

    However many ask at once, each run goes to one of them, and never two runs of one district are running.
    """
    with writing(engine) as connection:
        runs = tables.sync_runs
        other = runs.alias("other")
        free = (runs.c.state == "pending") & ~exists().where(other.c.district_id == runs.c.district_id, other.c.state == "running")
        due = select(runs.c.id, runs.c.district_id).where(free, or_(runs.c.not_before.is_(None), runs.c.not_before <= now)).order_by(runs.c.id)
        if district_id is not None:
            due = due.where(runs.c.district_id == district_id)
        if run_id is not None:
            due = due.where(runs.c.id == run_id)
        for candidate in connection.execute(due).all():
            _lock(connection, candidate.district_id)
            claimed = {"state": "running", "started_at": now, "claimed_by": claimed_by, "attempts": runs.c.attempts + 1}
            row = connection.execute(update(runs).where(runs.c.id == candidate.id, free).values(claimed).returning(runs)).mappings().one_or_none()
            if row is not None:  # else someone else was first
                return _run(row)
    return None
