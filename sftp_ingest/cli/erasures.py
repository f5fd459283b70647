"""`districts erase`, `users erase`: what goes for good, and the certificate of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from sftp_ingest.cli import shared
from sftp_ingest.cli.shared import ConfigOption, DistrictArgument, JsonOption
from sftp_ingest.errors import ConfigError
from sftp_ingest.model import Role

if TYPE_CHECKING:  # pyarrow is not needed by other commands
    from sftp_ingest.erasure import Certificate

app = typer.Typer(help="People of a district's roster.", no_args_is_help=True)

YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask to type the id.")]


@app.callback()
def _people() -> None:
    """People of a district's roster."""


def erase_district(district: DistrictArgument, yes: YesOption = False, config_path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Erase every trace of a district: its rows, its home, its deliveries, its reports. There is no way back."""
    from sftp_ingest import erasure

    here = shared.opened(config_path)
    _confirm(district, f"Everything of {district} goes for good: roster, runs, log-ins, home, deliveries, reports.", yes)
    _tell(erasure.district(here.config, here.engine, district, datetime.now(UTC)), as_json)


@app.command("erase")
def erase_user(
    district: DistrictArgument,
    id: Annotated[str, typer.Argument(help="The person's id, as the district's files spell it.", show_default=False)],
    role: Annotated[Role | None, typer.Option(help="Only as this, where the id is more than one person's.", show_default=False)] = None,
    yes: YesOption = False,
    config_path: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase a person: all rows of him, and every kept delivery and report that tells of him. There is no way back."""
    from sftp_ingest import erasure

    here = shared.opened(config_path)
    shared.known(here.engine, district)
    _confirm(id, f"All that {district}'s roster, kept deliveries and reports tell of this person goes for good.", yes)
    _tell(erasure.person(here.config, here.engine, district, id, role, datetime.now(UTC)), as_json)


def _confirm(wanted: str, what: str, yes: bool) -> None:
    """Raises ConfigError where the id is not typed as it was given."""
    if yes:
        return
    typed = typer.prompt(f"{what}\nType the id to go on", err=True)
    if typed.strip() != wanted:
        raise ConfigError("that is not the id; nothing was erased")


def _tell(made: Certificate, as_json: bool) -> None:
    """Print the certificate; where nobody has the id, the exit code says so too."""
    from sftp_ingest import erasure

    if as_json:
        shared.print_json(erasure.as_json(made))
    else:
        _print(made)
    if made.empty:
        raise typer.Exit(2)


def _print(made: Certificate) -> None:
    what = f"{made.district}, {made.person}" if made.person else made.district
    head = "There was nothing to erase" if made.empty else "Certificate of erasure"
    lines = [f"{head}: {made.kind} {what}, {shared.instant(made.erased_at)}", ""]
    part = {"sections": "the part of their name that was his", "findings": "the id that they quoted", "sync_runs": "the id among what they left alone"}
    only = {name: f": {what}" for name, what in part.items()} if made.kind == "person" else {}
    lines += [f"{count:>10,} {'row' if count == 1 else 'rows'} of {name}{only.get(name, '')}" for name, count in made.rows.items() if count]
    lines += [f"{count:>10,} {'file' if count == 1 else 'files'} of {name}" for name, count in made.files.items() if count]
    lines += ["", made.pages, "", "What cannot be reached from here:", *(f"- {each}" for each in made.unreached)]
    for line in lines:
        shared.out.print(line, highlight=False, markup=False, soft_wrap=True)
