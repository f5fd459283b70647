"""Columns that stand under another name, or in another place, than they should."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.findings import Finding
from sftp_ingest.model import FileShape
from sftp_ingest.roster import values
from sftp_ingest.roster.arrow import array_of
from sftp_ingest.roster.contract import Field, Table, normalised
from sftp_ingest.roster.drift import form
from sftp_ingest.roster.ids import LIKELY_IDS

Positions = npt.NDArray[np.int64]

ALIKE = 0.6
"""Two headers are alike from this ratio of common letters on, as Course_nbr and Course_number."""

FITS = 0.8
"""Cells look like those of another column where at least this share of them does: a real column has some odd cells."""

LOOKED_AT = 1_000
"""So many cells of a column are looked at, to see what they look like."""

CALLED: Mapping[str, frozenset[str]] = {
    "last_name": frozenset({"surname", "family_name", "lastname", "lname"}),
    "first_name": frozenset({"given_name", "forename", "firstname", "fname"}),
    "dob": frozenset({"date_of_birth", "birth_date", "birthdate", "birthday", "birth_day"}),
    "gender": frozenset({"sex"}),
}
"""What exporters call some columns whose names have no letters in common with the format's."""

TELLING = ("date", "birth_date", "email", "phone", "grade", "gender", "flag")
"""Types of a contract's field that cells can be recognised by, those that say most first."""


AS_IDS = frozenset({"phone", "grade", "flag"})
"""Types whose cells any id may look like: of a column of ids they say something only where other columns have moved along."""


@dataclass(frozen=True)
class Stray:
    """A column that the format does not know: its header as sent, the known columns on both sides of it, and some of its cells."""

    name: str
    beside: tuple[str, str]
    cells: pa.Array


def renamed(findings: Sequence[Finding], table: Table, strays: Sequence[Stray], before: FileShape | None) -> list[Finding]:
    """The findings of one file, in which a column that is missing names the unknown one that it may be, and why.

    Whatever else was found about the two columns then follows from the missing one.
    """
    lost = {each.column: each for each in reversed(findings) if each.code in ("header_gone", "header_derived", "header_missing")}
    hints: dict[str, str] = {}
    behind: dict[tuple[str, str], str] = {}
    for column, root in lost.items():
        ranked = sorted(((_evidence(column, table, each, before), each) for each in strays), key=lambda pair: (-len(pair[0]), pair[1].name))
        if ranked and ranked[0][0] and (len(ranked) == 1 or len(ranked[0][0]) > len(ranked[1][0])):
            evidence, stray = ranked[0]
            hints[column] = f"{stray.name[:100]} may be it under another name: {', '.join(evidence)}"
            behind |= {("header_unknown", stray.name[:100]): root.label, ("header_gone", column): root.label}
    told = []
    for each in findings:
        if each == lost.get(each.column) and each.column in hints:
            told.append(replace(each, hint="; ".join(filter(None, (each.hint, hints[each.column])))))
        else:
            told.append(replace(each, cause=behind.get((each.code, each.column), each.cause)))
    return told


def _evidence(column: str, table: Table, stray: Stray, before: FileShape | None) -> list[str]:
    """What speaks for it that the unknown column is the missing one."""
    missing, evidence = normalised(column), []
    called = normalised(stray.name)
    if called in CALLED.get(missing, ()) or SequenceMatcher(None, missing, called, autojunk=False).ratio() >= ALIKE:
        evidence.append("the names are alike")
    if before is not None and missing in before.columns and len(before.columns) > 1:
        place = before.columns.index(missing)
        there = {name for name in before.columns if name != missing}
        beside = [next((name for name in side if name in there), "") for side in (before.columns[:place][::-1], before.columns[place + 1 :])]
        if tuple(beside) == stray.beside:
            evidence.append("it stands in the same place")
    shape = before.shapes.get(missing) if before is not None else None
    if shape is not None and shape.form and form(stray.cells)[0] == shape.form:
        evidence.append(f"its cells look as they did before ({shape.form}, where 9 stands for a digit, a for a letter)")
    field = table.columns.get(missing)
    if field is not None and (share := _fit(field.type, stray.cells)) >= FITS:
        evidence.append(f"{share:.0%} of its cells are what the column holds ({field.type.replace('_', ' ')})")
    return evidence


def explained(findings: Sequence[Finding], tables: Mapping[str, Table], frames: Mapping[str, pd.DataFrame], before: Mapping[str, FileShape]) -> list[Finding]:
    """The findings, in which a column whose cells are wrong says what they look like instead: those of which other column, and how far it is.

    `frames` hold the cells as sent.
    """
    told = []
    for each in findings:
        wrong = each.code in (*values.NOT_UNDERSTOOD, "value_malformed") or (each.code.endswith("_unknown") and each.lines)
        if wrong and not each.hint and (table := _judged_by(each, tables, frames)):
            each = replace(each, hint=_elsewhere(each, table, frames[table.name], before.get(each.file)))
        told.append(each)
    return told


def _judged_by(found: Finding, tables: Mapping[str, Table], frames: Mapping[str, pd.DataFrame]) -> Table | None:
    """The table that has the lines and the column of the finding, of which there may be several in a file; None where none has all of them."""
    for name, frame in frames.items():
        table = tables[name]
        if table.file == found.file and table.column_of(found.column) in frame.columns and frame.index.isin(found.lines).sum() >= len(found.lines):
            return table
    return None


def _elsewhere(found: Finding, table: Table, frame: pd.DataFrame, before: FileShape | None) -> str:
    """Of which other column the wrong cells look; blank where of none, or where the column is wrong in few rows that have nothing in common."""
    column = table.column_of(found.column)
    rows = frame.loc[list(found.lines)] if found.count < len(frame) / 2 else frame.iloc[np.linspace(0, len(frame) - 1, min(LOOKED_AT, len(frame))).astype(int)]
    if len(rows) < LIKELY_IDS:
        return ""
    columns = list(frame.columns)
    own = {each.column: each for each in table.fields if each.column in columns}
    ranked = []
    for other, field in own.items():
        share = _looks(array_of(rows[column]), field, before)
        if other != column and field.type != own[column].type and share >= FITS:
            apart = columns.index(column) - columns.index(other)
            moved = sum(_moved(rows, columns, each, own[columns[each]], apart, before) for each in range(len(columns)) if columns[each] in own)
            if own[column].type == "id" and field.type in AS_IDS and moved < 2:
                continue
            ranked.append((-moved, TELLING.index(field.type) if field.type in TELLING else len(TELLING), abs(apart), field.name, share, apart))
    if not ranked:
        return ""
    moved, _, _, name, share, apart = min(ranked)
    where = f"{abs(apart)} column{'' if abs(apart) == 1 else 's'} to the {'left' if apart > 0 else 'right'}"
    others = f"; {-moved:,} columns hold what belongs {where}" if moved < -1 else ""
    return f"{share:.0%} of these cells look like those of {name}, {where}{others}"


def _moved(rows: pd.DataFrame, columns: Sequence[str], place: int, field: Field, apart: int, before: FileShape | None) -> bool:
    """Whether the cells of a column stand so many columns away from it."""
    if not 0 <= place + apart < len(columns):
        return False
    return _looks(array_of(rows[columns[place + apart]]), field, before) >= FITS > _looks(array_of(rows[columns[place]]), field, before)


def _looks(cells: pa.Array, field: Field, before: FileShape | None) -> float:
    """The share of the cells that could be the field's: by its type, or by the form that its cells had in the delivery before."""
    if field.type in TELLING:
        return _fit(field.type, cells)
    shape = before.shapes.get(field.column) if before is not None else None
    if shape is None or not any(letter in shape.form for letter in "9-./@"):  # a form of letters alone is anybody's
        return 0.0
    best, share = form(cells)
    return share if best == shape.form else 0.0


def _fit(type: str, cells: pa.Array) -> float:
    """The share of the cells that are not blank which a type of the contract can be, 0 where the type takes anything."""
    cells = cells.filter(pc.not_equal(cells, "")).slice(0, LOOKED_AT)
    if not len(cells) or type not in TELLING:
        return 0.0
    if type in values.PATTERNS:
        return float(pc.mean(pc.match_substring_regex(cells, f"^(?:{values.PATTERNS[type]})$")).as_py())
    counted = pc.value_counts(cells)
    return float(sum(each["counts"] for each in counted.to_pylist() if values.understood(type, each["values"])) / len(cells))
