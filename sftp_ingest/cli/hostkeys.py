"""`host-keys`: exchange the keys by which districts know the server, while it runs."""

from __future__ import annotations

import typer

from sftp_ingest import config
from sftp_ingest.cli import shared
from sftp_ingest.cli.shared import ConfigOption, JsonOption

app = typer.Typer(help="The host keys: who they are, and how they are exchanged while the daemon runs.", invoke_without_command=True)


@app.callback()
def _list_by_default(context: typer.Context, config_path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """The host keys: who they are, and how they are exchanged while the daemon runs. Without a command: all that are served."""
    if context.invoked_subcommand is None:
        list_keys(config_path, as_json)


@app.command("list")
def list_keys(config_path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """The keys that are used, that will be (.next) and that were (.old), with their fingerprints."""
    _tell(config.load(config.locate(config_path)), as_json)


@app.command("prepare")
def prepare(config_path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Make the next keys, and announce them to all who log in."""
    from sftp_ingest.intake import hostkeys

    settings = config.load(config.locate(config_path))
    hostkeys.prepare(settings)
    _tell(settings, as_json)


@app.command("switch")
def switch(config_path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Use the next keys; clients that have not heard of them by now will not know the server."""
    from sftp_ingest.intake import hostkeys

    settings = config.load(config.locate(config_path))
    hostkeys.switch(settings)
    _tell(settings, as_json)


@app.command("retire")
def retire(config_path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Delete the old keys; clients that follow announcements forget them."""
    from sftp_ingest.intake import hostkeys

    settings = config.load(config.locate(config_path))
    hostkeys.retire(settings)
    _tell(settings, as_json)


def _tell(settings: config.Config, as_json: bool) -> None:
    from sftp_ingest.intake import hostkeys

    found = hostkeys.fingerprints(settings)
    shared.tell("\n".join(f"{path}  {fingerprint}" for path, fingerprint in found.items()), found, as_json)
