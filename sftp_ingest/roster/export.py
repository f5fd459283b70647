"""The active roster of a district becomes a delivery again: the files which, loaded, change nothing."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.errors import ConfigError
from sftp_ingest.model import ENTITIES, Roster
from sftp_ingest.roster import written
from sftp_ingest.roster.arrow import array_of
from sftp_ingest.roster.contract import Contract, Field, Table
from sftp_ingest.roster.written import Columns, alike

_SLICE = 50_000
_FURTHER_TEACHERS = tuple(f"teacher_{position}_id" for position in range(2, 11))

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class File:
    """One file of a delivery to be written: its name, a sub-folder included, and the way to its rows, a block at a time.

    Every block has the same header; there is at least one, which may be empty.
    """

    name: str
    blocks: Callable[[], Iterable[Columns]]


@dataclass(frozen=True)
class Written:
    """One file that was written: its name, its rows without the header, its size in bytes."""

    name: str
    rows: int
    size: int


@dataclass(frozen=True)
class Export:
    """What is to be written, and by kind of record how many the format cannot tell."""

    files: tuple[File, ...]
    left_out: Mapping[str, int]


# ---------------------------------------------------------------- what both formats need


def active(roster: Roster) -> dict[str, pa.Table]:
    """The active records of every entity, in key order, so that the same roster gives the same bytes."""
    tables = {}
    for name, entity in ENTITIES.items():
        frame = roster.entities.get(name)
        if frame is None:
            tables[name] = pa.table({column: pa.array([], pa.string()) for column in entity.columns})
            continue
        table = pa.table({column: array_of(frame[column]) for column in entity.columns})
        if "active" in frame.columns:
            table = table.filter(pa.array(frame["active"].to_numpy(dtype=bool)))
        tables[name] = table.take(pc.sort_indices(table, sort_keys=[(column, "ascending") for column in entity.key])).combine_chunks()
    return tables


def column(table: pa.Table, name: str) -> Any:
    """The column in one piece."""
    found = table[name]
    return found.chunk(0) if found.num_chunks == 1 else found.combine_chunks()


def looked_up(ids: Any, keys: Any, cells: Any) -> Any:
    """For each id the cell beside it among the keys, blank where it is not there."""
    return pc.fill_null(cells.take(pc.index_in(ids, value_set=keys)), "")


def lists(cells: Any) -> tuple[Any, Positions]:
    """JSON lists as one Arrow array of all their elements as JSON texts, and how many each row has; every distinct list is read once."""
    encoded = cells.dictionary_encode()
    read = [json.loads(text) if text else [] for text in encoded.dictionary.to_pylist()]
    codes = encoded.indices.to_numpy()
    sizes = np.array([len(each) for each in read], dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    count = sizes[codes] if len(codes) else np.zeros(0, dtype=np.int64)
    at = np.repeat(starts[codes] - (np.cumsum(count) - count), count) + np.arange(count.sum()) if len(codes) else np.zeros(0, dtype=np.int64)
    elements = pa.array([json.dumps(element) if isinstance(element, list) else element for each in read for element in each], pa.string())
    return elements.take(pa.array(at)), count


def ext_columns(cells: Any, prefix: str) -> Columns:
    """The extension columns that the JSON objects hold, in the order of their names."""
    encoded = cells.dictionary_encode()
    read = [json.loads(text) if text else {} for text in encoded.dictionary.to_pylist()]
    names = sorted({name for each in read for name in each})
    return {prefix + name: pa.array([each.get(name, "") for each in read], pa.string()).take(encoded.indices) for name in names}


# ---------------------------------------------------------------- Clever's files


def clever(roster: Roster, contract: Contract) -> Export:
    """The files of Clever's format. Every record goes to the file of its own source; columns in which nothing stands are left out.

    Raw values are written, not what was derived from them, so that loading derives the same again. Attendance is no part of it: that
    a file tells nothing of it changes nothing.
    """
    tables = active(roster)
    chosen = {
        table.name: tables[table.records].filter(_mine(table, contract, tables))
        for table in contract.tables.values()
        if table.records and not table.incremental
    }
    files = []
    for table in contract.tables.values():
        if table.extends:
            plain = [chosen[each.name] for each in contract.of(table.extends) if not each.ext]
            files += _extension_files(table, pa.concat_tables([*plain, tables[table.extends].slice(0, 0)]))
        if table.name not in chosen or not (len(chosen[table.name]) or table.core):
            continue
        records = chosen[table.name]
        at, cells = _rows(table, records, tables)
        files.append(File(table.file, partial(_blocks, table, records, at, cells)))
    positions = column(tables["section_teachers"], "position").to_pylist()
    surplus = sum(int(position) > len(_FURTHER_TEACHERS) + 1 for position in positions)
    return Export(tuple(files), {"section_teachers": surplus} if surplus else {})


def _extension_files(table: Table, records: pa.Table) -> list[File]:
    """The file under extensionfields/ for records whose own file takes no extension columns (contract 1.7)."""
    extended = records.filter(pc.not_equal(column(records, "ext"), "")).combine_chunks()
    if not len(extended):
        return []
    key = next(each for each in table.fields if each.column == table.key[0])
    columns = {key.name: column(extended, key.to)} | ext_columns(column(extended, "ext"), "ext.")
    return [File(table.file, lambda: (columns,))]


def _mine(table: Table, contract: Contract, tables: Mapping[str, pa.Table]) -> Any:
    """Which records of its kind are written into the table's file: those of its source; the main file has also those of sources without a file."""
    records = tables[table.records]
    if "source" in records.column_names:
        source = column(records, "source")
    else:
        return pa.repeat(pa.scalar(True), len(records))
    elsewhere = pa.array([each.source for each in contract.of(table.records) if each.source], pa.string())
    return pc.equal(source, table.source) if table.source else pc.invert(pc.is_in(source, value_set=elsewhere))


def _rows(table: Table, records: pa.Table, tables: Mapping[str, pa.Table]) -> tuple[Positions, Columns]:
    """Which record each row of the file is of, and the cells that differ between the rows of one record."""
    if table.records == "staff":
        told = zip(column(records, "school_ids").to_pylist(), column(records, "school_id").to_pylist(), strict=True)
        schools, count = lists(pa.array([each or json.dumps([school]) for each, school in told], pa.string()))
        return np.repeat(np.arange(len(records)), count), {"school_id": schools}
    if table.records == "students" and table.repeat:
        return _contact_rows(table, records, tables["contacts"])
    if table.records == "sections":
        return np.arange(len(records)), _section_cells(records, tables)
    if table.records == "contacts":
        return np.arange(len(records)), _split_names(column(records, "name"))
    return np.arange(len(records)), {}


def _contact_rows(table: Table, students: pa.Table, contacts: pa.Table) -> tuple[Positions, Columns]:
    """A row for every phone of every contact, and one for a student without any (contract 1.5)."""
    contacts = contacts.filter(pc.equal(column(contacts, "source"), ""))
    of_student = pc.index_in(column(contacts, "student_id"), value_set=column(students, "sis_id"))
    contacts, of_student = contacts.filter(pc.is_valid(of_student)), of_student.drop_null().to_numpy().astype(np.int64)
    others, count = lists(column(contacts, "other_phones"))
    alone = np.ones(len(students), dtype=bool)
    alone[of_student] = False
    further = np.repeat(np.arange(len(contacts)), count)
    none = np.full(int(alone.sum()), -1)
    at = np.concatenate([of_student, of_student[further], np.flatnonzero(alone)])
    contact = np.concatenate([np.arange(len(contacts)), further, none])
    phone = pa.array([json.loads(each) for each in others.to_pylist()], pa.list_(pa.string()))
    nothing = alike("", len(none))
    cells = {each.column: _of(column(contacts, each.to), contact) for each in table.fields if table.repeats(each.column) and each.to in contacts.column_names}
    for name, position in (("phone", 0), ("phone_type", 1)):
        cells[f"contact_{name}"] = pa.concat_arrays([column(contacts, name), pc.list_element(phone, position), nothing])
    order = np.argsort(at, kind="stable")
    return at[order], {name: each.take(pa.array(order)) for name, each in cells.items()}


def _of(cells: Any, at: Positions) -> Any:
    """The cells at the places, blank where the place is none."""
    return pc.fill_null(cells.take(pa.array(at, mask=at < 0)), "")


def _section_cells(sections: pa.Table, tables: Mapping[str, pa.Table]) -> Columns:
    """What stands in sections.csv and elsewhere in the roster: the teachers by their positions, and the course's description."""
    links, courses = tables["section_teachers"], tables["courses"]
    cells = {"course_description": looked_up(column(sections, "course_id"), column(courses, "course_id"), column(courses, "description"))}
    for position, name in enumerate(("teacher_id", *_FURTHER_TEACHERS), start=1):
        here = links.filter(pc.equal(column(links, "position"), str(position)))
        cells[name] = looked_up(column(sections, "section_id"), column(here, "section_id"), column(here, "teacher_id"))
    return cells


def _split_names(names: Any) -> Columns:
    """Full names as first and last name: the last word, and all before it."""
    last = pc.replace_substring_regex(names, r"^.* ", "")
    return {"first_name": pc.utf8_rtrim_whitespace(pc.replace_substring_regex(names, r"[^ ]*$", "")), "last_name": last}


def _columns(table: Table, records: pa.Table, at: Positions, cells: Columns) -> Columns:
    """The file's columns under Clever's headers; of optional ones only those in which anything stands."""
    rows = pa.array(at)
    found: Columns = {}
    for each in table.fields:
        told = _told(each, records, rows, cells)
        if each.required or pc.any(pc.not_equal(told, "")).as_py():
            found[each.name] = told
    if table.ext and "ext" in records.column_names:
        found |= {name: each.take(rows) for name, each in ext_columns(column(records, "ext"), "ext.").items()}
    return found


def _blocks(table: Table, records: pa.Table, at: Positions, cells: Columns) -> Iterator[Columns]:
    columns = _columns(table, records, at, cells)
    for start in range(0, max(len(at), 1), _SLICE):
        yield {name: each.slice(start, _SLICE) for name, each in columns.items()}


def _told(field: Field, records: pa.Table, rows: Any, cells: Columns) -> Any:
    if field.column in cells:
        return cells[field.column]
    if field.to in records.column_names:
        return column(records, field.to).take(rows)
    return alike("", len(rows))


# ---------------------------------------------------------------- files


def save(folder: Path, export: Export, *, force: bool = False) -> tuple[Written, ...]:
    """Writes the files, readable by their owner alone as they hold children's data, and returns what each became.

    All are written under temporary names and renamed together at the end. Raises ConfigError where one of them exists already and `force`
    is not given, or the folder cannot be written to; then nothing was changed.
    """
    there = sorted(each.name for each in export.files if (folder / each.name).exists())
    if there and not force:
        raise ConfigError(f"{folder} holds {', '.join(there)} already; --force overwrites")
    made = []
    with contextlib.ExitStack() as undo:
        try:
            for each in export.files:
                path = folder / each.name
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                undo.callback(_aside(path).unlink, missing_ok=True)
                with _opened(_aside(path)) as file:
                    made.append(_write(file, each))
            for each in export.files:
                _aside(folder / each.name).replace(folder / each.name)
        except OSError as fault:
            raise ConfigError(f"{folder} cannot be written to: {fault.strerror}") from fault
    return tuple(made)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def _opened(path: Path) -> BinaryIO:
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _write(to: BinaryIO, file: File) -> Written:
    rows = size = 0
    for columns in file.blocks():
        if not size:
            size += to.write(written.header(columns))
        size += to.write(written.joined(written.lines(columns)))
        rows += len(next(iter(columns.values())))
    return Written(file.name, rows, size)
