"""A run told as one report: its verdict in a sentence, the causes behind its findings, and the whole as one JSON object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Literal

from sftp_ingest.findings import Finding, Reading, Severity
from sftp_ingest.model import ENTITIES, OPERATIONS, Cause, Counts, Delivery, District, Hold, LeftAlone, Limits, Outcome, SyncReport, SyncRun

Tone = Literal["good", "calm", "attention", "bad"]
"""How a report may look: only *good* is ever green."""

HOLD_ADVICE = "A person on our side looks at it, then releases or discards it:"
LEFT_OUT_ADVICE = "A row that is left out is never a removal: a record that is already known keeps its last good values."

_APPLIED: tuple[Outcome, ...] = ("successful", "unchanged", "on_hold")
_KEPT_BACK = ("removals_withheld", "parent_kept")  # these count records of the roster, all other codes count rows of files
_WHICH_FILES = ("file_missing", "file_not_resent", "file_crossed", "file_unknown")  # of these nothing is told but which files it is
_HEADLINE = ("students", "teachers", "staff", "enrollments", "sections", "schools")
_RANK: Mapping[Severity, int] = {"refuse": 0, "reject": 1, "warn": 2}
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


@dataclass(frozen=True)
class Told:
    """One cause in sentences, safe to show: `places` says where the fault itself is, `follows` what else was touched by it.

    `readings` says what texts became: "KG → Kindergarten (1,204), Multiple → Other (3)".
    """

    code: str
    severity: Severity
    title: str
    values: str
    readings: str
    places: tuple[str, ...]
    effect: str
    follows: tuple[str, ...]
    hint: str
    advice: str


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
        verdict = _reverted(reverts, counts, left_alone, real=run is not None)
    else:
        verdict = _verdict(outcome, findings, counts, hold, hold_state, real=run is not None and not preview)
    if run is not None and not preview:
        nights[run.id] = replace(run, outcome=outcome, counts=counts)
    return SyncReport(
        district=district.id,
        district_name=district.name,
        run=run.id if run else None,
        delivery=delivery.id if delivery else run.delivery if run else "",
        outcome=outcome,
        verdict=f"Preview: {verdict[0].lower()}{verdict[1:]}" if preview else verdict,
        received_at=delivery.received_at if delivery else None,
        finished_at=run.finished_at if run else None,
        files=delivery.files if delivery else (),
        counts=counts,
        causes=tuple(Cause(group.roots[0], group.rows, group.left_out) for group in _groups(findings)),
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
    if usual != "bad" and (is_open(report) or _withheld(report.findings) or _lost(report.counts)):
        return "attention"
    return "calm" if report.preview and usual == "good" else usual


def _lost(counts: Mapping[str, Counts]) -> bool:
    """Whether so many rows of an entity were left out as would, if they were records that vanish, be held."""
    usual = Limits()
    return any(usual.trips(each.rejected, each.rows, usual.removed_share) for each in counts.values())


def is_open(report: SyncReport) -> bool:
    """Whether a part of the delivery waits for a person."""
    return report.hold is not None and report.hold_state in ("", "open")


def told(report: SyncReport) -> tuple[Told, ...]:
    """The causes of the report in sentences, in its order."""
    done = report.run is not None and not report.preview and report.outcome in _APPLIED
    return tuple(_told(cause, group, done=done) for cause, group in zip(report.causes, _groups(report.findings), strict=True))


def entities(report: SyncReport) -> dict[str, Counts]:
    """The counts worth a line, parents before children: entities of which nothing is and nothing was are left out."""
    order = {name: place for place, name in enumerate(ENTITIES)}
    names = sorted(report.counts, key=lambda name: order.get(name, len(order)))
    return {name: report.counts[name] for name in names if report.counts[name] != Counts()}


def left_alone(report: SyncReport) -> tuple[str, ...]:
    """What a revert did not touch, a line an entity: "4 students: 0012, 0014 and 2 more"."""
    return tuple(
        f"{_counted(each.count, entity)}: {_first([shown(identifier, 200) for identifier in each.ids[:20]], 20, between=', ')}"
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
    return ", ".join(_counted(count, entity) for entity, count in hold.scope.items() if count)


def shown(text: str, longest: int = 60) -> str:
    """The text without characters that could steer a terminal or turn the reading direction, cut at `longest` characters."""
    safe = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    return safe if len(safe) <= longest else f"{safe[: longest - 1]}…"


# ---------------------------------------------------------------- the verdict


def _verdict(outcome: Outcome, findings: Sequence[Finding], counts: Mapping[str, Counts], hold: Hold | None, hold_state: str, *, real: bool) -> str:
    left_out = sum(each.rejected for each in counts.values())
    withheld = _withheld(findings)
    asides = []
    if left_out:
        asides.append(f"{_number(left_out, 'row')} {_be(left_out, done=real)} left out")
    if withheld:
        asides.append(f"{_number(withheld, 'removal')} {_be(withheld, done=real)} withheld")
    changes = _changes(counts)
    match outcome:
        case "successful" if not real and not changes:
            read = _number(sum(each.rows for each in counts.values()), "row")
            return f"Good to send: {'; '.join([f'{read} can be read', *asides])}."
        case "successful":
            return f"{'Applied' if real else 'Would be applied'}: {'; '.join([*(changes or ['nothing had to change']), *asides])}."
        case "unchanged":
            return f"Unchanged: {'; '.join(['what could be used changes nothing', *asides] if asides else ['the roster is as the district sent it'])}."
        case "on_hold":
            return _held(hold, hold_state, changes, asides, real=real)
        case "refused":
            return f"{'Refused' if real else 'Would be refused'}: {refusal(findings)}. Nothing was changed."
        case "previewed":
            return "Previewed: nothing was applied."
        case "superseded":
            return "Superseded: a newer delivery of the district has taken the place of this one."
        case "failed":
            return "Failed: a fault on our side, not in the files, stopped the run. Nothing was changed."


def refusal(findings: Iterable[Finding]) -> str:
    """Why a delivery with these findings was refused, three reasons at most."""
    return _first(dict.fromkeys(_fault(each) for each in findings if each.severity == "refuse"), 3) or "the delivery cannot be believed"


def _reverted(run: int, counts: Mapping[str, Counts], left_alone: Mapping[str, LeftAlone], *, real: bool) -> str:
    left = sum(each.count for each in left_alone.values())
    have = "has" if left == 1 else "have"
    asides = [f"{_number(left, 'record')} that {have} changed since {_be(left, done=real)} left alone"] if left else []
    changes = _changes(counts)
    if not changes:
        return f"{'Puts' if real else 'Would put'} back nothing of run {run}: {asides[0] if asides else 'all is back already'}."
    return f"{'Reverts' if real else 'Would revert'} run {run}: {'; '.join([*changes, *asides])}."


def _held(hold: Hold | None, state: str, changes: Sequence[str], asides: Sequence[str], *, real: bool) -> str:
    reasons = _first([shown(each.sentence, 400) for each in hold.reasons], 2) if hold else "a part waits for a person"
    fate = {"released": " A person has released it.", "discarded": " A person has discarded it.", "superseded": " A newer delivery has taken its place."}
    head = ("Was on hold" if state in fate else "On hold") if real else "Would be on hold"
    rest = f"Everything else {'was' if real else 'would be'} applied: {'; '.join(changes)}" if changes else "Nothing else had to change"
    return f"{head}: {reasons}.{fate.get(state, '')} {'; '.join([rest, *asides])}."


def _changes(counts: Mapping[str, Counts]) -> list[str]:
    """One phrase for each of the three entities that people ask about first, and one for all the rest."""
    phrases: list[str] = []
    others = 0
    for entity in (*_HEADLINE, *(name for name in counts if name not in _HEADLINE)):
        tally = counts.get(entity, Counts())
        done = [(getattr(tally, each), each) for each in OPERATIONS if getattr(tally, each)]
        if done and len(phrases) < 3:
            (first, operation), *rest = done
            phrases.append(", ".join([f"{_counted(first, entity)} {operation}", *(f"{count:,} {each}" for count, each in rest)]))
        else:
            others += sum(count for count, _ in done)
    return [*phrases, *([_number(others, "other change")] if others else [])]


def _fault(finding: Finding) -> str:
    """A finding as a clause: "students.csv breaks off before its end"."""
    file, column = shown(finding.file), shown(finding.column)
    for subject in ("A file ", "A core file "):
        if finding.title.startswith(subject):
            return f"{file} {finding.title.removeprefix(subject)}"
    return f"{file}: {finding.title[0].lower()}{finding.title[1:]}{f' ({column})' if column else ''}"


def _withheld(findings: Iterable[Finding]) -> int:
    return sum(each.count for each in findings if each.code in _KEPT_BACK)


# ---------------------------------------------------------------- the causes


@dataclass(frozen=True)
class _Group:
    """The findings of one cause: its roots, most rows first, and what followed from them."""

    roots: list[Finding]
    followers: list[Finding]

    @property
    def rows(self) -> dict[str, int]:
        """The rows touched, file by file. A warning costs no row, so below a graver root it does not count."""
        rows: dict[str, int] = {}
        for each in (*self.roots, *self.followers):
            if _counts_rows(each) and (each.severity != "warn" or self.roots[0].severity == "warn"):
                rows[each.file] = rows.get(each.file, 0) + each.count
        return rows

    @property
    def left_out(self) -> dict[str, int]:
        """The records left out, parents before children."""
        order = {name: place for place, name in enumerate(ENTITIES)}
        names = {name for each in self.roots for name in each.left_out}
        return {name: sum(each.left_out.get(name, 0) for each in self.roots) for name in sorted(names, key=lambda name: (order.get(name, len(order)), name))}


def _groups(findings: Sequence[Finding]) -> list[_Group]:
    """The findings by cause; the gravest first, then the one that touches most rows. Every finding is in exactly one group."""
    by_label: dict[str, Finding] = {}
    for each in findings:
        by_label.setdefault(each.label, each)
    groups: dict[object, _Group] = {}
    for each in findings:
        root = _root(each, by_label)
        # One wrong value of one column is one cause in however many files, and so are files that are not there; other faults have nothing in common.
        shared = root.values or (root.code in _WHICH_FILES and not root.hint)
        group = groups.setdefault((root.code, root.column, root.values) if shared else root.label, _Group([], []))
        (group.roots if root == each else group.followers).append(each)
    for group in groups.values():
        group.roots.sort(key=lambda each: (_RANK[each.severity], -each.count))
    return sorted(groups.values(), key=lambda group: (_RANK[group.roots[0].severity], -sum(group.rows.values())))


def _root(finding: Finding, by_label: Mapping[str, Finding]) -> Finding:
    """The finding at the start of the chain of causes; a chain that bites its tail has none, so the finding stands for itself."""
    current, passed = finding, {finding.label}
    while (above := by_label.get(current.cause)) is not None:
        if above.label in passed:
            return finding
        passed.add(above.label)
        current = above
    return current


def _counts_rows(finding: Finding) -> bool:
    return not finding.code.startswith(("file_", "header_", "drift_")) and finding.code not in _KEPT_BACK


def _told(cause: Cause, group: _Group, *, done: bool) -> Told:
    root = cause.finding
    return Told(
        code=root.code,
        severity=root.severity,
        title=root.title,
        values=_first([shown(each) for each in root.values], 6, between=", "),
        readings=_first([_reading(reading) for each in group.roots for reading in each.readings], 12, between=", "),
        places=tuple(_place(each) for each in group.roots),
        effect=_effect(cause, done=done),
        follows=tuple(f"{each.title}: {_place(each)}" for each in group.followers),
        hint=_hints(group.roots),
        advice=root.advice,
    )


def _hints(roots: Sequence[Finding]) -> str:
    """The hints as sentences, each once; one that another begins with says nothing more."""
    hints = list(dict.fromkeys(shown(each.hint, 400).rstrip(".") for each in roots if each.hint))
    told = [each for each in hints if not any(other.startswith(f"{each};") for other in hints)]
    return " ".join(f"{each[0].upper() if each.split(' ', 1)[0].isalpha() else each[0]}{each[1:]}." for each in told)


def _effect(cause: Cause, *, done: bool) -> str:
    if cause.finding.severity == "refuse":
        return "The delivery stops here; nothing of it is applied."
    rows = ", ".join(f"{_number(count, 'row')} of {shown(file)}" for file, count in cause.rows.items())
    if cause.finding.code in _KEPT_BACK:
        return f"{_number(cause.finding.count, 'record')} {_be(cause.finding.count, done=done)} kept."
    if not rows:
        return ""
    if cause.finding.severity != "reject":
        return f"Concerns {rows}."
    records = ", ".join(_counted(count, entity) for entity, count in cause.left_out.items())
    if records:
        return f"{records} {_be(sum(cause.left_out.values()), done=done)} left out: {rows}."
    return f"{rows} {_be(sum(cause.rows.values()), done=done)} left out."


def _place(finding: Finding) -> str:
    """Where it is: "students.csv, column School_id, lines 4, 9, 12–15 and 1,232 more"."""
    parts = [shown(finding.file), *([f"column {shown(finding.column)}"] if finding.column else [])]
    if finding.lines:
        more = finding.count - len(finding.lines)
        parts.append(f"{'line' if finding.count == 1 else 'lines'} {_ranges(finding.lines)}{f' and {more:,} more' if more > 0 else ''}")
    return ", ".join(parts)


def _reading(reading: Reading) -> str:
    """A text and what became of it: "KG → Kindergarten (1,204)", "Cousin → blank (3)", "Klingon kept as sent (7)"."""
    became = "kept as sent" if reading.read == reading.sent else f"→ {shown(reading.read) or 'blank'}"
    return f"{shown(reading.sent)} {became} ({reading.count:,})"


def _ranges(lines: Sequence[int]) -> str:
    """Line numbers with neighbours drawn together: 4, 12–15. Numbers have no thousands comma here, so that they can be pasted into an editor."""
    runs = [[line for _, line in run] for _, run in groupby(enumerate(sorted(set(lines))), key=lambda pair: pair[1] - pair[0])]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)


# ---------------------------------------------------------------- words


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _counted(count: int, entity: str) -> str:
    words = entity.replace("_", " ")
    return f"{count:,} {words.removesuffix('s') if count == 1 else words}"


def _be(count: int, *, done: bool) -> str:
    return "would be" if not done else "was" if count == 1 else "were"


def _first(clauses: Iterable[str], most: int, between: str = "; ") -> str:
    """The first `most` clauses, and how many there are beyond them."""
    every = list(clauses)
    return between.join(every[:most]) + (f"{between}and {len(every) - most:,} more" if len(every) > most else "")


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
