"""How long what was received is kept: closed deliveries are compressed, old ones pruned with the details of their runs, and old changes forgotten."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from sqlalchemy import Engine

from sftp_ingest import config as configuration
from sftp_ingest.config import Config
from sftp_ingest.errors import StoreError
from sftp_ingest.intake import inbox, kept
from sftp_ingest.logs import set_up_logging
from sftp_ingest.model import Delivery
from sftp_ingest.report import archive
from sftp_ingest.runner import district_lock
from sftp_ingest.store import database, register
from sftp_ingest.store import retention as stored
from sftp_ingest.store.retention import Standing

log = structlog.get_logger()


@dataclass(frozen=True)
class Swept:
    """What a sweep did to one district: files compressed and removed, zips of details removed, changes forgotten."""

    packed: int = 0
    pruned: int = 0
    details: int = 0
    changes: int = 0


def is_due(config: Config, engine: Engine, now: datetime) -> bool:
    """Whether a sweep would find anything to do in any district. Raises StoreError."""
    return any(
        stored.old_changes(engine, district.id, _horizon(config, district.id, now))
        or any(_is_due(config, standing, now) for standing in stored.standings(engine, district.id))
        for district in register.districts(engine)
    )


def sweep(config: Config, engine: Engine, district: str, now: datetime) -> Swept:
    """Compress the district's closed deliveries, prune those older than `keep_nights`, forget changes older than `keep_changes_nights`.

    A delivery with an open hold or with a run that is not closed is left alone, and the one applied last is never pruned; nothing is done to
    files while a run of the district is in progress. Broken off at any moment, the next sweep goes on. Raises OSError and StoreError.
    """
    packed = pruned = details = changes = 0
    for standing in stored.standings(engine, district):
        if not _is_due(config, standing, now):
            continue
        with district_lock(config, engine, district) as ours:  # for each delivery anew: no run of the district has to wait long
            if not ours:
                break
            if _is_old(config, standing, now):
                details += _remove_details(config, standing)
                pruned += kept.remove(config.deliveries, district, [standing.delivery.id])
            else:
                packed += kept.pack(_here(config, standing), _home(config, standing))
    if stored.old_changes(engine, district, _horizon(config, district, now)):
        changes = stored.forget_changes(engine, district, _horizon(config, district, now))
    swept = Swept(packed, pruned, details, changes)
    if swept != Swept():
        log.info("deliveries_kept", district=district, packed=packed, pruned=pruned, details=details, changes=changes)
    return swept


def sweep_all(config: Config, engine: Engine, now: datetime) -> None:
    """Sweep every district. What the disk says no to is logged, and the next district's turn comes. Raises StoreError."""
    for district in register.districts(engine):
        try:
            sweep(config, engine, district.id, now)
        except OSError as fault:
            log.error("deliveries_not_kept", district=district.id, error=fault.strerror)


def in_own_process(config_file: Path, now: datetime) -> None:
    """What the sweep's process does: compressing takes memory and time that the daemon's own process is spared."""
    config = configuration.load(config_file)
    set_up_logging(config.log_format)
    try:
        sweep_all(config, database.open_engine(config.database_url), now)
    except StoreError as fault:
        log.error("ledger_unreachable", error=str(fault))


def _horizon(config: Config, district: str, now: datetime) -> datetime:
    """What a run changed that ended before is forgotten."""
    return now - timedelta(days=config.settings(district).keep_changes_nights)


def _is_old(config: Config, standing: Standing, now: datetime) -> bool:
    nights = timedelta(days=config.settings(standing.delivery.district).keep_nights)
    return standing.closed and not standing.last_applied and standing.delivery.received_at < now - nights


def _is_due(config: Config, standing: Standing, now: datetime) -> bool:
    """Whether there is anything to do, so that deliveries of years ago cost a look and no lock."""
    here = _here(config, standing)
    if _is_old(config, standing, now):
        return here.folder.is_dir() or any(each.exists() for each in _details(config, standing))
    return standing.closed and here.folder.is_dir() and bool(kept.unpacked(here, _home(config, standing)))


def _here(config: Config, standing: Standing) -> Delivery:
    """The delivery where it lies now, wherever it lay when it was recorded."""
    return replace(standing.delivery, folder=config.deliveries / standing.delivery.district / standing.delivery.id)


def _home(config: Config, standing: Standing) -> Path:
    """The folder that the delivery was sealed from."""
    home = config.homes / standing.delivery.district
    return home / inbox.PREVIEW if standing.delivery.origin == "preview" else home


def _details(config: Config, standing: Standing) -> list[Path]:
    return [archive.place(config.reports, standing.delivery.district, run) for run in standing.runs]


def _remove_details(config: Config, standing: Standing) -> int:
    there = [each for each in _details(config, standing) if each.exists()]
    for each in there:
        each.unlink()
    return len(there)
