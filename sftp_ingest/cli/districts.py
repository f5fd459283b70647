"""`districts`: who may deliver, how, and how they stand."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from sftp_ingest import config
from sftp_ingest.cli import accounts, shared
from sftp_ingest.cli.accounts import GenerateOption, KeyOption, PasswordOption
from sftp_ingest.cli.shared import ConfigOption, DistrictArgument, JsonOption, Opened
from sftp_ingest.errors import ConfigError
from sftp_ingest.intake import passwords
from sftp_ingest.model import Account, District
from sftp_ingest.store import ledger, register

app = typer.Typer(help="Districts: who may deliver, and how they stand.", invoke_without_command=True)

AccountOption = Annotated[str, typer.Option("--account", help="One of the district's further accounts.", show_default="the one of the district's own name")]


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
    opening = accounts.Opening.asked(key, password_stdin, generate_password)
    register.check_district_id(here.engine, district)
    config.check_data(here.config)
    _make_home(here.config.homes / district)
    register.add_district(here.engine, district, name or district, datetime.now(UTC))
    opening.give(here.engine, district)
    otherwise = "nobody can log in yet: give it a key (districts add-key) or a password (districts set-password)"
    opening.tell(f"added {district}", {"district": district}, otherwise, as_json)


@app.command("list")
def list_districts(config_path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """All districts and how they stand."""
    here = shared.opened(config_path)
    found = [_told(here, each) for each in register.districts(here.engine)]
    if as_json:
        return shared.print_json([shared.plain(each) for each in found])
    rows = shared.table("district", "state", "last delivery", "run", "outcome", "hold", "name")
    for each in found:
        state = f"overdue since {shared.instant(each['overdue_since'])}" if each["overdue_since"] else each["state"]
        cells = (each["id"], state, each["last_delivery"], each["last_run"], each["last_outcome"], each["open_hold"], each["name"])
        rows.add_row(*map(shared.words, cells))
    shared.show(rows, "there is no district yet; `sftp-ingest districts add ID` makes one")
    return None


@app.command("show")
def show(district: DistrictArgument, account: AccountOption = "", config_path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """One district: settings, accounts, what opens one of them, how it stands."""
    here = shared.opened(config_path)
    found = shared.known(here.engine, district)
    opening = _account(here, district, account)
    settings = here.config.settings(district)
    told = _told(here, found) | {
        "home": str(here.config.homes / district),
        "networks": list(settings.networks),
        "accounts": [each.name for each in register.accounts(here.engine, district)],
        "account": opening.name,
        **accounts.log_in(opening),
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
        return shared.print_json(shared.plain(told))
    for key, value in told.items():
        shared.out.print(f"{key:19} {shared.words(value)}".rstrip(), highlight=False, soft_wrap=True)
    return None


@app.command("pause")
def pause(district: DistrictArgument, config_path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Keep what the district uploads, and do not sync it."""
    here = shared.opened(config_path)
    register.set_paused(here.engine, district, True)
    shared.tell(f"{district} is paused; uploads are kept in its home", {"district": district, "paused": True}, as_json)


@app.command("resume")
def resume(district: DistrictArgument, config_path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Sync the district again, beginning with what lies in its home."""
    here = shared.opened(config_path)
    register.set_paused(here.engine, district, False)
    shared.tell(f"{district} is resumed", {"district": district, "paused": False}, as_json)


@app.command("set-password")
def set_password(
    district: DistrictArgument,
    account: AccountOption = "",
    password_stdin: PasswordOption = False,
    generate_password: GenerateOption = False,
    config_path: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give the district another password; without an option it is asked for."""
    here = shared.opened(config_path)
    name = _account(here, district, account).name
    password = accounts.password_of(password_stdin, generate_password) or typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    register.set_password_hash(here.engine, name, passwords.hash_password(password))
    sentence = f"password {password}" if generate_password else f"{name} has a new password"
    shared.tell(sentence, {"district": district, "account": name, "password": password if generate_password else True}, as_json)


@app.command("rotate-password")
def rotate_password(district: DistrictArgument, account: AccountOption = "", config_path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Make another password and print it once; the old one no longer opens a session, and sessions that are open go on."""
    set_password(district, account, generate_password=True, config_path=config_path, as_json=as_json)


@app.command("remove-password")
def remove_password(district: DistrictArgument, account: AccountOption = "", config_path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Let nobody in by a password any more; keys, and sessions that are open, stay good."""
    here = shared.opened(config_path)
    name = _account(here, district, account).name
    register.set_password_hash(here.engine, name, "")
    shared.tell(f"{name} can log in with a password no more", {"district": district, "account": name, "password": False}, as_json)


@app.command("add-key")
def add_key(
    district: DistrictArgument,
    key: Annotated[Path, typer.Argument(help="A file with public keys, as OpenSSH, PuTTYgen or Notepad saved it.", show_default=False)],
    expires: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="From this day on, in UTC, the key lets nobody in.", show_default=False)
    ] = None,
    account: AccountOption = "",
    config_path: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let the holder of a key log in, or of a certificate by a key that is marked as `cert-authority`."""
    from sftp_ingest.intake import keys as public_keys

    here = shared.opened(config_path)
    keys = accounts.keys_of(key)
    name = _account(here, district, account).name
    if expires:
        keys = tuple(public_keys.expiring(line, expires) for line in keys)
    for line in keys:
        register.add_key(here.engine, name, line)
    shared.tell(f"{name} can log in with the key", {"district": district, "account": name, "keys": len(keys)}, as_json)


@app.command("remove-key")
def remove_key(
    district: DistrictArgument,
    fingerprint: Annotated[str, typer.Argument(metavar="FINGERPRINT", help="SHA256:…, as `districts show` and `ssh-keygen -l` tell it.", show_default=False)],
    account: AccountOption = "",
    config_path: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let the holder of a key in no more; sessions that are open go on."""
    here = shared.opened(config_path)
    holder = _account(here, district, account)
    found = [line for line in holder.keys if accounts.fingerprint(line) == fingerprint]
    if not found:
        raise ConfigError(f"{holder.name} has no key {fingerprint}")
    for line in found:
        register.remove_key(here.engine, holder.name, line)
    shared.tell(f"{holder.name} can log in with the key no more", {"district": district, "account": holder.name, "keys": len(found)}, as_json)


def _account(here: Opened, district: str, name: str) -> Account:
    """The district's account of this name, or where none is given, of its own. Raises ConfigError where there is none."""
    own = shared.known(here.engine, district).id
    wanted = name or own
    found = register.account(here.engine, wanted)
    if found is None or found.district != own:
        raise ConfigError(f"{district} has no account {wanted}; `sftp-ingest accounts add {district} {wanted}` makes it")
    return found


def _make_home(home: Path) -> None:
    """Raises ConfigError where that cannot be: a district that is recorded has a home."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as fault:
        raise ConfigError(f"data: the home {home} cannot be made ({fault.strerror}); the district was not added") from fault


def _told(here: Opened, district: District) -> dict[str, Any]:
    from sftp_ingest import sweeps

    now = datetime.now(UTC)
    since = sweeps.overdue_since(here.engine, here.config, district, now)
    last = ledger.last_delivery(here.engine, district.id)
    runs = ledger.runs(here.engine, district.id, limit=1)
    held = ledger.holds(here.engine, district.id, "open")
    return {
        "id": district.id,
        "name": district.name,
        "state": sweeps.state_of(here.engine, here.config, district, now),
        "overdue_since": since,
        "last_delivery": last.received_at if last else None,
        "last_run": runs[0].id if runs else None,
        "last_outcome": runs[0].outcome or runs[0].state if runs else None,
        "open_hold": held[0].id if held else None,
    }
