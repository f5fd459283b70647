"""The text of a CSV file becomes records with line numbers: block by block, sound ones by pyarrow as they are, odd ones rewritten as they were meant.

Most lines of most files are sound. One vectorised look at where the quotes, commas and line ends are tells which lines are not, so that
one bad quote costs one line and never the file, and a file of nothing but bad lines is read as fast as a good one.
"""

from __future__ import annotations

import codecs
import csv
import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from sftp_ingest.roster import shelf
from sftp_ingest.roster.arrow import trimmed
from sftp_ingest.roster.decoding import Text, blocks_of
from sftp_ingest.roster.quotes import COMMA, QUOTE, Bytes, Mask, Positions, Rows, Shape, shape, sound, straightened, tamed, without

LONGEST_RECORD = 100
"""A quoted cell may run over this many lines; beyond that the quote was never closed."""

THREADS = pa.cpu_count()
"""So many blocks are read at a time."""

LONG_LINE = 1 << 20
LONGEST_LINE = 32 << 20
MOST_MARKS = 1 << 20
"""A long line with more commas or quotes than these is no record, nor is one longer than the longest. One cell of many megabytes is."""

WIDEST = 2_000
"""More columns than this are no roster file, and a row of more cells says nothing of whom it means."""

MANY_FAULTY = 200_000
"""To note whom each of millions of unreadable records may mean takes many times the file's size: beyond so many they may be anybody's.

Where more of them are unreadable than readable, nobody reads on.
"""

LONGEST_HEADER = 1 << 20
"""A first line of more letters than this is no header."""

_PREAMBLE = re.compile(rb'(?:[ \t,]*+\n)*+(?:"?sep=[^\n"]"?[ \t,]*+(?:\n|\Z))?', re.IGNORECASE)
"""What may stand above the header: lines without a word, and the line by which Excel tells itself the separator."""

_STRAIGHT = {ord(smart): '"' for smart in "“”„"}

Fault = Literal["row_short", "row_long", "quote_open", "nul_byte", "bytes_unreadable", "row_huge"]
FAULTS: tuple[Fault, ...] = ("row_short", "row_long", "quote_open", "nul_byte", "bytes_unreadable", "row_huge")
_SHORT, _LONG, _OPEN, _NUL, _UNREADABLE, _HUGE = range(len(FAULTS))

_NONE = np.zeros(0, dtype=np.int64)
_SOLID = np.ones(256, dtype=bool)
_SOLID[[9, 10, 32, 34, 44]] = False


@dataclass(frozen=True)
class Records:
    """The records below the header: `table` has one text column a header, trimmed, `lines` their line numbers, which need not be in order.

    `faulty` are the lines of records that could not be put into it, `faults` what is wrong with each, as places in FAULTS. `unread` has the
    keys that those records may have: one or more rows a record, with its line; a null stands for any value.
    """

    table: pa.Table
    lines: Positions
    faulty: Positions
    faults: Positions
    unread: pa.Table
    unescaped: Positions = field(default_factory=lambda: _NONE)
    smart: Positions = field(default_factory=lambda: _NONE)
    trailing: Positions = field(default_factory=lambda: _NONE)
    blank: Positions = field(default_factory=lambda: _NONE)
    terminated: bool = True
    last_whole: bool = True
    hopeless: bool = False


@dataclass(frozen=True)
class Header:
    """The first line that says anything: its text and cells as sent, its number, and the byte at which the records begin.

    `smart` tells that its cells stand in typographic quotes. A text longer than LONGEST_HEADER is cut behind it.
    """

    text: str
    cells: tuple[str, ...]
    line: int
    end: int
    smart: bool


def header(text: Text) -> Header:
    """The header of a file that is not blank."""
    above = _PREAMBLE.match(text.data)
    start = above.end() if above else 0
    end = text.data.find(b"\n", start)
    end = len(text.data) if end < 0 else end
    sent = text.data[start : min(end, start + LONGEST_HEADER + 1)].decode("utf-8", errors="replace")
    straight = sent.translate(_STRAIGHT)
    try:
        cells = next(csv.reader([straight]), [])
    except csv.Error:
        cells = straight.split(",")
    return Header(sent, tuple(cells), text.data[:start].count(b"\n") + 1, min(end + 1, len(text.data)), straight != sent)


def records(
    text: Text, start: int, first_line: int, names: Sequence[str], wanted: Iterable[str], *, key: Sequence[str] = (), spare: int = 0, usual: int = 0
) -> Records:
    """The records of `text` from byte `start`, whose first line has the number `first_line`.

    `names` are the header's columns, all different; only `wanted` ones are kept. `spare` is how many nameless columns end the header:
    a row may have cells for them or not. `usual` is how many cells most rows have: blank ones of such a row that go beyond the header are a
    spreadsheet's; in a row of any other length they may be the last columns, moved by a comma in a cell. Of a file that is mostly unreadable
    only the first records are given, and it is called `hopeless`.
    """
    form = _Form(tuple(names), tuple(name for name in names if name in set(wanted)), spare, tuple(key), usual)
    with ThreadPoolExecutor(THREADS) as pool, shelf.piled(form.keep, len(text.data)) as pile:
        parts, readable, faulty = [], 0, 0
        for part in _parts(text, start, first_line, form, pool):
            readable, faulty = readable + len(part.lines), faulty + len(part.faulty)
            if faulty > MANY_FAULTY and len(part.faulty):
                part = replace(part, unread=_keys(form, part.faulty[:1], [pa.nulls(1, pa.string())] * len(form.key)))
            pile.add(part.table)
            parts.append(replace(part, table=form.no_rows))
            if faulty > max(MANY_FAULTY, readable):
                return replace(_joined(parts, form), hopeless=True)
        read = replace(_joined(parts, form), table=pile.whole())
    cut = len(read.faulty) and read.faulty[-1] > read.lines.max(initial=0) and read.faults[-1] in (_SHORT, _OPEN)
    return replace(read, terminated=text.data[-1:] == b"\n" or not parts, last_whole=not cut)


@dataclass(frozen=True)
class _Form:
    """What the header says: all columns with a name, those to keep, how many nameless ones follow, which are the key; and the usual cells of a row."""

    names: tuple[str, ...]
    keep: tuple[str, ...]
    spare: int
    key: tuple[str, ...]
    usual: int

    @property
    def no_rows(self) -> pa.Table:
        return pa.table({name: pa.array([], pa.string()) for name in self.keep})

    @property
    def no_keys(self) -> pa.Table:
        return _keys(self, _NONE, [pa.array([], pa.string())] * len(self.key))

    def fits(self, cells: Positions) -> Mask:
        """Whether so many cells are a row's, those of nameless columns aside."""
        return (cells >= len(self.names)) & (cells <= len(self.names) + self.spare)


@dataclass(frozen=True)
class _Block:
    """Records of some bytes of the text, a stretch of `size` with so many lines. `spoilt` has what is wrong with a record's bytes, or -1."""

    rows: Rows
    spoilt: Positions
    smart: Positions
    huge: Positions
    size: int
    line_count: int


def _parts(text: Text, start: int, first_line: int, form: _Form, pool: Executor) -> Iterator[Records]:
    """The records from a byte on, block by block; blocks are read side by side, ahead of their turn, and those that end in a record again."""
    blocks, line = deque(blocks_of(text.data, start)), first_line
    begins = [*(begin for begin, _, _ in blocks), len(text.data)]
    ahead: dict[int, Future[_Part]] = {}
    while start < len(text.data):
        while blocks and len(ahead) < 2 * THREADS:
            begin, end, count = blocks.popleft()
            ahead[begin] = pool.submit(_part, text, begin, end, line, form)
            line += count
        stop = begins[bisect_right(begins, start)]
        part = ahead.pop(start).result() if start in ahead else _part(text, start, stop, first_line, form)
        while not part.size:  # its first record goes on behind its end
            stop = text.data.find(b"\n", 2 * stop - start - 1) + 1 or len(text.data)
            part = _part(text, start, stop, first_line, form)
        for passed in [begin for begin in ahead if begin < start + part.size]:
            ahead.pop(passed).cancel()
        yield part.records
        start, first_line = start + part.size, first_line + part.line_count


@dataclass(frozen=True)
class _Part:
    """The records of some bytes of the text, a stretch of `size` with so many lines."""

    records: Records
    size: int
    line_count: int


def _part(text: Text, start: int, stop: int, first_line: int, form: _Form) -> _Part:
    block = _block(text, start, stop, first_line, form)
    found = _records(block, form)
    columns = {name: pa.chunked_array([trimmed(chunk) for chunk in found.table[name].chunks], pa.string()) for name in form.keep}
    return _Part(replace(found, table=pa.table(columns)), block.size, block.line_count)


def _may_be_smart(data: bytes) -> bool:
    """Whether typographic quotes may be in it; one byte is looked for ten times as fast as two."""
    return b"\xe2" in data and b"\xe2\x80" in data


def _joined(parts: Sequence[Records], form: _Form, *, smart: Positions | None = None) -> Records:
    """The parts as one; what is told of lines is in the order of the file, and of the rows themselves their order."""

    def whole(name: str) -> Positions:
        return np.concatenate([_NONE, *(getattr(each, name) for each in parts)])

    faulty = whole("faulty")
    order = np.argsort(faulty, kind="stable")
    return Records(
        table=pa.concat_tables([form.no_rows, *(each.table for each in parts)]),
        lines=whole("lines"),
        faulty=faulty[order],
        faults=whole("faults")[order],
        unread=pa.concat_tables([form.no_keys, *(each.unread for each in parts)]),
        unescaped=np.sort(whole("unescaped")),
        smart=np.sort(whole("smart")) if smart is None else smart,
        trailing=np.sort(whole("trailing")),
        blank=np.sort(whole("blank")),
    )


def _block(text: Text, start: int, stop: int, first_line: int, form: _Form) -> _Block:
    """The records between two bytes, or of the first lines of them where the last may go on behind; records over several lines are one."""
    data = text.data[start:stop]
    if not data.endswith(b"\n"):
        data += b"\n"
    raw = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(raw == 10)
    rows = Rows(raw, ends, first_line + np.arange(len(ends)))
    size, line_count = stop - start, len(ends)
    huge = np.zeros(len(ends), dtype=bool)
    for index in np.flatnonzero(ends - rows.starts > LONG_LINE).tolist():
        span = int(rows.starts[index]), int(ends[index])
        huge[index] = span[1] - span[0] > LONGEST_LINE or max(data.count(b",", *span), data.count(b'"', *span)) > MOST_MARKS
    huge_lines = rows.lines[huge]
    rows = rows.only(~huge)
    spoilt = np.full(len(rows.ends), -1, dtype=np.int64)
    if b"\0" in data:
        spoilt[np.searchsorted(rows.ends, np.flatnonzero(rows.raw == 0))] = _NUL
    if len(text.unreadable):
        spoilt[np.isin(rows.lines, text.unreadable)] = _UNREADABLE
    if b'"' in data:
        goes_on, unclosed = _goes_on(rows, form)
        if unclosed >= 0 and stop < len(text.data) and len(rows.ends) - unclosed <= LONGEST_RECORD:
            line_count = int(rows.lines[unclosed]) - first_line
            size = int(ends[line_count - 1]) + 1 if line_count else 0
            rows = Rows(rows.raw[: int(rows.ends[unclosed - 1]) + 1 if unclosed else 0], rows.ends[:unclosed], rows.lines[:unclosed])
            spoilt, goes_on = spoilt[:unclosed], goes_on[:unclosed]
        if goes_on.any():
            record = np.cumsum(~goes_on) - 1
            worst = np.full(int(record[-1]) + 1, -1, dtype=np.int64)
            np.maximum.at(worst, record, spoilt)
            spoilt = worst
            rows = Rows(rows.raw, rows.ends[~np.append(goes_on[1:], False)], rows.lines[~goes_on])
    rows, smart = straightened(rows) if _may_be_smart(data) else (rows, np.zeros(len(rows.ends), dtype=bool))
    return _Block(rows, spoilt, rows.lines[smart], huge_lines[huge_lines < first_line + line_count], size, line_count)


def _goes_on(rows: Rows, form: _Form) -> tuple[Mask, int]:
    """Which lines go on with the record of a line before: those between two lines of uneven quotes that make one sound record together.

    Two stray quotes must not swallow the people between them: where a line between is a plain record by itself, and says anything, nothing is
    joined.
    Also given is the last line of uneven quotes where nothing has closed it yet, else -1.
    """
    goes_on = np.zeros(len(rows.ends), dtype=bool)
    quotes = np.diff(np.searchsorted(np.flatnonzero(rows.raw == QUOTE), rows.ends), prepend=0)
    uneven = np.flatnonzero(quotes % 2 == 1)
    if not len(uneven):
        return goes_on, -1
    commas = np.diff(np.searchsorted(np.flatnonzero(rows.raw == COMMA), rows.ends), prepend=0)
    letters = np.diff(np.searchsorted(np.flatnonzero(_SOLID[rows.raw]), rows.ends), prepend=0)
    plain = np.cumsum((quotes == 0) & form.fits(commas + 1) & (letters > 0))
    first, last = uneven[:-1], uneven[1:]
    pairs = (last - first <= LONGEST_RECORD) & (plain[last] == plain[first])
    for half in (0, 1):  # neighbouring pairs share a line
        chosen = np.flatnonzero(pairs & (np.arange(len(pairs)) % 2 == half))
        pairs[chosen] = _make_one_record(rows, first[chosen], last[chosen], form)
    index = 0
    while index < len(pairs):
        if pairs[index]:
            goes_on[first[index] + 1 : last[index] + 1] = True
        index += 2 if pairs[index] else 1
    return goes_on, int(uneven[-1]) if index == len(pairs) else -1


def _make_one_record(rows: Rows, first: Positions, last: Positions, form: _Form) -> Mask:
    """Whether the lines from each first to its last are one sound record of the header's width."""
    steps = np.zeros(len(rows.ends) + 1, dtype=np.int8)
    steps[first] += 1
    steps[last + 1] -= 1
    theirs = rows.only(np.cumsum(steps[:-1], dtype=np.int8) > 0)
    joined = replace(theirs, ends=theirs.ends[np.cumsum(last - first + 1) - 1])
    seen = shape(joined)
    sound: Mask = seen.sound & form.fits(seen.cells)
    return sound


def _records(block: _Block, form: _Form) -> Records:
    """Most records are sound, and are read as they are; only odd ones are looked at closely."""
    rows = block.rows
    sound_ones = (block.spoilt < 0) & (rows.ends > rows.starts)
    quotes = np.flatnonzero(rows.raw == QUOTE)
    if len(quotes):
        sound_ones &= sound(rows, quotes)
    table, misfits = _parsed(rows.only(sound_ones).raw, form)
    read = sound_ones.copy()
    read[np.flatnonzero(sound_ones)[misfits]] = False
    parts = [Records(table, rows.lines[read], _NONE, _NONE, form.no_keys)]
    if len(block.huge):
        anybody = _keys(form, block.huge, [pa.nulls(len(block.huge), pa.string())] * len(form.key))
        parts.append(Records(form.no_rows, _NONE, block.huge, np.full(len(block.huge), _HUGE), anybody))
    if not read.all():
        parts += _odd(rows.only(~read), block.spoilt[~read], form)
    return _joined(parts, form, smart=block.smart)


def _odd(rows: Rows, spoilt: Positions, form: _Form) -> list[Records]:
    """Records that cannot be read as they are: mended as they were meant, or told with what is wrong with them."""
    seen = shape(rows)
    parts = [_sorted_out(rows, seen, (spoilt < 0) & seen.sound, form)]
    if (spoilt >= 0).any():
        parts.append(_spoilt(rows.only(spoilt >= 0), spoilt[spoilt >= 0], form))
    if not ((spoilt >= 0) | seen.sound).all():
        broken = rows.only((spoilt < 0) & ~seen.sound)
        mended, unescaped, text = tamed(broken)
        seen = shape(mended, text)
        uneven = np.diff(np.searchsorted(np.flatnonzero(broken.raw == QUOTE), broken.ends), prepend=0) % 2 == 1
        still = ~seen.sound | (uneven & ~form.fits(seen.cells))
        parts.append(_sorted_out(mended, seen, ~still, form, unescaped))
        parts.append(_spoilt(mended.only(still), np.full(int(still.sum()), _OPEN), form))
    return parts


def _sorted_out(rows: Rows, seen: Shape, which: Mask, form: _Form, unescaped: Mask | None = None) -> Records:
    """Of sound records the readable ones, and what is wrong with the others: too few cells, too many, or nothing in any."""
    starts, ends, cells = rows.starts, rows.ends, seen.cells
    width = len(form.names)
    good = which & form.fits(cells) & (ends > starts)
    trailing = blank = short = long = np.zeros(len(ends), dtype=bool)
    other = which & ~good & (ends > starts)
    if other.any():
        solid = np.flatnonzero(_SOLID[rows.raw[: ends[-1] + 1]])
        last_solid = np.append(solid, -1)[np.searchsorted(solid, ends) - 1]
        blank = other & (last_solid < starts)
        short = other & ~blank & (cells < width)
        long = other & ~blank & ~short
        at = np.flatnonzero(long & (cells == form.usual))
        trailing = np.zeros(len(ends), dtype=bool)
        trailing[at] = last_solid[at] < seen.commas[seen.first[at] + width + form.spare - 1]
        good, long = good | trailing, long & ~trailing
    cut = good & (cells > width)
    raw = rows.raw
    if not good.all() or cut.any():
        begin = np.concatenate((starts[~good], seen.commas[seen.first[cut] + width - 1]))
        raw = without(raw, begin, np.concatenate((ends[~good] + 1, ends[cut])))
    bad = short | long
    return Records(
        table=_parsed(raw, replace(form, spare=0))[0],
        lines=rows.lines[good],
        faulty=rows.lines[bad],
        faults=np.where(short, _SHORT, _LONG)[bad],
        unread=_unread(rows.only(bad), short[bad], form),
        unescaped=rows.lines[good & unescaped] if unescaped is not None else _NONE,
        trailing=rows.lines[trailing],
        blank=rows.lines[blank & (cells > 1)],
    )


def _spoilt(rows: Rows, faults: Positions, form: _Form) -> Records:
    """Records of which nothing is believed but that they may be somebody's."""
    seen = shape(rows)
    unread = _unread(rows, seen.sound & form.fits(seen.cells), form)
    return Records(form.no_rows, _NONE, rows.lines, faults, unread)


def _parsed(raw: Bytes, form: _Form) -> tuple[pa.Table, list[int]]:
    """Records that keep the rules of quotes, through pyarrow: those that have a cell for every column, and the places of all others."""
    misfits: list[int] = []

    def skip(row: pacsv.InvalidRow) -> str:
        misfits.append(row.number - 1)
        return "skip"

    if not len(raw):
        return form.no_rows, misfits
    text = pa.py_buffer(raw)
    if raw[:3].tobytes() == codecs.BOM_UTF8:  # pyarrow takes off the first at the beginning of what it reads, which is a cell's here
        text = pa.py_buffer(codecs.BOM_UTF8 + raw.tobytes())
    table = pacsv.read_csv(
        pa.BufferReader(text),
        read_options=pacsv.ReadOptions(
            column_names=[*form.names, *(f"\0spare {place}" for place in range(form.spare))],
            block_size=len(raw) + 1,
            use_threads=False,  # places are known of one thread only, and blocks are read side by side
        ),
        parse_options=pacsv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
        convert_options=pacsv.ConvertOptions(  # the text is UTF-8 by now
            column_types={name: pa.string() for name in form.keep}, include_columns=list(form.keep), strings_can_be_null=False, check_utf8=False
        ),
    )
    return table, misfits


# ---------------------------------------------------------------- whom an unread record may mean


def _unread(rows: Rows, placed: Mask, form: _Form) -> pa.Table:
    """The keys that records may have. Of `placed` ones the key's cells are where the header has them, or cut off; of others any cell may be the key."""
    if not len(rows.ends):
        return form.no_keys
    commas = np.diff(np.searchsorted(np.flatnonzero(rows.raw == COMMA), rows.ends), prepend=0)
    long = (rows.ends - rows.starts > LONG_LINE) | (commas > WIDEST)
    if long.any():  # its cells are no keys, and to look at them costs many times their size
        anybody = _keys(form, rows.lines[long], [pa.nulls(int(long.sum()), pa.string())] * len(form.key))
        return pa.concat_tables([anybody, _unread(rows.only(~long), placed[~long], form)])
    cells, counts = _cells(rows)
    plain = pc.utf8_trim_whitespace(pc.replace_substring(pc.utf8_trim(cells, characters=' \t\n"'), '""', '"'))
    garbled = pc.or_(pc.match_substring(plain, "\0"), pc.match_substring(plain, "\ufffd")).to_numpy(zero_copy_only=False)
    blank = pc.equal(plain, "").to_numpy(zero_copy_only=False)
    texts = pc.if_else(pa.array(garbled | blank), pa.scalar(None, pa.string()), plain)
    first = np.cumsum(counts) - counts
    at = [form.names.index(name) if name in form.names else len(cells) for name in form.key]
    there = [(placed, [texts.take(pa.array((first + place)[placed], mask=(place >= counts)[placed])) for place in at])]
    lines = [rows.lines[placed]]
    record = np.repeat(np.arange(len(counts)), counts)
    anywhere = ~placed[record] & ~garbled & ~blank
    candidates = texts.filter(pa.array(anywhere))
    for position in range(len(at)):
        there.append((anywhere, [candidates if other == position else pa.nulls(len(candidates), pa.string()) for other in range(len(at))]))
        lines.append(rows.lines[record[anywhere]])
    anybody = ~placed & ((np.bincount(record, weights=garbled, minlength=len(counts)) > 0) | (np.bincount(record[anywhere], minlength=len(counts)) == 0))
    lines.append(rows.lines[anybody])
    there.append((anybody, [pa.nulls(int(anybody.sum()), pa.string())] * len(at)))
    return _keys(form, np.concatenate(lines), [pa.concat_arrays([columns[position] for _, columns in there]) for position in range(len(at))])


def _keys(form: _Form, lines: Positions, columns: Sequence[pa.Array]) -> pa.Table:
    return pa.table([pa.array(lines, pa.int64()), *columns], names=["line", *form.key])


def _cells(rows: Rows) -> tuple[pa.Array, Positions]:
    """All cells of the records as one array, and how many each has; in a record that breaks the rules of quotes every comma parts two."""
    seen = shape(rows)
    every = np.flatnonzero(rows.raw == COMMA)
    apart = np.concatenate((seen.commas[seen.sound[np.searchsorted(rows.ends, seen.commas)]], every[~seen.sound[np.searchsorted(rows.ends, every)]], rows.ends))
    apart.sort()
    counts = np.diff(np.searchsorted(apart, rows.ends, side="right"), prepend=0)
    offsets = np.concatenate(([0], np.cumsum(np.diff(apart, prepend=-1) - 1))).astype(np.int32)
    kept = np.ones(len(rows.raw), dtype=bool)
    kept[apart] = False
    return pa.Array.from_buffers(pa.string(), len(apart), [None, pa.py_buffer(offsets), pa.py_buffer(rows.raw[kept])]), counts
