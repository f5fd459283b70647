"""What became of a run, in a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sftp_ingest.findings import Finding
from sftp_ingest.model import OPERATIONS, Counts, Hold, LeftAlone, Outcome
from sftp_ingest.report import words

KEPT_BACK = ("removals_withheld", "parent_kept")
"""The findings that count records of the roster; all others count rows of files."""

_HEADLINE = ("students", "teachers", "staff", "enrollments", "sections", "schools")


def of_a_night(outcome: Outcome, findings: Sequence[Finding], counts: Mapping[str, Counts], hold: Hold | None, hold_state: str, *, real: bool) -> str:
    """What became of a delivery; where it is not `real`, what would become of it."""
    left_out = sum(each.rejected for each in counts.values())
    kept = withheld(findings)
    asides = []
    if left_out:
        asides.append(f"{words.number(left_out, 'row')} {words.be(left_out, done=real)} left out")
    if kept:
        asides.append(f"{words.number(kept, 'removal')} {words.be(kept, done=real)} withheld")
    changes = _changes(counts)
    match outcome:
        case "successful" if not real and not changes:
            read = words.number(sum(each.rows for each in counts.values()), "row")
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
    return words.first(dict.fromkeys(_fault(each) for each in findings if each.severity == "refuse"), 3) or "the delivery cannot be believed"


def of_a_revert(run: int, counts: Mapping[str, Counts], left_alone: Mapping[str, LeftAlone], *, real: bool) -> str:
    """What became, or would become, of putting a run back."""
    left = sum(each.count for each in left_alone.values())
    have = "has" if left == 1 else "have"
    asides = [f"{words.number(left, 'record')} that {have} changed since {words.be(left, done=real)} left alone"] if left else []
    changes = _changes(counts)
    if not changes:
        return f"{'Puts' if real else 'Would put'} back nothing of run {run}: {asides[0] if asides else 'all is back already'}."
    return f"{'Reverts' if real else 'Would revert'} run {run}: {'; '.join([*changes, *asides])}."


def _held(hold: Hold | None, state: str, changes: Sequence[str], asides: Sequence[str], *, real: bool) -> str:
    reasons = words.first([words.shown(each.sentence, 400) for each in hold.reasons], 2) if hold else "a part waits for a person"
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
            phrases.append(", ".join([f"{words.counted(first, entity)} {operation}", *(f"{count:,} {each}" for count, each in rest)]))
        else:
            others += sum(count for count, _ in done)
    return [*phrases, *([words.number(others, "other change")] if others else [])]


def _fault(finding: Finding) -> str:
    """A finding as a clause: "students.csv breaks off before its end"."""
    file, column = words.shown(finding.file), words.shown(finding.column)
    for subject in ("A file ", "A core file "):
        if finding.title.startswith(subject):
            return f"{file} {finding.title.removeprefix(subject)}"
    return f"{file}: {finding.title[0].lower()}{finding.title[1:]}{f' ({column})' if column else ''}"


def withheld(findings: Iterable[Finding]) -> int:
    """So many records were kept that their files no longer have."""
    return sum(each.count for each in findings if each.code in KEPT_BACK)
