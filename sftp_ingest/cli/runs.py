"""`check`, `sync`, `runs`, `report`: what a folder would do, what it does, and what was done."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy import Engine

from sftp_ingest import config, runner
from sftp_ingest.cli import shared
from sftp_ingest.cli.shared import ConfigOption, DistrictArgument, FixItOption, HtmlOption, JsonOption, RunArgument
from sftp_ingest.config import Settings
from sftp_ingest.errors import ConfigError, RunError
from sftp_ingest.intake import inbox
from sftp_ingest.model import Counts, Delivery, District, FileShape, HoldReason, Roster, SyncReport, SyncRun
from sftp_ingest.report import archive, compared, notify, pages, summary, text, verdict
from sftp_ingest.report.summary import FixIt
from sftp_ingest.store import database, ledger

app = typer.Typer(help="Sync runs: what was done.", invoke_without_command=True)

FolderArgument = Annotated[Path, typer.Argument(help="A folder with the district's CSV files.", show_default=False)]

_DONE = ("created", "updated", "moved", "deactivated", "reactivated", "rejected", "waiting")
_WOULD = {"successful": "would be applied", "unchanged": "would change nothing", "refused": "would be refused", "on_hold": "would wait for a person"}
_UNHAPPY = ("refused", "on_hold")


def _rules(folder: Path | None) -> Path | None:
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"--contract: there is no folder {folder}")
    return folder


def check(
    folder: FolderArgument,
    against: Annotated[str, typer.Option(help="Also say what would change in this district.")] = "",
    strict: Annotated[bool, typer.Option("--strict", help="Answer as Clever does.")] = False,
    fix_it: FixItOption = None,
    contract: Annotated[
        Path | None, typer.Option(help="Also try the rules in this folder, and say what they change.", callback=_rules, show_default=False)
    ] = None,
    html: HtmlOption = None,
    config_path: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Validate any folder of CSV files; changes nothing, and needs no database unless --against names a district."""
    delivery = inbox.as_delivery(folder, datetime.now(UTC))
    if fix_it is not None and fix_it.resolve() == folder.resolve():
        raise ConfigError(f"--fix-it: {fix_it} holds the files that are checked")
    here = shared.opened(config_path) if against else None
    if here is None:
        district, settings = District(folder.resolve().name, folder.resolve().name, datetime.now(UTC)), Settings()
    else:
        district, settings = shared.known(here.engine, against), here.config.settings(against)
    if contract is None:
        made = _planned(delivery, district, settings, here, strict=strict, fix_it=fix_it)
        return _tell(made, html, as_json, fix_it=_checked(made, fix_it))
    after = _planned(delivery, district, replace(settings, contract=str(contract.resolve())), here, strict=strict, fix_it=fix_it)
    before = _planned(delivery, district, settings, here, strict=strict)
    return _tell(after, html, as_json, before, _checked(after, fix_it))


def sync(
    district: DistrictArgument,
    folder: FolderArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
    html: HtmlOption = None,
    config_path: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sync a folder of CSV files to a district, as if it had been delivered by SFTP."""
    here = shared.opened(config_path)
    found = shared.known(here.engine, district)
    if dry_run:
        return _tell(_planned(inbox.as_delivery(folder, datetime.now(UTC)), found, here.config.settings(district), here), html, as_json)
    config.check_data(here.config)
    delivery = inbox.copy_in(folder, here.config.deliveries, district, datetime.now(UTC))
    run_id = ledger.record(here.engine, delivery, datetime.now(UTC))
    return see_through(here, run_id, html, as_json)


def see_through(here: shared.Opened, run_id: int, html: Path | None, as_json: bool, advice: Sequence[str] = ()) -> None:
    """See a pending run to its end, here or by a daemon that is quicker, and print its report, with advice where there is any.

    Raises RunError where its district is erased meanwhile.
    """
    with shared.progress(f"run {run_id}") as progress:
        while True:
            claimed = ledger.claim(here.engine, runner.me(), datetime.now(UTC), run=run_id)
            if claimed is not None:
                runner.execute(here.config, here.engine, claimed, progress)
            run = ledger.run(here.engine, run_id)
            if run is None:
                raise RunError(f"run {run_id} was erased with its district before it began")
            if run.state == "closed":
                break
            progress("waiting for another run of the district")
            time.sleep(0.2)
    made = runner.report_of(here.engine, run_id)
    _tell(made, html, as_json, fix_it=_fix_it(here, made), advice=advice)


@app.callback()
def _list_by_default(context: typer.Context, config_path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Sync runs: what was done. Without a command: the last ones."""
    if context.invoked_subcommand is None:
        list_runs(config_path=config_path, as_json=as_json, district="", limit=20)


@app.command("list")
def list_runs(
    district: Annotated[str, typer.Option(help="Only of this district.")] = "",
    limit: Annotated[int, typer.Option(help="How many, newest first.", min=1, max=100_000)] = 20,
    config_path: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The last runs, newest first."""
    here = shared.opened(config_path)
    if district:
        shared.known(here.engine, district)
    found = ledger.runs(here.engine, district or None, limit)
    if as_json:
        return shared.print_json([_run_told(each) for each in found])
    rows = shared.table("run", "district", "finished", "outcome", "what it did")
    waiting = {each.run for each in ledger.holds(here.engine, district or None, "open")}
    for run in found:
        rows.add_row(str(run.id), run.district, shared.instant(run.finished_at), run.outcome or run.state, _did(here.engine, run, run.id in waiting))
    shared.show(rows, "there is no run yet")
    return None


@app.command("show")
def show(run: RunArgument, config_path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """One run: its counts, findings and hold."""
    here = shared.opened(config_path)
    made = runner.report_of(here.engine, run)
    if as_json:
        return shared.print_json(summary.as_json(made))
    text.render(made, shared.out, _fix_it(here, made))
    return None


@app.command("revert")
def revert(
    run: RunArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be put back, and change nothing.")] = False,
    html: HtmlOption = None,
    config_path: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put back what a run changed; records that have changed since are left alone. This is a run too, and can be reverted."""
    here = shared.opened(config_path)
    reverted = ledger.revertible(here.engine, run)
    advice = _before_the_next_night(here, reverted)
    if dry_run:
        return _tell(_undone(here, reverted), html, as_json, advice=advice)
    return see_through(here, ledger.revert(here.engine, run, datetime.now(UTC)), html, as_json, advice)


def _undone(here: shared.Opened, reverted: SyncRun) -> SyncReport:
    """The report of what a revert would do."""
    from sftp_ingest import revert  # pandas takes a second that other commands need not wait

    settings = here.config.settings(reverted.district)
    with shared.progress(f"run {reverted.id}") as stage, database.reading(here.engine) as connection:
        stage("compare")
        planned = revert.plan(connection, reverted, revert.unkept(here.engine, reverted, settings))
    return summary.make(
        district=shared.known(here.engine, reverted.district),
        run=None,
        delivery=ledger.delivery(here.engine, reverted.delivery),
        outcome=planned.outcome,
        findings=(),
        counts=planned.counts,
        hold=None,
        reverts=reverted.id,
        left_alone=planned.left_alone,
    )


def _before_the_next_night(here: shared.Opened, reverted: SyncRun) -> list[str]:
    """What may bring the changes again, and what keeps it from that."""
    district = reverted.district
    again = f"the next delivery of {district} is compared with the roster as it is then, and may bring these changes again"
    if shared.known(here.engine, district).paused:
        advice = [f"{district} is paused. Once resumed (`sftp-ingest districts resume {district}`), {again}."]
    else:
        advice = [f"{again[0].upper()}{again[1:]}; `sftp-ingest districts pause {district}` keeps it waiting."]
    held = [str(each.id) for each in ledger.holds(here.engine, district, "open")]
    if held:
        advice.append(f"So may a hold that is released: {', '.join(held)} {'is' if len(held) == 1 else 'are'} open.")
    return advice


def report(
    run: RunArgument,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write the report as one HTML file, in place of text.", callback=shared.writable, show_default=False)
    ] = None,
    zip: Annotated[
        Path | None,
        typer.Option("--zip", help="Write the report with all details as one zip, in place of text.", callback=shared.writable, show_default=False),
    ] = None,
    config_path: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The report of a run, as text, as JSON, as one HTML file, or with all details in a zip."""
    here = shared.opened(config_path)
    made = runner.report_of(here.engine, run)
    if html is not None:
        beside = zip is not None and zip.resolve().parent == html.resolve().parent
        lies = notify.beside(zip.name, runner.details_of(here.config, made)) if zip is not None and beside else _fix_it(here, made)
        html.write_text(pages.html(made, lies), encoding="utf-8")
        shared.err.print(f"wrote {html}", highlight=False, soft_wrap=True)
    if zip is not None:
        details = runner.details_of(here.config, made)
        notify.in_one_zip(made, zip, details)
        shared.err.print(f"wrote {zip}{'' if details else '; the details of this run are not kept'}", highlight=False, soft_wrap=True)
    if (html or zip) and not as_json:
        return None
    if as_json:
        return shared.print_json(summary.as_json(made))
    text.render(made, shared.out, _fix_it(here, made))
    return None


def _fix_it(here: shared.Opened, made: SyncReport) -> FixIt | None:
    """How an operator gets the details of a run that are kept."""
    details = runner.details_of(here.config, made)
    contents = archive.contents(details) if details else None
    holds = archive.told(contents) if contents else ""
    return FixIt(f"sftp-ingest report {made.run} --zip FILE writes {holds}.") if holds else None


def _checked(made: SyncReport, folder: Path | None) -> FixIt | None:
    """Where a check wrote its fix-it files, or how it would have."""
    if folder is not None:
        return FixIt(f"The fix-it files lie in {folder}.")
    if not any(each.rejected for each in made.counts.values()):
        return None
    return FixIt("With --fix-it FOLDER, check also writes the rows that would be left out, as sent and with what to mend.")


def _planned(
    delivery: Delivery, district: District, settings: Settings, here: shared.Opened | None, *, strict: bool = False, fix_it: Path | None = None
) -> SyncReport:
    """The report of what the delivery would do to the district's roster, or to an empty one; all details go to `fix_it`."""
    from sftp_ingest import planning, sync  # pandas and pandera take two seconds that other commands need not wait
    from sftp_ingest.roster import shelf
    from sftp_ingest.store import rosters

    stages = planning.Stages()
    now: Roster = planning.empty_roster()
    before: dict[str, FileShape] | None = None
    undecided: Sequence[HoldReason] = ()
    with shared.progress("check") as progress, shelf.standing_in(here.config.rosters) if here and here.config.data.is_dir() else nullcontext():
        stages.progress = progress
        if here is not None:
            with stages.stage("roster"), database.reading(here.engine) as connection:
                now = rosters.current(connection, district.id)
            applied = ledger.last_applied(here.engine, district.id)
            before = dict(applied.shapes) if applied else None
            undecided = ledger.why_held(here.engine, applied.run.id) if applied else ()
        held = partial(sync.attendance_held, here.engine, district.id) if here else None
        judged = replace(settings, strict=settings.strict or strict)
        plan = planning.plan(delivery, judged, now, before=before, attendance=held, undecided=undecided, stages=stages)
        if fix_it is not None:
            with stages.stage("details"):
                archive.write_loose(planning.details(delivery, plan), fix_it)
    return summary.make(
        district=district, run=None, delivery=delivery, outcome=plan.outcome, findings=plan.findings, counts=plan.counts, hold=plan.hold, seconds=stages.seconds
    )


def _tell(
    made: SyncReport, html: Path | None, as_json: bool, before: SyncReport | None = None, fix_it: FixIt | None = None, advice: Sequence[str] = ()
) -> None:
    """Print the report, and where there is one under other rules what differs from it; the exit code is the report's."""
    if html is not None:
        html.write_text(pages.html(made, fix_it), encoding="utf-8")
    if as_json:
        shared.print_json(summary.as_json(made) | (compared.as_json(before, made) if before else {}) | ({"advice": list(advice)} if advice else {}))
    else:
        text.render(made, shared.out, fix_it)
        if before is not None:
            compared.render(before, made, shared.out)
        for sentence in advice:
            shared.out.print(f"\n→ {sentence}", highlight=False, markup=False, soft_wrap=True)
    if made.outcome in _UNHAPPY:
        raise typer.Exit(1)
    if made.outcome == "failed":
        raise typer.Exit(3)


def _run_told(run: SyncRun) -> dict[str, Any]:
    return {
        "id": run.id,
        "district": run.district,
        "delivery": run.delivery,
        "state": run.state,
        "outcome": run.outcome,
        **shared.plain({"created_at": run.created_at, "started_at": run.started_at, "finished_at": run.finished_at}),
        "counts": {entity: asdict(counts) for entity, counts in run.counts.items()},
        "seconds": dict(run.seconds),
        "error": run.error,
        "reverts": run.reverts,
    }


def _did(engine: Engine, run: SyncRun, waits: bool) -> str:
    """What the run did, or why it did nothing; of what it held only what still `waits`."""
    if run.outcome == "refused":
        return verdict.refusal(ledger.findings(engine, run.id))
    if run.preview is not None:
        return _WOULD.get(run.preview.outcome, "")
    did = ", ".join(f"{count:,} {what}" for what, count in _total(run).items() if count and what in _DONE and (waits or what != "waiting"))
    if run.reverts is None:
        return did
    if run.outcome == "unchanged":
        return f"puts back nothing of run {run.reverts}"
    return f"reverts run {run.reverts}{': ' if did else ''}{did}"


def _total(run: SyncRun) -> dict[str, int]:
    """The run's counts of all entities together."""
    total = dict.fromkeys(asdict(Counts()), 0)
    for counts in run.counts.values():
        for name, value in asdict(counts).items():
            total[name] += value
    return total
