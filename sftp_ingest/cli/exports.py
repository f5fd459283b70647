"""`districts export`: the roster that a district has now, as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sftp_ingest.cli import shared
from sftp_ingest.cli.shared import ConfigOption, DistrictArgument, FileFormat, JsonOption
from sftp_ingest.errors import ConfigError


def export(
    district: DistrictArgument,
    folder: Annotated[Path, typer.Argument(help="Where to write the files.", show_default=False)],
    format: Annotated[FileFormat, typer.Option(help="Whose files to write.")] = FileFormat.clever,
    oneroster_version: Annotated[str, typer.Option(help="The version of OneRoster: 1.1 or 1.2.")] = "1.1",
    force: Annotated[bool, typer.Option("--force", help="Overwrite files of these names.")] = False,
    config_path: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the district's active roster as a delivery; synced to it again, it changes nothing."""
    from sftp_ingest.roster import contract, export, export_oneroster  # pyarrow is not needed by other commands
    from sftp_ingest.store import database, rosters

    here = shared.opened(config_path)
    shared.known(here.engine, district)
    if any(each.exists() and not each.is_dir() for each in (folder, *folder.parents)):
        raise ConfigError(f"{folder} cannot be a folder: a file is in its place")
    with shared.progress(f"export {district}") as stage:
        stage("roster")
        with database.reading(here.engine) as connection:
            now = rosters.current(connection, district)
        if not any(frame["active"].any() for frame in now.entities.values()):
            raise ConfigError(f"{district} has no roster yet; there is nothing to export")
        stage("files")
        told = export_oneroster.oneroster(now, oneroster_version) if format is FileFormat.oneroster else export.clever(now, contract.load(format.value))
        made = export.save(folder, told, force=force)
    if as_json:
        files = [{"name": each.name, "rows": each.rows, "bytes": each.size} for each in made]
        return shared.print_json({"district": district, "folder": str(folder), "format": format.value, "files": files, "left_out": dict(told.left_out)})
    for each in made:
        shared.out.print(f"{folder / each.name}  {each.rows:,} rows", highlight=False, soft_wrap=True)
    for kind, count in told.left_out.items():
        shared.out.print(f"left out: {count:,} {kind.replace('_', ' ')}, which the format cannot tell", highlight=False, soft_wrap=True)
    shared.out.print("These files hold personal data of children; they are readable by you alone. Delete them when they have served.", soft_wrap=True)
    return None
