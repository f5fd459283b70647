"""A sync report as text: for a terminal with colours, or plain and 100 columns wide for a mail or a file."""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import UTC

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sftp_ingest.findings import Severity
from sftp_ingest.model import Counts, Hold, SyncReport
from sftp_ingest.report import receipt, summary, words
from sftp_ingest.report.summary import FixIt, Tone

WIDTH = 100
MOST_CAUSES = 25
COLUMNS = ("rows", "existing", "created", "updated", "moved", "deactivated", "reactivated", "rejected", "waiting")

_COLOURS: Mapping[Tone, str] = {"good": "green", "calm": "cyan", "attention": "yellow", "bad": "red"}
_LABELS: Mapping[Severity, tuple[str, str]] = {"refuse": ("REFUSED", "bold red"), "reject": ("LEFT OUT", "bold yellow"), "warn": ("WARNING", "bold cyan")}


def render(report: SyncReport, console: Console, fix_it: FixIt | None = None) -> None:
    """Print the report: the verdict, what comes next, what changed, what waits, what to mend, and where it lies as files."""
    head, _, rest = report.verdict.partition(": ")
    console.print(Text.assemble((head, f"bold {_COLOURS[summary.tone(report)]}"), ": ", (rest, "bold")))
    if step := receipt.next_step(report):
        console.print(Text(f"→ {step}", style="italic"))
    console.print(Text(_origin(report), style="dim"))
    if report.error:
        console.print(Text(words.shown(report.error, 500), style="red"))
    if entities := {name: each for name, each in summary.entities(report).items() if any(getattr(each, column) for column in COLUMNS)}:
        console.print()
        _print_entities(entities, console)
    if report.hold is not None:
        _print_hold(report, report.hold, console)
    if alone := summary.left_alone(report):
        console.print()
        console.print(Text("Left alone, as changed since or bound to what has", style="bold yellow"))
        for line in alone:
            console.print(Padding(Text(line), (0, 0, 0, 2), expand=False))
    _print_causes(report, console)
    if fix_it is not None:
        console.print()
        console.print(Text(f"{fix_it.sentence}{f' {fix_it.zip}' if fix_it.zip else ''}"))


def plain(report: SyncReport, fix_it: FixIt | None = None) -> str:
    """The same without colour, no line longer than 100 columns, ending with a line break."""
    page = io.StringIO()
    console = Console(file=page, width=WIDTH, color_system=None, force_terminal=False, force_interactive=False, force_jupyter=False, legacy_windows=False)
    render(report, console, fix_it)
    return "".join(f"{line.rstrip()}\n" for line in page.getvalue().splitlines())


def _origin(report: SyncReport) -> str:
    name = words.shown(report.district_name)
    parts = [name if name == report.district else f"{name} ({report.district})"]
    if report.run is not None:
        parts.append(f"run {report.run}")
    if report.delivery:
        parts.append(f"delivery {report.delivery}")
    if report.received_at:
        parts.append(f"received {report.received_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC")
    if report.seconds:
        parts.append(f"took {sum(report.seconds.values()):,.1f} s")
    return " · ".join(parts)


def _print_entities(entities: Mapping[str, Counts], console: Console) -> None:
    """One line an entity; columns that have nothing to say in any line are left out. Where the screen is too narrow, words instead of a table."""
    columns = [column for column in COLUMNS if any(getattr(each, column) for each in entities.values())]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1), show_edge=False)
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for entity, each in entities.items():
        table.add_row(entity.replace("_", " "), *(_cell(column, getattr(each, column)) for column in columns))
    if console.measure(table, options=console.options.update(width=10 * WIDTH)).maximum <= console.width:
        console.print(table)
        return
    for entity, each in entities.items():
        told = ", ".join(f"{getattr(each, column):,} {column}" for column in columns if getattr(each, column))
        console.print(Text(f"{entity.replace('_', ' ')}: {told}"))


def _cell(column: str, count: int) -> Text:
    if not count:
        return Text("·", style="dim")
    return Text(f"{count:,}", style="yellow" if column in ("rejected", "waiting") else "")


def _print_hold(report: SyncReport, hold: Hold, console: Console) -> None:
    console.print()
    console.print(Text("Waiting for a person" if summary.is_open(report) else "Was held", style="bold yellow"))
    for reason in hold.reasons:
        console.print(Padding(Text(f"{words.shown(reason.sentence, 400)}."), (0, 0, 0, 2), expand=False))
    if hold.scope:
        console.print(Padding(Text(f"In all: {summary.waiting(hold)}."), (0, 0, 0, 2), expand=False))
    console.print(Padding(Text(f"{summary.hold_advice(report)} {summary.hold_command(report)}".rstrip()), (0, 0, 0, 2), expand=False))


def _print_causes(report: SyncReport, console: Console) -> None:
    causes = summary.told(report)
    for each in causes[:MOST_CAUSES]:
        label, style = _LABELS[each.severity]
        console.print()
        console.print(Text.assemble((label, style), "  ", (each.title, "bold"), f": {each.values}" if each.values else ""))
        for line in (*each.places, each.readings, each.effect, *each.follows, each.hint):
            if line:
                console.print(Padding(Text(line), (0, 0, 0, 2), expand=False))
        console.print(Padding(Text(f"→ {each.advice}", style="italic"), (0, 0, 0, 2), expand=False))
    if len(causes) > MOST_CAUSES:
        console.print()
        console.print(Text(f"{len(causes) - MOST_CAUSES:,} further causes are in the JSON form of this report."))
    if any(each.severity == "reject" for each in causes):
        console.print()
        console.print(Text(summary.LEFT_OUT_ADVICE, style="dim"))
