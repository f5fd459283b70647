"""What Clever derives from the files, and a reader of raw files must derive himself: contract 1.8.

Everything is told from the memberships that stand after the night: tonight's, those that a rejected row speaks for, and those whose
source was not delivered. Where the rows that could not be read may have left the old answer right, the old answer stays (law 1).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.model import ENTITIES, LONGEST_TEAM, Assembled, Derivations, Roster
from sftp_ingest.roster import contacts, layers, shelf, subjects, values
from sftp_ingest.roster.arrow import TEXT, Mask, Places, array_of, begins_of, is_in, key_of, places_of, side_by_side
from sftp_ingest.roster.commonest import Numbers, Tally, settled
from sftp_ingest.roster.layers import Layers

FILLED: Mapping[str, tuple[str, ...]] = {
    "students": ("school_id", "school_ids"),
    "teachers": ("school_id", "school_ids"),
    "sections": ("name", "grade", "subject", "course_id", "term_id"),
}
"""Entity → the columns that are filled here, row by row; contacts and what is switched off change as a whole."""

_NOTHING = pa.array([], pa.string())


def derive(assembled: Assembled, now: Roster, switches: Derivations) -> Assembled:
    """The same with its derived columns filled; what is switched off stands as it was sent. The order of rows means nothing."""
    rows = max(map(len, assembled.roster.entities.values()), default=0)
    met, others = side_by_side(lambda make: make(assembled, now, switches), (_contacts, _all_but_contacts), rows)  # nothing else hangs on contacts
    return Assembled(Roster({**others, **met}), assembled.seen, assembled.covered)


def _contacts(assembled: Assembled, now: Roster, switches: Derivations) -> dict[str, pd.DataFrame]:
    """The contacts, where any were sent, by their entity."""
    if (rows := assembled.roster.entities.get("contacts")) is None:
        return {}
    return {"contacts": contacts.told(rows, now, assembled.seen.get("contacts"), merge=switches.contact_merge)}


def _all_but_contacts(assembled: Assembled, now: Roster, switches: Derivations) -> dict[str, pd.DataFrame]:
    entities = dict(assembled.roster.entities)
    standing = {name: _standing(name, columns, assembled, now) for name, columns in _LOOKED_AT.items()}
    open_schools = _open_schools(standing, now)
    enrolled, teaching = (_Memberships.of(name, standing, assembled.seen.get(name)) for name in ("enrollments", "section_teachers"))
    for name, memberships in (("students", enrolled), ("teachers", teaching)):
        if name in entities:
            entities[name] = _people(name, entities[name], memberships, enrolled, standing, open_schools, now, switches)
    if "section_teachers" in entities and teaching.kept.any():
        entities["section_teachers"] = _with_who_makes_room(entities["section_teachers"], teaching, standing)
    if "sections" in entities:
        entities["sections"] = _sections(entities["sections"], enrolled, teaching, standing, now, switches)
    for switched, name in ((switches.course, "courses"), (switches.term, "terms")):
        if not switched and name in entities:  # those of the nights before end, under the same limits as any others
            entities[name] = entities[name].iloc[:0]
    return entities


# ---------------------------------------------------------------- what stands after the night


_LOOKED_AT: Mapping[str, tuple[str, ...]] = {
    "schools": ("school_id",),
    "students": ("sis_id", "grade"),
    "teachers": ("sis_id", "last_name"),
    "staff": ("sis_id",),
    "sections": ("section_id", "school_id"),
    "enrollments": ("section_id", "student_id"),
    "section_teachers": ("section_id", "teacher_id", "position"),
}


@dataclass(frozen=True)
class _Standing:
    """Records of one entity as they stand after the night: tonight's in their order, then those that stay as they are.

    `kept` marks those that stay because a rejected row speaks for them: tonight's word on them could not be read. `schools` are those that
    records which stay as they are name: they stay as well.
    """

    columns: Mapping[str, pa.Array]
    kept: Mask
    schools: pa.Array


def _standing(name: str, columns: Sequence[str], assembled: Assembled, now: Roster) -> _Standing:
    entity, held = ENTITIES[name], layers.of_entity(now, name)
    active = held.active
    wanted = assembled.roster.entities.get(name)
    spoken_for = np.zeros(len(active), dtype=bool)
    if wanted is None:
        at = np.flatnonzero(active)
    else:
        seen = assembled.seen.get(name)
        if seen is not None and len(seen):
            everywhere = np.arange(len(active))
            spoken_for = active & _spoken_for({column: held.take(column, everywhere) for column in entity.key}, seen)
        at = np.flatnonzero(spoken_for | active & _undelivered(name, held, assembled, now))
        if len(at):
            at = at[~is_in(key_of([held.take(column, at) for column in entity.key]), _keys(wanted, entity.key))]
    first = 0 if wanted is None else len(wanted)
    joined = {}
    for column in columns:
        parts = [] if wanted is None else [array_of(wanted[column])]
        if len(at) or wanted is None:
            parts.append(held.take(column, at))
        joined[column] = parts[0] if len(parts) == 1 else pa.concat_arrays(parts)
    schools = [held.take(column, at) for column in ("school_id", "sis_school_id") if name != "schools" and column in entity.values]
    return _Standing(joined, np.concatenate((np.zeros(first, dtype=bool), spoken_for[at])), pa.concat_arrays([_NOTHING, *schools]))


def _open_schools(standing: Mapping[str, _Standing], now: Roster) -> pa.Array:
    """The schools after the night: those that stand, and those that were there and that a record which stays names."""
    held = now.entities["schools"]
    before = array_of(held.loc[held["active"].to_numpy(dtype=bool), "school_id"])
    named = pa.concat_arrays([each.schools for each in standing.values()])
    return pc.unique(pa.concat_arrays([standing["schools"].columns["school_id"], before.filter(pc.is_in(before, value_set=named))]))


def _keys(frame: pd.DataFrame, key: Sequence[str]) -> pa.Array:
    return key_of([array_of(frame[column]) for column in key])


def _spoken_for(keys: Mapping[str, pa.Array], seen: pd.DataFrame) -> Mask:
    """Which records the keys of rejected rows may mean; a null stands for any value."""
    names = list(keys)
    mask = np.zeros(len(keys[names[0]]), dtype=bool)
    if not len(mask):
        return mask
    blank = seen[names].isna()
    if blank.all(axis=1).any():
        return ~mask
    whole = seen.loc[~blank.any(axis=1), names]
    if len(whole):
        at = np.flatnonzero(is_in(keys[names[0]], array_of(whole[names[0]])))
        meant = key_of([keys[column].take(pa.array(at)) for column in names])
        mask[at] = is_in(meant, _keys(whole, names))
    for column in names:
        others = [other for other in names if other != column]
        half = seen.loc[~blank[column] & blank[others].all(axis=1), column] if others else seen.iloc[:0, 0]
        if len(half):
            mask |= is_in(keys[column], array_of(half))
    return mask


def _undelivered(name: str, held: Layers, assembled: Assembled, now: Roster) -> Mask:
    """Records of a source that was not delivered; teachers are told in the row of their section, and stand as long as nothing is told of it."""
    covered = assembled.covered.get(name)
    if "source" in ENTITIES[name].values:
        return _of_other_source(held, covered)
    if covered is None:
        return np.zeros(len(held.active), dtype=bool)
    sections = layers.of_entity(now, "sections")
    elsewhere = sections.take("section_id", np.flatnonzero(_of_other_source(sections, covered) & sections.there))
    if (wanted := assembled.roster.entities.get("sections")) is not None:
        elsewhere = elsewhere.filter(pa.array(~is_in(elsewhere, array_of(wanted["section_id"]))))
    return held.among("section_id", elsewhere)


def _of_other_source(held: Layers, covered: frozenset[str] | None) -> Mask:
    if covered is None or ("" in covered and held.says_nothing("source")):
        return np.zeros(len(held.active), dtype=bool)
    return ~held.among("source", pa.array(sorted(covered), pa.string()))


# ---------------------------------------------------------------- who is in which section


@dataclass(frozen=True)
class _Memberships:
    """People in sections, as places in what stands, teachers with their `position`; and how many more there may be in rows that could not be read.

    `anybody` rows may concern anybody at any school, `newcomers` anybody in the section; `of_person` and `of_section` count what is in doubt
    of him and of it. A membership that stays (`kept`) because of a rejected row may really have ended, and is in doubt as well; where the section's
    own row was rejected it may be at another school, which is twice as bad.
    """

    person: Places
    section: Places
    position: pa.Array
    kept: Mask
    anybody: int
    anywhere: int
    newcomers: Numbers
    of_person: Numbers
    of_section: Numbers

    @classmethod
    def of(cls, name: str, standing: Mapping[str, _Standing], seen: pd.DataFrame | None) -> _Memberships:
        """The memberships of an entity whose keys are a section and a person."""
        column = ENTITIES[name].key[1]
        people, sections, links = standing["students" if name == "enrollments" else "teachers"], standing["sections"], standing[name]
        named = (links.columns[column], people.columns["sis_id"]), (links.columns["section_id"], sections.columns["section_id"])
        person, section = side_by_side(lambda each: places_of(*each), named, len(links.kept))
        position, kept = links.columns.get("position", _NOTHING), links.kept
        there = (person >= 0) & (section >= 0)
        if not there.all():  # who left takes his memberships along
            person, section, kept = person[there], section[there], kept[there]
            position = position.filter(pa.array(there)) if len(position) else position
        of_person, of_section, newcomers = (np.zeros(length, dtype=np.int64) for length in (len(people.kept), len(sections.kept), len(sections.kept)))
        if kept.any():
            of_person += np.bincount(person[kept], minlength=len(of_person))
            of_section += np.bincount(section[kept], minlength=len(of_section))
        if sections.kept.any():
            of_person += 2 * np.bincount(person[sections.kept[section]], minlength=len(of_person))
        anybody = anywhere = 0
        if seen is not None and len(seen):
            who = places_of(array_of(seen[column]), people.columns["sis_id"])
            where = places_of(array_of(seen["section_id"]), sections.columns["section_id"])
            unnamed = seen[column].isna().to_numpy()
            of_person += np.bincount(who[who >= 0], minlength=len(of_person))
            of_section += np.bincount(where[where >= 0], minlength=len(of_section))
            placed = where >= 0
            placed[placed] = ~sections.kept[where[placed]]  # whose own row was rejected may be at any school
            newcomers += np.bincount(where[unnamed & placed], minlength=len(newcomers))
            anybody = int((unnamed & ~placed).sum())
            anywhere = int(seen["section_id"].isna().sum())
        return cls(person, section, position, kept, anybody, anywhere, newcomers, of_person, of_section)


def _at(cells: pa.Array, places: Places | Numbers, absent: str | None = "") -> pa.Array:
    """The cells at the places; of what has no place, `absent`."""
    taken = cells.take(pa.array(places, mask=places < 0))
    return taken if absent is None else taken.fill_null(absent)


# ---------------------------------------------------------------- people


def _people(
    name: str,
    people: pd.DataFrame,
    links: _Memberships,
    enrolled: _Memberships,
    standing: Mapping[str, _Standing],
    open_schools: pa.Array,
    now: Roster,
    switches: Derivations,
) -> pd.DataFrame:
    """Students or teachers with their schools: the primary one, and a JSON list of all in order of id."""
    if not (switches.primary_school or switches.schools):
        return people.assign(school_id=people["sis_school_id"], school_ids=_texts(_lists_alone(array_of(people["sis_school_id"]))))
    sent, at_school = array_of(people["sis_school_id"]), standing["sections"].columns["school_id"]
    schools = pc.unique(pa.chunked_array([at_school, sent, open_schools]))
    schools = schools.take(pc.sort_indices(schools))  # the smaller number is the smaller id
    school = places_of(at_school, schools)
    here = links.person < len(people)  # not of those who stay though their row was rejected: they stay as they are
    person, section = (links.person, links.section) if here.all() else (links.person[here], links.section[here])
    tally = Tally.of(person, school, section, len(schools))
    held = layers.of_entity(now, name)
    still = np.flatnonzero(held.active)
    before = places_of(array_of(people["sis_id"]), held.take("sis_id", still))
    in_doubt = links.of_person[: len(people)] + links.anybody
    newcomers = np.bincount(school, weights=links.newcomers, minlength=len(schools)).astype(np.int64)
    primary = sent_school = places_of(sent, schools)
    if switches.primary_school:
        size = np.bincount(enrolled.section, minlength=len(school))

        def order(tied: Numbers) -> Sequence[Numbers]:
            group, value = np.divmod(tally.pair[tied], tally.width)
            concerned = np.zeros(len(people), dtype=bool)
            concerned[group] = True
            mine = np.flatnonzero(concerned[person])
            students = np.bincount(tally.find(person[mine], school[section[mine]]), weights=size[section[mine]], minlength=len(tally.pair))
            return (-students[tied].astype(np.int64), (value != sent_school[group]).astype(np.int64))

        primary = tally.commonest(len(people), order)
        primary = np.where(primary < 0, sent_school, primary)
        old_school = _at(held.take("school_id", still), before, None)
        old = np.where(is_in(old_school, open_schools), places_of(old_school, schools), -1)  # nobody stays at a school that leaves
        doubt = in_doubt + np.where(old >= 0, newcomers[old], 0)
        uncounted = enrolled.of_section + enrolled.anywhere > 0
        by_size = np.bincount(person[uncounted[section]], minlength=len(people)) > 0 if uncounted.any() else np.zeros(len(people), dtype=bool)
        primary = settled(tally, primary, old, doubt, (doubt > 0) | by_size)
    school_id = _texts(_at(schools, primary))
    if not switches.schools:
        return people.assign(school_id=school_id, school_ids=_texts(_lists_alone(sent)))
    everyone = np.arange(len(people), dtype=np.int64)
    pair = np.sort(np.concatenate((tally.pair, everyone * tally.width + primary)))
    pair = pair[begins_of(pair)]
    if (nowhere := schools.index("").as_py()) >= 0:
        pair = pair[pair % tally.width != nowhere]
    group, value = np.divmod(pair, tally.width)
    lists = _lists(schools, value, np.searchsorted(group, np.arange(len(people) + 1)))
    if links.anybody or newcomers.any() or in_doubt.any():
        spoken_for = set(schools.filter(pa.array(newcomers > 0)).to_pylist())
        lists = _not_shortened(lists, _at(held.take("school_ids", still), before, None), in_doubt > 0, spoken_for, set(open_schools.to_pylist()))
    return people.assign(school_id=school_id, school_ids=_texts(lists))


def _lists(schools: pa.Array, value: Numbers, begins: Numbers) -> pa.Array:
    """JSON lists of the schools at `value`, one from each of `begins` to the next."""
    quoted = pa.array([json.dumps(school) for school in schools.to_pylist()], pa.string())
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(begins, pa.int32()), quoted.take(pa.array(value))), ", ")
    return pc.binary_join_element_wise("[", joined, "]", "")


def _lists_alone(sent: pa.Array) -> pa.Array:
    encoded = sent.dictionary_encode()
    return pa.array([json.dumps([school] if school else []) for school in encoded.dictionary.to_pylist()], pa.string()).take(encoded.indices)


def _not_shortened(lists: pa.Array, before: pa.Array, in_doubt: Mask, spoken_for: set[str], open_schools: set[str]) -> pa.Array:
    """The lists, with those schools that were there before and that rows which could not be read may still give; every distinct pair is looked at once."""
    changed = pc.not_equal(lists, before).fill_null(False).to_numpy(zero_copy_only=False)
    at = np.flatnonzero(changed)
    new, old = lists.take(pa.array(at)).dictionary_encode(), before.take(pa.array(at)).dictionary_encode()
    case = (new.indices.to_numpy().astype(np.int64) * len(old.dictionary) + old.indices.to_numpy()) * 2 + in_doubt[at]
    distinct, of_case = np.unique(case, return_inverse=True)
    told = []
    for each in distinct.tolist():
        tonight = set(json.loads(new.dictionary[each // 2 // len(old.dictionary)].as_py()))
        gone = set(json.loads(old.dictionary[each // 2 % len(old.dictionary)].as_py() or "[]")) - tonight
        told.append(json.dumps(sorted(tonight | {school for school in gone & open_schools if each % 2 or school in spoken_for})))
    return pc.replace_with_mask(lists, pa.array(changed), pa.array(told, pa.string()).take(pa.array(of_case)))


def _texts(cells: pa.Array) -> pd.api.extensions.ExtensionArray:
    return pd.array(shelf.put(cells), dtype=TEXT)


# ---------------------------------------------------------------- teams


def _with_who_makes_room(links: pd.DataFrame, teaching: _Memberships, standing: Mapping[str, _Standing]) -> pd.DataFrame:
    """The links, and those that stay because of a rejected row though tonight somebody else has their place: they get the first one that is free.

    So a section has one primary teacher, and it is the one that a row which could be read tells of.
    """
    concerned = np.flatnonzero(np.isin(teaching.section, teaching.section[teaching.kept]))
    sections = standing["sections"].columns["section_id"].take(pa.array(teaching.section[concerned])).to_pylist()
    teachers = standing["teachers"].columns["sis_id"].take(pa.array(teaching.person[concerned])).to_pylist()
    places = map(int, teaching.position.take(pa.array(concerned)).to_pylist())
    taken: dict[str, set[int]] = {}
    late = []
    for kept, place, section_id, teacher_id in sorted(zip(teaching.kept[concerned].tolist(), places, sections, teachers, strict=True)):
        theirs = taken.setdefault(section_id, set())
        if kept and place in theirs:
            late.append((section_id, teacher_id))
        theirs.add(place)
    rows = []
    for section_id, teacher_id in late:
        place = next((each for each in range(1, LONGEST_TEAM + 1) if each not in taken[section_id]), LONGEST_TEAM)
        taken[section_id].add(place)
        rows.append((section_id, teacher_id, str(place)))
    behind = pd.DataFrame({name: pd.array([row[at] for row in rows], dtype=TEXT) for at, name in enumerate(ENTITIES["section_teachers"].columns)})
    return pd.concat([links, behind], ignore_index=True)


# ---------------------------------------------------------------- sections


def _sections(
    sections: pd.DataFrame, enrolled: _Memberships, teaching: _Memberships, standing: Mapping[str, _Standing], now: Roster, switches: Derivations
) -> pd.DataFrame:
    """Sections with name, grade, subject, and without course or term where these are switched off."""
    held = layers.of_entity(now, "sections")
    still = np.flatnonzero(held.active)
    before = places_of(array_of(sections["section_id"]), held.take("section_id", still))
    columns = {column: sections[f"sis_{column}"].array for column in ("name", "grade", "subject")}
    if switches.section_name:
        columns["name"] = _texts(_names(sections, teaching, standing))
    if switches.section_grade:
        columns["grade"] = _texts(_grades(array_of(sections["sis_grade"]), enrolled, standing["students"], _at(held.take("grade", still), before, None)))
    if switches.subject:
        columns["subject"] = _texts(_subjects(sections))
    blank = pd.array(pa.repeat("", len(sections)), dtype=TEXT)
    columns |= {column: blank for column, switched in (("course_id", switches.course), ("term_id", switches.term)) if not switched}
    return sections.assign(**columns)


def _names(sections: pd.DataFrame, teaching: _Memberships, standing: Mapping[str, _Standing]) -> pa.Array:
    """`Course_name - teacher's last name - Period`; without a course the name as sent, without that the other two. What is blank is left out."""
    teachers = standing["teachers"]
    primary = np.flatnonzero(pc.equal(teaching.position, "1").to_numpy(zero_copy_only=False))
    # tonight's word before the last night's, and of two teachers (who can tell?) the first in order of id
    rank = np.empty(len(teachers.kept), dtype=np.int64)
    rank[pc.sort_indices(teachers.columns["sis_id"]).to_numpy()] = np.arange(len(rank))
    teacher, section = teaching.person[primary], teaching.section[primary]
    order = np.lexsort((rank[teacher], teaching.kept[primary]))[::-1]
    of_section = np.full(len(standing["sections"].kept), -1, dtype=np.int32)
    of_section[section[order]] = teacher[order]
    last_name = _at(teachers.columns["last_name"], of_section[: len(sections)])
    course, period, sent = (array_of(sections[column]) for column in ("course_name", "period", "sis_name"))
    named = pc.or_(pc.not_equal(course, ""), pc.equal(sent, ""))
    return pc.if_else(named, _dashed(_dashed(course, last_name), period), sent)


def _dashed(one: pa.Array, other: pa.Array) -> pa.Array:
    both = pc.binary_join_element_wise(one, other, " - ")
    return pc.if_else(pc.equal(one, ""), other, pc.if_else(pc.equal(other, ""), one, both))


def _grades(sent: pa.Array, enrolled: _Memberships, students: _Standing, before: pa.Array) -> pa.Array:
    """The commonest grade of each section's students, the lowest of tied ones; without any, the grade as sent."""
    grade = students.columns["grade"]
    others = pc.unique(pa.chunked_array([grade, sent])).to_pylist()
    grades = pa.array([*values.GRADES, *sorted(set(others) - {"", *values.GRADES})], pa.string())
    of_student = places_of(grade, grades)
    here = enrolled.section < len(sent)
    person, section = (enrolled.person, enrolled.section) if here.all() else (enrolled.person[here], enrolled.section[here])
    tally = Tally.of(section, of_student, person, len(grades))
    commonest = tally.commonest(len(sent), lambda tied: ())
    commonest = np.where(commonest < 0, places_of(sent, grades), commonest)
    doubt = enrolled.of_section[: len(sent)] + enrolled.anywhere
    if students.kept.any():  # of whom only the grade of the night before is known: one more of another, one less of this
        doubt = doubt + 2 * np.bincount(section[students.kept[person]], minlength=len(sent))
    return _at(grades, settled(tally, commonest, places_of(before, grades), doubt, doubt > 0))


def _subjects(sections: pd.DataFrame) -> pa.Array:
    """One of Clever's subjects (contract 1.6.9); every distinct triple of Subject, Name and Course_name is looked at once, if Subject alone does not tell."""
    encoded = array_of(sections["sis_subject"]).dictionary_encode()
    told = [subjects.subject(text, "", "") for text in encoded.dictionary.to_pylist()]
    found = pa.array(told, pa.string()).take(encoded.indices)
    unsolved = pc.equal(found, subjects.OTHER)
    parts = [array_of(sections[column]).filter(unsolved).dictionary_encode() for column in ("sis_subject", "sis_name", "course_name")]
    case = np.zeros(len(parts[0]), dtype=np.int64)
    for part in parts:
        case = case * max(len(part.dictionary), 1) + part.indices.to_numpy()
    _, first, of_case = np.unique(case, return_index=True, return_inverse=True)
    triples = zip(*(part.take(pa.array(first)).to_pylist() for part in parts), strict=True)
    return pc.replace_with_mask(found, unsolved, pa.array([subjects.subject(*triple) for triple in triples], pa.string()).take(pa.array(of_case)))
