"""What stands most often in each group, among millions of memberships, and when rows that could not be read leave that in doubt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sftp_ingest.roster.arrow import Mask, Places, begins_of

Numbers = npt.NDArray[np.int64]

_AT_ONCE = 1 << 20
"""So many of millions of memberships are looked at together where something is noted of each."""

_LARGEST = np.iinfo(np.int32).max
"""Up to here four bytes are enough for a number."""


@dataclass(frozen=True)
class Tally:
    """How often each value stands in each group, sorted by group and value; both are numbers from 0, values below `width`."""

    pair: Places | Numbers
    count: Numbers
    width: int

    @classmethod
    def of(cls, group: Places, value: Places, of_row: Places, width: int) -> Tally:
        """Count, a row a group and the place of its value among the values; what has no value is left out."""
        short = (int(group.max(initial=0)) + 1) * width <= _LARGEST
        pair: Places | Numbers = group.astype(np.int32) if short else group.astype(np.int64)  # and no second one: there are as many as memberships
        pair *= width
        for begin in range(0, len(pair), _AT_ONCE):
            pair[begin : begin + _AT_ONCE] += value[of_row[begin : begin + _AT_ONCE]]
        if (nothing := value < 0).any():
            pair = pair[~nothing[of_row]]
        pair.sort()
        begins = begins_of(pair)
        return cls(pair[begins], np.diff(begins, append=len(pair)), width)

    def find(self, group: Places | Numbers, value: Places | Numbers) -> Numbers:
        """Where each pair stands, or -1."""
        pair = group.astype(np.int64) * self.width + value
        at = np.searchsorted(self.pair, np.minimum(pair, np.iinfo(self.pair.dtype).max).astype(self.pair.dtype))
        at[at == len(self.pair)] = 0
        there = (value >= 0) & (self.pair[at] == pair) if len(self.pair) else np.zeros(len(pair), dtype=bool)
        return np.where(there, at, -1)

    def count_of(self, group: Numbers, value: Places) -> Numbers:
        """How often the value stands in the group."""
        at = self.find(group, value)
        return np.where(at >= 0, np.append(self.count, 0)[at], 0)

    def commonest(self, groups: int, order: Callable[[Numbers], Sequence[Numbers]]) -> Places:
        """The commonest value of each group, or -1. Among tied pairs, whose places `order` is told, the first by its arrays, then the smallest."""
        winner = np.full(groups, -1, dtype=np.int32)
        if not len(self.pair):
            return winner
        group, value = np.divmod(self.pair, self.width)
        begins = begins_of(group)
        most = np.maximum.reduceat(self.count, begins)
        first = np.flatnonzero(self.count == np.repeat(most, np.diff(begins, append=len(group))))
        winner[group[first]] = value[first]
        tied = first[np.bincount(group[first], minlength=groups)[group[first]] > 1]
        if len(tied):
            tied = tied[np.lexsort((tied, *reversed(order(tied)), group[tied]))]
            best = tied[begins_of(group[tied])]
            winner[group[best]] = value[best]
        return winner


def settled(tally: Tally, new: Places, old: Places, doubt: Numbers, doubtful: Mask) -> Places:
    """The new values, but for groups where the rows in doubt may have left the old one the commonest."""
    at = np.flatnonzero((new != old) & (old >= 0) & doubtful)
    stays = at[tally.count_of(at, old[at]) + doubt[at] >= tally.count_of(at, new[at])]
    settled = new.copy()
    settled[stays] = old[stays]
    return settled
