"""What two nights' files differ in is told exactly, however lines came, went, changed and moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftp_ingest.roster import lines_changed

HEADER = b"Student_id,Grade\n"

LINES = st.lists(st.sampled_from([f"{number},{grade}\n".encode() for number in range(12) for grade in ("", "3")]), max_size=40)


def between(before: bytes, tonight: bytes, most: int, size: int = 7) -> lines_changed.Changed | None:
    """The difference of two files that are read in blocks of so many bytes."""
    return lines_changed.between(*(iter([data[at : at + size] for at in range(0, len(data), size)]) for data in (before, tonight)), most)


def rebuilt(before: list[bytes], changed: lines_changed.Changed) -> Counter[bytes]:
    """Tonight's lines, as they follow from the night before."""
    return Counter(before) - Counter(changed.gone) + Counter(changed.came)


@given(LINES, LINES, st.sampled_from([1, 2, 7, 64, 1 << 20]))
def test_the_lines_before_less_those_gone_with_those_that_came_are_tonights(before: list[bytes], tonight: list[bytes], size: int) -> None:
    changed = between(HEADER + b"".join(before), HEADER + b"".join(tonight), 100, size)
    assert changed is not None
    assert (changed.header, changed.rows) == (HEADER, len(before))
    assert rebuilt(before, changed) == Counter(tonight)
    assert not Counter(changed.gone) - Counter(before), "nothing is gone that was not there"


@given(st.integers(0, 3000), st.data())
def test_a_few_changes_in_a_long_file_are_told_as_few(length: int, data: st.DataObject) -> None:
    before = [f"{number:06},{number % 13}\n".encode() for number in range(length)]
    tonight = list(before)
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, max(len(tonight) - 1, 0)))
        match data.draw(st.sampled_from(["insert", "remove", "change"])):
            case "insert":
                tonight.insert(at, b"new%d\n" % data.draw(st.integers(0, 99)))
            case "remove":
                del tonight[at : at + 3]
            case "change" if tonight:
                tonight[at] = tonight[at].replace(b"0", b"zero")
    changed = between(HEADER + b"".join(before), HEADER + b"".join(tonight), 100, data.draw(st.sampled_from([100, 1 << 10, 1 << 20])))
    assert changed is not None
    assert rebuilt(before, changed) == Counter(tonight)
    assert max(len(changed.gone), len(changed.came)) <= 6 * 3


def test_a_line_that_moved_is_both_gone_and_new() -> None:
    assert between(b"h\na\nb\nc\nd\n", b"h\nb\nc\nd\na\n", 100) == lines_changed.Changed(b"h\n", (b"a\n",), (b"a\n",), 4)


def test_equal_files_differ_in_nothing() -> None:
    data = b"h\n" + b"".join(b"%d\n" % number for number in range(300_000))
    assert between(data, data, 0, 1 << 16) == lines_changed.Changed(b"h\n", (), (), 300_000)


def test_more_lines_than_allowed_are_not_told() -> None:
    before, tonight = b"h\n" + b"a\n" * 5, b"h\n" + b"b\n" * 5
    assert between(before, tonight, 4) is None
    assert between(before, tonight, 5) is not None


def test_lines_that_follow_the_end_of_the_other_file_count_too() -> None:
    assert between(b"h\n", b"h\n" + b"a\n" * 5, 4) is None
    assert between(b"h\n" + b"a\n" * 5, b"h\n", 4) is None


def test_many_lines_may_follow_the_end_of_the_other_file() -> None:
    more = [b"%06d\n" % number for number in range(20_000)]
    changed = between(b"h\na\n", b"h\na\n" + b"".join(more), 20_000, 1 << 12)
    assert changed == lines_changed.Changed(b"h\n", (), tuple(more), 1)


def test_a_file_in_another_order_is_another_file() -> None:
    lines = [b"%06d\n" % number for number in range(20_000)]
    assert between(b"h\n" + b"".join(lines), b"h\n" + b"".join(reversed(lines)), 100_000, 1 << 16) is None


@pytest.mark.parametrize(
    ("before", "tonight"),
    [(b"h\na\n", b"i\na\n"), (b"h\na\n", b"h\na"), (b"h\na", b"h\na\n"), (b"h\na", b"h\na"), (b"h\na\n", b"h\na\nb"), (b"h", b"h"), (b"", b""), (b"", b"h\n")],
)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_header_in_other_words_and_a_line_without_its_end_are_not_told(before: bytes, tonight: bytes, size: int) -> None:
    assert between(before, tonight, 100, size) is None


def test_a_line_that_never_ends_is_not_read_to_its_end() -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        yield b"h\n"
        while taken < 1_000:
            taken += 1
            yield b"a" * (1 << 20)

    assert lines_changed.between(endless(), endless(), 100) is None
    assert taken < 40
