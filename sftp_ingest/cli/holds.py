"""`holds`: what waits for a person, and the person's word."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from sftp_ingest.cli import runs, shared
from sftp_ingest.cli.shared import ConfigOption, JsonOption
from sftp_ingest.errors import HoldError
from sftp_ingest.model import HoldRecord
from sftp_ingest.store import ledger

app = typer.Typer(help="Holds: what waits for a person.", invoke_without_command=True)


class State(StrEnum):
    """Which holds to list."""

    OPEN = "open"
    RELEASED = "released"
    DISCARDED = "discarded"
    SUPERSEDED = "superseded"
    ALL = "all"


HoldArgument = Annotated[int, typer.Argument(help="The hold's number.", min=1, max=2**31 - 1)]
ByOption = Annotated[str, typer.Option("--by", help="Who decides; else the user of this machine.")]


@app.callback()
def _list_by_default(context: typer.Context, config_path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Holds: what waits for a person. Without a command: the open ones."""
    if context.invoked_subcommand is None:
        list_holds(config_path=config_path, as_json=as_json, state=State.OPEN, district="")


@app.command("list")
def list_holds(
    state: Annotated[State, typer.Option(help="Only in this state.")] = State.OPEN,
    district: Annotated[str, typer.Option(help="Only of this district.")] = "",
    config_path: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Holds, newest first."""
    here = shared.opened(config_path)
    if district:
        shared.known(here.engine, district)
    found = ledger.holds(here.engine, district or None, None if state is State.ALL else state.value)
    if as_json:
        return shared.print_json([shared.plain(_told(each)) for each in found])
    rows = shared.table("hold", "run", "district", "since", "state", "why")
    for each in found:
        more = len(each.hold.reasons) - 1
        why = each.hold.reasons[0].sentence + (f"; and {more} more" if more else "")
        rows.add_row(str(each.id), str(each.run), each.district, shared.instant(each.created_at), each.state, why)
    shared.show(rows, "nothing waits" if state is State.OPEN else "there is no such hold")
    return None


@app.command("show")
def show(hold: HoldArgument, config_path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """One hold: why, what waits, and what became of it."""
    here = shared.opened(config_path)
    found = next((each for each in ledger.holds(here.engine) if each.id == hold), None)
    if found is None:
        raise HoldError(f"there is no hold {hold}")
    told = _told(found)
    if as_json:
        return shared.print_json(shared.plain(told))
    for key, value in told.items():
        lines = value if isinstance(value, list) else [f"{count:,} {entity}" for entity, count in value.items()] if isinstance(value, dict) else [value]
        for position, line in enumerate(lines):
            shared.out.print(f"{key if position == 0 else '':12} {shared.words(line)}", highlight=False, soft_wrap=True)
    return None


@app.command("release")
def release(hold: HoldArgument, by: ByOption = "", config_path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Let what waits be applied: the delivery is synced again, and applies only if exactly the same would wait."""
    here = shared.opened(config_path)
    run = ledger.release(here.engine, hold, by or getpass.getuser(), datetime.now(UTC))
    runs.see_through(here, run, None, as_json)


@app.command("discard")
def discard(hold: HoldArgument, by: ByOption = "", config_path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Give up what waits; the roster stays as it is."""
    here = shared.opened(config_path)
    ledger.discard(here.engine, hold, by or getpass.getuser(), datetime.now(UTC))
    shared.tell(f"hold {hold} is discarded", {"hold": hold, "state": "discarded"}, as_json)


def _told(each: HoldRecord) -> dict[str, Any]:
    return {
        "hold": each.id,
        "run": each.run,
        "district": each.district,
        "state": each.state,
        "since": each.created_at,
        "reasons": [reason.sentence for reason in each.hold.reasons],
        "scope": dict(each.hold.scope),
        "digest": each.hold.digest,
        "decided_by": each.decided_by or None,
        "decided_at": each.decided_at,
    }
