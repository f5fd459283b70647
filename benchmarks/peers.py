"""Other people's tools on the same files, as their manuals say; run by the Python of their own environment, which has none of ours.

Those that write are given the rows as they are: none checks a value or a reference, ends the records of who left, holds anything back, or
keeps what was before. The tables of `pandas.to_sql` and sqlite-utils have the same keys as the floors'.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.contender import FILES, Told, be_one


def dlt_merge(url: str, folder: str, scratch: str) -> Iterator[None]:
    """Arrow tables merged by primary key in the default way of dlt: a staging table, then delete and insert. Nothing in it is ever unchanged."""
    import dlt
    import pyarrow as pa
    import pyarrow.csv

    def rows(name: str) -> Any:
        path = Path(folder) / f"{name}.csv"
        with path.open(encoding="utf-8") as file:
            header = file.readline().strip().split(",")
        options = pa.csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False)
        yield pa.csv.read_csv(path, convert_options=options)

    # dlt wants a host in its place; for the driver the query's host, a socket, goes before it
    url = url.replace("@/", "@localhost/", 1)
    pipeline = dlt.pipeline("bench", pipelines_dir=scratch, destination=dlt.destinations.postgres(url), dataset_name="night", progress=None)
    resources = [dlt.resource(rows(name), name=name, write_disposition="merge", primary_key=list(key)) for name, key in FILES.items()]
    yield
    pipeline.run(resources).raise_on_failed_jobs()


def pandas_to_sql(url: str, folder: str) -> Iterator[None]:
    """`read_csv` as text and `to_sql` appending to keyed tables that are there; it knows no second night but to write all again."""
    import pandas as pd
    from sqlalchemy import create_engine

    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    engine.connect().close()
    yield
    with engine.begin() as connection:
        for name in FILES:
            frame = pd.read_csv(Path(folder) / f"{name}.csv", dtype=str, keep_default_na=False)
            frame.to_sql(name, connection, if_exists="append", index=False, chunksize=50_000)


def sqlite_utils_upsert(url: str, folder: str) -> Iterator[None]:
    """`upsert_all` of `csv.DictReader`'s rows, as its own command line does it."""
    import sqlite_utils

    database = sqlite_utils.Database(url.removeprefix("sqlite:///"))
    yield
    for name, key in FILES.items():
        with (Path(folder) / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            database.table(name).upsert_all(csv.DictReader(file), pk=key)
    database.close()


def frictionless_validate(folder: str, warm: str) -> Iterator[Told | None]:
    """A data package with the contract's required cells, patterns, keys and references; every error kept. No load.

    A student has several rows, which frictionless takes for no key: what refers to students is not checked.
    """
    import frictionless

    def once(night: str) -> int:
        described = json.loads((Path(night) / "datapackage.json").read_text(encoding="utf-8"))
        with frictionless.system.use_context(trusted=True):
            report = frictionless.Package.from_descriptor(described, basepath=night).validate(limit_errors=1_000_000)
        return sum(task.stats["errors"] for task in report.tasks)

    once(warm)
    yield None
    yield Told(found=once(folder))


if __name__ == "__main__":
    be_one({"dlt": dlt_merge, "to_sql": pandas_to_sql, "sqlite-utils": sqlite_utils_upsert, "frictionless": frictionless_validate})
