"""A sync report as one self-contained HTML page: no script, nothing loaded from anywhere, readable in light, in dark and on paper."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median_low

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from sftp_ingest.model import Counts, Outcome, SyncReport, SyncRun
from sftp_ingest.report import receipt, summary, words
from sftp_ingest.report.summary import FixIt

MOST_CAUSES = 100
MOST_NIGHTS = 30
COLUMNS = ("rows", "rejected", "waiting", "created", "updated", "moved", "deactivated", "reactivated", "existing", "unchanged")
"""What needs a person comes first, where a phone shows it without scrolling."""

SPARE = ("existing", "unchanged")
"""Columns that a phone does not show."""

PICTURED = ("students", "enrollments")
"""Two pictures, people and their classes: one scale for both would drown the people."""

STACK = ("created", "updated", "moved", "reactivated", "deactivated", "waiting")
OUTCOMES: Mapping[Outcome, str] = {
    "successful": "applied",
    "unchanged": "unchanged",
    "on_hold": "on hold",
    "refused": "refused",
    "superseded": "superseded",
    "previewed": "previewed",
    "failed": "failed",
}

# The picture's own units; at full width one of them is one pixel.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BASE = 520, 178, 46, 512, 20, 132


@dataclass(frozen=True)
class Segment:
    """One operation's part of a night's bar."""

    operation: str
    y: float
    height: float


@dataclass(frozen=True)
class Night:
    """One run in the picture; `cut` is the true total of a bar that is too tall to be drawn, `day` is blank where it has no room, or stands already."""

    run: int
    date: str
    day: str
    x: float
    width: float
    outcome: Outcome
    counts: Counts
    segments: tuple[Segment, ...]
    cut: int
    current: bool

    @property
    def title(self) -> str:
        """The night in words: "2026-11-23, run 42, applied: 12 created, 3 moved"."""
        told = ", ".join(f"{getattr(self.counts, each):,} {each}" for each in STACK if self.segments and getattr(self.counts, each))
        return f"{self.date}, run {self.run}, {OUTCOMES[self.outcome]}: {told or 'no change'}"


@dataclass(frozen=True)
class Picture:
    """The last nights of one entity as stacked bars; `ticks` are heights with their numbers."""

    entity: str
    description: str
    nights: tuple[Night, ...]
    ticks: tuple[tuple[float, int], ...]


def template() -> Template:
    """The page's template, compiled when it is asked for the first time."""
    return _ENVIRONMENT.get_template("report.html.j2")


def html(report: SyncReport, fix_it: FixIt | None = None) -> str:
    """The page as text, to be written or served as UTF-8. `fix_it` says where the details lie as files."""
    causes = summary.told(report)
    head, _, rest = report.verdict.partition(": ")
    longest = max(report.seconds.values(), default=0) or 1
    return template().render(
        report=report,
        head=head,
        rest=rest[:1].upper() + rest[1:] if rest.split(" ", 1)[0].isalpha() else rest,  # a file's name stays as it is
        step=receipt.next_step(report),
        fix_it=fix_it,
        tone=summary.tone(report),
        heading=_heading(report),
        entities=summary.entities(report),
        columns=[each for each in COLUMNS if any(getattr(counts, each) for counts in report.counts.values())],
        causes=causes[:MOST_CAUSES],
        further=max(len(causes) - MOST_CAUSES, 0),
        hold_open=summary.is_open(report),
        hold_advice=summary.hold_advice(report),
        hold_command=summary.hold_command(report),
        waiting=summary.waiting(report.hold) if report.hold else "",
        left_alone=summary.left_alone(report),
        left_out_advice=summary.LEFT_OUT_ADVICE if any(each.severity == "reject" for each in causes) else "",
        pictures=pictures(report),
        stack=STACK,
        outcomes=OUTCOMES,
        stages=[(stage, took, took / longest) for stage, took in report.seconds.items()],
    )


def pictures(report: SyncReport) -> tuple[Picture, ...]:
    """The last nights, oldest first; none before there are two of them, and none of an entity that never appears."""
    runs = [each for each in report.history if each.outcome is not None][-MOST_NIGHTS:]
    if len(runs) < 2:
        return ()
    return tuple(_picture(entity, runs, report.run) for entity in PICTURED if any(_total(each, entity) for each in runs))


def _heading(report: SyncReport) -> str:
    if report.run is None or report.preview:
        return "What would change"
    return {"successful": "What changed", "on_hold": "What changed, and what waits", "unchanged": "What the district has"}.get(report.outcome, "What was read")


def _picture(entity: str, runs: Sequence[SyncRun], current: int | None) -> Picture:
    totals = [_total(each, entity) for each in runs]
    top = _ceiling(totals)
    slot = (RIGHT - LEFT) / max(len(runs), 12)
    days = _labels([f"{_moment(each):%m-%d}" for each in runs], every=math.ceil(36 / slot))  # a day such as 11-23 needs 36 units
    nights = tuple(
        _night(run, entity, total, top, x=LEFT + place * slot, width=slot, day=days[place], current=run.id == current)
        for place, (run, total) in enumerate(zip(runs, totals, strict=True))
    )
    marked = [
        f"{count} {OUTCOMES[each]}" for each in OUTCOMES if each not in ("successful", "unchanged") and (count := sum(run.outcome == each for run in runs))
    ]
    description = f"{len(runs)} runs from {nights[0].date} to {nights[-1].date}; {', '.join(marked) or 'all applied or unchanged'}."
    return Picture(entity, description, nights, tuple((BASE - (BASE - TOP) * share / top, share) for share in sorted({0, top // 2, top})))


def _labels(days: Sequence[str], every: int) -> list[str]:
    """What stands below each bar: the day at every so many bars from the last one on, each day once."""
    labels = [""] * len(days)
    for place in range(len(days) - 1, -1, -every):
        if days[place] not in labels:
            labels[place] = days[place]
    return labels


def _moment(run: SyncRun) -> datetime:
    return (run.finished_at or run.created_at).astimezone(UTC)


def _night(run: SyncRun, entity: str, total: int, top: int, *, x: float, width: float, day: str, current: bool) -> Night:
    counts = run.counts.get(entity, Counts())
    scale = (BASE - TOP) / max(top, total)  # a bar that is too tall keeps its proportions and is marked as cut
    segments, y = [], float(BASE)
    for operation in STACK if total else ():
        if count := getattr(counts, operation):
            height = max(count * scale, 1.0)
            y -= height
            segments.append(Segment(operation, round(y, 2), round(height, 2)))
    return Night(
        run=run.id,
        date=f"{_moment(run):%Y-%m-%d}",
        day=day,
        x=round(x, 2),
        width=round(width, 2),
        outcome=run.outcome or "failed",
        counts=counts,
        segments=tuple(segments),
        cut=total if total > top else 0,
        current=current,
    )


def _total(run: SyncRun, entity: str) -> int:
    """What a run did to the entity, with what it left waiting; a delivery that was not applied did nothing, whatever was counted."""
    counts = run.counts.get(entity)
    return sum(getattr(counts, each) for each in STACK) if counts and run.outcome in ("successful", "on_hold") else 0


def _ceiling(totals: Sequence[int]) -> int:
    """A round number above the usual bars. A first night, or a new school year, is cut instead of flattening all others."""
    heights = [each for each in totals if each]
    usual = max(each for each in heights if each <= 4 * median_low(heights))
    power: int = 10 ** (len(str(usual)) - 1)
    return next(step * power for step in (1, 2, 4, 6, 8, 10) if step * power >= usual)


def _utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _size(count: int) -> str:
    """Bytes in decimal units, as download lists give them."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count} B"


def _digest(style: str) -> str:
    """The style sheet's hash as a content security policy spells it, so that no other style can slip in."""
    return base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()


_ENVIRONMENT = Environment(
    loader=PackageLoader("sftp_ingest.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_ENVIRONMENT.filters.update(number="{:,}".format, utc=_utc, size=_size, digest=_digest, shown=words.shown)
_ENVIRONMENT.globals.update(WIDTH=WIDTH, HEIGHT=HEIGHT, LEFT=LEFT, RIGHT=RIGHT, TOP=TOP, BASE=BASE, SPARE=SPARE)
