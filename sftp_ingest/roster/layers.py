"""A roster in two layers, as it was once and what changed since: a night that changes little costs little, however large the roster is.

Who asks for a whole frame of it gets one, made when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.model import ENTITIES, ChangeSet, Entity, Roster
from sftp_ingest.roster import afterwards, shelf
from sftp_ingest.roster.arrow import (
    TEXT,
    Encoded,
    Mask,
    Places,
    array_of,
    encoded,
    frame_of,
    in_one_piece,
    is_in,
    joined,
    places_of,
    places_of_keys,
    says_nothing,
    side_by_side,
    spelt_out,
)

Positions = npt.NDArray[np.int64]

Answer = TypeVar("Answer", bound=np.generic)

_FEW = 200_000
"""Not more cells than these are looked through by one thread, and left in memory."""

_MANY = 1_000_000
"""So many cells, as places in their texts, are looked at in a file before it is let go of."""


@dataclass(frozen=True)
class Layers:
    """The records of one entity, with whether they are `active`: those rows of `base` that `replaced` does not mask, and behind them all of `later`.

    A place is a row's number in both together. What is told of replaced rows means nothing; `active` is false of them. A column of `base` may
    be encoded, as places in its distinct texts, which is then looked through in the time that these take. Where the cells of `base` lie in a
    file, `let_go` has the kernel forget that this process looked at them: of a large roster all would else be counted as its memory.
    """

    base: pa.Table
    later: pa.Table
    replaced: Mask
    let_go: Callable[[], None] = lambda: None

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Layers:
        """A frame as one of `rosters.current`, in one layer."""
        table = _table(frame)
        return cls(table, table.slice(0, 0), np.zeros(len(table), dtype=bool))

    @property
    def there(self) -> Mask:
        """Which rows are records, active or not: all but those that are replaced."""
        found: Mask = np.concatenate((~self.replaced, np.ones(len(self.later), dtype=bool)))
        return found

    @cached_property
    def active(self) -> Mask:
        """Which records are active."""
        base, later = (in_one_piece(layer["active"]).to_numpy(zero_copy_only=False) for layer in (self.base, self.later))
        found: Mask = np.concatenate((base & ~self.replaced, later))
        return found

    @cached_property
    def frame(self) -> pd.DataFrame:
        """All records, as `rosters.current` gives them."""
        return self.columns(self.base.column_names)

    def columns(self, names: Sequence[str]) -> pd.DataFrame:
        """These columns of the frame, where it is not worth while to make all."""
        return frame_of(_spelt_out(self.table(names)))

    def table(self, names: Sequence[str]) -> pa.Table:
        """These columns of the frame as Arrow has them, each in one piece; what is encoded in `base` is encoded."""
        if not len(self.later) and not self.replaced.any():
            return pa.table({name: in_one_piece(self.base[name]) for name in names})
        stays = pa.array(~self.replaced)

        def standing(name: str) -> pa.Array | pa.ChunkedArray:
            base, later = in_one_piece(self.base[name]).filter(stays), in_one_piece(self.later[name])
            return joined([encoded(base), encoded(later)]).cells if pa.types.is_dictionary(base.type) else pa.chunked_array([base, later])

        return pa.table(shelf.columns(standing, names, len(self.base)))

    def which(self, column: str, told: Callable[[pa.Array], npt.NDArray[Answer]], at_once: int = _FEW) -> npt.NDArray[Answer]:
        """What is told of each cell of the column, where that can be told of one part of them after the other, each of so many."""
        base, later = in_one_piece(self.base[column]), in_one_piece(self.later[column])
        texts = base.dictionary if pa.types.is_dictionary(base.type) else base
        parts = [texts.slice(begin, at_once) for begin in range(0, len(texts), at_once)]
        found = side_by_side(told, parts, len(texts)) if len(parts) > 1 else [told(texts)]
        if texts is not base:
            found = [np.concatenate(found)[base.indices.to_numpy()]]
        if len(base) > _FEW:
            self.let_go()
        return np.concatenate([*found, told(later)] if len(later) else found)

    def says_nothing(self, column: str) -> bool:
        """Whether all cells of the column are blank, those of replaced rows among them."""
        return says_nothing(self.base[column]) and says_nothing(self.later[column])

    def among(self, column: str, texts: pa.Array) -> Mask:
        """Which cells of the column are among the texts."""
        return self.which(column, lambda cells: is_in(cells, texts), max(_FEW, len(texts)))  # they are made ready to be looked up for each part anew

    def places_of(self, column: str, texts: pa.Array) -> Positions:
        """Where the last record with each of the texts in the column stands, or -1; neither layer has a text of this column twice.

        All of the column's cells are never ready to be looked up at once. Where the texts are those of a layer in their order, none has to be.
        """
        found, begin = np.full(len(texts), -1, dtype=np.int64), 0
        for layer in (self.base, self.later):
            cells = spelt_out(in_one_piece(layer[column]))
            if cells.equals(texts):
                found = np.arange(begin, begin + len(cells))
                begin += len(cells)
                continue
            for first in range(0, len(cells), _FEW):
                place = places_of(texts, cells.slice(first, _FEW))
                there = place >= 0
                found[there] = begin + first + place[there]
            begin += len(cells)
        if len(self.base) > _FEW:
            self.let_go()
        return found

    def take(self, column: str, at: Positions) -> pa.Array:
        """The column's cells at the places."""
        base, later = in_one_piece(self.base[column]), in_one_piece(self.later[column])
        below = at < len(base)
        taken = spelt_out(base.take(pa.array(at[below])))
        if len(base) > _FEW:
            self.let_go()
        if below.all():
            return taken
        taken = pa.concat_arrays([taken, later.take(pa.array(at[~below] - len(base)))])
        order = np.empty(len(at), dtype=np.int64)
        order[np.concatenate((np.flatnonzero(below), np.flatnonzero(~below)))] = np.arange(len(at))
        return taken.take(pa.array(order))

    def encoded(self, column: str, at: Mask) -> list[Encoded]:
        """The column's cells in the masked records by their distinct texts: of each layer that has any of these records."""
        return [each.narrowed() for each in self.coded(column, at)]

    def coded(self, column: str, at: Mask) -> list[Encoded]:
        """As `encoded`, but among the texts may be others too: where the column is encoded in `base`, all that it is encoded with, in their order."""
        base, later = in_one_piece(self.base[column]), in_one_piece(self.later[column])
        below, behind = at[: len(base)], at[len(base) :]
        if pa.types.is_dictionary(base.type):
            told = [Encoded(base.dictionary, np.concatenate(list(self._codes(base, below))))]
        else:
            told = [encoded(base.filter(pa.array(below)))]
        if len(base) > _FEW:
            self.let_go()
        return [*told, encoded(later.filter(pa.array(behind)))] if behind.any() else told

    def distinct(self, column: str, among: Mask) -> pa.Array:
        """The texts of the column in the masked records, each once."""
        base, later = in_one_piece(self.base[column]), in_one_piece(self.later[column])
        if not pa.types.is_dictionary(base.type):
            return pc.unique(self.take(column, np.flatnonzero(among)))
        there = np.zeros(len(base.dictionary), dtype=bool)
        for codes in self._codes(base, among[: len(base)]):
            there[codes] = True
        told = base.dictionary.filter(pa.array(there))
        if len(base) > _FEW:
            self.let_go()
        behind = among[len(base) :]
        return pc.unique(pa.concat_arrays([told, later.filter(pa.array(behind))])) if behind.any() else told

    def _codes(self, base: pa.DictionaryArray, at: Mask) -> Iterator[Places]:
        """The masked cells as places in their texts, part by part, of which each is let go of before the next."""
        codes = base.indices.to_numpy()
        yield codes[:_MANY][at[:_MANY]]
        for first in range(_MANY, len(codes), _MANY):
            self.let_go()
            yield codes[first : first + _MANY][at[first : first + _MANY]]

    def rows(self, columns: Sequence[str], at: Positions) -> pd.DataFrame:
        """These columns of the records at the places, with `active`."""
        cells = {column: pd.array(self.take(column, at), dtype=TEXT) for column in columns}
        return pd.DataFrame({**cells, "active": self.active[at]}, copy=False)

    def places(self, keys: Mapping[str, pa.Array]) -> Positions:
        """Where the record of each key, told by a text of each of these columns, stands, or -1; no key is there twice."""
        maybe = np.logical_and.reduce([self.among(column, texts) for column, texts in keys.items()])
        maybe[: len(self.base)] &= ~self.replaced
        at = np.flatnonzero(maybe)
        found = places_of_keys(list(keys.values()), [self.take(column, at) for column in keys])
        return np.append(at, -1)[found]  # the last of which stands at -1

    def after(self, entity: Entity, changes: pd.DataFrame) -> Layers:
        """The same once the changes are applied, as `afterwards.entity` tells it."""
        keys = {column: array_of(changes[column]) for column in entity.key}
        at = self.places(keys)
        if "from_section_id" in changes.columns:
            at = np.concatenate((at, self.places(keys | {"section_id": array_of(changes["from_section_id"])})))
        at = np.unique(at[at >= 0])
        came = _table(afterwards.entity(entity, self.rows(entity.columns, at), changes))
        replaced = self.replaced.copy()
        replaced[at[at < len(self.base)]] = True
        stays = np.ones(len(self.later), dtype=bool)
        stays[at[at >= len(self.base)] - len(self.base)] = False
        later = pa.concat_tables([self.later.filter(pa.array(stays)), came]).combine_chunks()
        return Layers(self.base, later, replaced, self.let_go)


class _Entities(Mapping[str, pd.DataFrame]):
    """The frames of a roster in layers."""

    def __init__(self, layers: Mapping[str, Layers]) -> None:
        self.layers = layers

    def __getitem__(self, name: str) -> pd.DataFrame:
        return self.layers[name].frame

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __contains__(self, name: object) -> bool:
        return name in self.layers


def roster(layers: Mapping[str, Layers]) -> Roster:
    """The roster that lies in these layers."""
    return Roster(_Entities(layers))


def of(now: Roster) -> Mapping[str, Layers]:
    """The layers in which a roster lies."""
    return {name: of_entity(now, name) for name in now.entities}


def of_entity(now: Roster, name: str) -> Layers:
    """The layers in which one entity of a roster lies; of a roster that was not made of some, it lies in one."""
    return now.entities.layers[name] if isinstance(now.entities, _Entities) else Layers.of(now.entities[name])


def columns(now: Roster, name: str, *names: str) -> pd.DataFrame:
    """These columns of an entity's frame, and `active`; no other is made of its layers."""
    return of_entity(now, name).columns([*dict.fromkeys((*names, "active"))])


def after(layers: Mapping[str, Layers], change_set: ChangeSet) -> Mapping[str, Layers]:
    """The roster with all changes of the set."""
    changed = {name: changes for name, changes in change_set.changes.items() if name in layers and len(changes)}
    return {name: each.after(ENTITIES[name], changed[name]) if name in changed else each for name, each in layers.items()}


def _spelt_out(table: pa.Table) -> pa.Table:
    """The table with texts in place of what is encoded; other columns stay where they are."""
    codes = [name for name in table.column_names if pa.types.is_dictionary(table[name].type)]
    told = shelf.columns(lambda name: spelt_out(in_one_piece(table[name])), codes, len(table))
    return pa.table({name: told.get(name, table[name]) for name in table.column_names})


def _table(frame: pd.DataFrame) -> pa.Table:
    return pa.table({name: pa.array(column.to_numpy(dtype=bool)) if name == "active" else array_of(column) for name, column in frame.items()})
