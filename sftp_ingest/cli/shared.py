"""What the commands share: options, the open configuration, and how results are printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from sqlalchemy import Engine

from sftp_ingest import config
from sftp_ingest.errors import ConfigError
from sftp_ingest.logs import set_up_logging
from sftp_ingest.model import District
from sftp_ingest.store import database, register

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="The configuration; else $SFTP_INGEST_CONFIG, else ./sftp-ingest.toml.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
RunArgument = Annotated[int, typer.Argument(help="The run's number.", min=1, max=2**31 - 1)]
DistrictArgument = Annotated[str, typer.Argument(help="The district's id.", show_default=False)]

_WIDE = 100_000
"""Where nobody's terminal sets a width, as in a pipe or a file, no line wraps and no table is cut: a line is what `grep` and `head` count."""

out = Console(width=None if sys.stdout.isatty() else _WIDE)
err = Console(stderr=True)


class FileFormat(StrEnum):
    """Whose files a command writes."""

    clever = "clever"
    oneroster = "oneroster"


@dataclass(frozen=True)
class Opened:
    """The configuration and its database, the tables of which are this program's."""

    config: config.Config
    engine: Engine


def opened(path: Path | None) -> Opened:
    """Open what --config names. Raises ConfigError or StoreError with what to do."""
    settings = config.load(config.locate(path))
    set_up_logging(settings.log_format, quiet=True)
    engine = database.open_engine(settings.database_url)
    database.check(engine)
    return Opened(settings, engine)


def writable(option: typer.CallbackParam, path: Path | None) -> Path | None:
    """A path that a file may be written to. Raises ConfigError, naming the option."""
    name = option.opts[0]
    if path is not None and path.is_dir():
        raise ConfigError(f"{name}: {path} is a folder")
    if path is not None and not path.parent.is_dir():
        raise ConfigError(f"{name}: there is no folder {path.parent}")
    return path


def _folder(option: typer.CallbackParam, path: Path | None) -> Path | None:
    if path is not None and path.exists() and not path.is_dir():
        raise ConfigError(f"{option.opts[0]}: {path} is not a folder")
    if path is not None and not path.parent.is_dir():
        raise ConfigError(f"{option.opts[0]}: there is no folder {path.parent}")
    return path


HtmlOption = Annotated[Path | None, typer.Option("--html", help="Also write the report as one HTML file.", callback=writable, show_default=False)]

FixItOption = Annotated[
    Path | None,
    typer.Option("--fix-it", help="Also write what was left out and what would change into this folder, as CSV.", callback=_folder, show_default=False),
]


def known(engine: Engine, district: str) -> District:
    """The district of this id. Raises ConfigError where there is none."""
    found = register.district(engine, district)
    if found is None:
        raise ConfigError(f"there is no district {district}; `sftp-ingest districts add {district}` makes it")
    return found


def print_json(value: Any) -> None:
    """Print plain JSON, never wrapped or coloured."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def tell(sentence: str, result: Mapping[str, Any], as_json: bool) -> None:
    """Print what was done: the sentence for people, or the result."""
    if as_json:
        print_json(dict(result))
    else:
        out.print(sentence, highlight=False, soft_wrap=True)


def table(*columns: str) -> Table:
    """An empty table in the house's style: only its last column may wrap."""
    made = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column, no_wrap=column != columns[-1])
    return made


def show(rows: Table, otherwise: str) -> None:
    """Print the table, or where it has no row, a sentence."""
    if rows.row_count:
        out.print(rows)
    else:
        out.print(otherwise, highlight=False, soft_wrap=True)


def instant(moment: datetime | None) -> str:
    """A moment for people, in UTC."""
    return f"{moment:%Y-%m-%d %H:%M}Z" if moment else ""


def words(value: object) -> str:
    """A value for people."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, datetime):
        return instant(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {words(each)}" for name, each in value.items())
    return ", ".join(map(words, value)) if isinstance(value, list) else str(value)


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with moments as ISO texts."""
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in values.items()}


@contextmanager
def progress(title: str) -> Iterator[Callable[[str], None]]:
    """A line on a terminal that tells the stage and the time; nothing where standard error is no terminal."""
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(title, total=None)
        yield lambda stage: bar.update(task, description=f"{title}: {stage}")
