"""The lines of a sealed delivery that are about one record, found by its id in whatever columns the contract says may hold it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from sftp_ingest.model import ENTITIES, Delivery
from sftp_ingest.roster import again, decoding, lines, loader
from sftp_ingest.roster.contract import Contract, Table, in_home
from sftp_ingest.roster.decoding import Text
from sftp_ingest.roster.shelf import Data

LONGEST_WALK = 20
"""So many lines a quoted cell with an id may begin above the line that the id stands in."""

_PEOPLE = ("students", "teachers", "staff")
_OF_A_PERSON = "user_id"
"""How the files of OneRoster call a person of any role."""


@dataclass(frozen=True)
class Place:
    """The lines of one file, as the contract spells its name; `archive` is the .zip that it lies in, where it lies in one."""

    file: str
    lines: tuple[int, ...]
    archive: str = ""


def places(listed: Delivery, rules: Contract, kinds: Collection[str], identifier: str, *, mentioned: bool = True) -> list[Place]:
    """Where the files tell of the record of one of these kinds that has this id; with `mentioned` also where another record names it.

    `listed` is a delivery whose archives are listed. A line whose width is wrong counts where any of its cells is the id.
    Raises DeliveryError where a sealed file is gone or not what it was.
    """
    archives = {in_home(each.name, rules).lower(): each.archive for each in listed.files}
    wanted = {table.file for table in rules.tables.values() if not table.of and not table.pairs}
    found = []
    for table, text in loader.texts(listed, rules, wanted):
        if at := tuple(_lines(table, rules, text, kinds, identifier, mentioned)):
            found.append(Place(table.file, at, archives.get(table.file.lower(), "")))
    return found


def _lines(table: Table, rules: Contract, text: Text, kinds: Collection[str], identifier: str, mentioned: bool) -> Iterator[int]:
    """The numbers of the lines, in order."""
    if decoding.is_blank(text.data):
        return
    header = lines.header(text)
    columns = [place for place, name in enumerate(header.cells) if _tells(table, rules, name, kinds, mentioned)]
    if not columns:
        return
    width = len(header.cells)
    candidates = [line for line in _candidates(text.data, identifier) if line > header.line]
    found: set[int] = set()
    for record in again.records(text, candidates, width):
        cells = _cells(record)
        whole = _is_whole(record, width)
        begins = None
        if not whole or any('"' in cell for cell in cells):  # it may be the end of a record over several lines
            begins = _began_above(text, record.line, columns, width, identifier)
        if begins is not None:
            found.add(begins)
        elif any(cells[place] == identifier for place in columns) if whole else identifier in cells:
            found.add(record.line)
    yield from sorted(found)


def _began_above(text: Text, line: int, columns: Collection[int], width: int, identifier: str) -> int | None:
    """The line above at which a record over several lines begins that has the id in this one."""
    for record in again.records(text, range(line - 1, max(line - LONGEST_WALK, 1), -1), width):
        reaches = record.line + sum(cell.count("\n") for cell in record.cells) >= line
        if reaches and _is_whole(record, width) and any(_cells(record)[place] == identifier for place in columns):
            return record.line
    return None


def _is_whole(record: again.Record, width: int) -> bool:
    return len(record.cells) == width and not record.guessed


def _cells(record: again.Record) -> list[str]:
    return [cell.strip() for cell in record.cells]


def _candidates(data: Data, identifier: str) -> Iterator[int]:
    """The lines in which the id stands by itself, between commas, quotes or blanks."""
    spelt = "|".join(re.escape(each) for each in dict.fromkeys((identifier, identifier.replace('"', '""'))))
    alone = re.compile(rb'(?<![^,"\s\x9c\x9d\x9e\xa0])(?:' + spelt.encode() + rb')(?![^,"\s\xe2\xc2])')
    line, position, last = 1, 0, 0
    for match in alone.finditer(data):
        line += data[position : match.start()].count(b"\n")
        position = match.start()
        if line != last:
            yield line
            last = line


def _tells(table: Table, rules: Contract, header: str, kinds: Collection[str], mentioned: bool) -> bool:
    """Whether a column of the file has ids of one of the kinds."""
    if not set(_PEOPLE).isdisjoint(kinds) and table.column_of(header) == _OF_A_PERSON:
        return True
    return any(
        each.column_of(header) in _columns(each, kinds, mentioned) for each in (table, *(other for other in rules.tables.values() if other.of == table.name))
    )


def _columns(table: Table, kinds: Collection[str], mentioned: bool) -> set[str]:
    own = (table.records or table.extends) in kinds
    key = {column for column in table.key if own and table.columns[column].to in {ENTITIES[kind].key[0] for kind in kinds}}
    return key | {each.column for each in table.references if each.table in kinds and (mentioned or (own and each.column in table.key))}
