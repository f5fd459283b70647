"""The desk at which the rows of OneRoster's files are sorted: what lies on it, what was found of it, and how its cells are looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.findings import SAMPLE_LINES, Finding, finding
from sftp_ingest.model import ENTITIES, Rejections, Roster
from sftp_ingest.roster.arrow import TEXT, Mask, array_of
from sftp_ingest.roster.contract import Contract
from sftp_ingest.roster.court import joined


@dataclass
class Desk:
    """One delivery while it is sorted.

    `ended` are the ids that its rows say have ended, by table as read; `records` are what ends for that, and `links` students and their guardians.
    """

    contract: Contract
    now: Roster
    strict: bool
    tables: dict[str, pd.DataFrame]
    unread: dict[str, pd.DataFrame]
    rows: dict[str, int]
    findings: list[Finding]
    faulty: dict[str, Rejections]
    delta: set[str] = field(default_factory=set)
    ended: dict[str, pd.DataFrame] = field(default_factory=dict)
    records: list[tuple[str, str, str]] = field(default_factory=list)
    links: pd.DataFrame = field(default_factory=lambda: pairs([], []))

    def find(self, code: str, table: str, column: str, at: Mask, frame: pd.DataFrame, values: Iterable[str] = ()) -> Finding:
        """Note what was found in the masked rows of a file's table; it comes back."""
        lines = [int(line) for line in frame.index[np.flatnonzero(at)[:SAMPLE_LINES]]]
        shown = [value[:40] for value in values]
        found = finding(code, self.contract.tables[table].file, column, lines, count=int(at.sum()), values=shown, strict=self.strict)
        self.findings.append(found)
        return found

    def leave_out(self, frame: pd.DataFrame, cause: Finding) -> None:
        """Note that these rows of a file are read into no table, for what was found in them."""
        lines = frame.index.to_numpy(dtype=np.int64)
        ours = Rejections(lines, np.zeros(len(lines), dtype=np.int32), (cause.label,))
        others = self.faulty.get(cause.file)
        self.faulty[cause.file] = joined([others, ours] if others is not None else [ours])

    def put(self, name: str, frame: pd.DataFrame, renamed: Mapping[str, str], unread: pd.DataFrame) -> None:
        """Give the table its rows, under its own columns, and the keys of those that could not be read."""
        table = self.contract.tables[name]
        frame = frame.rename(columns=dict(renamed))
        self.tables[name] = frame[[column for column in frame.columns if column in table.columns or (table.ext and column.startswith("ext."))]]
        self.unread[name] = unread.set_axis(list(table.key), axis=1)
        self.rows[name] = len(frame)

    def leave(self, name: str, frame: pd.DataFrame) -> None:
        """Leave behind, in the table of a file, the rows that belong nowhere."""
        if len(frame):
            self.tables[name] = frame
        else:
            self.tables.pop(name)

    def end(self, entity: str, ids: Iterable[str], others: Iterable[str] | None = None) -> None:
        """Note what has ended, for the snapshot that changes lead to."""
        ids = list(ids)
        self.records.extend(zip([entity] * len(ids), ids, others if others is not None else [""] * len(ids), strict=True))

    def named(self, users: pd.DataFrame) -> pa.Array:
        """The ids that users.csv has, be it in a row that could not be read or in one that has ended."""
        ended = [array_of(self.ended["users"]["user_id"])] if "users" in self.ended else []
        return pa.concat_arrays([array_of(users["user_id"]), array_of(self.unread["users"]["user_id"]).drop_null(), *ended])

    def standing(self, entity: str) -> pa.Array:
        """The ids that stand now; of contacts the guardians' own."""
        held = self.now.entities[entity]
        held = held[held["active"].to_numpy(dtype=bool)]
        return array_of(as_sent(held)["contact_id"] if entity == "contacts" else held[ENTITIES[entity].key[0]])


def lower(frame: pd.DataFrame, column: str) -> pa.Array:
    """The column's cells in lower case, blank where the file does not have it."""
    return pc.utf8_lower(array_of(frame[column])) if column in frame.columns else pa.array([""] * len(frame), pa.string())


def mapped(cells: pa.Array, meaning: Callable[[str], str | None]) -> pa.Array:
    """Every cell's meaning; each distinct text is looked at once."""
    encoded = cells.dictionary_encode()
    return pa.array([meaning(text) or "" for text in encoded.dictionary.to_pylist()], pa.string()).take(encoded.indices)


def listed(text: str) -> list[str]:
    """What a cell names, which has commas between."""
    return [part.strip() for part in text.split(",") if part.strip()]


def as_sent(contacts: pd.DataFrame) -> pd.DataFrame:
    """Contacts that stand now under the ids that were sent: where they are not merged, they have others of their own."""
    sent = array_of(contacts["sis_id"])
    return contacts.assign(contact_id=pd.array(pc.if_else(pc.equal(sent, ""), array_of(contacts["contact_id"]), sent), dtype=TEXT))


def pairs(students: Sequence[str], contacts: Sequence[str]) -> pd.DataFrame:
    """Students beside their guardians, a row a pair."""
    return pd.DataFrame({"student_id": pd.array(list(students), dtype=TEXT), "contact_id": pd.array(list(contacts), dtype=TEXT)})
