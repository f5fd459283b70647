"""`why`: the story of one record."""

from __future__ import annotations

from typing import Annotated

import typer

from sftp_ingest.cli import shared
from sftp_ingest.cli.shared import ConfigOption, DistrictArgument, JsonOption
from sftp_ingest.model import RecordKind
from sftp_ingest.report import words


def why(
    district: DistrictArgument,
    kind: Annotated[RecordKind, typer.Argument(help="What it is; a user may be student, teacher and member of staff.", show_default=False)],
    id: Annotated[str, typer.Argument(help="Its id, as the district spells it.", show_default=False)],
    values: Annotated[bool, typer.Option("--values", help="Also show what changed columns held: personal data of children.")] = False,
    config_path: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell why a record is as it is: every delivery, line, finding, hold, decision and change that touched it, in order of time."""
    from sftp_ingest import why as told  # pyarrow and pandas are not needed by other commands

    here = shared.opened(config_path)
    shared.known(here.engine, district)
    with shared.progress(f"why {kind}") as stage:
        stage("reading deliveries")
        found = told.story(here.config, here.engine, district, kind, id)
    if as_json:
        return shared.print_json(told.as_json(found, values=values))
    now = ", ".join(f"{'active' if active else 'inactive'} among the {entity}" for entity, active in found.now.items())
    shared.out.print(f"{kind} {words.shown(id)} of {district}: {now or 'never in the roster'}", highlight=False, markup=False, soft_wrap=True)
    for each in found.events:
        shared.out.print(f"{shared.instant(each.at)}  {each.what:8}  {words.shown(each.told, 2000)}", highlight=False, markup=False, soft_wrap=True)
        for name, (old, new) in each.values.items() if values else ():
            line = f"{'':29}{name}: {_cell(old)} → {_cell(new)}"
            shared.out.print(line, highlight=False, markup=False, soft_wrap=True)
    return None


def _cell(value: object) -> str:
    return words.shown(str(value), 500) if value not in (None, "") else "(blank)"
