"""What all checks of a delivery share: the court with its findings, and the rows of each table while they are judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.findings import SAMPLE_LINES, Finding, Reading, Severity, finding
from sftp_ingest.model import Rejections
from sftp_ingest.roster import arrow, shelf, values
from sftp_ingest.roster.arrow import Mask, array_of
from sftp_ingest.roster.contract import Table
from sftp_ingest.roster.ids import presentable

SHOWN_VALUES = 10
"""How many distinct values of an id column a finding shows."""


@dataclass(frozen=True)
class Ids:
    """Of one kind of records: the ids that the district has now, with the source of each, and all that it ever had, those that left among them."""

    standing: pa.Array
    sources: pa.Array
    ever: pa.Array


NO_IDS = Ids(pa.array([], pa.string()), pa.array([], pa.string()), pa.array([], pa.string()))


@dataclass
class Rows:
    """One table while it is judged: `cause` has, per row, the index + 1 into `labels` of what rejected it, or 0."""

    table: Table
    file: str
    frame: pd.DataFrame
    cause: npt.NDArray[np.int32]
    labels: list[str] = field(default_factory=list)
    needless: int = 0
    """How many rows were dropped though nothing is wrong with them: another says the same, or counts more."""
    doubted: dict[str, pd.Index] = field(default_factory=dict)
    """Key column → lines whose cell names a record that never was, so that whom the row meant is unknown."""
    unknown: dict[str, pd.Index] = field(default_factory=dict)
    """Column → lines whose cell had a text that is none of the format's values; it may be blank now."""
    _encoded: dict[str, tuple[pa.ChunkedArray, arrow.Encoded]] = field(default_factory=dict)

    @property
    def kept(self) -> Mask:
        """Which rows nothing has rejected."""
        kept: Mask = self.cause == 0
        return kept

    def column(self, name: str) -> pa.Array:
        """A column's cells."""
        return array_of(self.frame[name])

    def encoded(self, name: str) -> arrow.Encoded:
        """The column by its distinct texts, found once for as long as its cells are the same."""
        cells = self.frame[name].array.__arrow_array__()
        known = self._encoded.get(name)
        if known is None or known[0] is not cells:
            known = self._encoded[name] = cells, arrow.encoded(self.column(name))
        return known[1]

    def encode(self, names: Iterable[str]) -> None:
        """Find the distinct texts of several columns side by side, for `encoded` to know."""
        arrow.side_by_side(self.encoded, {name for name in names if name in self.frame.columns}, len(self.frame))

    def forget(self) -> None:
        """Give back the memory of what `encoded` knows: of millions of short rows it is as large as the file."""
        self._encoded.clear()

    def lines(self, mask: Mask) -> list[int]:
        """The first lines of the masked rows, as many as a finding shows."""
        return [int(line) for line in self.frame.index[np.flatnonzero(mask)[:SAMPLE_LINES]]]

    def drop(self, mask: Mask) -> None:
        """Take rows out that are not needed; that rejects nothing."""
        self.frame, self.cause = shelf.filtered(self.frame, ~mask), self.cause[~mask]
        self.needless += int(mask.sum())

    def reject(self, mask: Mask, label: str) -> None:
        """Leave the masked rows out, under the label of the finding; a row keeps the first reason."""
        self.labels.append(label)
        self.cause[mask & self.kept] = len(self.labels)


@dataclass
class Court:
    """What all tables share while a delivery is judged."""

    strict: bool
    known: Mapping[str, Ids]
    findings: list[Finding]
    readers: Mapping[str, values.Reader]
    done: dict[str, Rows] = field(default_factory=dict)
    unread: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    faulty: Mapping[str, Rejections] = field(default_factory=dict)

    def of(self, records: str) -> list[Rows]:
        """The tables that hold records of a kind, as far as they have been judged."""
        return [rows for rows in self.done.values() if rows.table.records == records]

    def find(
        self,
        code: str,
        rows: Rows,
        column: str,
        mask: Mask,
        *,
        values: Sequence[str] = (),
        hint: str = "",
        cause: str = "",
        readings: Sequence[Reading] = (),
        severity: Severity | None = None,
    ) -> Finding:
        """Note a finding on the masked rows, and reject them where its severity says so."""
        found = finding(
            code,
            rows.file,
            column,
            rows.lines(mask),
            count=int(mask.sum()),
            values=values,
            hint=hint,
            cause=cause,
            readings=readings,
            severity=severity,
            strict=self.strict,
        )
        self.findings.append(found)
        if found.severity != "warn":
            rows.reject(mask, cause or found.label)
        return found


def seen_of(rows: Rows, unread: pd.DataFrame) -> pd.DataFrame:
    """Keys of rejected rows, those of the frame and those that never got into it; a blank or doubted part speaks for any value."""
    rejected = rows.frame.loc[~rows.kept, list(rows.table.key)]
    for column, lines in rows.doubted.items():
        rejected[column] = rejected[column].mask(rejected.index.isin(lines))
    return pd.concat([rejected.mask(rejected == ""), unread], ignore_index=True)


def joined(parts: Sequence[Rejections]) -> Rejections:
    """The rejections of several tables of one file as one, in the order of lines, each line once."""
    parts = [each for each in parts if len(each.lines)] or list(parts[:1])
    if len(parts) == 1 and (np.diff(parts[0].lines) > 0).all():
        return parts[0]
    begins = np.cumsum([0, *(len(each.labels) for each in parts)]).tolist()
    causes = np.concatenate([each.causes + np.int32(begin) for each, begin in zip(parts, begins, strict=False)])
    lines, first = np.unique(np.concatenate([each.lines for each in parts]), return_index=True)
    return Rejections(lines, causes[first], tuple(label for each in parts for label in each.labels))


def distinct(cells: pa.Array, mask: Mask) -> list[str]:
    """The first distinct texts of the masked cells, cut short, as many as a finding shows."""
    return _shown(pc.unique(cells.filter(pa.array(mask))))


def distinct_ids(cells: pa.Array, mask: Mask, known: pa.Array) -> list[str]:
    """As `distinct`, of a column of ids, without what does not look like one."""
    texts = pc.unique(cells.filter(pa.array(mask)))
    return _shown(texts.filter(pa.array(presentable(texts, known))))


def _shown(texts: pa.Array) -> list[str]:
    return [str(value)[:40] for value in texts.slice(0, SHOWN_VALUES).to_pylist()]
