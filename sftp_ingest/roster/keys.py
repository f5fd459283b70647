"""One record a key: rows that repeat one, that contradict it, and those of a file that counts less."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.roster import arrow
from sftp_ingest.roster.arrow import Mask, array_of, is_in, key_of
from sftp_ingest.roster.court import Court, Rows

MEMBERSHIPS = frozenset({"enrollments", "section_teachers"})
"""Tables whose rows say nothing but that two records belong together: to say it again, in whatever words, is harmless."""


def check_keys(court: Court, rows: Rows) -> None:
    """One record a key. Repeated rows are harmless where nothing but the columns that may repeat differs."""
    table = rows.table
    group = arrow.groups([rows.encoded(column) for column in table.key])
    kept = np.flatnonzero(rows.kept & arrow.more_than_once(group))
    if not len(kept):
        return
    _, first, of_group = np.unique(group[kept], return_index=True, return_inverse=True)
    first_of = kept[first[of_group]]
    later, first_of = kept[first_of != kept], first_of[first_of != kept]
    if not len(later):
        return
    pairs = [pa.array(later), pa.array(first_of)]
    differs = {
        column: pc.not_equal(*(rows.column(column).take(each) for each in pairs)).to_numpy(zero_copy_only=False)
        for column in rows.frame.columns
        if column not in table.key
    }
    own = np.zeros(len(later), dtype=bool)
    repeated = np.zeros(len(later), dtype=bool)
    for column, different in differs.items():
        if table.repeats(column):
            repeated |= different
        else:
            own |= different

    def tell(code: str, column: str, at: Mask) -> None:
        if at.any():
            mask = np.zeros(len(rows.frame), dtype=bool)
            mask[later[at]] = True
            court.find(code, rows, column, mask)

    key = next(each.name for each in table.fields if each.column == table.key[0])
    if table.records in MEMBERSHIPS:
        return _drop_repeated(court, rows, later)
    if not table.repeat:
        tell("id_duplicate", key, own)
        return _drop_repeated(court, rows, later[~own])
    elsewhere = np.zeros(len(later), dtype=bool) if table.repeats("school_id") else differs["school_id"]
    tell("id_duplicate", key, elsewhere)
    tell("rows_differ", key, own & ~elsewhere)
    return _drop_repeated(court, rows, later[~own & ~repeated])


_OF_A_DAY = ("student_id", "date", "section_id", "type")
"""What tells attendance of one kind apart that has no id of its own (contract 1.9); a blank type follows from the section."""


def check_attendance(court: Court, rows: Rows) -> None:
    """One row an Attendance_id, and where there is none one a student, day, section and type: another row that says otherwise is left out."""
    cells = {each.to: array_of(rows.frame[each.column]) for each in rows.table.fields if each.column in rows.frame.columns}
    blank = pa.repeat("", len(rows.frame))
    given, section, kind = (cells.get(column, blank) for column in ("attendance_id", "section_id", "type"))
    cells["type"] = pc.if_else(pc.equal(kind, ""), pc.if_else(pc.equal(section, ""), "daily", "section"), kind)
    named = pc.not_equal(given, "")
    key = key_of([given, *(pc.if_else(named, "", cells.get(column, blank)) for column in _OF_A_DAY)])
    whole = key_of([key, *cells.values()])
    kept = np.flatnonzero(rows.kept)
    of_key, of_row = (arrow.encoded(each.take(pa.array(kept))).places for each in (key, whole))
    _, first, of_group = np.unique(of_key, return_index=True, return_inverse=True)
    later = np.arange(len(kept)) != first[of_group]
    again = later & (of_row == of_row[first[of_group]])
    named_ones = named.take(pa.array(kept)).to_numpy(zero_copy_only=False)
    for column, at in (("Attendance_id", later & ~again & named_ones), ("Student_id", later & ~again & ~named_ones)):
        if at.any():
            mask = np.zeros(len(rows.frame), dtype=bool)
            mask[kept[at]] = True
            court.find("id_duplicate", rows, column, mask)
    _drop_repeated(court, rows, kept[again])


def _drop_repeated(court: Court, rows: Rows, at: npt.NDArray[np.int64]) -> None:
    """Leave out rows that say nothing new; that rejects nothing."""
    if not len(at):
        return
    mask = np.zeros(len(rows.frame), dtype=bool)
    mask[at] = True
    court.find("row_repeated", rows, "", mask)
    rows.drop(mask)


def drop_overridden(court: Court, rows: Rows) -> None:
    """Leave out records that a table of a lower rank has too, be its row valid or not: which of the two counts must not hang on a fault."""
    table = rows.table
    before = [each for each in court.of(table.records) if each.table.rank < table.rank]
    if not before or not len(rows.frame):
        return
    taken = [_key(frame, table.key) for each in before for frame in (each.frame, court.unread[each.table.name].dropna())]
    again = is_in(_key(rows.frame, table.key), pa.concat_arrays(taken))
    if again.any():
        court.find("record_overridden", rows, next(each.name for each in table.fields if each.column == table.key[0]), again)
        rows.drop(again)


def _key(frame: pd.DataFrame, key: Sequence[str]) -> pa.Array:
    return key_of([array_of(frame[column]) for column in key])
