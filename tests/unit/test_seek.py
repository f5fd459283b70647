"""The lines of certain records are found as one finds them who parses every line."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import hypothesis.strategies as st
import pyarrow as pa
from hypothesis import given, settings

from sftp_ingest.roster import seek

CELLS = st.sampled_from(["", "1", "12", " 12", "12 ", "012", "Zoë", "\u200312", "a, b", 'say "hi"', "x" * 70, "\t12", "007"])


@st.composite
def files(draw: st.DrawFn) -> tuple[list[list[str]], bytes]:
    """Records of one width, and the lines that tell them."""
    width = draw(st.integers(1, 4))
    records = draw(st.lists(st.lists(CELLS, min_size=width, max_size=width), max_size=12))
    sink = io.StringIO(newline="")
    for record in records:
        quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
        csv.writer(sink, quoting=quoting, lineterminator=draw(st.sampled_from(["\n", "\r\n"]))).writerow(record)
    return records, sink.getvalue().encode()


def lines_with(data: bytes, width: int, place: int, ids: Sequence[str], size: int) -> list[bytes] | None:
    """What is found in parts of so many lines."""
    lines = data.splitlines(keepends=True)
    return seek.lines_with([b"".join(lines[at : at + size]) for at in range(0, len(lines), size)], width, place, pa.array(ids, pa.string()))


@settings(max_examples=300, deadline=None)
@given(files(), st.sets(CELLS.map(str.strip)), st.integers(1, 5), st.data())
def test_lines_are_found_by_the_cell_that_csv_sees_in_them(told: tuple[list[list[str]], bytes], ids: set[str], size: int, data: st.DataObject) -> None:
    records, text = told
    width = len(records[0]) if records else 1
    place = data.draw(st.integers(0, width - 1))
    wanted = [line for line, record in zip(text.splitlines(keepends=True), records, strict=True) if record[place].strip() in ids]
    assert lines_with(text, width, place, sorted(ids), size) == wanted


def test_a_line_that_is_no_record_is_seen_where_it_has_to_be_parsed() -> None:
    assert lines_with(b'"1",2\n"3"\n', 2, 0, ["3"], 5) is None


def test_a_file_without_rows_has_no_line_of_anybody() -> None:
    assert lines_with(b"", 2, 0, ["1"], 1) == []
    assert seek.lines_with([b""], 2, 0, pa.array(["1"])) == []
