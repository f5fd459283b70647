"""A run's details as CSV files that a spreadsheet opens safely, in one zip: kept for the run, and left in the home with its report."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sftp_ingest.findings import Finding
from sftp_ingest.model import ENTITIES, OPERATIONS, ChangeSet, Details

if TYPE_CHECKING:  # the daemon only passes finished zips on; runs, which write them, import pyarrow in the functions below
    import pyarrow as pa

MOST_LINES = 100_000
"""So many lines has a file of details at most; the rest is only counted."""

LONGEST_CELL = 32_767
"""What a spreadsheet takes in one cell; the rest is cut."""

KEPT_RUNS = 60
CONTENTS = "contents.json"
REJECTED = "rejected-"
PART = ".upload-"

_STARTS = "=+\\-@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}"
_BLANKS = "\\s\N{NO-BREAK SPACE}\N{ZERO WIDTH SPACE}\N{ZERO WIDTH NO-BREAK SPACE}"
_FORMULA = f"^([\t\r\n]|[{_BLANKS}]*[{_STARTS}])"
_INNER_FORMULA = f'([;\t\r\n][{_BLANKS}"]*)([{_STARTS}])'
_ROWS_AT_ONCE = 10_000
_FINDING_FILES = ("errors.csv", "warnings.csv")
_FINDING_COLUMNS = ("code", "severity", "title", "file", "column", "count", "first lines", "values", "read as", "hint", "advice")
_OURS = re.compile(r"run-(?P<run>\d+)\.zip")

_README = f"""\
What is in this archive. Every file is there only where it has anything to say.

report.html             the report of the run
receipt.json            the same for a program: outcome, files, counts
rejected-<file>.csv     rows that were left out, in your own columns and order, with four more: the finding, its column, what to do, and the
                        line in your file. Columns that are never stored (passwords, sensitive columns that are not kept) are blank.
errors.csv              what stopped the delivery, or left rows out: one line a finding
warnings.csv            what was noticed and kept, and what was read in another spelling: one line a finding
<type>-created.csv      records that are new
<type>-updated.csv      records that changed: one line a changed cell, with its value before and after
<type>-moved.csv        records that changed school (like -updated), enrollments that changed section (with the section and school before)
<type>-deactivated.csv  records that left, as they were last known
<type>-reactivated.csv  records that left once and are back
<type>-left-alone.csv   records that a revert did not touch, as they have changed since or hang on some that have
<type>-waiting.csv      what waits for a person and was not done; the cells of waiting updates are in <type>-waiting-updated.csv
contents.json           how many lines each file has, and of how many records: of each at most {MOST_LINES:,} are written

The files are UTF-8 with a byte order mark and CRLF line ends. A cell that a spreadsheet could take for a formula (it begins with = + - or @,
or with a tab) has a single quote ' before it: also an id such as -12 and a phone such as +1 212 555 0100. Take the quote away before you use
such a cell elsewhere. A cell of more than {LONGEST_CELL:,} characters is cut.
"""


@dataclass(frozen=True)
class _Member:
    """One CSV file: its lines, and the number of records that they are of."""

    name: str
    table: pa.Table
    records: int


def place(folder: Path, district: str, run: int) -> Path:
    """Where the details of a run are kept."""
    return folder / district / f"run-{run}.zip"


def write(details: Details, path: Path) -> None:
    """Write the details as one zip that appears whole or not at all, and may be read by this user only; older ones than the newest 60 are removed.

    Raises OSError where the disk says no; then there is none.
    """
    for folder in (path.parent.parent, path.parent):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _make_room(path)
    with whole(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
        for name, chunks in _files(details):
            with made.open(name, "w") as member:
                for chunk in chunks:
                    member.write(chunk)
    _keep_newest(path.parent)


def link(same: Path, path: Path) -> None:
    """Give another run's details a second name. Raises OSError where they are not there any more."""
    _make_room(path)
    path.hardlink_to(same)
    _keep_newest(path.parent)


def _make_room(path: Path) -> None:
    """Take away what an attempt left that came to nothing."""
    for each in (path, *path.parent.glob(f"{PART}*")):
        each.unlink(missing_ok=True)


def _keep_newest(folder: Path) -> None:
    kept = sorted((int(match["run"]), each) for each in folder.iterdir() if (match := _OURS.fullmatch(each.name)))
    for _, each in kept[:-KEPT_RUNS]:
        each.unlink(missing_ok=True)


def write_loose(details: Details, folder: Path) -> None:
    """Write the details as files of a folder, each of them for this user only, in place of those of an earlier time. Raises OSError where the disk says no."""
    folder.mkdir(mode=0o700, exist_ok=True)
    with suppress(OSError, ValueError, KeyError, TypeError):  # no contents of ours, nothing of ours to remove
        for name in json.loads((folder / CONTENTS).read_text(encoding="utf-8"))["members"]:
            if Path(name).name == name:
                (folder / name).unlink(missing_ok=True)
    for name, chunks in _files(details):
        with whole(folder / name) as file:
            file.writelines(chunks)


def contents(path: Path) -> Mapping[str, Any] | None:
    """What a zip of details says of itself: `files` with `rows`, `rejected` and `listed`, `members` with `lines` and `records`; None where there is none."""
    try:
        with zipfile.ZipFile(path) as details:
            told: dict[str, Any] = json.loads(details.read(CONTENTS))
            return told
    except (OSError, zipfile.BadZipFile, KeyError, ValueError):
        return None


def told(contents: Mapping[str, Any]) -> str:
    """What the details hold, for people: "70 rows that were left out, as sent and with what to mend; all findings; every change"."""
    members = contents["members"]
    rows = sum(each["records"] for name, each in members.items() if name.startswith(REJECTED))
    parts = [f"{rows:,} {'row that was' if rows == 1 else 'rows that were'} left out, as sent and with what to mend"] if rows else []
    if not members.keys().isdisjoint(_FINDING_FILES):
        parts.append("all findings")
    if any(name not in _FINDING_FILES and not name.startswith(REJECTED) for name in members):
        parts.append("every change")
    return "; ".join(parts)


def complete(path: Path, details: Path | None, more: Mapping[str, str]) -> None:
    """Write the zip that a district gets: the details where there are any, and `more` texts by name. Raises OSError where the disk says no."""
    with whole(path) as file:
        if details is not None:
            with details.open("rb") as source:
                shutil.copyfileobj(source, file, 1 << 20)
        with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as made:
            for name, text in more.items():
                made.writestr(name, text.encode("utf-8", errors="replace"))


def rejected(path: Path) -> Iterator[tuple[str, Iterator[bytes]]]:
    """The files of rejected rows in a zip of details: name and content, in pieces."""
    with zipfile.ZipFile(path) as details:
        for name in details.namelist():
            if name.startswith(REJECTED):
                with details.open(name) as member:
                    yield name, iter(lambda member=member: member.read(1 << 20), b"")  # type: ignore[misc]


def waiting(path: Path, entity: str, column: str, identifier: str) -> list[str]:
    """What would be done to the entity's records that have the id in a column, of a zip of details: an operation a record that waits."""
    return [row["operation"] for row in _rows(path, f"{entity}-waiting.csv") if _meant(row.get(column, "")) == identifier]


def rejected_lines(path: Path, file: str, lines: Collection[int]) -> dict[int, str]:
    """Those of the lines of a file that were left out → the finding's code, as far as the zip of details lists them."""
    asked = {str(line) for line in lines}
    return {int(row["line"]): row["finding"] for row in _rows(path, f"{REJECTED}{file.replace('/', '-')}") if row.get("line") in asked}


def _rows(path: Path, name: str) -> Iterator[dict[str, str]]:
    """The lines of one CSV file of a zip of details, none where there is no such file or no such zip."""
    csv.field_size_limit(max(csv.field_size_limit(), 1 << 20))
    try:
        with zipfile.ZipFile(path) as details, details.open(name) as member:
            yield from csv.DictReader(io.TextIOWrapper(member, encoding="utf-8-sig", newline=""))
    except (OSError, zipfile.BadZipFile, KeyError):
        return


def _meant(cell: str) -> str:
    """The text of a cell before it was made safe for a spreadsheet."""
    return cell[1:] if cell.startswith("'") else cell


@contextmanager
def whole(path: Path, mode: int = 0o600) -> Iterator[IO[bytes]]:
    """A file that is written under a hidden name, which the SFTP server never shows, and put in place at once."""
    handle, name = tempfile.mkstemp(prefix=PART, dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


# ---------------------------------------------------------------- the files


def _files(details: Details) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Every file of the details: name and content, in pieces."""
    lines: dict[str, dict[str, int]] = {}
    listed = {}
    for member in _members(details):
        lines[member.name] = {"lines": len(member.table), "records": member.records}
        yield member.name, as_csv(member.table)
    for file, table in details.rejected.items():
        listed[file] = len(table)
    files = {file: {"rows": rows, "rejected": details.left_out.get(file, 0), "listed": listed.get(file, 0)} for file, rows in details.rows.items()}
    yield "README.txt", iter([_README.replace("\n", "\r\n").encode()])
    yield CONTENTS, iter([json.dumps({"files": files, "members": lines}, indent=2).encode()])


def _members(details: Details) -> Iterator[_Member]:
    import pyarrow as pa  # not above, as said there; so in all functions that write

    for file, table in details.rejected.items():
        yield _Member(f"{REJECTED}{file.replace('/', '-')}", table, details.left_out[file])
    for name, severities in (("errors.csv", ("refuse", "reject")), ("warnings.csv", ("warn",))):
        chosen = [each for each in details.findings if each.severity in severities]
        if chosen:
            yield _Member(name, _findings(chosen), len(chosen))
    if details.done is not None:
        yield from _changes(details.done)
    if details.waiting is not None:
        yield from _waiting(details.waiting)
    for name, keys in details.left_alone.items():
        yield _Member(f"{name}-left-alone.csv", pa.Table.from_pandas(keys.head(MOST_LINES), preserve_index=False), len(keys))


def _findings(findings: Sequence[Finding]) -> pa.Table:
    import pyarrow as pa

    rows = [
        (
            each.code, each.severity, each.title, each.file, each.column, str(each.count), " ".join(map(str, each.lines)), ", ".join(each.values),
            ", ".join(f"{reading.sent} = {reading.read or '(blank)'} ({reading.count})" for reading in each.readings), each.hint, each.advice,
        )
        for each in findings[:MOST_LINES]
    ]  # fmt: skip
    texts = [[cell.encode("utf-8", errors="replace").decode() for cell in column] for column in zip(*rows, strict=True)]
    return pa.table({name: pa.array(column, pa.string()) for name, column in zip(_FINDING_COLUMNS, texts, strict=True)})


def _changes(done: ChangeSet) -> Iterator[_Member]:
    """A file for each operation of each entity."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for name, frame in done.changes.items():
        if frame.empty:
            continue
        after, before = pa.Table.from_pandas(frame, preserve_index=False), pa.Table.from_pandas(done.before[name], preserve_index=False)
        for operation in OPERATIONS:
            at = pc.indices_nonzero(pc.equal(after["operation"], operation))
            if len(at) == 0:
                continue
            first = at.slice(0, MOST_LINES)
            by_cell = operation == "updated" or (operation == "moved" and name != "enrollments")
            table = _cells(name, after.take(first), before.take(first)) if by_cell else after.take(first).drop_columns(["operation"])
            if operation != "moved" and not by_cell:
                table = table.select(list(ENTITIES[name].columns))
            yield _Member(f"{name}-{operation}.csv", table, len(at))


def _waiting(waiting: ChangeSet) -> Iterator[_Member]:
    """All that waits, whatever would be done, and the cells of what would be updated."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for name, frame in waiting.changes.items():
        if frame.empty:
            continue
        after, before = pa.Table.from_pandas(frame, preserve_index=False), pa.Table.from_pandas(waiting.before[name], preserve_index=False)
        table = after.slice(0, MOST_LINES)
        yield _Member(f"{name}-waiting.csv", table.select(["operation", *(each for each in table.column_names if each != "operation")]), len(after))
        changing = pc.is_in(after["operation"], pa.array(["updated"] if name == "enrollments" else ["updated", "moved"]))
        at = pc.indices_nonzero(changing)
        if len(at):
            first = at.slice(0, MOST_LINES)
            yield _Member(f"{name}-waiting-updated.csv", _cells(name, after.take(first), before.take(first)), len(at))


def _cells(name: str, after: pa.Table, before: pa.Table) -> pa.Table:
    """One line a changed cell, record by record: the record's key, the column, the value before and after."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    entity = ENTITIES[name]
    rows, places, old, new = [], [], [], []
    for place, column in enumerate(entity.values):
        at = pc.indices_nonzero(pc.not_equal(after[column], before[column]))
        if len(at):
            rows.append(at.to_numpy())
            places.append(np.full(len(at), place))
            old += before[column].take(at).chunks
            new += after[column].take(at).chunks
    row, column_of = np.concatenate(rows or [np.zeros(0, int)]), np.concatenate(places or [np.zeros(0, int)])
    order = np.lexsort((column_of, row))[:MOST_LINES]
    names = pa.array(entity.values, pa.string())
    return pa.table(
        {
            **{key: after[key].take(pa.array(row[order])) for key in entity.key},
            "column": names.take(pa.array(column_of[order])),
            "before": pa.chunked_array(old, pa.string()).take(pa.array(order)),
            "after": pa.chunked_array(new, pa.string()).take(pa.array(order)),
        }
    )


# ---------------------------------------------------------------- cells that a spreadsheet takes as text


def safe(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """The texts so that no spreadsheet takes one for a formula: a single quote before what could begin one (OWASP, CSV injection).

    A spreadsheet that splits at semicolons, tabs or line breaks takes what follows them for a cell, so the quote stands there too.
    """
    import pyarrow.compute as pc

    if (pc.max(pc.binary_length(cells)).as_py() or 0) > LONGEST_CELL:
        cells = pc.utf8_slice_codeunits(cells, 0, LONGEST_CELL - 2)  # room for the quote
    if not pc.any(pc.match_substring_regex(cells, f"\\x00|{_FORMULA}|{_INNER_FORMULA}")).as_py():  # looking costs a third of replacing
        return cells
    cells = pc.replace_substring(cells, "\0", "\N{REPLACEMENT CHARACTER}")
    cells = pc.replace_substring_regex(cells, _FORMULA, r"'\1")
    return pc.replace_substring_regex(cells, _INNER_FORMULA, r"\1'\2")


def as_csv(table: pa.Table) -> Iterator[bytes]:
    """The table as CSV, in pieces: UTF-8 with a byte order mark, CRLF, every cell in quotes and safe."""
    import pyarrow as pa
    import pyarrow.csv as pacsv

    def written(piece: pa.Table) -> bytes:
        sink = pa.BufferOutputStream()
        cells = pa.Table.from_arrays([safe(column.cast(pa.string())) for column in piece.columns], names=piece.column_names)
        pacsv.write_csv(cells, sink, pacsv.WriteOptions(include_header=False, quoting_style="all_valid", eol="\r\n"))
        return bytes(sink.getvalue())

    yield b"\xef\xbb\xbf" + written(pa.table([pa.array([name], pa.string()) for name in table.column_names], names=table.column_names))
    for start in range(0, len(table), _ROWS_AT_ONCE):
        yield written(table.slice(start, _ROWS_AT_ONCE))
