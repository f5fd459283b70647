"""A sealed delivery becomes frames of text with line numbers; every oddity of files, headers and rows becomes a finding."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.errors import DeliveryError
from sftp_ingest.findings import Finding, finding, refuses
from sftp_ingest.model import DeliveredFile, Delivery, FileShape, Frames, Rejections
from sftp_ingest.roster import lines
from sftp_ingest.roster.arrow import TEXT
from sftp_ingest.roster.contract import Contract, Table, normalised

WIDEST = 2_000
"""More columns than this are no roster file."""

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

    def find(self, code: str, column: str = "", at: Sequence[int] = (), *, count: int | None = None, values: Sequence[str] = (), hint: str = "") -> None:
        self.findings.append(finding(code, self.name, column, at, count=count, values=values, hint=hint, strict=self.strict))


def load(delivery: Delivery, contract: Contract, *, strict: bool = False, before: Mapping[str, FileShape] | None = None) -> Frames:
    """The delivery's files as frames. `before` are the shapes of the files applied last, where there were any.

    Raises DeliveryError where a sealed file is gone or has changed since it was sealed.
    """
    found, chosen = _choose(delivery, contract, strict)
    tables, unread, rows, shapes, gone, faulty = {}, {}, {}, {}, {}, {}
    for table in contract.tables.values():
        sealed = chosen.get(table.name)
        if sealed is None:
            if table.core:
                found.append(finding("file_missing", table.file, strict=strict))
            elif before and table.file in before:
                found.append(finding("file_gone", table.file, strict=strict))
                gone[table.name] = before[table.file]
            continue
        file = _File(sealed.name, table, strict)
        if table.core and not sealed.resent:
            file.find("file_not_resent")
        if table.deprecated:
            file.find("file_deprecated", hint=f"{table.deprecated} has taken its place")
        _read(file, _bytes(delivery.folder / sealed.name, sealed), (before or {}).get(table.file))
        found.extend(file.findings)
        if file.frame is not None and file.unread is not None:
            tables[table.name], unread[table.name] = file.frame, file.unread
            rows[table.name], shapes[table.file] = file.rows, file.shape
        if file.faulty is not None:
            faulty[table.file] = file.faulty
    return Frames(tables, tuple(found), unread, rows, shapes, gone, faulty)


def texts(delivery: Delivery, contract: Contract, files: Collection[str]) -> Iterator[tuple[Table, lines.Text]]:
    """Again the text of the files, named as the contract spells them, one by one. Raises DeliveryError as `load` does."""
    _, chosen = _choose(delivery, contract, strict=False)
    for table in contract.tables.values():
        if table.file in files and table.name in chosen:
            text = lines.decode(_bytes(delivery.folder / chosen[table.name].name, chosen[table.name]))
            if text is not None:
                yield table, text


def _choose(delivery: Delivery, contract: Contract, strict: bool) -> tuple[list[Finding], dict[str, DeliveredFile]]:
    """Which sealed file serves which table; of two names that differ in case the newer."""
    found: list[Finding] = []
    by_name = {table.file: table.name for table in contract.tables.values()}
    candidates: dict[str, list[DeliveredFile]] = {}
    for sealed in delivery.files:
        table = by_name.get(sealed.name.lower())
        if table is None:
            found.append(finding("file_unknown", sealed.name, hint=_belongs(sealed.name, by_name), strict=strict))
        else:
            candidates.setdefault(table, []).append(sealed)
    chosen = {}
    for table, files in candidates.items():
        newest = max(files, key=lambda each: ((delivery.folder / each.name).stat().st_mtime_ns, each.name))
        chosen[table] = newest
        if len(files) > 1:
            found.append(finding("file_twin", newest.name, strict=strict))
        if newest.name != newest.name.lower():
            found.append(finding("file_name_case", newest.name, strict=strict))
    return found, chosen


def _belongs(name: str, known: Collection[str]) -> str:
    """Where a file of this name would be read: Clever ignores one in the wrong folder without a word (contract 1.9)."""
    places = [each for each in known if each.rpartition("/")[2] == name.lower().rpartition("/")[2]]
    return f"it would be read as {' or '.join(places)}" if places else ""


def _bytes(path: Path, sealed: DeliveredFile) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as fault:
        raise DeliveryError(f"{path.parent.name}/{path.name} cannot be read: {fault.strerror}") from fault
    if hashlib.sha256(data).hexdigest() != sealed.sha256:
        raise DeliveryError(f"{path.parent.name}/{path.name} is not the file that was sealed")
    return data


def _read(file: _File, data: bytes, before: FileShape | None) -> None:
    """Fill the file's frame, or say why it cannot be."""
    if not data.strip():
        return file.find("file_empty")
    if data.startswith(_NOT_TEXT):
        return file.find("file_not_csv", at=(1,), hint="the file is not text")
    whole = data.rstrip(b"\0")
    if whole != data and b"\0" not in whole[:4096]:  # what a file system leaves of a file that was being written when the power went
        return file.find("file_cut", hint="the file ends in NUL bytes")
    text = lines.decode(data)
    if text is None:
        return file.find("file_not_csv", at=(1,), hint="the bytes are not text")
    if text.encoding:
        file.find("encoding_guessed", at=text.guessed, hint=f"read as {text.encoding}")
    if text.unreadable:
        file.find("bytes_unreadable", at=text.unreadable)
    header = lines.header(text)
    names = _header(file, header, before)
    if names is None or refuses(file.findings):
        return None
    known = file.table.columns
    wanted = [name for name in names if (not known[name].drop if name in known else name.startswith("ext.") and file.table.ext)]
    records = lines.records(text, header.end, header.line + 1, names, wanted)
    _tell_rows(file, records, before, [name for name in names if not name.startswith("\0")])
    frame = _frame(file, records)
    file.rows = len(frame) + len(records.faulty)
    if file.rows == 0 and not file.table.may_be_empty:
        _tell_no_rows(file)
        return None
    if file.rows == 0 and not file.table.incremental:
        file.find("file_emptied")
    file.frame = _with_derived(file, frame)
    file.unread = _unread_keys(file.table, names, records.faulty)
    file.faulty = _left_out(file, records.faulty)
    return None


def _header(file: _File, header: lines.Header, before: FileShape | None) -> list[str] | None:
    """The columns as compared, each under a name of its own, or None where there is no header to speak of.

    Columns that are not read keep their place under a name that starts with NUL, which no header can have.
    """
    sent, line = header.cells, header.line
    if len(sent) > WIDEST or any(ord(letter) < 32 and letter != "\t" for letter in header.text):
        file.find("file_not_csv", at=(line,), hint="the first line is not a header")
        return None
    known = file.table.columns
    names = [_named(each, file.table) for each in sent]
    if not set(names) & set(known):
        other = next((each for each in (";", "\t", "|") if {normalised(part) for part in header.text.split(each)} & set(known)), "")
        hint = (
            f"columns are separated by {'tabs' if other == chr(9) else other}, not by commas" if other else "the first line holds no column name of the format"
        )
        file.find("file_not_csv", at=(line,), hint=hint)
        return None
    columns: list[str] = []
    for position, (name, original) in enumerate(zip(names, sent, strict=True)):
        place = f"\0{position}"
        if not name:
            file.find("header_unnamed", at=(line,), hint=f"column {position + 1}")
        elif name in columns:
            file.find("header_duplicate", original.strip(), at=(line,))
        elif name in known or (name.startswith("ext.") and len(name) > 4):
            place = name
        else:
            file.find("header_unknown", original.strip()[:100], at=(line,))
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
    return columns


def _named(header: str, table: Table) -> str:
    """The column as compared. In a file that extends records whatever is not the key is the district's own."""
    name = table.column_of(header)
    return f"ext.{header.strip()}" if table.extends and name and name not in table.columns and not name.startswith("ext.") else name


def _tell_rows(file: _File, records: lines.Records, before: FileShape | None, columns: Sequence[str]) -> None:
    """Findings about rows, and whether the file breaks off."""
    for code in ("row_short", "row_long", "quote_open", "nul_byte"):
        at = [each.line for each in records.faulty if each.fault == code]
        if at:
            file.find(code, at=at)
    if records.unescaped:
        file.find("quote_unescaped", at=records.unescaped)
    if records.blank:
        file.find("row_blank", at=records.blank)
    file.shape = FileShape(tuple(columns), records.terminated)
    last = int(records.lines[-1]) if len(records.lines) else 0
    last = max([last, *(each.line for each in records.faulty)])
    if not records.terminated and not records.last_whole:
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


def _frame(file: _File, records: lines.Records) -> pd.DataFrame:
    """The records as a frame, trimmed, without rows that say nothing."""
    columns = {name: pc.utf8_trim_whitespace(records.table[name]).combine_chunks() for name in records.table.column_names}
    table = pa.table(columns) if columns else records.table
    at = records.lines
    blank = np.ones(len(table), dtype=bool)
    for name in table.column_names:
        if not blank.any():
            break
        blank &= pc.equal(table[name], "").to_numpy(zero_copy_only=False)
    if blank.any():
        file.find("row_blank", at=at[blank].tolist())
        table, at = table.filter(pa.array(~blank)), at[~blank]
    return pd.DataFrame({name: pd.array(table[name], dtype=TEXT) for name in table.column_names}, index=pd.Index(at, name="line"), copy=False)


def _with_derived(file: _File, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with every column that the roster cannot do without: derived where that is allowed, blank where the district need not send it."""
    for each in file.table.fields:
        if each.derive and each.required and each.column not in frame.columns and each.derive in frame.columns:
            frame = frame.assign(**{each.column: frame[each.derive]})
        elif each.waived and each.column not in frame.columns:
            frame = frame.assign(**{each.column: pd.array(pa.repeat("", len(frame)), dtype=TEXT)})
    return frame


def _left_out(file: _File, faulty: Sequence[lines.OddRecord]) -> Rejections | None:
    """The lines of records that are in no frame, each with the finding of its fault."""
    if not faulty:
        return None
    labels = {each.code: each.label for each in file.findings}
    codes = sorted({each.fault for each in faulty if each.fault})
    places = {code: place for place, code in enumerate(codes)}
    return Rejections(
        lines=np.array([each.line for each in faulty], dtype=np.int64),
        causes=np.array([places[each.fault] for each in faulty if each.fault], dtype=np.int32),
        labels=tuple(labels[code] for code in codes),
    )


def _unread_keys(table: Table, names: Sequence[str], faulty: Sequence[lines.OddRecord]) -> pd.DataFrame:
    """The keys of records that are in no frame; null stands for any value.

    In a row with too many cells any cell may be the key, as an unquoted comma shifts what follows it; all of them are kept as keys.
    """
    at = [names.index(column) for column in table.key]
    keys: set[tuple[str | None, ...]] = set()
    for record in faulty:
        cells = [None if "\0" in cell or "\ufffd" in cell else cell.strip(' \t"') or None for cell in record.cells]
        if record.fault in ("row_long", "quote_open"):
            for cell in cells:
                keys.update(tuple(cell if part == position else None for part in range(len(at))) for position in range(len(at)) if cell)
        else:
            keys.add(tuple(cells[index] if index < len(cells) else None for index in at))
    ordered = sorted(keys, key=lambda key: tuple(part or "" for part in key))
    return pd.DataFrame({column: pd.array([key[part] for key in ordered], dtype=TEXT) for part, column in enumerate(table.key)})
