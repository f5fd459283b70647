"""References between files: a cell names a record that is believed tonight, or one that stands though its own row was rejected."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.model import ENTITIES, Rejections, Roster
from sftp_ingest.roster import layers
from sftp_ingest.roster.arrow import TEXT, Mask, array_of, is_in, places_of
from sftp_ingest.roster.contract import Reference
from sftp_ingest.roster.court import NO_IDS, Court, Ids, Rows, distinct, distinct_ids, joined, seen_of
from sftp_ingest.roster.ids import likely, presentable

SEPARATE_VALUES = 20
"""How many unknown parents are told one by one, each with the rows it takes along; the rest share a finding."""

_SINGULAR = {"schools": "school", "students": "student", "teachers": "teacher", "sections": "section", "staff": "staff"}


def ids_of(now: Roster) -> dict[str, Ids]:
    """The district's ids, of the tables that others refer to; and those of the sections of enrollments, as far as side files brought these."""
    ids_by_table = {}
    for name in _SINGULAR:
        key = ENTITIES[name].key[0]
        frame = layers.columns(now, name, *(each for each in (key, "source") if each in ENTITIES[name].columns))
        ids = array_of(frame[key])
        active = pa.array(frame["active"].to_numpy(dtype=bool))
        sources = array_of(frame["source"]) if "source" in frame.columns else pa.array([""] * len(frame), pa.string())
        ids_by_table[name] = Ids(standing=ids.filter(active), sources=sources.filter(active), ever=ids)
    enrollments = layers.of_entity(now, "enrollments")
    if not enrollments.says_nothing("source"):
        frame = layers.columns(now, "enrollments", "section_id", "source")
        sources = array_of(frame["source"])
        aside = pa.array(frame["active"].to_numpy(dtype=bool) & ~is_in(sources, pa.array([""])))
        sections = array_of(frame["section_id"]).filter(aside)
        ids_by_table["enrollments"] = Ids(standing=sections, sources=sources.filter(aside), ever=sections)
    return ids_by_table


def check_reference(court: Court, rows: Rows, reference: Reference) -> None:
    """Every cell of the column names a record that is believed tonight, or one that stands although its row was rejected."""
    parents = court.of(reference.table)
    if not parents or reference.column not in rows.frame.columns:
        return
    names = {each.column: each.name for each in rows.table.fields}
    cells, encoded = rows.column(reference.column), rows.encoded(reference.column)
    believed = [parent.column(parent.table.key[0]).filter(pa.array(parent.kept)) for parent in parents]
    rejected = pa.concat_arrays([parent.column(parent.table.key[0]).filter(pa.array(~parent.kept)) for parent in parents])
    unread = pa.concat_arrays([array_of(court.unread[parent.table.name].iloc[:, 0]).drop_null() for parent in parents])
    ids = court.known.get(reference.table, NO_IDS)
    seen = pd.concat([seen_of(parent, court.unread[parent.table.name]).iloc[:, 0] for parent in parents], ignore_index=True)
    # of a file that was not delivered tonight nothing is known: what stands of it still stands
    elsewhere = ids.standing.filter(pc.invert(pc.is_in(ids.sources, value_set=pa.array([parent.table.source for parent in parents]))))
    # a row whose id cannot be read may be anybody's: then all that stand are excused
    excused = ids.standing if seen.isna().any() else ids.standing.filter(pc.is_in(ids.standing, value_set=array_of(seen)))
    known = pa.concat_arrays([*believed, elsewhere, excused])
    wrong = ~encoded.are_in(pa.concat_arrays([known, pa.array([""])]))
    if reference.also:
        wrong &= ~is_in(pc.utf8_lower(encoded.texts), pa.array(reference.also, pa.string()))[encoded.places]
    if not wrong.any():
        return
    if reference.optional:
        reason = likely(cells.filter(pa.array(wrong)), known, ids.standing)
        shown = distinct_ids(cells, wrong, pa.concat_arrays([known, ids.standing]))
        court.find("coteacher_unknown", rows, names[reference.column], wrong, values=shown, hint=reason.sentence)
        cleared = pc.if_else(pa.array(wrong), "", cells)
        rows.frame = rows.frame.assign(**{reference.column: pd.Series(pd.array(cleared, dtype=TEXT), index=rows.frame.index)})
        return
    wrong &= rows.kept
    unseen = wrong & ~encoded.are_in(rejected)
    inherited = wrong & (~unseen | encoded.are_in(unread))
    if inherited.any():
        _reject_with_parents(court, rows, names[reference.column], cells, inherited, parents)
    if reference.column in rows.table.key and unseen.any():
        rows.doubted[reference.column] = rows.frame.index[unseen & ~encoded.are_in(ids.ever)]
    unknown = wrong & ~inherited
    if unknown.any():
        _reject_unknown(court, rows, reference, names[reference.column], unknown, known, ids.standing)


def _reject_with_parents(court: Court, rows: Rows, column: str, cells: pa.Array, mask: Mask, parents: Sequence[Rows]) -> None:
    """Rows whose parent was left out, or could not even be read, follow it under the parent's own cause."""
    for parent in parents:
        at = np.flatnonzero(~parent.kept)
        unread = court.unread[parent.table.name].iloc[:, 0]
        why, further = _causes_of(unread.index.to_numpy(dtype=np.int64), _left_behind(court, parent))
        labels = [*parent.labels, *further]
        of_parent = np.concatenate((parent.cause[at], (why[why >= 0] + len(parent.labels) + 1).astype(np.int32)))
        gone = pa.concat_arrays([parent.column(parent.table.key[0]).take(pa.array(at)), array_of(unread[why >= 0])])
        position = places_of(cells, gone)
        here = mask & (position >= 0)
        of_row = np.where(here, of_parent[position], 0) if len(of_parent) else np.zeros(len(mask), dtype=np.int32)
        by_label: dict[str, Mask] = {}
        for cause in np.unique(of_row[here]).tolist():
            label = labels[cause - 1]
            by_label[label] = by_label.get(label, np.zeros(len(mask), dtype=bool)) | (of_row == cause)
        for label, hit in by_label.items():
            court.find("parent_rejected", rows, column, hit, cause=label)
        mask = mask & ~here


def _left_behind(court: Court, parent: Rows) -> Rejections | None:
    """The lines of the parent's file that are in none of its tables: they could not be read, or do not say where they belong."""
    parts = [each for each in (court.faulty.get(parent.file),) if each is not None]
    unsorted = court.done.get(parent.table.of)
    if unsorted is not None:
        parts.append(Rejections(unsorted.frame.index.to_numpy(dtype=np.int64), unsorted.cause - 1, tuple(unsorted.labels)))
    return joined(parts) if parts else None


def _causes_of(lines: npt.NDArray[np.int64], faulty: Rejections | None) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """For each line of a row that could not be read, the place of its finding in the labels, or -1 for a row that was read all the same."""
    if faulty is None or not len(lines):
        return np.full(len(lines), -1), ()
    order = np.argsort(faulty.lines, kind="stable")
    at = np.minimum(np.searchsorted(faulty.lines[order], lines), len(order) - 1)
    return np.where(faulty.lines[order][at] == lines, faulty.causes[order][at], -1), faulty.labels


def _reject_unknown(court: Court, rows: Rows, reference: Reference, column: str, mask: Mask, known: pa.Array, standing: pa.Array) -> None:
    """One finding for all parents that one rule makes known, and one for each of the others, most rows first: the one wrong school is seen at once."""
    code = f"{_SINGULAR[reference.table]}_unknown"
    cells, encoded = rows.column(reference.column), rows.encoded(reference.column)
    counts = np.bincount(encoded.places[mask], minlength=len(encoded.texts))
    reason = likely(encoded.texts.filter(pa.array(counts > 0)), known, standing)
    named = pa.concat_arrays([known, standing])
    if reference.table == "students":  # each student is unknown by himself: one finding for all
        shown = distinct_ids(cells, mask, named)
        court.find(code, rows, column, mask, values=shown, hint=reason.sentence or reason.unseen or _unless(shown))
        return
    rest = mask.copy()
    if len(reason.ruled):
        hit = mask & encoded.are_in(reason.ruled)
        rest &= ~hit
        court.find(code, rows, column, hit, values=distinct(reason.ruled, np.ones(len(reason.ruled), dtype=bool)), hint=reason.sentence)
        counts = np.bincount(encoded.places[rest], minlength=len(encoded.texts))
    places = np.flatnonzero(counts)
    places = places[presentable(encoded.texts.take(pa.array(places)), named)]  # of what is not shown nobody could tell one from the other
    ranked = sorted((-counts[place], encoded.texts[place].as_py(), place) for place in places.tolist())
    for _, value, place in ranked[:SEPARATE_VALUES]:
        hit = mask & (encoded.places == place)
        rest &= ~hit
        court.find(code, rows, column, hit, values=[value], hint=reason.hint(value))
    if rest.any():
        shown = distinct_ids(cells, rest, named)
        court.find(code, rows, column, rest, values=shown, hint=_unless(shown))


def _unless(shown: Sequence[str]) -> str:
    return "" if shown else "what stands there does not look like an id, and is not shown"


def check_sections_have_students(court: Court) -> None:
    """Clever drops a section without a valid student (contract 1.4.4); here it is kept with a warning unless the district is strict."""
    enrollments = court.of("enrollments")
    for sections in court.of("sections") if enrollments else ():
        if any(court.unread[each.table.name].isna().all(axis=1).any() for each in enrollments):
            return  # a row of which nothing can be read may be of any section
        known = court.known.get("enrollments", NO_IDS)
        elsewhere = known.standing.filter(pa.array(~is_in(known.sources, pa.array([each.table.source for each in enrollments]))))
        empty = sections.kept & ~is_in(sections.column("section_id"), elsewhere)
        for each in enrollments:
            empty &= ~is_in(sections.column("section_id"), each.encoded("section_id").texts)
        if empty.any():
            column = sections.table.columns["section_id"].name
            court.find("section_without_students", sections, column, empty, values=distinct(sections.column("section_id"), empty))
