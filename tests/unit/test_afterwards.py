"""What stands once a change set is applied, told by columns, is what the plainest means tell; and keys are found where they are."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings

from sftp_ingest.model import ENTITIES, ChangeSet, Entity, Roster
from sftp_ingest.planning import empty_roster
from sftp_ingest.roster import arrow, layers
from sftp_ingest.roster.arrow import array_of, is_in, places_of, places_of_keys
from sftp_ingest.roster.layers import Layers
from tests.unit.districts import Files, applied, changed, planned, small
from tests.unit.test_laws import QUICK, districts, plan_of

KEYS = st.lists(st.tuples(st.text("ab:1", max_size=3), st.text("ab:1", max_size=3)), unique=True, max_size=120)


def everything(roster: Roster) -> dict[str, list[tuple[object, ...]]]:
    """All records, with whether they are active, in an order of their own; without attendance, which no roster is compared with as a whole."""
    return {name: sorted(frame.itertuples(index=False, name=None)) for name, frame in roster.entities.items() if name != "attendance"}


@settings(QUICK, max_examples=40)
@given(st.lists(districts(), min_size=2, max_size=4))
def test_night_for_night_the_roster_is_what_was_applied(nights: list[Files]) -> None:
    plain, quick = empty_roster(), empty_roster()
    lying = layers.of(empty_roster())
    for files in nights:
        with TemporaryDirectory() as folder:
            made = planned(Path(folder), files, plain)
        assert made.flowing is not None
        plain, quick = applied(plain, made), changed(quick, made.flowing)
        lying = layers.after(lying, made.flowing)
        assert everything(quick) == everything(layers.roster(lying)) == everything(plain)
        for name, each in lying.items():
            looked_up_as_in_one_frame(each, ENTITIES[name])
            looked_up_as_in_one_frame(in_places_of_its_texts(each), ENTITIES[name])


def in_places_of_its_texts(lying: Layers) -> Layers:
    """The same, with every column of texts encoded."""
    cells = {name: lying.base[name].combine_chunks() for name in lying.base.column_names}
    encoded = {name: each.dictionary_encode() if pa.types.is_string(each.type) else each for name, each in cells.items()}
    return Layers(pa.table(encoded), lying.later, lying.replaced)


def looked_up_as_in_one_frame(lying: Layers, entity: Entity) -> None:
    """Every record is found by its key, and what is taken from its place is what the frame says of it."""
    keys = {column: array_of(lying.frame[column]) for column in entity.key}
    at = lying.places(keys)
    assert sorted(set(at.tolist())) == sorted(np.flatnonzero(~np.append(lying.replaced, np.zeros(len(lying.later), dtype=bool))).tolist())
    pd.testing.assert_frame_equal(lying.rows(entity.columns, at), lying.frame)
    assert lying.active[at].tolist() == lying.frame["active"].tolist()
    assert int(lying.active.sum()) == int(lying.frame["active"].sum())
    assert int(lying.there.sum()) == len(lying.frame)
    pd.testing.assert_frame_equal(lying.columns(entity.key), lying.frame[list(entity.key)])
    for column, cells in keys.items():
        assert lying.among(column, cells.slice(0, 1))[at].tolist() == [each == cells[0].as_py() for each in cells.to_pylist()]
    for column in entity.columns:
        half = np.zeros(len(lying.active), dtype=bool)
        half[at[::2]] = True
        wanted = sorted(lying.frame[column].iloc[::2])
        assert sorted(lying.distinct(column, half).to_pylist()) == sorted(set(wanted))
        for told in (lying.encoded(column, half), lying.coded(column, half)):
            assert sorted(cell for each in told for cell in each.cells.to_pylist()) == wanted
        assert all(len(each.texts) == len(set(each.places.tolist())) for each in lying.encoded(column, half))
    if len(entity.key) == 1:
        ids = keys[entity.key[0]]
        assert lying.places_of(entity.key[0], ids).tolist() == at.tolist()
        assert lying.places_of(entity.key[0], pa.concat_arrays([pa.array(["nobody"]), ids])).tolist() == [-1, *at.tolist()]


NAMED = {
    "students": ("Student_id", "School_id"),
    "teachers": ("Teacher_id", "School_id"),
    "sections": ("Section_id", "School_id", "Teacher_id"),
    "enrollments": ("Section_id", "Student_id"),
}


@st.composite
def spoilt(draw: st.DrawFn) -> Files:
    """A district in which a few rows name nobody, or somebody who is not there."""
    files = draw(districts())
    for name in draw(st.lists(st.sampled_from(sorted(NAMED)), max_size=3)):
        row = draw(st.sampled_from(files[name]))
        row[draw(st.sampled_from(NAMED[name]))] = draw(st.sampled_from(["", "nobody"]))
    return files


@settings(QUICK, max_examples=20)
@given(st.lists(districts(), min_size=1, max_size=2), spoilt())
def test_a_roster_in_layers_is_compared_with_as_one_that_lies_in_frames(nights: list[Files], files: Files) -> None:
    plain, lying = empty_roster(), layers.of(empty_roster())
    for each in nights:
        made = plan_of(each, plain)
        assert made.flowing is not None
        plain, lying = applied(plain, made), layers.after(lying, made.flowing)
    expected = plan_of(files, plain)
    for now in (lying, {name: in_places_of_its_texts(each) for name, each in lying.items()}):
        found = plan_of(files, layers.roster(now))
        assert (found.outcome, found.findings, found.counts, found.hold) == (expected.outcome, expected.findings, expected.counts, expected.hold)
        assert told(found.flowing) == told(expected.flowing)
        assert told(found.waiting) == told(expected.waiting)


def told(changes: ChangeSet | None) -> dict[str, list[tuple[object, ...]]] | None:
    """All changes with what was before, in an order of their own."""
    if changes is None:
        return None
    both = {name: pd.concat([frame.reset_index(drop=True), changes.before[name].reset_index(drop=True)], axis=1) for name, frame in changes.changes.items()}
    return {name: sorted(frame.itertuples(index=False, name=None)) for name, frame in both.items()}


def test_entities_without_a_change_are_the_very_same_frames(tmp_path: Path) -> None:
    first = planned(tmp_path / "first", small())
    assert first.flowing is not None
    now = changed(empty_roster(), first.flowing)
    files = small()
    files["students"][0]["Last_name"] = "Other"
    second = planned(tmp_path / "second", files, now)
    assert second.flowing is not None
    after = changed(now, second.flowing)
    assert [name for name in now.entities if after.entities[name] is not now.entities[name]] == ["students"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text("ab", max_size=6), max_size=60), st.lists(st.text("ab", max_size=6), max_size=60))
def test_a_cell_is_found_where_it_stands_first_and_nowhere_else(cells: list[str], among: list[str]) -> None:
    """Few cells among many, and many among few, are looked for in different ways."""
    wanted = [among.index(cell) if cell in among else -1 for cell in cells]
    texts, others = pa.array(cells, pa.string()), pa.array(among, pa.string())
    for each in (texts, texts.dictionary_encode()):
        assert places_of(each, others).tolist() == wanted
        assert is_in(each, others).tolist() == [place >= 0 for place in wanted]


@settings(max_examples=300, deadline=None)
@given(KEYS, KEYS)
def test_a_key_of_two_parts_is_found_where_it_stands_and_nowhere_else(keys: list[tuple[str, str]], among: list[tuple[str, str]]) -> None:
    def parts(rows: list[tuple[str, str]]) -> list[pa.Array]:
        return [pa.array([row[at] for row in rows], pa.string()) for at in (0, 1)]

    def single(rows: list[tuple[str, str]]) -> list[pa.Array]:
        return [pa.array([f"{len(row[0])}:{row[0]}{row[1]}" for row in rows], pa.string())]

    wanted = [among.index(key) if key in among else -1 for key in keys]
    encoded = [part.dictionary_encode() for part in parts(among)]
    assert places_of_keys(parts(keys), parts(among)).tolist() == places_of_keys(parts(keys), encoded).tolist() == wanted
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(arrow, "_NUMBERS", 1)  # as where numbers would be too large
        assert places_of_keys(parts(keys), parts(among)).tolist() == places_of_keys(parts(keys), encoded).tolist() == wanted
    assert places_of_keys(parts(keys[:2]), parts(among)).tolist() == wanted[:2]
    assert places_of_keys(single(keys), single(among)).tolist() == wanted
