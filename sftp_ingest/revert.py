"""One run is undone by another: what it changed is put back, in one transaction with the revert's own end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd
import structlog
from sqlalchemy import Connection, Engine

from sftp_ingest.config import Settings
from sftp_ingest.errors import RunError
from sftp_ingest.model import ENTITIES, Counts, Details, LeftAlone, Outcome, Roster, SyncRun
from sftp_ingest.planning import Progress, Stages
from sftp_ingest.roster import files, formats, undo
from sftp_ingest.store import changes, database, ledger, rosters, upserter

log = structlog.get_logger()

MOST_IDS = 100
"""So many ids of records that are left alone are told of an entity; all of them are in the run's details."""


@dataclass(frozen=True)
class Plan:
    """What a revert would do."""

    undo: undo.Undo
    left_alone: Mapping[str, LeftAlone]

    @property
    def outcome(self) -> Outcome:
        """Whether anything is put back."""
        return "unchanged" if self.undo.change_set.empty else "successful"

    @property
    def counts(self) -> Mapping[str, Counts]:
        """What is put back, by entity."""
        return self.undo.counts


def plan(connection: Connection, reverted: SyncRun, unkept: Mapping[str, frozenset[str]]) -> Plan:
    """Compare what the run changed with the roster held now; changes nothing."""
    entries = list(changes.of_run(connection, reverted.id))
    now = rosters.current(connection, reverted.district)
    if any(each.entity == "attendance" for each in entries):
        now = Roster({**now.entities, "attendance": rosters.whole(connection, reverted.district, "attendance")})
    made = undo.undo(entries, now, changes.later(connection, reverted.district, reverted.id), unkept)
    return Plan(made, {name: _left_alone(frame) for name, frame in made.left_alone.items()})


def unkept(engine: Engine, reverted: SyncRun, settings: Settings) -> dict[str, frozenset[str]]:
    """The columns that the district does not store today, by entity: what a revert must not bring back (law 10).

    What is stored today is told by the files that were applied last, which are always kept. Raises DeliveryError where their archive is not
    what it was, ContractError where the district's own contract folder is wrong.
    """
    applied = ledger.last_applied(engine, reverted.district)
    if applied is None:
        raise RunError(f"nothing was ever applied for {reverted.district}")
    _, rules = formats.read_as(files.listed(applied.delivery)[0], settings)
    found: dict[str, set[str]] = {name: set() for name in ENTITIES}
    for table in rules.tables.values():
        dropped = {field.to for field in table.fields if field.drop and field.to}
        whose = table.records or table.extends
        for name in [whose] if whose in ENTITIES else ENTITIES:  # of demographics and the like, whoever they are of
            found[name] |= dropped
    return {name: frozenset(columns) for name, columns in found.items()}


def revert(
    engine: Engine, run: SyncRun, settings: Settings, *, progress: Progress | None = None, keep: Callable[[Details], None] = lambda details: None
) -> Outcome:
    """Undo what the run that `run` reverts has changed, but for records that have changed since; all of it or nothing.

    `keep` is given the details before anything is written. Raises RunError where that run cannot be reverted, ContractError where the
    district's own rules are wrong, StoreError where the database says no; then nothing was changed.
    """
    if run.reverts is None:
        raise RunError(f"run {run.id} reverts no other")
    reverted = ledger.revertible(engine, run.reverts)
    not_kept = unkept(engine, reverted, settings)
    stages = Stages(progress or (lambda stage: None))
    with stages.stage("compare"), database.reading(engine) as connection:
        planned = plan(connection, reverted, not_kept)
    with stages.stage("details"):
        keep(Details({}, {}, {}, planned.undo.change_set, None, (), planned.undo.left_alone))
    _apply(engine, run, planned, stages)
    left = sum(each.count for each in planned.left_alone.values())
    log.info("run_closed", run=run.id, district=run.district, outcome=planned.outcome, reverts=reverted.id, left_alone=left)
    return planned.outcome


@database.insisting
def _apply(engine: Engine, run: SyncRun, planned: Plan, stages: Stages) -> None:
    """Do what is planned and close the run."""
    moment = datetime.now(UTC)
    with database.writing(engine) as connection:
        with stages.stage("apply"):
            upserter.apply(connection, run.district, run.id, planned.undo.first, moment)
            upserter.apply(connection, run.district, run.id, planned.undo.change_set, moment)
            upserter.record_changes(connection, run.district, run.id, planned.undo.change_set, baseline=False)
        ledger.close(connection, run.id, planned.outcome, moment, planned.counts, stages.seconds, (), left_alone=planned.left_alone)


def _left_alone(keys: pd.DataFrame) -> LeftAlone:
    return LeftAlone(len(keys), tuple("/".join(key) for key in keys.head(MOST_IDS).itertuples(index=False, name=None)))
