"""What ours does on a night, as the daemon's process for a run does it: claim, sync, report; and its reading alone.

Not in it is what the daemon does before a run: to receive the files by SFTP, to link and to hash them. Here they are copied, outside the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.contender import FILES, Told, be_one

if TYPE_CHECKING:  # a contender imports what it needs before its clock begins, and no other
    from pandas import DataFrame
    from sqlalchemy import Engine

    from sftp_ingest.config import Config


def _opened(home: str) -> tuple[Config, Engine]:
    from sftp_ingest import config
    from sftp_ingest.logs import set_up_logging
    from sftp_ingest.store import database

    found = config.load(Path(home) / "sftp-ingest.toml")
    set_up_logging(found.log_format, quiet=True)
    engine = database.open_engine(found.database_url)
    database.check(engine)
    return found, engine


def sync(home: str, district: str, folder: str, whole: str = "False") -> Iterator[Told | None]:
    """A whole run, in a database that may hold the nights before; told are its own stages, and what was outside them.

    `whole` has it read all of the files, as it does where the night before was judged by other rules.
    """
    from sqlalchemy import update

    from sftp_ingest import ready, runner  # noqa: F401 - `ready` as the daemon's fork server has it loaded
    from sftp_ingest.intake import inbox
    from sftp_ingest.store import database, ledger, tables

    settings, engine = _opened(home)
    if whole == "True":
        with database.writing(engine) as connection:
            connection.execute(update(tables.roster_states).values(rules=""))
    delivery = inbox.copy_in(Path(folder), settings.deliveries, district, datetime.now(UTC))
    run_id = ledger.record(engine, delivery, datetime.now(UTC))
    yield None
    begun = time.perf_counter()
    claimed = ledger.claim(engine, runner.me(), datetime.now(UTC), run=run_id)
    if claimed is None or runner.execute(settings, engine, claimed) not in ("successful", "unchanged"):
        raise SystemExit(f"the run did not come to a good end: {ledger.run(engine, run_id)}")
    closed = ledger.run(engine, run_id)
    assert closed is not None
    seconds = time.perf_counter() - begun
    yield Told({**closed.seconds, "other": seconds - sum(closed.seconds.values())})


def crowd(home: str, folder: str, districts: str, workers: str) -> Iterator[Told | None]:
    """The same night for many districts at once, by the daemon's own runner, whose processes it is measured with."""
    from sqlalchemy import func, select

    from sftp_ingest import runner
    from sftp_ingest.intake import inbox
    from sftp_ingest.store import ledger, register, tables

    settings, engine = _opened(home)
    for number in range(int(districts)):
        name, now = f"d{number}", datetime.now(UTC)
        if register.district(engine, name) is None:
            register.add_district(engine, name, name, now)
            (settings.homes / name).mkdir(parents=True)
        ledger.record(engine, inbox.copy_in(Path(folder), settings.deliveries, name, now), now)
    working = runner.Runner(replace(settings, runs=replace(settings.runs, workers=int(workers))), engine)
    yield None
    working.start()
    open_runs = select(func.count()).where(tables.sync_runs.c.state != "closed")
    with engine.connect() as connection:
        while connection.scalar(open_runs):
            connection.rollback()
            time.sleep(0.05)
        if lost := connection.scalar(select(func.count()).where(tables.sync_runs.c.outcome != "successful")):
            raise SystemExit(f"{lost} runs did not come to a good end")
    working.stop(60)  # reports and copies come after a run is closed
    yield Told()


def read(folder: str, warm: str) -> Iterator[Told | None]:
    """What a run does before it compares: load, validate, every finding with its lines."""
    from sftp_ingest.intake import inbox
    from sftp_ingest.roster import contract, loader, validator

    def once(night: str) -> int:
        rules = contract.keeping(contract.load(), ())
        now = datetime.now(UTC)
        verdict = validator.validate(loader.load(inbox.as_delivery(Path(night), now), rules), rules, today=now.date())
        return sum(each.count for each in verdict.findings)

    once(warm)
    yield None
    yield Told(found=once(folder))


def plain_pandera(folder: str, warm: str) -> Iterator[Told | None]:
    """The contract's required cells, patterns, keys and references as anybody would write them: a peer, here as it needs the contract.

    pandas text columns read by pandas' own parser, one schema a file, `isin` for references, all failures collected. It reports failures
    without the file's line numbers, skips lines of the wrong length without a word, and guesses no encoding, header or spelling.
    """
    import pandas as pd

    return _pandera(folder, warm, lambda path: pd.read_csv(path, dtype=str, keep_default_na=False, on_bad_lines="skip"), str)


def arrow_pandera(folder: str, warm: str) -> Iterator[Told | None]:
    """The same checks, of what pyarrow parses, in the columns of text that ours has: the least that it costs to look at all rows in that way."""
    import pandas as pd
    import pyarrow as pa

    from benchmarks.floors import parsed

    text = pd.ArrowDtype(pa.string())
    return _pandera(folder, warm, lambda path: parsed(path).to_pandas(types_mapper=lambda _: text), text)


def _pandera(folder: str, warm: str, read: Callable[[Path], DataFrame], text: object) -> Iterator[Told | None]:
    """Read every file into columns of `text`, and check them."""
    import pandera.pandas as pa

    from sftp_ingest.roster import contract, values

    rules = contract.keeping(contract.load(), ())

    def once(night: str) -> int:
        ids: dict[str, set[str]] = {}
        failures = 0
        for name in FILES:
            table = rules.tables[name]
            frame = read(Path(night) / f"{name}.csv")
            columns = {}
            for each in table.fields:
                if each.name not in frame.columns:
                    continue
                checks = [pa.Check.str_length(min_value=1)] if each.required else []
                pattern = each.pattern or values.PATTERNS.get(each.type, "")
                if pattern:
                    checks.append(pa.Check.str_matches(rf"^(?:{pattern})?$"))
                checks += [pa.Check.isin(ids[of.table]) for of in table.references if of.column == each.column and not of.optional and of.table in ids]
                columns[each.name] = pa.Column(text, checks, unique=each.unique)
            try:
                pa.DataFrameSchema(columns).validate(frame, lazy=True)
            except pa.errors.SchemaErrors as faults:
                failures += len(faults.failure_cases)
            if len(table.key) == 1:
                ids[name] = set(frame[next(each.name for each in table.fields if each.column == table.key[0])])
        return failures

    once(warm)
    yield None
    yield Told(found=once(folder))


if __name__ == "__main__":
    be_one({"sync": sync, "crowd": crowd, "read": read, "plain pandera": plain_pandera, "arrow pandera": arrow_pandera})
