"""`districts`: who may deliver, how, and how they stand."""

from __future__ import annotations

import secrets
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from sftp_ingest import sweeps
from sftp_ingest.cli import shared
from sftp_ingest.cli.shared import ConfigOption, DistrictArgument, JsonOption, Opened
from sftp_ingest.errors import ConfigError
from sftp_ingest.intake import keys as public_keys
from sftp_ingest.intake import passwords
from sftp_ingest.model import District
from sftp_ingest.store import ledger

app = typer.Typer(help="Districts: who may deliver, and how they stand.", invoke_without_command=True)

KeyOption = Annotated[Path | None, typer.Option("--key", help="A file with OpenSSH public keys.", show_default=False)]
PasswordOption = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]
GenerateOption = Annotated[bool, typer.Option("--generate-password", help="Make a password and print it once.")]


@app.callback()
def _list_by_default(context: typer.Context, config_path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Districts: who may deliver, and how they stand. Without a command: all of them."""
    if context.invoked_subcommand is None:
        list_districts(config_path, as_json)


@app.command("add")
def add(
    district: DistrictArgument,
    name: Annotated[str, typer.Option(help="What people call it.")] = "",
    key: KeyOption = None,
    password_stdin: PasswordOption = False,
    generate_password: GenerateOption = False,
    config_path: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a district, with a key, a password, or both."""
    here = shared.opened(config_path)
    keys = _keys(key) if key else ()
    password = _password(password_stdin, generate_password)
    ledger.check_district_id(district)
    _make_home(here.config.homes / district)
    ledger.add_district(here.engine, district, name or district, datetime.now(UTC))
    for line in keys:
        ledger.add_key(here.engine, district, line)
    if password:
        ledger.set_password_hash(here.engine, district, passwords.hash_password(password))
    told = {"district": district, "keys": len(keys), "password": password if generate_password else bool(password)}
    if as_json:
        return shared.print_json(told)
    shared.out.print(f"added {district}", highlight=False)
    if generate_password:
        shared.out.print(f"password {password}", highlight=False, soft_wrap=True)
    if not keys and not password:
        shared.out.print("nobody can log in yet: give it a key (districts add-key) or a password (districts set-password)")
    return None


@app.command("list")
def list_districts(config_path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """All districts and how they stand."""
    here = shared.opened(config_path)
    found = [_told(here, each) for each in ledger.districts(here.engine)]
    if as_json:
        return shared.print_json(found)
    rows = shared.table("district", "state", "last delivery", "run", "outcome", "hold", "name")
    for each in found:
        state = f"overdue since {each['overdue_since'][:16]}Z" if each["overdue_since"] else each["state"]
        delivered = f"{each['last_delivery'][:16].replace('T', ' ')}Z" if each["last_delivery"] else ""
        cells = (each["id"], state, delivered, each["last_run"], each["last_outcome"], each["open_hold"], each["name"])
        rows.add_row(*("" if cell is None else str(cell) for cell in cells))
    shared.show(rows, "there is no district yet; `sftp-ingest districts add ID` makes one")
    return None


@app.command("show")
def show(district: DistrictArgument, config_path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """One district: settings, log-ins, how it stands."""
    here = shared.opened(config_path)
    found = shared.known(here.engine, district)
    settings = here.config.settings(district)
    told = _told(here, found) | {
        "home": str(here.config.homes / district),
        "keys": [f"{public_keys.told(line)} {_fingerprint(line)}" for line in found.keys],
        "networks": list(settings.networks),
        "password": bool(found.password_hash),
        "settle_seconds": settings.settle_seconds,
        "strict": settings.strict,
        "format": settings.format,
        "contract": settings.contract,
        "overdue_hours": settings.overdue_hours,
        "keep_sensitive": list(settings.keep_sensitive),
        "keep_nights": settings.keep_nights,
        "keep_changes_nights": settings.keep_changes_nights,
        "limits": vars(settings.limits),
    }
    if as_json:
        return shared.print_json(told)
    for key, value in told.items():
        words = (
            ", ".join(f"{name} {each}" for name, each in value.items()) if isinstance(value, dict) else ", ".join(value) if isinstance(value, list) else value
        )
        shared.out.print(f"{key:19} {'' if words is None else words}".rstrip(), highlight=False, soft_wrap=True)
    return None


@app.command("pause")
def pause(district: DistrictArgument, config_path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Keep what the district uploads, and do not sync it."""
    here = shared.opened(config_path)
    ledger.set_paused(here.engine, district, True)
    shared.tell(f"{district} is paused; uploads are kept in its home", {"district": district, "paused": True}, as_json)


@app.command("resume")
def resume(district: DistrictArgument, config_path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Sync the district again, beginning with what lies in its home."""
    here = shared.opened(config_path)
    ledger.set_paused(here.engine, district, False)
    shared.tell(f"{district} is resumed", {"district": district, "paused": False}, as_json)


@app.command("set-password")
def set_password(
    district: DistrictArgument,
    password_stdin: PasswordOption = False,
    generate_password: GenerateOption = False,
    config_path: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give the district another password; without an option it is asked for."""
    here = shared.opened(config_path)
    shared.known(here.engine, district)
    password = _password(password_stdin, generate_password) or typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    ledger.set_password_hash(here.engine, district, passwords.hash_password(password))
    sentence = f"password {password}" if generate_password else f"{district} has a new password"
    shared.tell(sentence, {"district": district, "password": password if generate_password else True}, as_json)


@app.command("rotate-password")
def rotate_password(district: DistrictArgument, config_path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Make another password and print it once; the old one no longer opens a session, and sessions that are open go on."""
    set_password(district, generate_password=True, config_path=config_path, as_json=as_json)


@app.command("add-key")
def add_key(
    district: DistrictArgument,
    key: Annotated[Path, typer.Argument(help="A file with OpenSSH public keys.", show_default=False)],
    expires: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="From this day on, in UTC, the key lets nobody in.", show_default=False)
    ] = None,
    config_path: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let the holder of a key log in, or of a certificate by a key that is marked as `cert-authority`."""
    here = shared.opened(config_path)
    keys = _keys(key)
    if expires:
        keys = tuple(public_keys.expiring(line, expires) for line in keys)
    for line in keys:
        ledger.add_key(here.engine, district, line)
    shared.tell(f"{district} can log in with the key", {"district": district, "keys": len(keys)}, as_json)


@app.command("remove-key")
def remove_key(
    district: DistrictArgument,
    fingerprint: Annotated[str, typer.Argument(metavar="FINGERPRINT", help="SHA256:…, as `districts show` and `ssh-keygen -l` tell it.", show_default=False)],
    config_path: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let the holder of a key in no more; sessions that are open go on."""
    here = shared.opened(config_path)
    found = [line for line in shared.known(here.engine, district).keys if _fingerprint(line) == fingerprint]
    if not found:
        raise ConfigError(f"{district} has no key {fingerprint}")
    for line in found:
        ledger.remove_key(here.engine, district, line)
    shared.tell(f"{district} can log in with the key no more", {"district": district, "keys": len(found)}, as_json)


def _fingerprint(line: str) -> str:
    try:
        return public_keys.fingerprint(line)
    except ConfigError:
        return "(unreadable)"


def _make_home(home: Path) -> None:
    """Raises ConfigError where that cannot be: a district that is recorded has a home."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as fault:
        raise ConfigError(f"data: the home {home} cannot be made ({fault.strerror}); the district was not added") from fault


def _told(here: Opened, district: District) -> dict[str, Any]:
    now = datetime.now(UTC)
    since = sweeps.overdue_since(here.engine, here.config, district, now)
    last = ledger.last_delivery(here.engine, district.id)
    runs = ledger.runs(here.engine, district.id, limit=1)
    held = ledger.holds(here.engine, district.id, "open")
    return {
        "id": district.id,
        "name": district.name,
        "state": sweeps.state_of(here.engine, here.config, district, now),
        "overdue_since": since.isoformat() if since else None,
        "last_delivery": last.received_at.isoformat() if last else None,
        "last_run": runs[0].id if runs else None,
        "last_outcome": runs[0].outcome or runs[0].state if runs else None,
        "open_hold": held[0].id if held else None,
    }


def _keys(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise ConfigError(f"the key file {path} cannot be read") from fault
    numbered = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith("#")]
    for number, line in numbered:
        try:
            public_keys.check_key(line)
        except ConfigError as fault:
            raise ConfigError(f"{path}, line {number}: {fault}") from fault
    keys = tuple(line for _, line in numbered)
    if not keys:
        raise ConfigError(f"the key file {path} holds no key")
    return keys


def _password(stdin: bool, generate: bool) -> str:
    if stdin and generate:
        raise ConfigError("--password-stdin and --generate-password exclude each other")
    if generate:
        return secrets.token_urlsafe(18)
    if not stdin:
        return ""
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise ConfigError("--password-stdin: standard input holds no password")
    return password
