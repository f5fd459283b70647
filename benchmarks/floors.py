"""The least that the work could cost: reading the bytes, parsing them, and giving them to a database that is asked nothing else.

None of these checks a value or a reference, compares with the night before, keeps a history, or could take a second night.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.csv

from benchmarks.contender import FILES, be_one

_BLOCK_BYTES = 1 << 20


def raw_read(folder: str) -> Iterator[None]:
    """Every byte of every file, into one reused buffer; the files lie in the page cache."""
    buffer = bytearray(_BLOCK_BYTES)
    yield
    for name in FILES:
        with (Path(folder) / f"{name}.csv").open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def parse(folder: str, warm: str) -> Iterator[None]:
    """Every file through pyarrow on all processors, every column as text; lines with too few or too many cells are skipped."""
    _parsed(Path(warm))
    yield
    _parsed(Path(folder))


def _parsed(folder: Path) -> list[pa.Table]:
    return [parsed(folder / f"{name}.csv") for name in FILES]


def parsed(path: Path) -> pa.Table:
    """One file as `parse` reads it."""
    with path.open(encoding="utf-8") as file:
        header = file.readline().strip().split(",")
    return pa.csv.read_csv(
        path,
        parse_options=pa.csv.ParseOptions(invalid_row_handler=lambda row: "skip"),
        convert_options=pa.csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False),
    )


def copy(url: str, folder: str, keys: str = "", order: str = "") -> Iterator[None]:
    """`COPY` of every file into its table, blocks passed on unread, in one transaction; `keys` are statements for after the last file.

    `order` names the tables where they are not those of a night's files. The database is on this machine, through a local socket.
    """
    with psycopg.connect(url) as connection:
        yield
        with connection.cursor() as cursor:
            for name in order.split() or FILES:
                filled = "" if order else ", FORCE_NOT_NULL ({})".format(", ".join(f'"{column}"' for column in FILES[name]))
                with cursor.copy(f'COPY "{name}" FROM STDIN (FORMAT csv, HEADER{filled})') as told, (Path(folder) / f"{name}.csv").open("rb") as file:
                    while block := file.read(_BLOCK_BYTES):
                        told.write(block)
            for statement in filter(None, keys.split(";")):
                cursor.execute(statement)
        connection.commit()


def sqlite_import(url: str, folder: str, order: str = "") -> Iterator[None]:
    """`.import` of every file into its table by the program `sqlite3`, a transaction a file, synchronous = normal; a blank stays blank text.

    `order` names the tables where they are not those of a night's files.
    """
    commands = ["PRAGMA synchronous = NORMAL;", *(f'.import --csv --skip 1 "{Path(folder) / name}.csv" {name}' for name in order.split() or FILES)]
    yield
    subprocess.run(["sqlite3", "-bail", url.removeprefix("sqlite:///")], input="\n".join(commands), text=True, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    be_one({"raw read": raw_read, "parse": parse, "copy": copy, "import": sqlite_import})
