"""Quotes of CSV records: which records keep the rules of RFC 4180, and how those that break them are rewritten as they were meant.

Everything here looks at many records at once and in linear time: a file may have six million of them, and each may be odd.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LINE_END, QUOTE, COMMA = 10, 34, 44

Bytes = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_BLANK = np.zeros(256, dtype=bool)
_BLANK[[9, 32]] = True

_MOST_BLANKS = 64
"""Between a comma and a quote; beyond that the quote belongs to the text."""


_FEW = 64
"""Stretches that are longer than so many bytes on average are copied one by one; shorter ones are quicker told byte by byte."""


@dataclass(frozen=True)
class Rows:
    """Records one after the other in `raw`: each is closed by a line end at its place in `ends`, and begins in the line of its place in `lines`."""

    raw: Bytes
    ends: Positions
    lines: Positions

    @property
    def starts(self) -> Positions:
        """Where each record begins."""
        return np.concatenate((np.zeros(1, dtype=np.int64), self.ends[:-1] + 1)) if len(self.ends) else self.ends

    def only(self, which: Mask) -> Rows:
        """Some of the records, in a buffer of their own."""
        if which.all():
            return self
        starts = self.starts
        edges = np.flatnonzero(np.diff(which, prepend=False, append=False))  # of runs of records that are kept, first and one behind the last
        raw = _of_stretches(self.raw, starts[edges[::2]], self.ends[edges[1::2] - 1] + 1)
        ends = np.cumsum((self.ends - starts + 1)[which]) - 1
        return Rows(raw, ends, self.lines[which])


@dataclass(frozen=True)
class Shape:
    """Which records keep the rules (`sound`), how many `cells` each has, and where `commas` part cells: those of record n from `first[n]` on.

    Of a record that breaks the rules, cells and commas mean little.
    """

    sound: Mask
    cells: Positions
    commas: Positions
    first: Positions


def without(raw: Bytes, starts: Positions, ends: Positions) -> Bytes:
    """The bytes without those between each start and its end; the stretches do not overlap."""
    order = np.argsort(starts)
    nothing = np.zeros(1, dtype=np.int64)
    return _of_stretches(raw, np.concatenate((nothing, ends[order])), np.append(starts[order], len(raw)))


def _of_stretches(raw: Bytes, starts: Positions, ends: Positions) -> Bytes:
    """The bytes between each start and its end, which are in order and do not overlap."""
    if len(starts) < len(raw) // _FEW:
        return np.concatenate([raw[:0], *(raw[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True))])
    steps = np.zeros(len(raw) + 1, dtype=np.int8)
    np.add.at(steps, starts, 1)
    np.add.at(steps, ends, -1)
    kept: Bytes = raw[np.cumsum(steps[:-1], dtype=np.int8) > 0]
    return kept


def sound(rows: Rows, quotes: Positions) -> Mask:
    """Which records keep the rules: a quote opens only a cell, closes only before a comma or the end, and is doubled inside (RFC 4180)."""
    raw, ends = rows.raw, rows.ends
    quotes_upto = np.searchsorted(quotes, ends)
    of_record = np.diff(quotes_upto, prepend=0)
    opening = ((np.arange(len(quotes)) - np.repeat(quotes_upto - of_record, of_record)) & 1) == 0
    before, after = raw[quotes - 1], raw[quotes + 1]
    at_start, at_end = quotes == np.repeat(rows.starts, of_record), quotes + 1 == np.repeat(ends, of_record)
    fits = np.where(opening, at_start | (before == COMMA) | (before == QUOTE), at_end | (after == COMMA) | (after == QUOTE))
    keeps: Mask = of_record % 2 == 0
    if not fits.all():
        keeps[np.searchsorted(ends, quotes[~fits])] = False
    return keeps


def shape(rows: Rows, text: Positions | None = None) -> Shape:
    """The shape of every record. Quotes at the places of `text` are letters like others."""
    raw, ends = rows.raw, rows.ends
    quoted = raw == QUOTE
    if text is not None:
        quoted[text] = False
    commas = np.flatnonzero(raw == COMMA)
    upto = np.searchsorted(commas, ends)
    counts = np.diff(upto, prepend=0)
    quotes = np.flatnonzero(quoted)
    if not len(quotes):
        return Shape(np.ones(len(ends), dtype=bool), counts + 1, commas, upto - counts)
    keeps = sound(rows, quotes)
    earlier = np.concatenate((np.zeros(1, dtype=np.int64), np.searchsorted(quotes, ends)[:-1]))
    parity = np.cumsum(quoted, dtype=np.uint8)[commas] & 1
    commas = commas[parity == np.repeat((earlier & 1).astype(np.uint8), counts)]
    upto = np.searchsorted(commas, ends)
    counts = np.diff(upto, prepend=0)
    return Shape(keeps, counts + 1, commas, upto - counts)


def tamed(rows: Rows) -> tuple[Rows, Mask, Positions]:
    """The records with their quotes as they were meant, which of them had one in a quoted cell that was not doubled, and where one is in a plain cell.

    A quote opens a cell only at its beginning and closes it only at its end, blanks aside; any other is text, as in Clever's own example
    `"Thomas "Tom" Ford"` (contract 1.3). What cannot be read so stays unsound: a quote was opened and never closed.
    """
    raw, starts = rows.raw, rows.starts
    quotes = np.flatnonzero(raw == QUOTE)
    record = np.searchsorted(rows.ends, quotes)
    left, right = _past_blanks(raw, quotes, -1), _past_blanks(raw, quotes, 1)
    opens = (left < starts[record]) | (raw[left] == COMMA)
    closes = (right == rows.ends[record]) | (raw[right] == COMMA)
    inside = _inside(opens, closes, record)
    opener, closer = opens & ~inside, closes & inside
    text = inside & ~closer
    repeats = np.ones(len(raw), dtype=np.int8)
    alone = quotes[_first_of_odd_runs(quotes, text)]
    repeats[alone] = 2
    for begin, end in ((left[opener] + 1, quotes[opener]), (quotes[closer] + 1, right[closer])):
        for ahead in range(int((end - begin).max(initial=0))):
            repeats[(begin + ahead)[begin + ahead < end]] = 0
    places = np.cumsum(repeats, dtype=np.int64) - 1
    unescaped = np.zeros(len(rows.ends), dtype=bool)
    unescaped[np.searchsorted(rows.ends, alone)] = True
    return Rows(np.repeat(raw, repeats), places[rows.ends], rows.lines), unescaped, places[quotes[~inside & ~opener]]


def straightened(rows: Rows) -> tuple[Rows, Mask]:
    """The records with smart quotes that stand around whole cells made straight, and which records had such (contract 1.3: Clever refuses them)."""
    raw, touched = rows.raw, np.zeros(len(rows.ends), dtype=bool)
    at = np.flatnonzero((raw[:-2] == 0xE2) & (raw[1:-1] == 0x80) & (raw[2:] >= 0x9C) & (raw[2:] <= 0x9E)) if len(raw) > 2 else np.zeros(0, dtype=np.int64)
    if not len(at):
        return rows, touched
    record = np.searchsorted(rows.ends, at)
    left, right = _past_blanks(raw, at, -1), _past_blanks(raw, at + 2, 1)
    opens = (left < rows.starts[record]) | (raw[left] == COMMA)
    closes = (right == rows.ends[record]) | (raw[right] == COMMA)
    quotes = np.flatnonzero(raw == QUOTE)
    straight = np.searchsorted(quotes, at) - np.searchsorted(quotes, rows.starts[record])
    edge = (opens ^ closes) & (straight % 2 == 0)
    at, opens, record = at[edge], opens[edge], record[edge]
    # an opening one and the next closing one of the same record are a pair; what finds no partner is text
    paired = np.flatnonzero(opens[:-1] & ~opens[1:] & (record[:-1] == record[1:]))
    at = at[np.concatenate((paired, paired + 1))]
    if not len(at):
        return rows, touched
    raw = raw.copy()
    raw[at] = QUOTE
    dropped = np.zeros(len(raw), dtype=bool)
    dropped[at + 1] = dropped[at + 2] = True
    ends = rows.ends - np.cumsum(dropped, dtype=np.int64)[rows.ends]
    touched[record[paired]] = True
    return Rows(raw[~dropped], ends, rows.lines), touched


def _past_blanks(raw: Bytes, at: Positions, step: int) -> Positions:
    """From each place the next in the direction that is no space and no tab; -1 before the first byte."""
    found = at + step
    for _ in range(_MOST_BLANKS):
        blank = _BLANK[raw[found]] & (found >= 0)
        if not blank.any():
            break
        found = found + step * blank
    return found


def _inside(opens: Mask, closes: Mask, record: Positions) -> Mask:
    """Whether each quote is met inside a quoted cell, told from those before it in its record.

    After one that can only open we are inside, after one that can only close outside; one that can do both turns the one into the other.
    """
    places = np.arange(len(opens))
    new_record = np.diff(record, prepend=-1) != 0
    known = opens ^ closes
    # the last place that settles the matter at or before each quote: a quote of one kind only, or the record's beginning (outside)
    settled = np.maximum.accumulate(np.where(known, 2 * places + 1, np.where(new_record, 2 * places, -1)))
    turns = np.cumsum(opens & closes)
    by_quote = settled % 2 == 1
    since = settled // 2
    turned = turns[places] - turns[since] + ((opens & closes)[since] & ~by_quote)
    after: Mask = (np.where(by_quote, opens[since], False).astype(np.int64) + turned) % 2 == 1
    inside = np.concatenate(([False], after[:-1])) if len(after) else after
    inside[new_record] = False
    return inside


def _first_of_odd_runs(at: Positions, which: Mask) -> Positions:
    """Of quotes in a row that are text, those of an odd number leave one undoubled: the place of the first of each such run."""
    chosen = np.flatnonzero(which)
    if not len(chosen):
        return chosen
    places = at[chosen]
    begins = np.flatnonzero(np.diff(places, prepend=-2) != 1)
    lengths = np.diff(begins, append=len(places))
    found: Positions = chosen[begins[lengths % 2 == 1]]
    return found
