"""What differs tonight from the district's own history: files and columns seen from afar, kept when applied, compared the next night."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.findings import Finding, finding
from sftp_ingest.model import ColumnShape, FileShape, Frames
from sftp_ingest.roster import values
from sftp_ingest.roster.arrow import array_of, is_in
from sftp_ingest.roster.contract import Contract, Table

FEWEST_ROWS = 50
"""Smaller files do not drift: in them three people are a large share."""

SAMPLED = 10_000
"""A column's form is looked for in so many cells, spread over the whole file: a share is told to a hundredth by them."""

LONGEST_FORM = 40
"""Forms are cut here; what is longer is running text, which has no form."""

BLANK_RISE = 0.20
"""A column drifts when its blank share rises by more: a school that stops filling a column is seen, the usual coming and going is not."""

VALUES_FACTOR = 2
VALUES_FEWEST = 3
"""Distinct values of a vocabulary must halve or double, and by at least three, so that one new grade or gender is no drift."""

FORM_REMAINS = 0.20
"""An id column keeps its form while at least this share of its cells has the form that was commonest: ids that grow by a digit do so slowly."""

FORM_RULES = 0.50
"""Where no form has half of the cells, ids have no common form that could change."""

ROWS_SHARE = 0.20
ROWS_FEWEST = 50
"""A file drifts when it grows or shrinks by more than both: a new school year does, a usual night does not."""

EMPTY_RISE = 0.20
"""Sections without students may become so many more, as a share of all: at the start of a term some always are."""

CLASS_FACTOR = 2
"""Students per section that halve or double in one night: sections were split or merged, or enrollments of a part were not exported."""

CARRIED_SHARE = 0.10
"""While no more of a file's lines than these have changed since all of it was seen, none of the shares and factors above can be reached."""

OPEN_TYPES = frozenset({"string", "id", "email", "phone"}) | values.DATES
"""Types of a contract's field whose values are not of a short list; all others are vocabularies."""

SECTIONS_EMPTY = "sections_without_students"
CLASS_SIZE = "students_per_section"


# ---------------------------------------------------------------- seen from afar


def shapes(frames: Mapping[str, pd.DataFrame], rows: Mapping[str, int], forms: Mapping[str, FileShape], contract: Contract) -> dict[str, FileShape]:
    """The shapes of tonight's files, of which only the form of the bytes is known, with their rows, columns and measures too, by file name.

    No cell can be read from them.
    """
    seen = dict(forms)
    for name, frame in frames.items():
        table = contract.tables[name]
        if table.file not in seen:
            continue
        columns = {each.column: _column(array_of(frame[each.column]), each.type) for each in table.fields if each.column in frame.columns}
        seen[table.file] = replace(seen[table.file], rows=rows[name], shapes=columns)
    if "sections" in frames and "enrollments" in frames:
        file = contract.tables["sections"].file
        seen[file] = replace(seen[file], measures=_measures(frames["sections"], frames["enrollments"]))
    return seen


def sampled(cells: pa.Array) -> pa.Array:
    """The cells, or some thousands of them that are spread evenly over the column."""
    if len(cells) <= SAMPLED:
        return cells
    return cells.take(pa.array(np.linspace(0, len(cells) - 1, SAMPLED).astype(np.int64)))


def forms(cells: pa.Array) -> pa.Array:
    """Each cell with 9 for every digit and a for every letter (outside ASCII, for every byte of it), cut at forty characters."""
    cells = pc.utf8_slice_codeunits(cells, 0, LONGEST_FORM)
    _, offsets, text = cells.buffers()
    # one look-up a byte of all cells in one piece: a pattern would cost more than the parsing
    formed = pa.py_buffer(text.to_pybytes().translate(_FORM) if text else b"")
    return pa.Array.from_buffers(pa.string(), len(cells), [None, offsets, formed], offset=cells.offset)


_FORM = bytes(57 if 48 <= each <= 57 else 97 if each > 127 or chr(each).isalpha() else each for each in range(256))


def form(cells: pa.Array) -> tuple[str, float]:
    """The commonest form of the cells that are not blank, of equals the first by letter, and its share of them."""
    counted = pc.value_counts(forms(cells.filter(pc.not_equal(cells, "")))).to_pylist()
    if not counted:
        return "", 0.0
    best = min(counted, key=lambda each: (-each["counts"], each["values"]))
    return str(best["values"]), float(best["counts"] / sum(each["counts"] for each in counted))


def _column(cells: pa.Array, type: str) -> ColumnShape:
    blank = pc.sum(pc.equal(cells, "")).as_py() / len(cells) if len(cells) else 0.0
    distinct = 0 if type in OPEN_TYPES else pc.count_distinct(cells).as_py() - (blank > 0)
    return ColumnShape(blank=round(blank, 4), distinct=int(distinct), form=form(sampled(cells))[0])


def _measures(sections: pd.DataFrame, enrollments: pd.DataFrame) -> dict[str, float]:
    """The share of sections without students, and how many students the others have on average."""
    joined = pc.value_counts(array_of(enrollments["section_id"]))
    known = array_of(sections["section_id"])
    filled = is_in(joined.field("values"), known)
    counts = joined.field("counts").to_numpy()[filled]
    empty = 1 - min(int(filled.sum()) / max(pc.count_distinct(known).as_py(), 1), 1)
    return {SECTIONS_EMPTY: round(empty, 4), CLASS_SIZE: round(float(counts.mean()), 2) if len(counts) else 0.0}


# ---------------------------------------------------------------- compared


def of_format(before: Mapping[str, FileShape], contract: Contract) -> dict[str, FileShape]:
    """The shapes that are of this format's files: another one may have a file of the same name, which is told by the key that it does not have."""
    keys = {table.file: {column for column in table.key if not table.columns[column].waived} for table in contract.tables.values() if not table.of}
    return {file: shape for file, shape in before.items() if not shape.columns or keys.get(file, set()) <= set(shape.columns)}


def found(before: Mapping[str, FileShape], tonight: Mapping[str, FileShape], frames: Frames, contract: Contract) -> tuple[Finding, ...]:
    """Where tonight's files differ from those applied last; warnings all, and none before there is a history."""
    told: list[Finding] = []
    before = of_format(before, contract)
    for name, frame in frames.tables.items():
        table = contract.tables[name]
        was, now = before.get(table.file), tonight.get(table.file)
        if was is None or now is None or table.incremental:
            continue
        told += _rows(table, was, now)
        if min(was.rows, now.rows) >= FEWEST_ROWS:
            told += _columns(table, was, now, frame)
            told += _classes(table, was, now)
    return tuple(told)


def _rows(table: Table, was: FileShape, now: FileShape) -> Iterator[Finding]:
    change = abs(now.rows - was.rows)
    if was.rows >= FEWEST_ROWS and change > ROWS_FEWEST and change > ROWS_SHARE * was.rows:
        yield finding("drift_rows", table.file, hint=f"{was.rows:,} → {now.rows:,} rows")


def _columns(table: Table, was: FileShape, now: FileShape, frame: pd.DataFrame) -> Iterator[Finding]:
    for each in table.fields:
        old, new = was.shapes.get(each.column), now.shapes.get(each.column)
        if old is None or new is None:
            continue
        if not each.required and new.blank - old.blank > BLANK_RISE:  # a blank cell of a required column has a finding of its own
            yield finding("drift_blank", table.file, each.name, hint=f"{old.blank:.0%} → {new.blank:.0%} of its cells are blank")
        if _other_values(old.distinct, new.distinct):
            yield finding("drift_values", table.file, each.name, hint=f"{old.distinct:,} → {new.distinct:,} different values")
        if each.type == "id" and old.form and new.form and old.form != new.form:
            cells = sampled(array_of(frame[each.column]))
            cells = cells.filter(pc.not_equal(cells, ""))
            remaining = pc.mean(pc.equal(forms(cells), old.form)).as_py()
            share = form(cells)[1]
            if remaining < FORM_REMAINS and share >= FORM_RULES:
                hint = f"ids looked like {old.form}; {share:.0%} of them look like {new.form} now (9 stands for a digit, a for a letter)"
                yield finding("drift_ids", table.file, each.name, hint=hint)


def _other_values(old: int, new: int) -> bool:
    few, many = sorted((old, new))
    return few > 0 and many >= VALUES_FACTOR * few and many - few >= VALUES_FEWEST


def _classes(table: Table, was: FileShape, now: FileShape) -> Iterator[Finding]:
    old, new = was.measures, now.measures
    if SECTIONS_EMPTY in old and SECTIONS_EMPTY in new and new[SECTIONS_EMPTY] - old[SECTIONS_EMPTY] > EMPTY_RISE:
        hint = f"{old[SECTIONS_EMPTY]:.0%} → {new[SECTIONS_EMPTY]:.0%} of all sections have no enrollment"
        yield finding("drift_sections_empty", table.file, table.columns["section_id"].name, hint=hint)
    small, large = sorted((old.get(CLASS_SIZE, 0.0), new.get(CLASS_SIZE, 0.0)))
    if small and large >= CLASS_FACTOR * small:
        yield finding("drift_class_size", table.file, hint=f"{old[CLASS_SIZE]:,.1f} → {new[CLASS_SIZE]:,.1f} students a section")


def remembered(before: Mapping[str, FileShape], tonight: Mapping[str, FileShape], contract: Contract, *, waits: bool, released: bool) -> dict[str, FileShape]:
    """The shapes that the next night's files are compared with, by name.

    Of a delivery of which anything `waits` for a person nothing is learnt: what was applied before it still counts. A column that is gone
    is remembered until it is back, or until a person has `released` a delivery without it; a file that is gone always.
    """
    if waits:
        return {**tonight, **before}
    shapes = {**before, **tonight}
    if released:
        return shapes
    known = {table.file: table.columns for table in contract.tables.values()}
    before = of_format(before, contract)
    for name in before.keys() & tonight.keys():
        there = tonight[name].columns
        gone = (each for each in before[name].columns if each not in there and (each in known.get(name, ()) or each.startswith("ext.")))
        shapes[name] = replace(tonight[name], columns=(*there, *gone))
    return shapes


# ---------------------------------------------------------------- carried on, where only the lines that changed are read


def carried(table: Table, was: FileShape, rows: int, gone: pd.DataFrame, came: pd.DataFrame) -> FileShape | None:
    """The shape of a file of which only these rows differ from the night before, when it was `was`.

    None where so much has changed, that night or since the whole file was seen, that it may have drifted: the whole file tells.
    """
    changed = was.changed + max(len(gone), len(came))
    if was.rows < FEWEST_ROWS:
        return replace(was, rows=rows, changed=changed) if rows < FEWEST_ROWS else None  # what its columns look like is worth knowing from here on
    if changed > CARRIED_SHARE * was.rows:
        return None
    shapes = dict(was.shapes)
    for each in table.fields:
        old = was.shapes.get(each.column)
        if old is None or each.type in OPEN_TYPES or each.column not in came.columns:
            continue
        before, tonight = (set(pc.unique(array_of(frame[each.column])).to_pylist()) - {""} for frame in (gone, came))
        new = replace(old, came=old.came + len(tonight - before), went=old.went + len(before - tonight))
        if _other_values(old.distinct, old.distinct + new.came) or _other_values(old.distinct, max(old.distinct - new.went, 1)):
            return None
        shapes[each.column] = new
    return replace(was, rows=rows, shapes=shapes, changed=changed)
