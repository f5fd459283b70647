"""What two nights' files differ in is told exactly, however lines came, went, changed and moved."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sftp_ingest.roster import lines_changed

HEADER = b"Student_id,Grade\n"

LINES = st.lists(st.sampled_from([f"{number},{grade}\n".encode() for number in range(12) for grade in ("", "3")]), max_size=40)


def rebuilt(before: list[bytes], changed: lines_changed.Changed) -> Counter[bytes]:
    """Tonight's lines, as they follow from the night before."""
    return Counter(before) - Counter(changed.gone) + Counter(changed.came)


@given(LINES, LINES)
def test_the_lines_before_less_those_gone_with_those_that_came_are_tonights(before: list[bytes], tonight: list[bytes]) -> None:
    changed = lines_changed.between(HEADER + b"".join(before), HEADER + b"".join(tonight), len(HEADER), 100)
    assert changed is not None
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
    changed = lines_changed.between(HEADER + b"".join(before), HEADER + b"".join(tonight), len(HEADER), 100)
    assert changed is not None
    assert rebuilt(before, changed) == Counter(tonight)
    assert max(len(changed.gone), len(changed.came)) <= 6 * 3


def test_a_line_that_moved_is_both_gone_and_new() -> None:
    changed = lines_changed.between(b"h\na\nb\nc\nd\n", b"h\nb\nc\nd\na\n", 2, 100)
    assert changed == lines_changed.Changed((b"a\n",), (b"a\n",))


def test_equal_files_differ_in_nothing() -> None:
    data = b"h\n" + b"".join(b"%d\n" % number for number in range(300_000))
    assert lines_changed.between(data, data, 2, 0) == lines_changed.Changed((), ())


def test_more_lines_than_allowed_are_not_told() -> None:
    before, tonight = b"h\n" + b"a\n" * 5, b"h\n" + b"b\n" * 5
    assert lines_changed.between(before, tonight, 2, 4) is None
    assert lines_changed.between(before, tonight, 2, 5) is not None


def test_lines_that_follow_the_end_of_the_other_file_count_too() -> None:
    assert lines_changed.between(b"h\n", b"h\n" + b"a\n" * 5, 2, 4) is None
    assert lines_changed.between(b"h\n" + b"a\n" * 5, b"h\n", 2, 4) is None


def test_a_file_in_another_order_is_another_file() -> None:
    lines = [b"%06d\n" % number for number in range(20_000)]
    assert lines_changed.between(b"".join(lines), b"".join(reversed(lines)), 0, 100_000) is None
