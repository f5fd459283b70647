"""`init`, `serve`, `config`, `database`: the house that the daemon lives in."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from sftp_ingest import config
from sftp_ingest.cli import shared
from sftp_ingest.cli.shared import ConfigOption, JsonOption
from sftp_ingest.errors import ConfigError, ContractError
from sftp_ingest.logs import set_up_logging
from sftp_ingest.store import database

config_app = typer.Typer(help="Look at the configuration.", no_args_is_help=True)
database_app = typer.Typer(help="Keep the tables at this program's version.", no_args_is_help=True)


def init(
    folder: Annotated[Path, typer.Argument(help="Where to make it.")] = Path(),
    port: Annotated[int, typer.Option(help="Port of the SFTP server.", min=0, max=65535)] = 2222,
    host: Annotated[str, typer.Option(help="Address of the SFTP server.")] = "0.0.0.0",  # noqa: S104 -- meant to be reached
    database_url: Annotated[str, typer.Option(help="sqlite:///FILE or postgresql://…")] = "sqlite:///sftp-ingest.db",
    as_json: JsonOption = False,
) -> None:
    """Make a home folder: configuration, host keys, database. What is there already stays."""
    from sftp_ingest.intake import hostkeys  # asyncssh takes a moment that only this command and serve need

    if any(each.exists() and not each.is_dir() for each in (folder, *folder.parents)):
        raise ConfigError(f"{folder} cannot be a folder: a file is in its place")
    database.check_url(database_url)
    os.umask(0o077)  # the database holds children's data, the configuration perhaps a password
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / config.FILE_NAME
    if path.exists():
        shared.err.print(f"{path} is there already and stays as it is")
    else:
        template = resources.files("sftp_ingest").joinpath("sftp-ingest.example.toml").read_text(encoding="utf-8")
        for default, chosen in (("port = 2222", f"port = {port}"), ('host = "0.0.0.0"', f'host = "{host}"'), ("sqlite:///sftp-ingest.db", database_url)):
            template = template.replace(default, chosen, 1)
        path.write_text(template, encoding="utf-8")
    settings = config.load(path)
    for each in (settings.homes, settings.deliveries, settings.locks):
        each.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings.data.chmod(0o700)
    made = {each.name: hostkeys.make_host_key(each) for each in settings.host_keys if not each.exists()}
    set_up_logging(settings.log_format, quiet=True)
    database.upgrade(database.open_engine(settings.database_url))
    told = made | {"config": str(settings.file), "data": str(settings.data)}
    lines = [f"{key:12} {value}" for key, value in told.items()]
    shared.tell("\n".join([*lines, "next         sftp-ingest districts add ID --password-stdin, then sftp-ingest serve"]), told, as_json)


def serve(config_path: ConfigOption = None) -> None:
    """Receive deliveries until SIGTERM."""
    from sftp_ingest import daemon  # asyncssh, watchdog and APScheduler are for this command and `config check`

    settings = config.load(config.locate(config_path))
    set_up_logging(settings.log_format)
    daemon.serve(settings)


@config_app.command("check")
def config_check(config_path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say what the configuration comes to, and whether `serve` can begin with it: keys, folders, database, and the districts' own rules."""
    from sftp_ingest import daemon  # asyncssh, watchdog and APScheduler are for this command and `serve`

    settings = config.load(config.locate(config_path))
    for where, each in (("defaults", settings.defaults), *((f"districts.{name}", each) for name, each in settings.districts.items())):
        _check_rules(where, each)
    missing = [str(each) for each in settings.host_keys if not each.exists()]
    found: dict[str, str | list[str]] = {
        "config": str(settings.file),
        "data": str(settings.data),
        "database": database.check_url(settings.database_url).render_as_string(hide_password=True),
        "listen": f"{settings.server.host}:{settings.server.port}",
        "host_key": [key for each in settings.host_keys if (key := str(each)) not in missing],
    }
    if missing:
        found["missing_key"] = missing
    if settings.districts:
        found["own_settings"] = sorted(settings.districts)
    faults = [str(each) for each in daemon.obstacles(settings)]
    if as_json:
        shared.print_json(found | {"faults": faults})
    else:
        for key, value in found.items():
            told = (", ".join(value) or "none") if isinstance(value, list) else value
            if key == "missing_key" and found["host_key"]:
                told = f"{told} (`sftp-ingest init` makes it; the daemon does without)"
            shared.out.print(f"{key.replace('_', ' '):12} {told}", highlight=False, markup=False, soft_wrap=True)
        for fault in faults:
            typer.echo(f"sftp-ingest: {fault}", err=True)
    if faults:
        raise typer.Exit(2)


def _check_rules(where: str, settings: config.Settings) -> None:
    """Raises ContractError, naming the key, where a district's own rules, or what it keeps, fit no format that its files may be in."""
    if not (settings.contract or settings.keep_sensitive):
        return
    from sftp_ingest.roster import contract, formats, overlay  # pandas and pandera take two seconds that other commands need not wait

    faults = []
    names = formats.FORMATS if settings.format == "auto" else [settings.format]
    for name in names:
        key = "contract"
        try:
            own = overlay.laid_over(contract.load(name), settings.contract)
            key = "keep_sensitive"
            overlay.keeping(own, settings.keep_sensitive)
        except ContractError as fault:
            faults.append(f"{where}.{key}: {fault}")
    if len(faults) == len(names):
        raise ContractError(faults[0])


@database_app.command("upgrade")
def database_upgrade(config_path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Bring the tables to this program's version."""
    settings = config.load(config.locate(config_path))
    set_up_logging(settings.log_format, quiet=True)
    database.upgrade(database.open_engine(settings.database_url))
    shared.tell("the tables are this program's", {"upgraded": True}, as_json)
