"""A whole house without its daemon: a configuration in a folder, a database, and nights that are synced in this process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine, func, select

from sftp_ingest import copies, runner
from sftp_ingest.config import Config, Settings
from sftp_ingest.intake import inbox
from sftp_ingest.model import Delivery, Outcome, Roster
from sftp_ingest.store import database, ledger, register, states, tables
from sftp_ingest.store.rosters import current
from tests.unit.districts import TOLERANT, Rows, written

NOW = datetime(2026, 9, 1, 3, 0, tzinfo=UTC)
NIGHT = timedelta(days=1)

Records = dict[str, list[tuple[str | bool, ...]]]
"""Entity → its records with all their values, and whether each is active, in an order of their own."""


@dataclass
class House:
    """The configuration and its database, with a district or more."""

    config: Config
    engine: Engine

    @classmethod
    def make(cls, folder: Path, engine: Engine, *districts: str, settings: Settings = TOLERANT) -> House:
        """A house in the folder; every district has its settings from `settings`."""
        made = cls(Config(folder / "sftp-ingest.toml", folder / "data", "", defaults=settings), engine)
        for district in districts:
            register.add_district(engine, district, district.title(), NOW)
            (made.config.homes / district).mkdir(parents=True)
        return made

    def having(self, **settings: object) -> House:
        """The same house with other settings."""
        return House(replace(self.config, defaults=replace(self.config.defaults, **settings)), self.engine)  # type: ignore[arg-type]

    def sealed(self, files: Mapping[str, Rows], now: datetime = NOW, district: str = "acme", **raw: bytes | None) -> Delivery:
        """A delivery of these files, not recorded yet."""
        source = self.config.data.parent / "sent" / f"{district}-{now:%Y%m%dT%H%M%S}"
        written(source, files, **raw)
        return inbox.copy_in(source, self.config.deliveries, district, now)

    def night(self, files: Mapping[str, Rows], now: datetime = NOW, district: str = "acme", **raw: bytes | None) -> tuple[Delivery, int, Outcome | None]:
        """The delivery of these files, its run and what became of it."""
        delivery = self.sealed(files, now, district, **raw)
        run = ledger.record(self.engine, delivery, now)
        return delivery, run, self.run(run)

    def run(self, run_id: int) -> Outcome | None:
        """See a pending run to its end."""
        claimed = ledger.claim(self.engine, "me", datetime.now(UTC), run=run_id)
        assert claimed is not None
        outcome = runner.execute(self.config, self.engine, claimed)
        copy = self.copy(claimed.district)
        assert copy is None or copy == self.roster(claimed.district)
        return outcome

    def copy(self, district: str = "acme") -> Records | None:
        """What the copy of the roster says, where the database still knows it."""
        with database.reading(self.engine) as connection:
            state = states.of(connection, district)
        kept = copies.read(self.config.copy_of(district), state.token)
        return None if kept is None or state.touched else _records(kept.roster)

    def roster(self, district: str = "acme") -> Records:
        """What the tables say."""
        with database.reading(self.engine) as connection:
            return _records(current(connection, district))

    def rows(self, district: str = "acme") -> dict[str, int]:
        """How many rows the district has in each table that has any."""
        found = {}
        with database.reading(self.engine) as connection:
            for name, table in tables.metadata.tables.items():
                column = table.c.id if name == "districts" else table.c.get("district_id")
                query = select(func.count()).select_from(table)
                if column is None:
                    query = query.join(tables.sync_runs, tables.sync_runs.c.id == table.c.run_id)
                    column = tables.sync_runs.c.district_id
                if count := connection.scalar(query.where(column == district)):
                    found[name] = count
        return found


def _records(roster: Roster) -> Records:
    return {name: sorted(frame.itertuples(index=False, name=None)) for name, frame in roster.entities.items()}


def names(folder: Path) -> set[str]:
    """The names of all visible files in a folder and in those below it."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")}
