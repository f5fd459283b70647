"""How far a cause reaches: the records of every entity that are left out because of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.findings import Finding
from sftp_ingest.roster import arrow, contacts
from sftp_ingest.roster.arrow import TEXT, Mask, array_of, is_in
from sftp_ingest.roster.contract import Table

Positions = npt.NDArray[np.int64]

UNREAD = frozenset({"row_short", "row_long", "quote_open", "nul_byte", "bytes_unreadable", "row_huge"})
"""Findings whose rows never got into a frame: each of those rows counts as one record."""


@dataclass(frozen=True)
class Judged:
    """One judged file: `cause` has, per row of the frame, the index + 1 into `labels` of what rejected it, or 0; `encoded` gives a column of the key."""

    table: Table
    frame: pd.DataFrame
    cause: npt.NDArray[np.int32]
    labels: Sequence[str]
    encoded: Callable[[str], arrow.Encoded]

    @property
    def rejected(self) -> Mask:
        """Which rows are left out."""
        rejected: Mask = self.cause != 0
        return rejected


@dataclass(frozen=True)
class _Told:
    """What some rows tell of one entity: the columns of its key, and the cause of each row, as in `Judged`."""

    key: Sequence[arrow.Encoded]
    cause: npt.NDArray[np.int32]
    labels: Sequence[str]


def with_left_out(findings: Sequence[Finding], judged: Sequence[Judged]) -> tuple[Finding, ...]:
    """The findings, each root cause with the records of every entity that are left out because of it.

    A record is left out where rows of its key were rejected and no row of it is believed; it counts for every cause that rejected one
    of them. A row whose key is not whole counts as one record.
    """
    reach = _reach(judged)
    # a row that nobody could read, of a file whose rows are sorted into several kinds, counts with the first of them
    kinds = {each.table.file.lower(): each.table.records for each in reversed(judged) if each.table.records}
    for each in findings:
        if each.code in UNREAD and (kind := kinds.get(each.file.lower())):
            tally = reach.setdefault(each.label, {})
            tally[kind] = tally.get(kind, 0) + each.count
    told = []
    for each in findings:
        of_cause = {} if each.cause or each.severity == "warn" else reach.pop(each.label, {})
        told.append(replace(each, left_out=of_cause) if of_cause else each)
    return tuple(told)


def _reach(judged: Sequence[Judged]) -> dict[str, dict[str, int]]:
    """Label → entity → records left out."""
    reach: dict[str, dict[str, int]] = {}
    for kind in dict.fromkeys(each.table.records for each in judged):
        alike = [each for each in judged if each.table.records == kind]
        if not kind or not any(each.rejected.any() for each in alike):
            continue
        if not all(each.table.key for each in alike):  # told row by row: attendance has no id
            for each in alike:
                for cause, count in enumerate(np.bincount(each.cause, minlength=1)[1:].tolist()):
                    tally = reach.setdefault(each.labels[cause], {})
                    tally[kind] = tally.get(kind, 0) + count
            continue
        for entity, told in _entities(kind, _narrowed(alike)).items():
            for label, count in _count(told).items():
                reach.setdefault(label, {})[entity] = count
    return reach


def _narrowed(alike: Sequence[Judged]) -> list[Judged]:
    """The rows that are left out, and those that may tell the same records; of the columns what tells one record from another.

    Only rows that share the first part of a rejected key can tell the same record: in a good night these are few among millions.
    """
    ids = [each.encoded(each.table.key[0]) for each in alike]
    suspected = [np.zeros(len(each.texts), dtype=bool) for each in ids]
    for hit, each, judged in zip(suspected, ids, alike, strict=True):
        hit[each.places[judged.rejected]] = True
    if len(alike) > 1:
        suspects = pa.concat_arrays([each.texts.filter(pa.array(hit)) for hit, each in zip(suspected, ids, strict=True)])
        suspected = [is_in(each.texts, suspects) for each in ids]
    return [_masked(judged, hit[each.places]) for hit, each, judged in zip(suspected, ids, alike, strict=True)]


def _masked(judged: Judged, mask: Mask) -> Judged:
    key = {column: judged.encoded(column).filter(mask) for column in judged.table.key}
    columns = [column for column in judged.frame.columns if column in key or column in _teachers(judged.table) or column.startswith("contact_")]
    further = any(column not in key for column in columns)  # else what is in the key says all
    return replace(judged, frame=judged.frame[columns][mask] if further else judged.frame.iloc[:0], cause=judged.cause[mask], encoded=key.__getitem__)


def _entities(kind: str, judged: Sequence[Judged]) -> dict[str, list[_Told]]:
    """What the rows of a kind tell, by entity: a student's row also of his contacts, a section's also of its teachers."""
    told: dict[str, list[_Told]] = {kind: [_Told([each.encoded(column) for column in each.table.key], each.cause, each.labels) for each in judged]}
    if kind == "students":
        told["contacts"] = [_contacts(each) for each in judged if "contact_name" in each.frame.columns]
    if kind == "sections":
        told["section_teachers"] = [part for each in judged for part in _section_teachers(each)]
    return told


def _contacts(judged: Judged) -> _Told:
    """Contacts that have a name, told apart as in the roster."""
    named = pc.not_equal(array_of(judged.frame["contact_name"]), "").to_numpy(zero_copy_only=False)
    frame = judged.frame[named]
    student = frame[judged.table.key[0]]
    blank = pd.array(pa.repeat("", len(frame)), dtype=TEXT)
    sent = {column: frame[f"contact_{column}"].array if f"contact_{column}" in frame.columns else blank for column in contacts.CELLS}
    key = [array_of(student), contacts.ids(pd.DataFrame({"student_id": student.array, **sent}))]
    return _Told([arrow.encoded(part) for part in key], judged.cause[named], judged.labels)


def _teachers(table: Table) -> list[str]:
    return [each.column for each in table.references if each.table == "teachers"]


def _section_teachers(judged: Judged) -> Iterator[_Told]:
    for column in _teachers(judged.table):
        if column in judged.frame.columns:
            named = pc.not_equal(array_of(judged.frame[column]), "").to_numpy(zero_copy_only=False)
            frame = judged.frame[named]
            key = [array_of(frame[judged.table.key[0]]), array_of(frame[column])]
            yield _Told([arrow.encoded(part) for part in key], judged.cause[named], judged.labels)


def _count(told: Sequence[_Told]) -> dict[str, int]:
    """Label → distinct records of one entity that only rejected rows tell."""
    labels = list(dict.fromkeys(label for each in told for label in each.labels))
    if not labels:
        return {}
    place = {label: position for position, label in enumerate(labels)}
    cause = np.concatenate([np.array([-1, *(place[label] for label in each.labels)], dtype=np.int32)[each.cause] for each in told])
    parts = [arrow.joined([each.key[part] for each in told]) for part in range(len(told[0].key))]
    whole = np.ones(len(cause), dtype=bool)
    for part in parts:
        whole &= pc.not_equal(part.texts, "").to_numpy(zero_copy_only=False)[part.places]
    counts = np.bincount(cause[(cause >= 0) & ~whole], minlength=len(labels))
    # sorted, the causes of one record stand side by side, and that it is believed before them; a table of all records takes four times the memory
    pairs = arrow.groups(parts)
    pairs = pairs if whole.all() else pairs[whole]
    pairs *= len(labels) + 1
    pairs += cause[whole] + 1
    pairs.sort()
    pairs = pairs[arrow.begins_of(pairs)]
    cause = (pairs % (len(labels) + 1)).astype(np.int32)
    pairs //= len(labels) + 1
    begins = arrow.begins_of(pairs)
    believed = np.repeat(cause[begins] == 0, np.diff(begins, append=len(pairs)))
    counts += np.bincount(cause[~believed] - 1, minlength=len(labels))
    return {label: int(count) for label, count in zip(labels, counts, strict=True) if count}
