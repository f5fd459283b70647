"""The command line: one small function a command, and one place where faults become exit codes.

What few commands need and takes long to import, such as asyncssh, they import in their own functions: nobody likes to wait for a list.

Exit codes: 0 done · 1 refused or held · 2 configuration, contract or arguments · 3 a fault of the machine or a bug · 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback

import typer

import sftp_ingest
from sftp_ingest.cli import accounts, districts, erasures, exports, holds, home, hostkeys, runs, samples, sessions, stories
from sftp_ingest.errors import ConfigError, ContractError, HoldError, IngestError, RunError

app = typer.Typer(
    name="sftp-ingest",
    help="School rosters by SFTP, every night: received, checked, compared, applied.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a pretty traceback shows local variables, and with them pupils
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init")(home.init)
app.command("serve")(home.serve)
districts.app.command("export")(exports.export)
districts.app.command("erase")(erasures.erase_district)
app.add_typer(districts.app, name="districts")
app.add_typer(accounts.app, name="accounts")
app.add_typer(erasures.app, name="users")
app.command("check")(runs.check)
app.command("sync")(runs.sync)
app.add_typer(runs.app, name="runs")
app.command("report")(runs.report)
app.command("why")(stories.why)
app.add_typer(holds.app, name="holds")
app.command("sample")(samples.sample)
app.command("sessions")(sessions.sessions)
app.add_typer(hostkeys.app, name="host-keys")
app.add_typer(home.config_app, name="config")
app.add_typer(home.database_app, name="database")


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(sftp_ingest.__version__)
        raise typer.Exit


@app.callback()
def _root(version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version and exit.")) -> None:
    """School rosters by SFTP, every night."""


def main() -> None:
    """Run the command line, and exit."""
    try:
        app()
    except (ConfigError, ContractError, HoldError, RunError) as fault:
        _end(str(fault), 2)
    except IngestError as fault:
        _end(str(fault), 3)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as fault:
        _end(": ".join(str(each) for each in (fault.filename, fault.strerror or type(fault).__name__) if each), 3)
    except KeyboardInterrupt:
        _end("interrupted", 130)
    except Exception as fault:  # its message may quote a cell, so only its kind and place are told
        print("".join(traceback.format_tb(fault.__traceback__)), file=sys.stderr, end="")
        _end(f"a bug in sftp-ingest, or a fault of this machine: {type(fault).__name__}", 3)


def _end(sentence: str, code: int) -> None:
    print(f"sftp-ingest: {sentence}", file=sys.stderr)
    sys.exit(code)
