"""The lines in which a file differs from the one of the night before, found in little more than the time that it takes to read both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_LEAST, _MOST = 1 << 12, 1 << 20
"""So many bytes are compared at once: fewer where the files differ, more and more while they are the same."""

_NEAR, _FAR = 3, 3 << 10
"""So many lines ahead are looked for one that both files have: few at first, for mostly a line or two have changed."""

_LINE_END = ord("\n")

_LONGEST = 1 << 24
"""No line of a roster is so long, and of one that is, not more is kept in memory."""


@dataclass(frozen=True)
class Changed:
    """The lines, each with its end, that only the file before has, and those that only tonight's has, in their order.

    A line that stands elsewhere tonight is among both. `header` is the first line of both; below it the file before had so many `rows`.
    """

    header: bytes
    gone: tuple[bytes, ...]
    came: tuple[bytes, ...]
    rows: int


def between(before: Iterator[bytes], tonight: Iterator[bytes], most: int) -> Changed | None:
    """What differs between two files, both given in blocks, neither of them empty; both are read to their end.

    None where it cannot be told: the headers differ, the last line of either has no end, a line is longer than 16 MiB, more than `most` lines
    of either would differ, or nothing alike is near: then the file is another one, or in another order.
    """
    one, other = _Window(before), _Window(tonight)
    header = one.lines(1)
    if not header or other.lines(1) != header:
        return None
    one.skip(len(header[0]))
    other.skip(len(header[0]))
    gone: list[bytes] = []
    came: list[bytes] = []
    while True:
        _skip_alike(one, other)
        met = (one.lines(most + 1), other.lines(most + 1)) if one.at_end or other.at_end else _until_alike(one, other)
        if met is None or len(gone) + len(met[0]) > most or len(came) + len(met[1]) > most:
            return None
        if not (met[0] or met[1]):  # nothing but a line without its end may be left
            whole = one.at_end and other.at_end
            return Changed(header[0], tuple(gone), tuple(came), one.passed - 1) if whole else None
        for window, differing, lines in ((one, gone, met[0]), (other, came, met[1])):
            differing += lines
            window.skip(sum(map(len, lines)))


class _Window:
    """The part of a file that is looked at; it begins where a line begins, and grows by a block when more has to be seen."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._ended = False
        self.data = b""
        self.at = 0
        self._passed = 0

    @property
    def passed(self) -> int:
        """How many lines were passed."""
        return self._passed + int(np.count_nonzero(np.frombuffer(self.data, np.uint8, self.at) == _LINE_END))

    @property
    def at_end(self) -> bool:
        """Whether nothing is left of the file, of which then the last block has been read."""
        return self.at == len(self.data) and not self.more()

    def more(self) -> bool:
        """Whether there was another block, or there is more than anybody should look at."""
        if self._ended or len(self.data) - self.at > _LONGEST:
            return False
        block = next(self._blocks, b"")
        self._ended = not block
        self._passed = self.passed
        self.data = self.data[self.at :] + block if self.at < len(self.data) else block
        self.at = 0
        return not self._ended

    def skip(self, size: int) -> None:
        """Pass so many bytes, which are whole lines."""
        self.at += size

    def lines(self, count: int) -> list[bytes]:
        """So many lines from here on, or all that there are; one without an end is none."""
        found: list[bytes] = []
        at = self.at
        while len(found) < count:
            end = self.data.find(b"\n", at) + 1
            if end:
                found.append(self.data[at:end])
                at = end
                continue
            at -= self.at
            if not self.more():
                break
            at += self.at
        return found


def _skip_alike(one: _Window, other: _Window) -> None:
    """Pass all lines from here on that are the same in both."""
    size = _LEAST
    alike = 0
    while True:
        left, right = one.at + alike, other.at + alike
        here = min(size, len(one.data) - left, len(other.data) - right)
        if here:
            differs = np.frombuffer(one.data, np.uint8, here, left) != np.frombuffer(other.data, np.uint8, here, right)
            first = int(differs.argmax())
            if not differs[first]:
                alike += here
                size = min(4 * size, _MOST)
                continue
            alike += first
        alike -= _skip_lines(one, other, alike)
        if here or not all(each.at + alike < len(each.data) or each.more() for each in (one, other)):
            return


def _skip_lines(one: _Window, other: _Window, size: int) -> int:
    """Pass the lines that end within so many bytes from here, which are the same in both; how many bytes they have."""
    whole = max(0, one.data.rfind(b"\n", one.at, one.at + size) + 1 - one.at)
    one.skip(whole)
    other.skip(whole)
    return whole


def _until_alike(one: _Window, other: _Window) -> tuple[list[bytes], list[bytes]] | None:
    """The lines of both from here to the nearest line that both have, or to the end of both; None where neither is near."""
    window = _NEAR
    while window <= _FAR:
        left, right = one.lines(window), other.lines(window)
        places = {line: place for place, line in reversed(list(enumerate(left)))}
        met = min(((places[line] + place, place) for place, line in enumerate(right) if line in places), default=None)
        if met is not None:
            steps, place = met
            return left[: steps - place], right[:place]
        if len(left) < window and len(right) < window:
            return left, right
        window *= 4
    return None
