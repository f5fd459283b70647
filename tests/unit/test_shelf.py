"""What is put away in files without a name is what it was in memory, and takes none of it but for a moment."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given

from sftp_ingest.roster import decoding, shelf
from sftp_ingest.roster.arrow import frame_of
from tests.unit.districts import everything_put_away


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which everything is put away."""
    made = tmp_path_factory.mktemp("home") / "rosters"
    with everything_put_away(made):
        yield made


TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=12)

Layout = Callable[[list[str]], pa.Array | pa.ChunkedArray]

LAYOUTS: list[Layout] = [
    lambda texts: pa.array(texts, pa.string()),
    lambda texts: pa.array(["before", *texts, "behind"], pa.string()).slice(1, len(texts)),
    lambda texts: pa.chunked_array([texts[:3], [], texts[3:]], pa.string()),
    lambda texts: pa.array(texts, pa.string()).dictionary_encode(),
    lambda texts: pa.chunked_array([pa.array(texts, pa.string())] * 2).dictionary_encode(),
]


@given(st.lists(st.tuples(TEXTS, st.sampled_from(LAYOUTS)), min_size=1, max_size=4))
def test_columns_of_text_come_back_as_they_were_made(folder: Path, made: list[tuple[list[str], Layout]]) -> None:
    cells = {str(number): layout(texts) for number, (texts, layout) in enumerate(made)}
    found = shelf.columns(lambda name: cells[name], cells, 1)
    assert {name: each.to_pylist() for name, each in found.items()} == {name: each.to_pylist() for name, each in cells.items()}
    for each in found.values():
        each.validate(full=True)


def test_what_is_no_text_stays_as_it_is(folder: Path) -> None:
    cells = {"active": pa.array([True, False]), "unread": pa.array(["a", None]), "line": pa.array([2, 3])}
    found = shelf.columns(lambda name: cells[name], cells, 2)
    assert all(found[name] is cells[name] for name in cells)


@given(TEXTS, st.data())
def test_the_rows_of_a_frame_are_chosen_and_laid_one_behind_the_other(folder: Path, texts: list[str], data: st.DataObject) -> None:
    frame = frame_of(pa.table({"one": pa.array(texts, pa.string()), "other": pa.array(texts[::-1], pa.string())}))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts))), dtype=bool)
    chosen = shelf.filtered(frame, mask)
    assert chosen.to_dict("records") == frame[mask].to_dict("records")
    assert chosen.index.tolist() == np.flatnonzero(mask).tolist()
    assert shelf.stacked([frame, chosen])["one"].to_list() == [*texts, *chosen["one"]]


def test_bytes_come_back_as_they_were_gathered(folder: Path) -> None:
    sent = b"".join(b"%d,a line\n" % number for number in range(1_500_000))
    data = shelf.gathered([sent[:7], sent[7:-1], sent[-1:]], len(sent))
    assert not isinstance(data, bytes)
    assert len(data) > 2 * shelf.PIECE
    assert b"".join(shelf.pieces(data)) == sent
    assert shelf.has(data, b"1499999,")
    assert shelf.has(data, sent[shelf.PIECE - 3 : shelf.PIECE + 3])
    assert not shelf.has(data, b"1500000,")
    assert shelf.gathered([], 10) == b""


SPELT: list[Callable[[str], bytes]] = [
    lambda text: b"\xef\xbb\xbf" + text.encode(),
    lambda text: text.replace("\n", "\r\n").encode(),
    lambda text: text.replace("\n", "\r").encode(),
    lambda text: text.encode("utf-16"),
    lambda text: text.encode("cp1252"),
]


@pytest.mark.parametrize("spelt", SPELT)
def test_text_that_is_put_away_is_decoded_as_in_memory(folder: Path, spelt: Callable[[str], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    sent = spelt("Student_id,Last_name\n1,Ångström\n2,Müller\n\n3,Núñez\n" * 40)
    expected = decoding.decode(sent)
    for size in (4, 5, 7, 4096):
        monkeypatch.setattr(shelf, "PIECE", size)
        found = decoding.decode(shelf.gathered([sent], len(sent)))
        assert found.data[:] == expected.data[:]
        assert (found.encoding, found.guessed.tolist(), found.unreadable.tolist()) == (
            expected.encoding,
            expected.guessed.tolist(),
            expected.unreadable.tolist(),
        )


def test_tables_are_piled_one_on_the_other(folder: Path) -> None:
    tables = [pa.table({"id": [f"{number}", ""]}) for number in range(5)]
    with shelf.piled(["id"], 20) as pile:
        for each in tables:
            pile.add(each)
        whole = pile.whole()
    assert whole.equals(pa.concat_tables(tables))


ROWS = st.lists(st.tuples(*[st.text(st.characters(exclude_categories=["Cs"]), max_size=9)] * 3), max_size=9)


@given(st.lists(ROWS, max_size=5))
def test_columns_of_any_tables_are_piled_each_in_one_piece(folder: Path, parts: list[list[tuple[str, str, str]]]) -> None:
    tables = [pa.table({name: pa.array([row[place] for row in rows], pa.string()) for place, name in enumerate("abc")}) for rows in parts]
    csv = sum(len("".join(row).encode()) + 3 for rows in parts for row in rows)  # two commas and an end
    with shelf.piled("abc", csv) as pile:
        for each in tables:
            pile.add(each)
        whole = pile.whole()
    assert whole.column_names == list("abc")
    for name in "abc":
        assert whole[name].to_pylist() == [cell for table in tables for cell in table[name].to_pylist()]
        assert whole[name].num_chunks == 1
        whole[name].chunk(0).validate(full=True)


def test_more_text_than_the_file_had_is_not_laid_over_another_column(folder: Path) -> None:
    with shelf.piled(["one", "other"], 10) as pile, pytest.raises(pa.ArrowCapacityError):
        pile.add(pa.table({"one": ["a" * 5000], "other": ["b"]}))


def test_no_file_has_a_name_and_none_is_left_with_its_last_cell(folder: Path) -> None:
    def open_files() -> int:
        return sum(each.is_symlink() and str(folder) in str(each.readlink()) for each in Path("/proc/self/fd").iterdir())

    gc.collect()
    before = open_files()
    cells = shelf.put(pa.array(["a", "b"]))
    assert open_files() == before + 1
    assert list(folder.iterdir()) == []
    part = cells.slice(1)
    del cells
    assert open_files() == before + 1
    assert part.to_pylist() == ["b"]
    del part
    assert open_files() == before
