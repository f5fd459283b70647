"""`accounts`: who may log in to a district's home beside the account of the district's own name."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import Engine

from sftp_ingest.cli import shared
from sftp_ingest.cli.shared import ConfigOption, DistrictArgument, JsonOption
from sftp_ingest.errors import ConfigError
from sftp_ingest.intake import passwords
from sftp_ingest.model import Account
from sftp_ingest.store import register

app = typer.Typer(help="Accounts: who may log in to a district's home.", invoke_without_command=True)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The account's name, which a client logs in with.", show_default=False)]
KeyOption = Annotated[Path | None, typer.Option("--key", help="A file with public keys, as OpenSSH, PuTTYgen or Notepad saved it.", show_default=False)]
PasswordOption = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]
GenerateOption = Annotated[bool, typer.Option("--generate-password", help="Make a password and print it once.")]


@dataclass(frozen=True)
class Opening:
    """What opens a new account: public key lines, and a password, which is told once where it was `generated`."""

    keys: tuple[str, ...]
    password: str
    generated: bool

    @classmethod
    def asked(cls, key: Path | None, stdin: bool, generate: bool) -> Opening:
        """What the options ask for. Raises ConfigError where it could open nothing."""
        return cls(keys_of(key) if key else (), password_of(stdin, generate), generate)

    def give(self, engine: Engine, account: str) -> None:
        """Let in by the account whoever has one of the keys, or the password."""
        for line in self.keys:
            register.add_key(engine, account, line)
        if self.password:
            register.set_password_hash(engine, account, passwords.hash_password(self.password))

    def tell(self, sentence: str, added: Mapping[str, str], otherwise: str, as_json: bool) -> None:
        """Print what was added, a generated password with it, and `otherwise` where nothing opens it yet."""
        if as_json:
            return shared.print_json({**added, "keys": len(self.keys), "password": self.password if self.generated else bool(self.password)})
        shared.out.print(sentence, highlight=False)
        if self.generated:
            shared.out.print(f"password {self.password}", highlight=False, soft_wrap=True)
        if not self.keys and not self.password:
            shared.out.print(otherwise, highlight=False, soft_wrap=True)
        return None


@app.callback()
def _list_by_default(context: typer.Context, config_path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Accounts: who may log in to a district's home. Without a command: all of them."""
    if context.invoked_subcommand is None:
        list_accounts("", config_path, as_json)


@app.command("add")
def add(
    district: DistrictArgument,
    name: NameArgument,
    key: KeyOption = None,
    password_stdin: PasswordOption = False,
    generate_password: GenerateOption = False,
    config_path: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give the district a further account, with a key, a password, or both. All its accounts share its home, networks and limits."""
    here = shared.opened(config_path)
    opening = Opening.asked(key, password_stdin, generate_password)
    shared.known(here.engine, district)
    register.add_account(here.engine, district, name, datetime.now(UTC))
    opening.give(here.engine, name)
    otherwise = f"nobody can log in with it yet: give it a key (districts add-key {district} --account {name}) or a password"
    opening.tell(f"added {name} to {district}", {"account": name, "district": district}, otherwise, as_json)


@app.command("list")
def list_accounts(
    district: Annotated[str, typer.Argument(help="Only this district's.", show_default=False)] = "",
    config_path: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """All accounts, and what opens them."""
    from sftp_ingest.intake import keys as public_keys

    here = shared.opened(config_path)
    of = shared.known(here.engine, district).id if district else None
    found = register.accounts(here.engine, of)
    if as_json:
        told = [{"account": each.name, "district": each.district, "created_at": each.created_at.isoformat(), **log_in(each)} for each in found]
        return shared.print_json(told)
    rows = shared.table("account", "district", "added", "password", "keys")
    for each in found:
        keys = "\n".join(public_keys.told(line) for line in each.keys)
        rows.add_row(each.name, each.district, shared.instant(each.created_at), "yes" if each.password_hash else "", keys)
    shared.show(rows, "there is no account yet; `sftp-ingest districts add ID` makes the first one")
    return None


@app.command("remove")
def remove(name: NameArgument, config_path: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Let nobody in by this account any more; sessions that are open go on. A district's own account goes with the district."""
    here = shared.opened(config_path)
    gone = register.remove_account(here.engine, name)
    told = {"account": name, "district": gone.district, "keys": len(gone.keys), "password": bool(gone.password_hash)}
    shared.tell(f"{name} is no account of {gone.district} any more", told, as_json)


def log_in(account: Account) -> dict[str, object]:
    """What opens an account, for people."""
    from sftp_ingest.intake import keys as public_keys

    return {"keys": [f"{public_keys.told(line)} {fingerprint(line)}" for line in account.keys], "password": bool(account.password_hash)}


def fingerprint(line: str) -> str:
    """By what a key is told from all others, also where its line became unreadable."""
    from sftp_ingest.intake import keys as public_keys

    try:
        return public_keys.fingerprint(line)
    except ConfigError:
        return "(unreadable)"


def keys_of(path: Path) -> tuple[str, ...]:
    """The keys of a file, one a line of OpenSSH's. Raises ConfigError, naming the line, where one could not log in."""
    from sftp_ingest.intake import keys as public_keys

    try:
        numbered = public_keys.key_lines(path.read_bytes())
    except OSError as fault:
        raise ConfigError(f"the key file {path} cannot be read: {fault.strerror}") from fault
    except ConfigError as fault:
        raise ConfigError(f"{path}: {fault}") from fault
    for number, line in numbered:
        try:
            public_keys.check_key(line)
        except ConfigError as fault:
            raise ConfigError(f"{path}, line {number}: {fault}") from fault
    keys = tuple(line for _, line in numbered)
    if not keys:
        raise ConfigError(f"the key file {path} holds no key")
    return keys


def password_of(stdin: bool, generate: bool) -> str:
    """The password that the options ask for; empty where they ask for none. Raises ConfigError."""
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
