"""A run told as one report, and the report as one JSON object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from sftp_ingest.findings import Finding
from sftp_ingest.model import ENTITIES, Cause, Counts, Delivery, District, Hold, LeftAlone, Limits, Outcome, SyncReport, SyncRun
from sftp_ingest.report import causes, verdict, words

Tone = Literal["good", "calm", "attention", "bad"]
"""How a report may look: only *good* is ever green."""

HOLD_ADVICE = "A person on our side looks at it, then releases or discards it:"
LEFT_OUT_ADVICE = "A row that is left out is never a removal: a record that is already known keeps its last good values."

_APPLIED: tuple[Outcome, ...] = ("successful", "unchanged", "on_hold")
_TONES: Mapping[Outcome, Tone] = {
    "successful": "good",
    "unchanged": "calm",
    "superseded": "calm",
    "previewed": "calm",
    "on_hold": "attention",
    "refused": "bad",
    "failed": "bad",
}


@dataclass(frozen=True)
class FixIt:
    """Where a run's details lie as files, in a sentence; `zip` is their archive where it lies beside the report."""

    sentence: str
    zip: str = ""


def make(
    *,
    district: District,
    run: SyncRun | None,
    delivery: Delivery | None,
    outcome: Outcome,
    findings: Sequence[Finding],
    counts: Mapping[str, Counts],
    hold: Hold | None,
    hold_state: str = "",
    hold_number: int | None = None,
    seconds: Mapping[str, float] = {},
    history: Sequence[SyncRun] = (),
    reverts: int | None = None,
    left_alone: Mapping[str, LeftAlone] = {},
) -> SyncReport:
    """The report of one run, or of a mere check where `run` is None; then its sentences say what *would* happen.

    `history` comes oldest first. `seconds` defaults to the run's own, per stage.
    The run itself joins `history` with the outcome and counts given here, in its place or as the newest.
    `reverts` and `left_alone` are for a revert that was not made; of one that was, the run says them.
    """
    nights = {each.id: each for each in history}
    preview = run is not None and run.preview is not None
    if run is not None:
        reverts, left_alone = run.reverts, run.left_alone
    if reverts is not None and outcome in _APPLIED:
        sentence = verdict.of_a_revert(reverts, counts, left_alone, real=run is not None)
    else:
        sentence = verdict.of_a_night(outcome, findings, counts, hold, hold_state, real=run is not None and not preview)
    if run is not None and not preview:
        nights[run.id] = replace(run, outcome=outcome, counts=counts)
    return SyncReport(
        district=district.id,
        district_name=district.name,
        run=run.id if run else None,
        delivery=delivery.id if delivery else run.delivery if run else "",
        outcome=outcome,
        verdict=f"Preview: {sentence[0].lower()}{sentence[1:]}" if preview else sentence,
        received_at=delivery.received_at if delivery else None,
        finished_at=run.finished_at if run else None,
        files=delivery.files if delivery else (),
        counts=counts,
        causes=tuple(Cause(group.roots[0], group.rows, group.left_out) for group in causes.groups(findings)),
        findings=tuple(findings),
        hold=hold,
        hold_state=hold_state,
        seconds=seconds or (run.seconds if run else {}),
        history=tuple(nights.values()),
        error=run.error if run else "",
        preview=preview,
        hold_number=hold_number,
        reverts=reverts,
        left_alone=left_alone,
    )


def as_json(report: SyncReport) -> dict[str, Any]:
    """The report as one object of plain JSON values: times in ISO 8601 and UTC, durations in seconds, sizes in bytes."""
    return {
        "district": report.district,
        "run": report.run,
        "delivery": report.delivery,
        "outcome": report.outcome,
        "preview": report.preview,
        "verdict": report.verdict,
        "received_at": _instant(report.received_at),
        "finished_at": _instant(report.finished_at),
        "files": [asdict(each) for each in report.files],
        "counts": {entity: asdict(each) for entity, each in report.counts.items()},
        "findings": [_finding_json(each) for each in report.findings],
        "causes": [
            {**_finding_json(each.finding), "label": each.finding.label, "rows": dict(each.rows), "left_out": dict(each.left_out)} for each in report.causes
        ],
        "hold": report.hold
        and {
            "reasons": [{"sentence": each.sentence, **asdict(each)} for each in report.hold.reasons],
            "scope": dict(report.hold.scope),
            "digest": report.hold.digest,
            "state": report.hold_state,
            "number": report.hold_number,
        },
        "seconds": dict(report.seconds),
        "error": report.error,
        "reverts": report.reverts,
        "left_alone": {entity: {"count": each.count, "ids": list(each.ids)} for entity, each in report.left_alone.items()},
    }


def tone(report: SyncReport) -> Tone:
    """How the report may look. Whatever waits for a person, was withheld, or was left out in numbers, takes the green away."""
    usual = _TONES[report.outcome]
    if usual != "bad" and (is_open(report) or verdict.withheld(report.findings) or _lost(report.counts)):
        return "attention"
    return "calm" if report.preview and usual == "good" else usual


def _lost(counts: Mapping[str, Counts]) -> bool:
    """Whether so many rows of an entity were left out as would, if they were records that vanish, be held."""
    usual = Limits()
    return any(usual.trips(each.rejected, each.rows, usual.removed_share) for each in counts.values())


def is_open(report: SyncReport) -> bool:
    """Whether a part of the delivery waits for a person."""
    return report.hold is not None and report.hold_state in ("", "open")


def told(report: SyncReport) -> tuple[causes.Told, ...]:
    """The causes of the report in sentences, in its order."""
    done = report.run is not None and not report.preview and report.outcome in _APPLIED
    return tuple(causes.told(cause, group, done=done) for cause, group in zip(report.causes, causes.groups(report.findings), strict=True))


def entities(report: SyncReport) -> dict[str, Counts]:
    """The counts worth a line, parents before children: entities of which nothing is and nothing was are left out."""
    order = {name: place for place, name in enumerate(ENTITIES)}
    names = sorted(report.counts, key=lambda name: order.get(name, len(order)))
    return {name: report.counts[name] for name in names if report.counts[name] != Counts()}


def left_alone(report: SyncReport) -> tuple[str, ...]:
    """What a revert did not touch, a line an entity: "4 students: 0012, 0014 and 2 more"."""
    return tuple(
        f"{words.counted(each.count, entity)}: {words.first([words.shown(identifier, 200) for identifier in each.ids[:20]], 20, between=', ')}"
        f"{f' and {each.count - 20:,} more' if each.count > 20 else ''}"
        for entity, each in report.left_alone.items()
    )


def hold_advice(report: SyncReport) -> str:
    """What a person does about the hold, or what became of it."""
    if report.preview:
        return "Nothing waits: this was a preview. Sent for good, it would wait for a person."
    if report.run is None:
        return "Nothing waits: this was a check. Sent for good, it would wait for a person."
    return HOLD_ADVICE if is_open(report) else f"This hold is {report.hold_state}; nothing of it waits any more."


def hold_command(report: SyncReport) -> str:
    """What the person types who decides about the hold; nothing where there is nothing to decide."""
    if report.run is None or report.preview or not is_open(report):
        return ""
    return "sftp-ingest holds list" if report.hold_number is None else f"sftp-ingest holds show {report.hold_number}"


def waiting(hold: Hold) -> str:
    """What waits, as "120 students, 340 enrollments"."""
    return ", ".join(words.counted(count, entity) for entity, count in hold.scope.items() if count)


def _instant(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if moment else None


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "severity": finding.severity,
        "title": finding.title,
        "file": finding.file,
        "column": finding.column,
        "count": finding.count,
        "lines": list(finding.lines),
        "values": list(finding.values),
        "hint": finding.hint,
        "cause": finding.cause,
        "readings": [asdict(each) for each in finding.readings],
        "left_out": dict(finding.left_out),
        "advice": finding.advice,
    }
