"""The findings of a run by what caused them, each cause in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from sftp_ingest.findings import Finding, Reading, Severity
from sftp_ingest.model import ENTITIES, Cause
from sftp_ingest.report import words
from sftp_ingest.report.verdict import KEPT_BACK

_WHICH_FILES = ("file_missing", "file_not_resent", "file_crossed", "file_unknown")  # of these nothing is told but which files it is
_RANK: Mapping[Severity, int] = {"refuse": 0, "reject": 1, "warn": 2}


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


@dataclass(frozen=True)
class Group:
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


def groups(findings: Sequence[Finding]) -> list[Group]:
    """The findings by cause; the gravest first, then the one that touches most rows. Every finding is in exactly one group."""
    by_label: dict[str, Finding] = {}
    for each in findings:
        by_label.setdefault(each.label, each)
    groups: dict[object, Group] = {}
    for each in findings:
        root = _root(each, by_label)
        # One wrong value of one column is one cause in however many files, and so are files that are not there; other faults have nothing in common.
        shared = root.values or (root.code in _WHICH_FILES and not root.hint)
        group = groups.setdefault((root.code, root.column, root.values) if shared else root.label, Group([], []))
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
    return not finding.code.startswith(("file_", "header_", "drift_")) and finding.code not in KEPT_BACK


def told(cause: Cause, group: Group, *, done: bool) -> Told:
    """A cause in sentences, with what followed from it; `done` tells what was done from what would be."""
    root = cause.finding
    return Told(
        code=root.code,
        severity=root.severity,
        title=root.title,
        values=words.first([words.shown(each) for each in root.values], 6, between=", "),
        readings=words.first([_reading(reading) for each in group.roots for reading in each.readings], 12, between=", "),
        places=tuple(_place(each) for each in group.roots),
        effect=_effect(cause, done=done),
        follows=tuple(f"{each.title}: {_place(each)}" for each in group.followers),
        hint=_hints(group.roots),
        advice=root.advice,
    )


def _hints(roots: Sequence[Finding]) -> str:
    """The hints as sentences, each once; one that another begins with says nothing more."""
    hints = list(dict.fromkeys(words.shown(each.hint, 400).rstrip(".") for each in roots if each.hint))
    told = [each for each in hints if not any(other.startswith(f"{each};") for other in hints)]
    return " ".join(f"{each[0].upper() if each.split(' ', 1)[0].isalpha() else each[0]}{each[1:]}." for each in told)


def _effect(cause: Cause, *, done: bool) -> str:
    if cause.finding.severity == "refuse":
        return "The delivery stops here; nothing of it is applied."
    rows = ", ".join(f"{words.number(count, 'row')} of {words.shown(file)}" for file, count in cause.rows.items())
    if cause.finding.code in KEPT_BACK:
        return f"{words.number(cause.finding.count, 'record')} {words.be(cause.finding.count, done=done)} kept."
    if not rows:
        return ""
    if cause.finding.severity != "reject":
        return f"Concerns {rows}."
    records = ", ".join(words.counted(count, entity) for entity, count in cause.left_out.items())
    if records:
        return f"{records} {words.be(sum(cause.left_out.values()), done=done)} left out: {rows}."
    return f"{rows} {words.be(sum(cause.rows.values()), done=done)} left out."


def _place(finding: Finding) -> str:
    """Where it is: "students.csv, column School_id, lines 4, 9, 12–15 and 1,232 more"."""
    parts = [words.shown(finding.file), *([f"column {words.shown(finding.column)}"] if finding.column else [])]
    if finding.lines:
        more = finding.count - len(finding.lines)
        parts.append(f"{'line' if finding.count == 1 else 'lines'} {_ranges(finding.lines)}{f' and {more:,} more' if more > 0 else ''}")
    return ", ".join(parts)


def _reading(reading: Reading) -> str:
    """A text and what became of it: "KG → Kindergarten (1,204)", "Cousin → blank (3)", "Klingon kept as sent (7)"."""
    became = "kept as sent" if reading.read == reading.sent else f"→ {words.shown(reading.read) or 'blank'}"
    return f"{words.shown(reading.sent)} {became} ({reading.count:,})"


def _ranges(lines: Sequence[int]) -> str:
    """Line numbers with neighbours drawn together: 4, 12–15. Numbers have no thousands comma here, so that they can be pasted into an editor."""
    runs = [[line for _, line in run] for _, run in groupby(enumerate(sorted(set(lines))), key=lambda pair: pair[1] - pair[0])]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)
