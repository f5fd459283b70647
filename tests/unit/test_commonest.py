"""What stands most often in a group is what plain counting says, however many bytes its numbers take."""

from __future__ import annotations

from collections import Counter

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from sftp_ingest.roster import commonest
from sftp_ingest.roster.commonest import Tally

WIDTH = 4


@pytest.mark.parametrize("largest", [0, np.iinfo(np.int32).max])
@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-1, WIDTH - 1), min_size=1, max_size=6), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=40))
def test_the_commonest_value_of_a_group_is_what_counting_says(largest: int, values: list[int], rows: list[tuple[int, int]]) -> None:
    rows = [(group, place % len(values)) for group, place in rows]
    group, place = (np.array([row[at] for row in rows], dtype=np.int32) for at in (0, 1))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(commonest, "_LARGEST", largest)
        patched.setattr(commonest, "_AT_ONCE", 7)
        tally = Tally.of(group, np.array(values, dtype=np.int32), place, WIDTH)
    counts = Counter((each, values[at]) for each, at in rows if values[at] >= 0)
    for number in range(6):
        told = np.array([tally.count_of(np.array([number]), np.array([value], dtype=np.int32))[0] for value in range(WIDTH)])
        assert told.tolist() == [counts[number, value] for value in range(WIDTH)]
        assert tally.commonest(6, lambda tied: ())[number] == (int(told.argmax()) if told.any() else -1)
