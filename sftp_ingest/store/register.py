"""The register: districts, and the accounts by which they log in."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, Engine, RowMapping, delete, insert, select, update

from sftp_ingest.errors import ConfigError
from sftp_ingest.model import Account, District
from sftp_ingest.store import tables
from sftp_ingest.store.database import insisting, reading, writing

DISTRICT_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""What a district, and an account, may be called: a log-in name, and of a district the name of a folder too."""

# ---------------------------------------------------------------- districts


def check_district_id(engine: Engine, district_id: str) -> None:
    """Raises ConfigError where no new district may have this id, which is the name of its home and of its first account."""
    with reading(engine) as connection:
        _check_district_id(connection, district_id)


@insisting
def add_district(engine: Engine, district_id: str, name: str, now: datetime) -> District:
    """The new district, with an account of its own id, without password and keys. Raises ConfigError where the id cannot be one, or is taken."""
    with writing(engine) as connection:
        _check_district_id(connection, district_id)
        connection.execute(insert(tables.districts), {"id": district_id, "name": name, "created_at": now, "paused": False})
        connection.execute(insert(tables.roster_states), {"district_id": district_id, "rules": "", "repeatable": False, "touches": 0, "touches_known": 0})
        _insert_account(connection, Account(district_id, district_id, now))
    return District(district_id, name, now)


def _check_district_id(connection: Connection, district_id: str) -> None:
    if not DISTRICT_ID.fullmatch(district_id):
        raise ConfigError("a district's id is 1 to 63 small letters, digits, - and _, and begins with a letter or a digit")
    _refuse_taken(connection, district_id)


def district(engine: Engine, district_id: str) -> District | None:
    """The district of this id, or None."""
    with reading(engine) as connection:
        row = connection.execute(select(tables.districts).where(tables.districts.c.id == district_id)).mappings().one_or_none()
    return _district(row) if row else None


def districts(engine: Engine) -> list[District]:
    """All districts, by id."""
    with reading(engine) as connection:
        return [_district(row) for row in connection.execute(select(tables.districts).order_by(tables.districts.c.id)).mappings()]


@insisting
def set_paused(engine: Engine, district_id: str, paused: bool) -> None:
    """Pauses or resumes a district. Raises ConfigError where there is none of this id."""
    with writing(engine) as connection:
        lock(connection, district_id)
        connection.execute(update(tables.districts).where(tables.districts.c.id == district_id).values(paused=paused))


def lock(connection: Connection, district_id: str) -> None:
    """Waits as `locked` does. Raises ConfigError where there is no such district."""
    if not locked(connection, district_id):
        raise ConfigError(f"there is no district {district_id}")


def locked(connection: Connection, district_id: str) -> bool:
    """Whether there is such a district, once nobody else changes it or its runs until the transaction ends.

    SQLite's writers are one at a time anyway, and its SQL has no such lock.
    """
    row = select(tables.districts.c.id).where(tables.districts.c.id == district_id)
    # key_share: rows that merely refer to the district may still be written
    return connection.scalar(row.with_for_update(key_share=True)) is not None


def _district(row: RowMapping) -> District:
    return District(row["id"], row["name"], row["created_at"], row["paused"])


# ---------------------------------------------------------------- accounts


@insisting
def add_account(engine: Engine, district_id: str, name: str, now: datetime) -> Account:
    """A further account of the district, without password and keys. Raises ConfigError where there is no such district, or the name is no name, or taken."""
    if not DISTRICT_ID.fullmatch(name):
        raise ConfigError("an account's name is 1 to 63 small letters, digits, - and _, and begins with a letter or a digit")
    added = Account(name, district_id, now)
    with writing(engine) as connection:
        lock(connection, district_id)
        _refuse_taken(connection, name)
        _insert_account(connection, added)
    return added


@insisting
def remove_account(engine: Engine, name: str) -> Account:
    """Lets nobody in by this account any more; returns what it was. Raises ConfigError where there is none, or it is a district's own."""
    with writing(engine) as connection:
        found = _locked_account(connection, name)
        if found.name == found.district:
            raise ConfigError(f"{name} is the district's own account, which goes with the district; its keys and its password can be removed")
        connection.execute(delete(tables.accounts).where(tables.accounts.c.name == name))
    return found


def account(engine: Engine, name: str) -> Account | None:
    """The account of this name, or None."""
    with reading(engine) as connection:
        row = connection.execute(select(tables.accounts).where(tables.accounts.c.name == name)).mappings().one_or_none()
    return _account(row) if row else None


def accounts(engine: Engine, district_id: str | None = None) -> list[Account]:
    """All accounts, or those of one district, by district and name, a district's own first."""
    table = tables.accounts
    query = select(table).order_by(table.c.district_id, table.c.name != table.c.district_id, table.c.name)
    if district_id is not None:
        query = query.where(table.c.district_id == district_id)
    with reading(engine) as connection:
        return [_account(row) for row in connection.execute(query).mappings()]


@insisting
def set_password_hash(engine: Engine, name: str, password_hash: str) -> None:
    """Keeps the argon2id hash of an account's password; an empty one forbids passwords. Raises ConfigError where there is no such account."""
    with writing(engine) as connection:
        _locked_account(connection, name)
        connection.execute(update(tables.accounts).where(tables.accounts.c.name == name).values(password_hash=password_hash))


@insisting
def add_key(engine: Engine, name: str, key: str) -> None:
    """Lets the holder of an OpenSSH public key line in; a key that is there already stays once. Raises ConfigError where there is no such account."""
    line = key.strip()
    if not line or len(line.splitlines()) > 1:
        raise ConfigError("a public key is one line, as in the file id_ed25519.pub")
    with writing(engine) as connection:
        _keep_keys(connection, name, (*_locked_account(connection, name).keys, line))


@insisting
def remove_key(engine: Engine, name: str, key: str) -> None:
    """Lets the holder of that line in no more. Raises ConfigError where there is no such account, or the line is none of its own."""
    with writing(engine) as connection:
        held = _locked_account(connection, name).keys
        if key not in held:
            raise ConfigError(f"{name} has no such key")
        _keep_keys(connection, name, [each for each in held if each != key])


def _keep_keys(connection: Connection, name: str, keys: Iterable[str]) -> None:
    connection.execute(update(tables.accounts).where(tables.accounts.c.name == name).values(authorized_keys="\n".join(dict.fromkeys(keys))))


def _locked_account(connection: Connection, name: str) -> Account:
    """The account, which nobody else changes until the transaction ends. Raises ConfigError where there is none."""
    row = connection.execute(select(tables.accounts).where(tables.accounts.c.name == name).with_for_update()).mappings().one_or_none()
    if row is None:
        raise ConfigError(f"there is no account {name}")
    return _account(row)


def _refuse_taken(connection: Connection, name: str) -> None:
    """Raises ConfigError where a district or an account has this name."""
    district_id = connection.scalar(select(tables.accounts.c.district_id).where(tables.accounts.c.name == name))
    if district_id is not None:
        raise ConfigError(f"there is a district {name} already" if district_id == name else f"there is an account {name} already, of {district_id}")


def _insert_account(connection: Connection, added: Account) -> None:
    row = {"name": added.name, "district_id": added.district, "created_at": added.created_at, "password_hash": "", "authorized_keys": ""}
    connection.execute(insert(tables.accounts), row)


def _account(row: RowMapping) -> Account:
    return Account(row["name"], row["district_id"], row["created_at"], row["password_hash"], tuple(row["authorized_keys"].splitlines()))
