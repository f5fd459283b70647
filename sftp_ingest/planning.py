"""What a delivery would do to a district: it is read, judged, compared and reviewed, and nothing is touched but memory and the sealed files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pandas as pd

from sftp_ingest.config import Settings
from sftp_ingest.findings import Finding
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
    Rejections,
    Roster,
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
    references,
    validator,
)
from sftp_ingest.roster.excerpt import Known

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


@dataclass(frozen=True)
class _Night:
    """A delivery, and what it is judged by."""

    delivery: Delivery
    rules: contract.Contract
    settings: Settings
    now: Roster
    before: Mapping[str, FileShape]
    approved: str
    undecided: Sequence[HoldReason]
    stages: Stages


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
    """Read, judge, compare and review a delivery against the roster held now.

    Where the roster is `known` to be what another delivery says, only lines that are new may have to be read. `attendance` is asked for the
    attendance held now of the ids that the delivery tells of, whatever its dates. `undecided` is why the night before was held, if nobody released it.
    Raises ContractError where the district's own contract folder is wrong.
    """
    delivery, packed = files.listed(delivery)
    format, rules = formats.read_as(delivery, settings)
    night = _Night(delivery, rules, settings, now, before or {}, approved, undecided, stages or Stages())
    if known is not None and format is clever and not packed:
        short = _of_new_lines(night, known)
        if short is not None:
            return short
    with night.stages.stage("load"):
        loaded = loader.load(delivery, rules, strict=settings.strict, before=before, packed=packed)
        frames = format.prepare(loaded, rules, now, strict=settings.strict)
        drifted = drift.found(night.before, frames.shapes, loaded, rules)
        del loaded
        tonight = frames.shapes
    with night.stages.stage("validate"):
        ids = references.ids_of(now)
        verdict = validator.validate(frames, rules, today=delivery.received_at.date(), strict=settings.strict, known=ids, before=before)
        del frames
    if verdict.refused:
        counts = _counts(verdict, rules, now, None, None)
        return Plan("refused", verdict.findings + drifted, counts, None, None, tonight, rules, _rows(verdict, rules), verdict.rejections)
    with night.stages.stage("assemble"):
        assembled = format.assemble(verdict, rules, now)
        partial = _tells_changes(verdict)
        whole = not partial and not _tells_additions(assembled.roster)
        verdict = replace(verdict, tables={}, seen={}, aside={})  # of millions of rows, none should be there once more than it must
        assembled = derive.derive(assembled, now, settings.derive)
    with night.stages.stage("compare"):
        now = _with_attendance(now, assembled.roster, attendance)
        change_set = diff.compare(now, assembled.roster, assembled.seen, assembled.covered)

    def anew(waiting: ChangeSet) -> ChangeSet:
        return beside.changes(assembled, now, waiting, settings.derive)

    made = _reviewed(replace(night, now=now), verdict, change_set, tonight, anew)
    return replace(made, findings=made.findings + drifted, lasting=made.lasting and whole, partial=partial)


def _of_new_lines(night: _Night, known: Known) -> Plan | None:
    """The plan as a whole reading would come to it, or None where only that can tell: what flows beside a hold is derived from all rows."""
    with night.stages.stage("excerpt"):
        told = excerpt.read(known, night.delivery, night.rules, today=night.delivery.received_at.date())
    if told is None:
        return None
    with night.stages.stage("compare"):
        wanted = following.wanted(told, night.rules, night.now, night.settings.derive)
        if wanted is None:
            return None
        verdict, shapes = replace(told.verdict, tables={}), told.shapes
        del told  # its rows are in what is wanted now
        change_set = following.compare(wanted, night.now, night.settings.derive)
        del wanted
    made = _reviewed(replace(night, before=known.shapes), verdict, change_set, shapes)
    return None if made.hold else replace(made, whole=False)


def _reviewed(night: _Night, verdict: Verdict, change_set: ChangeSet, tonight: Mapping[str, FileShape], anew: holds.Anew | None = None) -> Plan:
    """The plan that a change set makes, as far as it may flow."""
    rules = night.rules
    with night.stages.stage("review"):
        doubted = holds.doubted(verdict.findings, rules)
        review = holds.review(change_set, night.now, night.settings.limits, doubted=doubted, approved=night.approved, anew=anew, undecided=night.undecided)
    return Plan(
        outcome="on_hold" if review.hold else "unchanged" if change_set.empty else "successful",
        findings=verdict.findings + change_set.findings,
        counts=_counts(verdict, rules, night.now, change_set, review),
        hold=review.hold,
        flowing=review.flowing,
        shapes=drift.remembered(night.before, tonight, rules, waits=review.hold is not None, released=bool(night.approved)),
        rules=rules,
        rows=_rows(verdict, rules),
        rejections=verdict.rejections,
        waiting=review.waiting,
        lasting=review.hold is None,
    )


def _tells_changes(verdict: Verdict) -> bool:
    """Whether anything was told in changes, as OneRoster's deltas are."""
    return any(len(verdict.aside[name]) for name in (delta.DELTA, delta.ENDED) if name in verdict.aside)


def _tells_additions(wanted: Roster) -> bool:
    """Whether anything was told in additions, as attendance is."""
    return any(len(frame) for name, frame in wanted.entities.items() if ENTITIES[name].incremental)


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


def _rows(verdict: Verdict, rules: contract.Contract) -> dict[str, int]:
    return {rules.tables[name].file: count for name, count in verdict.rows.items() if not rules.tables[name].of}


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


def empty_roster() -> Roster:
    """What a district has before its first delivery."""
    return Roster(
        {name: pd.DataFrame({column: pd.array([], dtype=arrow.TEXT) for column in entity.columns}).assign(active=False) for name, entity in ENTITIES.items()}
    )
