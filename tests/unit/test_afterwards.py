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

from sftp_ingest.model import ENTITIES, Entity, Roster
from sftp_ingest.planning import empty_roster
from sftp_ingest.roster import arrow, layers
from sftp_ingest.roster.arrow import array_of, places_of_keys
from sftp_ingest.roster.layers import Layers
from tests.unit.districts import Files, applied, changed, planned, small
from tests.unit.test_laws import QUICK, districts

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
    for column, cells in keys.items():
        assert lying.among(column, cells.slice(0, 1))[at].tolist() == [each == cells[0].as_py() for each in cells.to_pylist()]
    for column in entity.columns:
        half = np.zeros(len(lying.active), dtype=bool)
        half[at[::2]] = True
        told = lying.distinct(column, half).to_pylist()
        assert sorted(told) == sorted(set(lying.frame[column].iloc[::2]))


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
@given(KEYS, KEYS)
def test_a_key_of_two_parts_is_found_where_it_stands_and_nowhere_else(keys: list[tuple[str, str]], among: list[tuple[str, str]]) -> None:
    def parts(rows: list[tuple[str, str]]) -> list[pa.Array]:
        return [pa.array([row[at] for row in rows], pa.string()) for at in (0, 1)]

    def single(rows: list[tuple[str, str]]) -> list[pa.Array]:
        return [pa.array([f"{len(row[0])}:{row[0]}{row[1]}" for row in rows], pa.string())]

    wanted = [among.index(key) if key in among else -1 for key in keys]
    assert places_of_keys(parts(keys), parts(among)).tolist() == wanted
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(arrow, "_NUMBERS", 1)  # as where numbers would be too large
        assert places_of_keys(parts(keys), parts(among)).tolist() == wanted
    assert places_of_keys(parts(keys[:2]), parts(among)).tolist() == wanted[:2]
    assert places_of_keys(single(keys), single(among)).tolist() == wanted
