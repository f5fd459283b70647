"""`sample`: realistic districts to try things with."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from sftp_ingest.cli import shared
from sftp_ingest.cli.shared import FileFormat, JsonOption
from sftp_ingest.errors import ConfigError


def sample(
    folder: Annotated[Path, typer.Argument(help="Where to write night-1/, night-2/, …", show_default=False)],
    students: Annotated[int, typer.Option(help="How many students; 20 at least.")] = 1000,
    nights: Annotated[int, typer.Option(help="How many nights; each changes about one record in a hundred.")] = 1,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    faults: Annotated[bool, typer.Option("--faults", help="Put a dozen faults into the last night.")] = False,
    fault_share: Annotated[
        float, typer.Option(help="Put a fault into this share of the last night's rows of people and enrollments: 0.002 is two in a thousand.")
    ] = 0.0,
    wrong_column: Annotated[str, typer.Option(help="Make every cell of this column of the last night's students.csv wrong.", show_default=False)] = "",
    format: Annotated[FileFormat, typer.Option(help="Whose files to write.")] = FileFormat.clever,
    oneroster_version: Annotated[str, typer.Option(help="The version of OneRoster: 1.1 or 1.2.")] = "1.1",
    as_json: JsonOption = False,
) -> None:
    """Write the files of a made-up district, one folder a night."""
    from sftp_ingest import sample as generator  # numpy and pyarrow are not needed by other commands

    if any(each.exists() and not each.is_dir() for each in (folder, *folder.parents)):
        raise ConfigError(f"{folder} cannot be a folder: a file is in its place")
    if taken := next((each for each in sorted(folder.glob("night-*")) if each.is_dir() and any(each.iterdir())), None):
        raise ConfigError(f"{taken} holds files already; two districts in one folder make a third: remove it, or give another folder")

    with Progress(console=shared.err, transient=True, disable=not shared.err.is_terminal) as bar:
        task = bar.add_task("sample")
        made = generator.write(
            folder,
            students=students,
            nights=nights,
            seed=seed,
            faults=faults,
            fault_share=fault_share,
            wrong_column=wrong_column,
            format=format.value,
            oneroster_version=oneroster_version,
            progress=lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
        )
    if as_json:
        return shared.print_json([{key: str(value) if isinstance(value, Path) else value for key, value in asdict(night).items()} for night in made])
    for night in made:
        story = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in night.story.items() if count)
        shared.out.print(
            f"{night.folder}  {night.students:,} students, {night.sections:,} sections, {night.enrollments:,} enrollments{'; ' + story if story else ''}",
            highlight=False,
            soft_wrap=True,
        )
    return None
