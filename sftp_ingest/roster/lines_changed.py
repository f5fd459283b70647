"""The lines in which a file differs from the one of the night before, found in little more than the time that it takes to read both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_LEAST, _MOST = 1 << 8, 1 << 20
"""So many bytes are compared at once: fewer where the files differ, more and more while they are the same."""

_NEAR, _FAR = 8, 1 << 12
"""So many lines ahead are looked for one that both files have: few at first, for mostly a line or two have changed."""


@dataclass(frozen=True)
class Changed:
    """The lines, each with its end, that only the file before has, and those that only tonight's has, in their order.

    A line that stands elsewhere tonight is among both.
    """

    gone: tuple[bytes, ...]
    came: tuple[bytes, ...]


def between(before: bytes, tonight: bytes, begin: int, most: int) -> Changed | None:
    """What differs behind `begin`, up to which both are the same and where a line begins in both; every line of both has its end.

    None where more than `most` lines of either would differ, or where nothing alike is near: then the file is another one, or in another order.
    """
    gone: list[bytes] = []
    came: list[bytes] = []
    at = to = begin
    while at < len(before) and to < len(tonight):
        same = _alike(before, at, tonight, to)
        at, to = at + same, to + same
        if at == len(before) or to == len(tonight):
            break
        met = _until_alike(before, at, tonight, to)
        if met is None:
            return None
        left, right = met
        gone += left
        came += right
        at, to = at + sum(map(len, left)), to + sum(map(len, right))
        if max(len(gone), len(came)) > most:
            return None
    if max(before.count(b"\n", at) + len(gone), tonight.count(b"\n", to) + len(came)) > most:
        return None
    return Changed((*gone, *_lines(before, at, most)), (*came, *_lines(tonight, to, most)))


def _alike(one: bytes, at: int, other: bytes, to: int) -> int:
    """How many bytes from here on are the same, up to the last line that is whole."""
    begin, size = at, _LEAST
    while (left := one[at : at + size]) == (right := other[to : to + size]):
        at, to = at + len(left), to + len(left)
        if len(left) < size:
            return at - begin
        size = min(2 * size, _MOST)
    both = min(len(left), len(right))
    differs = np.frombuffer(left, np.uint8, both) != np.frombuffer(right, np.uint8, both)
    at += int(differs.argmax()) if differs.any() else both
    return max(one.rfind(b"\n", begin, at) + 1 - begin, 0)


def _until_alike(before: bytes, at: int, tonight: bytes, to: int) -> tuple[list[bytes], list[bytes]] | None:
    """The lines of both from here to the nearest line that both have, or to the end of both; None where neither is near."""
    window = _NEAR
    while window <= _FAR:
        left, right = _lines(before, at, window), _lines(tonight, to, window)
        places = {line: place for place, line in reversed(list(enumerate(left)))}
        met = min(((places[line] + place, place) for place, line in enumerate(right) if line in places), default=None)
        if met is not None:
            steps, place = met
            return left[: steps - place], right[:place]
        if len(left) < window and len(right) < window:
            return left, right
        window *= 4
    return None


def _lines(data: bytes, at: int, count: int) -> list[bytes]:
    """So many lines from here on, or all that there are."""
    found: list[bytes] = []
    while len(found) < count and at < len(data):
        end = data.index(b"\n", at) + 1
        found.append(data[at:end])
        at = end
    return found
