"""What is known of the roster as it stands: which run brought it, by which rules, and whether anyone else has written to it since."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, text, update

from sftp_ingest.model import ENTITIES
from sftp_ingest.store import tables

WRITING = "sftp_ingest.writing"
"""A setting of PostgreSQL, on while a run writes to the roster: then nobody else does."""

_WATCHED = tuple(dict.fromkeys(each.table for each in ENTITIES.values() if not each.incremental))
"""What is only ever added to is not compared as a whole, and may be touched."""

_WORDS = ("INSERT", "UPDATE", "DELETE")
_NOTICE = "notice_writing"


@dataclass(frozen=True)
class State:
    """The state of a district's roster: `run` brought or confirmed it, judging by `rules`; its files were `read_at` last.

    `repeatable` says that the same files, by the same rules, would be told in the same words. `touched` tells that somebody else than a run
    has written to the roster since, and `touches` how often that was ever seen. `token` is another with every change that a run made, also
    where runs are numbered anew because the database was put back to what it was.
    """

    run: int | None
    rules: str
    repeatable: bool
    read_at: datetime | None
    touches: int
    touched: bool = False
    token: str = ""


def of(connection: Connection, district_id: str) -> State:
    """The state of the district's roster; read in the transaction that reads the roster, it is the state of exactly that."""
    table = tables.roster_states
    row = connection.execute(select(table).where(table.c.district_id == district_id)).mappings().one_or_none()
    if row is None:  # a district is given one with its own row: somebody has taken it away
        return State(None, "", False, None, 0, True)
    return State(row["run_id"], row["rules"], row["repeatable"], row["read_at"], row["touches"], row["touches"] != row["touches_known"], row["token"])


def keep(connection: Connection, district_id: str, state: State) -> None:
    """Keep the state with the run that ends; nothing is kept where somebody else writes to the roster just now, for whom nobody should wait.

    `touches` must be those of the state that was read with the roster: whoever wrote in between is then not overlooked.
    """
    table = tables.roster_states
    mine = select(table.c.district_id).where(table.c.district_id == district_id).with_for_update(skip_locked=True)
    values = {
        "run_id": state.run,
        "rules": state.rules,
        "repeatable": state.repeatable,
        "read_at": state.read_at,
        "touches_known": state.touches,
        "token": state.token,
    }
    connection.execute(update(table).where(table.c.district_id.in_(mine.scalar_subquery())).values(values))


@contextmanager
def writing(connection: Connection) -> Iterator[None]:
    """Inside, writing to the roster is not noticed: that is a run's own."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SET LOCAL {WRITING} = 'on'"))
        yield
        connection.execute(text(f"SET LOCAL {WRITING} = ''"))
    else:  # triggers of SQLite are called once a row, and the fastest of them costs more than none
        for name in _triggers():
            connection.execute(text(f"DROP TRIGGER {name}"))
        yield
        notice(connection)


def notice(connection: Connection) -> None:
    """From now on, whoever writes to the roster is noticed, but for those inside `writing`."""
    if connection.dialect.name == "postgresql":
        noticed = "UPDATE roster_states SET touches = touches + 1"
        connection.execute(text(f"CREATE FUNCTION {_NOTICE}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {noticed}; RETURN NULL; END'"))
        for name in _WATCHED:
            connection.execute(
                text(
                    f"CREATE TRIGGER {_NOTICE} AFTER {' OR '.join(_WORDS)} OR TRUNCATE ON {name} FOR EACH STATEMENT"
                    f" WHEN (coalesce(current_setting('{WRITING}', true), '') = '') EXECUTE FUNCTION {_NOTICE}()"
                )
            )
        return
    for name, (table, word) in _triggers().items():
        row = "OLD" if word == "DELETE" else "NEW"
        noticed = f"UPDATE roster_states SET touches = touches + 1 WHERE district_id = {row}.district_id"
        connection.execute(text(f"CREATE TRIGGER {name} AFTER {word} ON {table} BEGIN {noticed}; END"))


def _triggers() -> dict[str, tuple[str, str]]:
    """SQLite's triggers: name → table and word."""
    return {f"{_NOTICE}_{table}_{word.lower()}": (table, word) for table in _WATCHED for word in _WORDS}
