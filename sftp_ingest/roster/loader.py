"""A sealed delivery becomes frames of text with line numbers; every oddity of files, headers and rows becomes a finding."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.findings import SAMPLE_LINES, Finding, finding, refuses
from sftp_ingest.model import DeliveredFile, Delivery, FileShape, Frames, Rejections
from sftp_ingest.roster import astray, decoding, drift, files, headers, lines, seek, shelf
from sftp_ingest.roster.arrow import TEXT, array_of, in_one_piece
from sftp_ingest.roster.contract import Contract, Table, in_home, normalised
from sftp_ingest.roster.quotes import Positions
from sftp_ingest.roster.shelf import Data

LONGEST_PAIRS = 1 << 20
"""No more bytes than this of a file of names and values are read; real ones have a kilobyte."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f]")

_ROUNDED = r"^\d(?:[.,]\d+)?E\+\d{2}$"
"""How Excel shows a long number in a narrow column, and saves it: only the first digits of the id are left."""

_NOT_TEXT = (b"PK\x03\x04", b"PK\x05\x06", b"\xd0\xcf\x11\xe0", b"%PDF", b"\x1f\x8b", b"SQLite format 3")


@dataclass
class _File:
    """What is found while one file is read."""

    name: str
    table: Table
    strict: bool
    findings: list[Finding] = field(default_factory=list)
    frame: pd.DataFrame | None = None
    unread: pd.DataFrame | None = None
    faulty: Rejections | None = None
    rows: int = 0
    shape: FileShape = field(default_factory=lambda: FileShape(()))

    def find(
        self, code: str, column: str = "", at: Sequence[int] | Positions = (), *, count: int | None = None, values: Sequence[str] = (), hint: str = ""
    ) -> None:
        shown = [int(line) for line in at[:SAMPLE_LINES]]  # of millions of lines no more than these become Python's
        self.findings.append(
            finding(code, self.name, column, shown, count=(len(at) or 1) if count is None else count, values=values, hint=hint, strict=self.strict)
        )


def load(
    delivery: Delivery, contract: Contract, *, strict: bool = False, before: Mapping[str, FileShape] | None = None, packed: Sequence[Finding] = ()
) -> Frames:
    """The delivery's files as frames. `before` are the shapes of the files applied last, where there were any.

    `packed` is what was found about its archive. Of one that cannot be read no file is missing: the archive is what is wrong.
    Raises DeliveryError where a sealed file is gone or has changed since it was sealed.
    """
    before = drift.of_format(before or {}, contract)
    found, chosen = _choose(delivery, contract, strict)
    found[:0] = packed
    pairs, gone, read = {}, {}, []
    for table in contract.tables.values():
        if table.of:
            continue
        sealed = chosen.get(table.name)
        if sealed is None:
            if table.core and not refuses(packed):
                found.append(finding("file_missing", table.file, strict=strict))
            elif table.file in before and not table.incremental:
                found.append(finding("file_gone", table.file, strict=strict))
                gone[table.name] = before[table.file]
            continue
        file = _File(sealed.name, table, strict)
        if table.core and not sealed.resent:
            file.find("file_not_resent")
        if sealed.crossed:
            file.find("file_crossed")
        if table.pairs:
            pairs[table.name] = _pairs(files.content(delivery.folder, sealed) or b"")
            continue
        if table.deprecated:
            file.find("file_deprecated", hint=f"{table.deprecated} has taken its place")
        _read(file, files.content(delivery.folder, sealed), before.get(table.file))
        found.extend(file.findings)
        read.append(file)
    frames = _together(read)
    tables = {**pairs, **frames.tables}
    shapes = drift.shapes(tables, frames.rows, frames.shapes, contract)
    return replace(frames, tables=tables, findings=tuple(found), shapes=shapes, gone=gone)


def parts(contents: Mapping[str, bytes], contract: Contract) -> Frames:
    """Parts of files, by table and each below its file's header, as frames like those of whole files; lines are numbered within the part."""
    read = []
    for name, data in contents.items():
        table = contract.tables[name]
        file = _File(table.file, replace(table, may_be_empty=True, incremental=True), strict=False)
        _read(file, data, None)
        read.append(file)
    return _together(read)


def lines_of(table: Table, blocks: Iterator[bytes], ids: pa.Array) -> list[bytes] | None:
    """The lines of a file, each with its end, whose record has one of these ids in the first column of the table's key.

    None where a line is seen not to be a record, which only a whole reading can tell.
    """
    begun = files.whole_lines(blocks, seek.PART)
    first = next(begun, b"")
    header = first[: first.find(b"\n") + 1]
    names = _header(_File(table.file, table, strict=False), lines.header(decoding.decode(header)), (), None) or []
    if table.key[0] not in names:
        return None
    return seek.lines_with(chain([first[len(header) :]], begun), len(names), names.index(table.key[0]), ids)


def _together(read: Sequence[_File]) -> Frames:
    """What was read of several files."""
    whole = {file.table.name: file for file in read if file.frame is not None and file.unread is not None}
    return Frames(
        tables={name: file.frame for name, file in whole.items() if file.frame is not None},
        findings=tuple(each for file in read for each in file.findings),
        unread={name: file.unread for name, file in whole.items() if file.unread is not None},
        rows={name: file.rows for name, file in whole.items()},
        shapes={file.table.file: file.shape for file in whole.values()},
        faulty={file.table.file: file.faulty for file in read if file.faulty is not None},
    )


def texts(delivery: Delivery, contract: Contract, wanted: Collection[str]) -> Iterator[tuple[Table, decoding.Text]]:
    """Again the text of the files, named as the contract spells them, one by one. Raises DeliveryError as `load` does."""
    _, chosen = _choose(delivery, contract, strict=False)
    for table in contract.tables.values():
        if table.file in wanted and table.name in chosen:
            data = files.content(delivery.folder, chosen[table.name])
            if data is not None:
                yield table, decoding.decode(data)


def _choose(delivery: Delivery, contract: Contract, strict: bool) -> tuple[list[Finding], dict[str, DeliveredFile]]:
    """Which sealed file serves which table; of two names that differ in case the newer."""
    found: list[Finding] = []
    by_name = {table.file.lower(): table.name for table in contract.tables.values() if not table.of}
    candidates: dict[str, list[DeliveredFile]] = {}
    for sealed in delivery.files:
        name = in_home(sealed.name, contract)
        table = by_name.get(name.lower())
        if table is None and name.lower() in contract.unread:
            continue
        if table is None:
            found.append(finding("file_unknown", sealed.name, hint=_belongs(sealed.name, by_name), strict=strict))
        else:
            candidates.setdefault(table, []).append(sealed)
    chosen = {}
    for table, twins in candidates.items():
        newest = max(twins, key=lambda each: ((delivery.folder / (each.archive or each.name)).stat().st_mtime_ns, each.name))
        chosen[table] = newest
        if len(twins) > 1:
            found.append(finding("file_twin", newest.name, strict=strict))
        if in_home(newest.name, contract) != contract.tables[table].file:
            found.append(finding("file_name_case", newest.name, strict=strict))
    return found, chosen


def _pairs(data: Data) -> pd.DataFrame:
    """The first two cells of every line, the header among them, as `name` and `value`; of bytes that are no text, none."""
    text = decoding.decode(data[:LONGEST_PAIRS])
    rows = [line.replace('"', "").split(",") for line in text.data[:].decode("utf-8", errors="replace").split("\n") if line.strip()]
    cells = [[cell.strip() for cell in (*row, "")[:2]] for row in rows]
    return pd.DataFrame({name: pd.array([row[at] for row in cells], dtype=TEXT) for at, name in enumerate(("name", "value"))})


def _belongs(name: str, known: Collection[str]) -> str:
    """Where a file of this name would be read: Clever ignores one in the wrong folder without a word (contract 1.9)."""
    places = [each for each in known if each.rpartition("/")[2] == name.lower().rpartition("/")[2]]
    return f"it would be read as {' or '.join(places)}" if places else ""


def _read(file: _File, data: Data | None, before: FileShape | None) -> None:
    """Fill the file's frame, or say why it cannot be."""
    if data is None:
        return file.find("archive_unreadable", hint="the file is damaged in its archive")
    if decoding.is_blank(data):
        return file.find("file_empty")
    if data[:16].startswith(_NOT_TEXT):
        return file.find("file_not_csv", at=(1,), hint="the file is not text")
    if decoding.ends_in_nul_bytes(data):
        return file.find("file_cut", hint="the file ends in NUL bytes")
    text = decoding.decode(data)
    del data
    header = lines.header(text)
    first_rows = headers.first_rows(text.data, header)
    names = _header(file, header, first_rows, before)
    if names is None:  # of what is no CSV text its encoding is no matter
        return None
    if text.encoding:
        file.find("encoding_guessed", at=text.guessed, hint=f"read as {text.encoding}")
    if len(text.unreadable):
        file.find("bytes_unreadable", at=text.unreadable)
    if any(each.code == "header_unknown" for each in file.findings):
        file.findings = astray.renamed(file.findings, file.table, _strays(header, names, first_rows), before)
    if refuses(file.findings):
        return None
    named = max((position for position, name in enumerate(names, 1) if name), default=0)
    spare, names = len(names) - named, names[:named]
    known = file.table.columns
    wanted = [name for name in names if (not known[name].drop if name in known else name.startswith("ext.") and file.table.ext)]
    records = lines.records(text, header.end, header.line + 1, names, wanted, key=file.table.key, spare=spare, usual=headers.usual(first_rows))
    if records.hopeless:
        return file.find("file_not_csv", at=records.faulty, hint=f"most of its first {len(records.lines) + len(records.faulty):,} rows cannot be read")
    _tell_rows(file, records, before, [name for name in names if not name.startswith("\0")])
    rounded = shelf.has(text.data, b"+") and shelf.has(text.data, b"E+")
    del text
    frame = _frame(file, records.table, records.lines)
    records = replace(records, table=records.table.select([]))
    pa.default_memory_pool().release_unused()
    file.rows = len(frame) + len(np.unique(records.faulty))
    if file.rows == 0 and not file.table.may_be_empty:
        _tell_no_rows(file)
        return None
    if file.rows == 0 and not file.table.incremental:
        file.find("file_emptied")
    if rounded:
        _tell_rounded(file, frame)
    file.frame = _with_derived(file, frame)
    file.unread = _unread_keys(file.table, records)
    file.faulty = _left_out(file, records)
    return None


def _header(file: _File, header: lines.Header, first_rows: Sequence[Sequence[str]], before: FileShape | None) -> list[str] | None:
    """The columns as compared, each under a name of its own, or None where there is no header to speak of, or it holds a row as well.

    Columns that are not read keep their place under a name that starts with NUL, which no header can have; nameless ones at the end are blank.
    """
    sent, line = list(header.cells), header.line
    width = len(sent)
    while sent and not sent[-1].strip():
        sent.pop()
    if len(header.text) > lines.LONGEST_HEADER or len(sent) > lines.WIDEST or _CONTROL.search(header.text):
        file.find("file_not_csv", at=(line,), hint="the first line is not a header")
        return None
    known = file.table.columns
    names = [_named(each, file.table) for each in sent]
    if not set(names) & set(known):
        other = next((each for each in (";", "\t", "|") if {file.table.column_of(part) for part in header.text.split(each)} & set(known)), "")
        hint = (
            f"columns are separated by {'tabs' if other == chr(9) else other}, not by commas" if other else "the first line holds no column name of the format"
        )
        file.find("file_not_csv", at=(line,), hint=hint)
        return None
    strange = headers.strange_names(names, sent, file.table)
    like_cells = headers.like_cells(strange, first_rows)
    odd, keyed = like_cells if file.table.extends else strange, set(file.table.key) <= set(names)
    if headers.holds_row(width, len(known.keys() & names), odd, like_cells, first_rows, keyed=keyed):
        file.find("file_not_csv", at=(line,), hint="the first line holds cells of a row; a line break may be missing behind the column names")
        return None
    columns: list[str] = []
    for position, (name, original) in enumerate(zip(names, sent, strict=True)):
        place = f"\0{position}"
        meant = known.get(name)
        prefix = None if meant is not None else next((each for each in file.table.prefixes if normalised(original).startswith(each.starts)), None)
        column = name
        if prefix is not None and prefix.read:
            column = prefix.read + original.strip()[len(prefix.starts) :].strip()
        if not name:
            file.find("header_unnamed", at=(line,), hint=f"column {position + 1}")
        elif column in columns:
            file.find("header_duplicate", original.strip(), at=(line,))
        elif meant is not None or (column.startswith("ext.") and len(column) > 4):
            place = column
            aliases = {normalised(each) for each in meant.aliases} if meant is not None else set()
            if normalised(original) in aliases or (prefix is not None and prefix.misspelt):
                file.find("header_misspelt", original.strip()[:100], at=(line,), hint=f"read as {meant.name if meant is not None else column}")
        elif prefix is None:
            file.find("header_unknown", headers.shown(original, position, like_cells), at=(line,))
        columns.append(place)
    for each in file.table.fields:
        if each.required and each.column not in columns:
            derivable = each.derive in columns
            also = f"{' and '.join(each.headers)} would be read as it" if each.headers else ""
            hint = f"{each.derive} stands for it" if derivable else also
            file.find("header_derived" if derivable else "header_missing", each.name, at=(line,), hint=hint)
    if before is not None:
        for column in before.columns:
            if column not in columns:
                file.find("header_gone", known[column].name if column in known else column, at=(line,))
    if header.smart:
        file.find("quote_smart", at=(line,))
    spare = width - len(sent)
    if spare:
        hint = f"column {width}" if spare == 1 else f"columns {len(sent) + 1:,} to {width:,}"
        file.find("header_unnamed", at=(line,), count=spare, hint=hint)
    return columns + [""] * spare


def _strays(header: lines.Header, names: Sequence[str], first_rows: Sequence[Sequence[str]]) -> list[astray.Stray]:
    """The columns that are not read although they have a name, with cells of the first rows."""
    rows = [row for row in first_rows if len(row) == len(header.cells)]
    like_cells = headers.like_cells({sent.strip() for sent in header.cells}, first_rows)
    strays = []
    for position, sent in enumerate(header.cells[: len(names)]):
        if names[position].startswith("\0") and normalised(sent) not in ("", *names):
            sides = (names[:position][::-1], names[position + 1 :])
            before, after = (next((name for name in side if not name.startswith("\0")), "") for side in sides)
            cells = pa.array([row[position].strip() for row in rows], pa.string())
            strays.append(astray.Stray(headers.shown(sent, position, like_cells), (before, after), cells))
    return strays


def _named(header: str, table: Table) -> str:
    """The column as compared. In a file that extends records whatever is not the key is the district's own."""
    name = table.column_of(header)
    return f"ext.{header.strip()}" if table.extends and name and name not in table.columns and not name.startswith("ext.") else name


def _tell_rows(file: _File, records: lines.Records, before: FileShape | None, columns: Sequence[str]) -> None:
    """Findings about rows, and whether the file breaks off, which is all that is told of the line where it does."""
    last = max(int(records.lines.max(initial=0)), int(records.faulty.max(initial=0)))
    breaks_off = not records.terminated and not records.last_whole
    for place, code in enumerate(lines.FAULTS):
        at = records.faulty[(records.faults == place) & ~((records.faulty == last) & breaks_off)]
        if len(at) and code != "bytes_unreadable":  # told already, of the text
            file.find(code, at=at)
    for told, at in (
        ("quote_unescaped", records.unescaped),
        ("quote_smart", records.smart),
        ("row_trailing_commas", records.trailing),
        ("row_blank", records.blank),
    ):
        if len(at):
            file.find(told, at=at)
    file.shape = FileShape(tuple(columns), records.terminated)
    if breaks_off:
        file.find("file_cut", at=(last,), hint="its last line has too few cells and no line end")
    elif not records.terminated and before is not None and before.terminated:
        file.find("file_cut", at=(last,), hint="its last line has no line end, and had one in the delivery before")
    elif not records.terminated:
        file.find("file_unterminated", at=(last,))


def _tell_no_rows(file: _File) -> None:
    """A core file without a row refuses the delivery; an optional one counts as not sent, so that nobody leaves because of it."""
    file.find("file_without_rows")
    if not file.table.core:
        file.findings[-1] = replace(file.findings[-1], severity="warn")


def _frame(file: _File, records: pa.Table, at: Positions) -> pd.DataFrame:
    """The records as a frame in the order of their lines, without rows that say nothing."""
    cells = {name: in_one_piece(records[name]) for name in records.column_names}
    order = pa.array(np.argsort(at)) if (at[1:] < at[:-1]).any() else None
    if order is not None:
        cells = shelf.columns(lambda name: cells[name].take(order), records.column_names, len(at))
    at = at if order is None else np.sort(at)
    blank = np.ones(len(at), dtype=bool)
    for column in cells.values():
        if not blank.any():
            break
        blank &= pc.equal(column, "").to_numpy(zero_copy_only=False)
    frame = pd.DataFrame({name: pd.array(column, dtype=TEXT) for name, column in cells.items()}, index=_index(at), copy=False)
    if not blank.any():
        return frame
    file.find("row_blank", at=at[blank])
    return shelf.filtered(frame, ~blank)


def _index(lines: Positions) -> pd.Index:
    """The numbers of the lines; of most files each is the next, which takes no memory to know."""
    if len(lines) and lines[-1] - lines[0] == len(lines) - 1:
        return pd.RangeIndex(int(lines[0]), int(lines[-1]) + 1, name="line")
    return pd.Index(lines, name="line")


def _tell_rounded(file: _File, frame: pd.DataFrame) -> None:
    """Ids that a spreadsheet rounded stop the delivery where records are told apart or referred to by them: all of them would seem to have left."""
    telling = {*file.table.key, *(each.column for each in file.table.references)}
    for each in file.table.fields:
        if each.column not in frame.columns or not (each.type == "id" or each.column in telling):
            continue
        rounded = pc.match_substring_regex(array_of(frame[each.column]), _ROUNDED).to_numpy(zero_copy_only=False)
        if rounded.any():
            file.find("id_rounded", each.name, at=frame.index.to_numpy()[rounded])
            if each.column not in telling:
                file.findings[-1] = replace(file.findings[-1], severity="warn")


def _with_derived(file: _File, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with every column that the roster cannot do without: derived where that is allowed, blank where the district need not send it."""
    for each in file.table.fields:
        if each.derive and each.required and each.column not in frame.columns and each.derive in frame.columns:
            frame = frame.assign(**{each.column: frame[each.derive]})
        elif each.waived and each.column not in frame.columns:
            frame = frame.assign(**{each.column: pd.array(pa.repeat("", len(frame)), dtype=TEXT)})
    return frame


def _left_out(file: _File, records: lines.Records) -> Rejections | None:
    """The lines of records that are in no frame, each with the finding of its fault."""
    if not len(records.faulty):
        return None
    labels = {each.code: each.label for each in file.findings}
    return Rejections(records.faulty, records.faults.astype(np.int32), tuple(labels.get(code, code) for code in lines.FAULTS))


def _unread_keys(table: Table, records: lines.Records) -> pd.DataFrame:
    """The keys of records that are in no frame, by line; null stands for any value."""
    index = pd.Index(records.unread["line"].to_numpy(), name="line")
    return pd.DataFrame({column: pd.array(records.unread[column].combine_chunks(), dtype=TEXT) for column in table.key}, index=index, copy=False)
