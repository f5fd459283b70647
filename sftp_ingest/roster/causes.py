"""Why records are left out: how far a cause reaches into every entity, and what likely lies behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.findings import Finding
from sftp_ingest.model import ENTITIES, ChangeSet, FileShape
from sftp_ingest.roster import arrow, contacts, values
from sftp_ingest.roster.arrow import TEXT, Mask, array_of, is_in
from sftp_ingest.roster.contract import Field, Table, normalised
from sftp_ingest.roster.drift import form

Positions = npt.NDArray[np.int64]

# ---------------------------------------------------------------- how far a cause reaches

UNREAD = frozenset({"row_short", "row_long", "quote_open", "nul_byte", "bytes_unreadable", "row_huge"})
"""Findings whose rows never got into a frame: each of those rows counts as one record."""


@dataclass(frozen=True)
class Judged:
    """One judged file: `cause` has, per row of the frame, the index + 1 into `labels` of what rejected it, or 0; `encoded` gives a column of the key."""

    table: Table
    frame: pd.DataFrame
    cause: npt.NDArray[np.int32]
    labels: Sequence[str]
    encoded: Callable[[str], arrow.Encoded]

    @property
    def rejected(self) -> Mask:
        """Which rows are left out."""
        rejected: Mask = self.cause != 0
        return rejected


@dataclass(frozen=True)
class _Told:
    """What some rows tell of one entity: the columns of its key, and the cause of each row, as in `Judged`."""

    key: Sequence[arrow.Encoded]
    cause: npt.NDArray[np.int32]
    labels: Sequence[str]


def with_left_out(findings: Sequence[Finding], judged: Sequence[Judged]) -> tuple[Finding, ...]:
    """The findings, each root cause with the records of every entity that are left out because of it.

    A record is left out where rows of its key were rejected and no row of it is believed; it counts for every cause that rejected one
    of them. A row whose key is not whole counts as one record.
    """
    reach = _reach(judged)
    # a row that nobody could read, of a file whose rows are sorted into several kinds, counts with the first of them
    kinds = {each.table.file.lower(): each.table.records for each in reversed(judged) if each.table.records}
    for each in findings:
        if each.code in UNREAD and (kind := kinds.get(each.file.lower())):
            tally = reach.setdefault(each.label, {})
            tally[kind] = tally.get(kind, 0) + each.count
    told = []
    for each in findings:
        of_cause = {} if each.cause or each.severity == "warn" else reach.pop(each.label, {})
        told.append(replace(each, left_out=of_cause) if of_cause else each)
    return tuple(told)


def _reach(judged: Sequence[Judged]) -> dict[str, dict[str, int]]:
    """Label → entity → records left out."""
    reach: dict[str, dict[str, int]] = {}
    for kind in dict.fromkeys(each.table.records for each in judged):
        alike = [each for each in judged if each.table.records == kind]
        if not kind or not any(each.rejected.any() for each in alike):
            continue
        if not all(each.table.key for each in alike):  # told row by row: attendance has no id
            for each in alike:
                for cause, count in enumerate(np.bincount(each.cause, minlength=1)[1:].tolist()):
                    tally = reach.setdefault(each.labels[cause], {})
                    tally[kind] = tally.get(kind, 0) + count
            continue
        for entity, told in _entities(kind, _narrowed(alike)).items():
            for label, count in _count(told).items():
                reach.setdefault(label, {})[entity] = count
    return reach


def _narrowed(alike: Sequence[Judged]) -> list[Judged]:
    """The rows that are left out, and those that may tell the same records; of the columns what tells one record from another.

    Only rows that share the first part of a rejected key can tell the same record: in a good night these are few among millions.
    """
    ids = [each.encoded(each.table.key[0]) for each in alike]
    suspected = [np.zeros(len(each.texts), dtype=bool) for each in ids]
    for hit, each, judged in zip(suspected, ids, alike, strict=True):
        hit[each.places[judged.rejected]] = True
    if len(alike) > 1:
        suspects = pa.concat_arrays([each.texts.filter(pa.array(hit)) for hit, each in zip(suspected, ids, strict=True)])
        suspected = [is_in(each.texts, suspects) for each in ids]
    return [_masked(judged, hit[each.places]) for hit, each, judged in zip(suspected, ids, alike, strict=True)]


def _masked(judged: Judged, mask: Mask) -> Judged:
    key = {column: judged.encoded(column).filter(mask) for column in judged.table.key}
    columns = [column for column in judged.frame.columns if column in key or column in _teachers(judged.table) or column.startswith("contact_")]
    further = any(column not in key for column in columns)  # else what is in the key says all
    return replace(judged, frame=judged.frame[columns][mask] if further else judged.frame.iloc[:0], cause=judged.cause[mask], encoded=key.__getitem__)


def _entities(kind: str, judged: Sequence[Judged]) -> dict[str, list[_Told]]:
    """What the rows of a kind tell, by entity: a student's row also of his contacts, a section's also of its teachers."""
    told: dict[str, list[_Told]] = {kind: [_Told([each.encoded(column) for column in each.table.key], each.cause, each.labels) for each in judged]}
    if kind == "students":
        told["contacts"] = [_contacts(each) for each in judged if "contact_name" in each.frame.columns]
    if kind == "sections":
        told["section_teachers"] = [part for each in judged for part in _section_teachers(each)]
    return told


def _contacts(judged: Judged) -> _Told:
    """Contacts that have a name, told apart as in the roster."""
    named = pc.not_equal(array_of(judged.frame["contact_name"]), "").to_numpy(zero_copy_only=False)
    frame = judged.frame[named]
    student = frame[judged.table.key[0]]
    blank = pd.array(pa.repeat("", len(frame)), dtype=TEXT)
    sent = {column: frame[f"contact_{column}"].array if f"contact_{column}" in frame.columns else blank for column in contacts.CELLS}
    key = [array_of(student), contacts.ids(pd.DataFrame({"student_id": student.array, **sent}))]
    return _Told([arrow.encoded(part) for part in key], judged.cause[named], judged.labels)


def _teachers(table: Table) -> list[str]:
    return [each.column for each in table.references if each.table == "teachers"]


def _section_teachers(judged: Judged) -> Iterator[_Told]:
    for column in _teachers(judged.table):
        if column in judged.frame.columns:
            named = pc.not_equal(array_of(judged.frame[column]), "").to_numpy(zero_copy_only=False)
            frame = judged.frame[named]
            key = [array_of(frame[judged.table.key[0]]), array_of(frame[column])]
            yield _Told([arrow.encoded(part) for part in key], judged.cause[named], judged.labels)


def _count(told: Sequence[_Told]) -> dict[str, int]:
    """Label → distinct records of one entity that only rejected rows tell."""
    labels = list(dict.fromkeys(label for each in told for label in each.labels))
    if not labels:
        return {}
    place = {label: position for position, label in enumerate(labels)}
    cause = np.concatenate([np.array([-1, *(place[label] for label in each.labels)], dtype=np.int32)[each.cause] for each in told])
    parts = [arrow.joined([each.key[part] for each in told]) for part in range(len(told[0].key))]
    whole = np.ones(len(cause), dtype=bool)
    for part in parts:
        whole &= pc.not_equal(part.texts, "").to_numpy(zero_copy_only=False)[part.places]
    counts = np.bincount(cause[(cause >= 0) & ~whole], minlength=len(labels))
    # sorted, the causes of one record stand side by side, and that it is believed before them; a table of all records takes four times the memory
    pairs = arrow.groups(parts)
    pairs = pairs if whole.all() else pairs[whole]
    pairs *= len(labels) + 1
    pairs += cause[whole] + 1
    pairs.sort()
    pairs = pairs[_firsts(pairs)]
    cause = (pairs % (len(labels) + 1)).astype(np.int32)
    pairs //= len(labels) + 1
    begins = np.flatnonzero(_firsts(pairs))
    believed = np.repeat(cause[begins] == 0, np.diff(begins, append=len(pairs)))
    counts += np.bincount(cause[~believed] - 1, minlength=len(labels))
    return {label: int(count) for label, count in zip(labels, counts, strict=True) if count}


def _firsts(ordered: Positions) -> npt.NDArray[np.bool_]:
    """Which of some sorted numbers differ from the one before."""
    first = np.ones(len(ordered), dtype=bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return first


# ---------------------------------------------------------------- ids that nobody has


LIKELY = 0.5
"""A rule is told as the reason where at least this share of the unknown ids becomes known by it: below that it explains the smaller part."""

LIKELY_IDS = 3
"""A rule needs this many ids: one or two agree with somebody's by chance."""

LONGEST_AFFIX = 16
"""Prefixes and suffixes are looked for up to this many letters; systems add short ones, such as SCH- or .0."""

TRIED = 100
"""So many unknown ids are asked for candidates of a prefix or suffix; the winner is then tried on all."""


@dataclass(frozen=True)
class Likely:
    """What unknown ids probably were: `meant` has, beside each of `unknown`, the known id that it stands for, or null; `sentence` the rule behind it."""

    unknown: pa.Array
    meant: pa.Array
    sentence: str = ""

    def hint(self, value: str) -> str:
        """What to tell of one unknown id: the known one that it resembles, and the rule, where there is one."""
        place = pc.index(self.unknown, value).as_py()
        known = self.meant[place].as_py() if place >= 0 else None
        return "; ".join([*([f"{known} is known"] if known else []), *([self.sentence] if self.sentence else [])])


@dataclass(frozen=True)
class _Try:
    """One rule tried on all unknown ids: what each would be by it, and the rule in words."""

    meant: pa.Array
    words: str

    @property
    def hits(self) -> int:
        return int(len(self.meant) - self.meant.null_count)


def likely(unknown: pa.Array, known: pa.Array) -> Likely:
    """What the unknown ids probably were: known ones that lost their zeros, changed case or punctuation, got or lost a prefix or suffix.

    Every unknown id counts once, however many rows have it.
    """
    unknown, known = pc.unique(unknown), pc.unique(known)
    spelt = _alike(unknown, known, _plain, "in another spelling")
    tried = [
        _zeros(unknown, known),
        _alike(unknown, known, pc.utf8_lower, "in another case"),
        spelt,
        *_affixed(unknown, known),
    ]
    best = max(tried, key=lambda each: each.hits)  # of equals the first, which says most
    if best.hits >= LIKELY_IDS and best.hits >= LIKELY * len(unknown):
        return Likely(unknown, pc.coalesce(best.meant, spelt.meant), f"{best.hits:,} of {len(unknown):,} unknown ids are known {best.words}")
    return Likely(unknown, spelt.meant)


_PUNCTUATION = b" \t\n\f\r\v._/-"


def _plain(ids: pa.Array) -> pa.Array:
    """Ids without what spreadsheets and keyboards change: case, leading zeros, spaces and hyphens."""
    lower = pc.utf8_lower(ids)
    _, _, letters = lower.buffers()
    letters = letters.to_pybytes() if letters else b""
    # to look for what is nowhere would cost more than the parsing; \s of Arrow is ASCII's
    if len(letters.translate(None, _PUNCTUATION)) < len(letters):
        lower = pc.replace_substring_regex(lower, r"[\s._/-]+", "")
    return _unpadded(lower)


def _unpadded(ids: pa.Array) -> pa.Array:
    return pc.utf8_ltrim(ids, characters="0")


def _alike(unknown: pa.Array, known: pa.Array, form: Callable[[pa.Array], pa.Array], words: str) -> _Try:
    """Known ids of the same form; none where two of them have it, for then either may be meant."""
    forms, sought = form(known), form(unknown)
    near = pc.is_in(forms, value_set=sought)
    forms, known = forms.filter(near), known.filter(near)
    counted = pc.value_counts(forms)
    twice = counted.field("values").filter(pc.greater(counted.field("counts"), 1))
    place = pc.index_in(sought, value_set=forms)
    either = pc.or_(pc.equal(sought, ""), pc.is_in(sought, value_set=twice))
    return _Try(known.take(pc.if_else(either, None, place)), words)


def _zeros(unknown: pa.Array, known: pa.Array) -> _Try:
    tried = _alike(unknown, known, _unpadded, "")
    lost = pc.sum(pc.less(pc.utf8_length(unknown), pc.utf8_length(tried.meant))).as_py() or 0
    return _Try(tried.meant, "with leading zeros put back" if 2 * lost >= tried.hits else "with leading zeros taken off")


def _affixed(unknown: pa.Array, known: pa.Array) -> Iterator[_Try]:
    """The commonest prefix and suffix, taken off or put on, that leads from unknown ids to known ones."""
    asked = unknown.slice(0, TRIED)
    ids = asked.to_pylist()
    for front in (True, False):
        parted = [_parted(each, size, front) for each in ids for size in range(1, min(len(each), LONGEST_AFFIX + 1))]
        found = is_in(pa.array([rest for _, rest in parted], pa.string()), known)
        if affix := _commonest(affix for (affix, _), hit in zip(parted, found, strict=True) if hit):
            off = _without(unknown, affix, front)
            yield _Try(pc.if_else(pc.is_in(off, value_set=known), off, None), f"with {affix} {'in front' if front else 'at the end'} taken off")
        longer: list[str] = []
        for each in ids[:: max(len(ids) // 20, 1)]:
            ends = (pc.ends_with if front else pc.starts_with)(known, each)
            among = known.filter(pc.and_(ends, pc.greater(pc.utf8_length(known), len(each)))).slice(0, TRIED).to_pylist()
            longer += {_parted(other, len(other) - len(each) if front else len(each), front)[0] for other in among}
        if affix := _commonest(each for each in longer if len(each) <= LONGEST_AFFIX):
            on = pc.binary_join_element_wise(*((affix, unknown) if front else (unknown, affix)), "")
            yield _Try(pc.if_else(pc.is_in(on, value_set=known), on, None), f"with {affix} put {'in front' if front else 'at the end'}")


def _parted(text: str, size: int, front: bool) -> tuple[str, str]:
    """The affix of so many letters, and the rest."""
    return (text[:size], text[size:]) if front else (text[len(text) - size :], text[: len(text) - size])


def _without(ids: pa.Array, affix: str, front: bool) -> pa.Array:
    """The ids without the affix, null where they do not have it."""
    has = (pc.starts_with if front else pc.ends_with)(ids, affix)
    rest = pc.utf8_slice_codeunits(ids, len(affix), None) if front else pc.utf8_slice_codeunits(ids, 0, -len(affix))
    return pc.if_else(has, rest, None)


def _commonest(texts: Iterable[str]) -> str:
    """The text that occurs most often, of equals the shortest and first by letter; blank where there is none."""
    counted: Mapping[str, int] = Counter(texts)
    return min(counted, key=lambda each: (-counted[each], len(each), each), default="")


# ---------------------------------------------------------------- ids that changed


IDENTITIES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "students": {
        "name and birth date": ("last_name", "first_name", "dob"),
        "student number": ("number",),
        "state id": ("state_id",),
        "e-mail": ("email",),
    },
    "teachers": {"e-mail": ("email",), "state id": ("state_id",), "teacher number": ("number",), "name": ("last_name", "first_name")},
    "staff": {"e-mail": ("email",), "name": ("last_name", "first_name")},
    "schools": {"name": ("name",), "school number": ("number",), "state id": ("state_id",)},
    "sections": {"name, teacher and period": ("name", "teacher", "period"), "name and section number": ("name", "number")},
    "courses": {"name": ("name",), "number": ("number",)},
    "terms": {"name": ("name",)},
}
"""By what, other than its id, a record may be known again: entity → words → columns."""

STEPS = 1_000
"""So many pairs of an old and a new id are asked for the rule that leads from one to the other."""


def rekeyed(change_set: ChangeSet, name: str, school: str = "") -> str:
    """What speaks for it that records of the entity (in the school, or the district) only changed their ids, without any cell of a person.

    Old and new are paired where exactly one of each has the same name and birth date, number or e-mail; blank where nothing can be said.
    """
    if name not in IDENTITIES:
        return ""
    entity, frame = ENTITIES[name], change_set.changes[name]
    here = np.ones(len(frame), dtype=bool) if not school else (frame[entity.school] == school).to_numpy(dtype=bool)
    operation = frame["operation"].to_numpy(dtype=object)
    if name == "sections":
        frame = frame.assign(teacher=_first_teachers(change_set, frame["section_id"]))
    old, new = frame[here & (operation == "deactivated")], frame[here & np.isin(operation, ["created", "reactivated"])]
    ids = [array_of(each[entity.key[0]]) for each in (old, new)]
    noun = "people" if entity.table == "users" else name
    best, by = max(((_pairs(old, new, columns), words) for words, columns in IDENTITIES[name].items()), key=lambda each: len(each[0][0]))
    if len(best[0]):
        step = _step_of(ids[0].take(pa.array(best[0])), ids[1].take(pa.array(best[1])))
        return f"{len(best[0]):,} of {len(old):,} are the same {noun} by {by}{f'; the new ids are the old ones {step}' if step else ''}"
    guess = likely(ids[1], ids[0])
    both = pc.is_valid(guess.meant)
    step = _step_of(guess.meant.filter(both), guess.unknown.filter(both)) if guess.sentence else ""
    if step:
        return f"{pc.sum(both).as_py():,} of {len(new):,} new ids are old ones {step}"
    return f"none of the old {noun} is found among the new by {' or '.join(IDENTITIES[name])}"


def _first_teachers(change_set: ChangeSet, sections: pd.Series) -> pd.Series:
    """The first teacher of each section that came or left, as text."""
    links = change_set.changes.get("section_teachers")
    if links is None:
        return pd.Series("", index=sections.index, dtype=TEXT)
    first = links[(links["position"] == "1").to_numpy(dtype=bool)].drop_duplicates("section_id").set_index("section_id")["teacher_id"]
    return sections.map(first).fillna("").astype(TEXT)


def _pairs(old: pd.DataFrame, new: pd.DataFrame, columns: Sequence[str]) -> tuple[Positions, Positions]:
    """The places of old and new rows that agree in all the columns, in any case, and with nobody else; blank cells agree with nothing."""
    keys = [_once(each, columns) for each in (old, new)]
    place = pc.index_in(keys[1], value_set=keys[0].filter(pc.is_valid(keys[0])))
    of_old = np.flatnonzero(pc.is_valid(keys[0]).to_numpy(zero_copy_only=False))
    paired = np.flatnonzero(pc.is_valid(place).to_numpy(zero_copy_only=False))
    return of_old[place.drop_null().to_numpy()], paired


def _once(frame: pd.DataFrame, columns: Sequence[str]) -> pa.Array:
    """The columns in one text a row, null where one is blank or another row has the same."""
    parts = [pc.utf8_lower(array_of(frame[column])) for column in columns]
    joined = pc.binary_join_element_wise(*[pc.if_else(pc.equal(part, ""), None, part) for part in parts], "\0")
    counted = pc.value_counts(joined)
    return pc.if_else(pc.is_in(joined, value_set=counted.field("values").filter(pc.greater(counted.field("counts"), 1))), None, joined)


def _step_of(old: pa.Array, new: pa.Array) -> str:
    """The one step that leads from most old ids to their new ones; blank where there is none."""
    every = max(len(old) // STEPS, 1)
    steps = [_step(one, other) for one, other in zip(old.to_pylist()[::every], new.to_pylist()[::every], strict=True)]
    step = _commonest(filter(None, steps))
    return step if steps.count(step) > LIKELY * len(steps) else ""


def _step(old: str, new: str) -> str:
    if old.lstrip("0") == new.lstrip("0"):
        return "without leading zeros" if len(new) < len(old) else "with leading zeros"
    if old.lower() == new.lower():
        return "in another case"
    for one, other, word in ((old, new, "with"), (new, old, "without")):
        if other.endswith(one):
            return f"{word} {other[: -len(one)]} in front"
        if other.startswith(one):
            return f"{word} {other[len(one) :]} at the end"
    return ""


# ---------------------------------------------------------------- columns under another name, or in another place

ALIKE = 0.6
"""Two headers are alike from this ratio of common letters on, as Course_nbr and Course_number."""

FITS = 0.8
"""Cells look like those of another column where at least this share of them does: a real column has some odd cells."""

LOOKED_AT = 1_000
"""So many cells of a column are looked at, to see what they look like."""

CALLED: Mapping[str, frozenset[str]] = {
    "last_name": frozenset({"surname", "family_name", "lastname", "lname"}),
    "first_name": frozenset({"given_name", "forename", "firstname", "fname"}),
    "dob": frozenset({"date_of_birth", "birth_date", "birthdate", "birthday", "birth_day"}),
    "gender": frozenset({"sex"}),
}
"""What exporters call some columns whose names have no letters in common with the format's."""

TELLING = ("date", "birth_date", "email", "phone", "grade", "gender", "flag")
"""Types of a contract's field that cells can be recognised by, those that say most first."""


@dataclass(frozen=True)
class Stray:
    """A column that the format does not know: its header as sent, the known columns on both sides of it, and some of its cells."""

    name: str
    beside: tuple[str, str]
    cells: pa.Array


def renamed(findings: Sequence[Finding], table: Table, strays: Sequence[Stray], before: FileShape | None) -> list[Finding]:
    """The findings of one file, in which a column that is missing names the unknown one that it may be, and why.

    Whatever else was found about the two columns then follows from the missing one.
    """
    lost = {each.column: each for each in reversed(findings) if each.code in ("header_gone", "header_derived", "header_missing")}
    hints: dict[str, str] = {}
    behind: dict[tuple[str, str], str] = {}
    for column, root in lost.items():
        ranked = sorted(((_evidence(column, table, each, before), each) for each in strays), key=lambda pair: (-len(pair[0]), pair[1].name))
        if ranked and ranked[0][0] and (len(ranked) == 1 or len(ranked[0][0]) > len(ranked[1][0])):
            evidence, stray = ranked[0]
            hints[column] = f"{stray.name[:100]} may be it under another name: {', '.join(evidence)}"
            behind |= {("header_unknown", stray.name[:100]): root.label, ("header_gone", column): root.label}
    told = []
    for each in findings:
        if each == lost.get(each.column) and each.column in hints:
            told.append(replace(each, hint="; ".join(filter(None, (each.hint, hints[each.column])))))
        else:
            told.append(replace(each, cause=behind.get((each.code, each.column), each.cause)))
    return told


def _evidence(column: str, table: Table, stray: Stray, before: FileShape | None) -> list[str]:
    """What speaks for it that the unknown column is the missing one."""
    missing, evidence = normalised(column), []
    called = normalised(stray.name)
    if called in CALLED.get(missing, ()) or SequenceMatcher(None, missing, called, autojunk=False).ratio() >= ALIKE:
        evidence.append("the names are alike")
    if before is not None and missing in before.columns and len(before.columns) > 1:
        place = before.columns.index(missing)
        there = {name for name in before.columns if name != missing}
        beside = [next((name for name in side if name in there), "") for side in (before.columns[:place][::-1], before.columns[place + 1 :])]
        if tuple(beside) == stray.beside:
            evidence.append("it stands in the same place")
    shape = before.shapes.get(missing) if before is not None else None
    if shape is not None and shape.form and form(stray.cells)[0] == shape.form:
        evidence.append(f"its cells look as they did before ({shape.form})")
    field = table.columns.get(missing)
    if field is not None and (share := _fit(field.type, stray.cells)) >= FITS:
        evidence.append(f"{share:.0%} of its cells are what the column holds ({field.type.replace('_', ' ')})")
    return evidence


def explained(findings: Sequence[Finding], tables: Mapping[str, Table], frames: Mapping[str, pd.DataFrame], before: Mapping[str, FileShape]) -> list[Finding]:
    """The findings, in which a column whose cells are wrong says what they look like instead: those of which other column, and how far it is.

    `frames` hold the cells as sent.
    """
    told = []
    for each in findings:
        wrong = each.code in (*values.NOT_UNDERSTOOD, "value_malformed") or (each.code.endswith("_unknown") and each.lines)
        if wrong and not each.hint and (table := _judged_by(each, tables, frames)):
            each = replace(each, hint=_elsewhere(each, table, frames[table.name], before.get(each.file)))
        told.append(each)
    return told


def _judged_by(found: Finding, tables: Mapping[str, Table], frames: Mapping[str, pd.DataFrame]) -> Table | None:
    """The table that has the lines and the column of the finding, of which there may be several in a file; None where none has all of them."""
    for name, frame in frames.items():
        table = tables[name]
        if table.file == found.file and table.column_of(found.column) in frame.columns and frame.index.isin(found.lines).sum() >= len(found.lines):
            return table
    return None


def _elsewhere(found: Finding, table: Table, frame: pd.DataFrame, before: FileShape | None) -> str:
    """Of which other column the wrong cells look; blank where of none, or where the column is wrong in few rows that have nothing in common."""
    column = table.column_of(found.column)
    rows = frame.loc[list(found.lines)] if found.count < len(frame) / 2 else frame.iloc[np.linspace(0, len(frame) - 1, min(LOOKED_AT, len(frame))).astype(int)]
    if len(rows) < LIKELY_IDS:
        return ""
    columns = list(frame.columns)
    own = {each.column: each for each in table.fields if each.column in columns}
    ranked = []
    for other, field in own.items():
        share = _looks(array_of(rows[column]), field, before)
        if other != column and field.type != own[column].type and share >= FITS:
            apart = columns.index(column) - columns.index(other)
            moved = sum(_moved(rows, columns, each, own[columns[each]], apart, before) for each in range(len(columns)) if columns[each] in own)
            ranked.append((-moved, TELLING.index(field.type) if field.type in TELLING else len(TELLING), abs(apart), field.name, share, apart))
    if not ranked:
        return ""
    moved, _, _, name, share, apart = min(ranked)
    where = f"{abs(apart)} column{'' if abs(apart) == 1 else 's'} to the {'left' if apart > 0 else 'right'}"
    others = f"; {-moved:,} columns hold what belongs {where}" if moved < -1 else ""
    return f"{share:.0%} of these cells look like those of {name}, {where}{others}"


def _moved(rows: pd.DataFrame, columns: Sequence[str], place: int, field: Field, apart: int, before: FileShape | None) -> bool:
    """Whether the cells of a column stand so many columns away from it."""
    if not 0 <= place + apart < len(columns):
        return False
    return _looks(array_of(rows[columns[place + apart]]), field, before) >= FITS > _looks(array_of(rows[columns[place]]), field, before)


def _looks(cells: pa.Array, field: Field, before: FileShape | None) -> float:
    """The share of the cells that could be the field's: by its type, or by the form that its cells had in the delivery before."""
    if field.type in TELLING:
        return _fit(field.type, cells)
    shape = before.shapes.get(field.column) if before is not None else None
    if shape is None or not any(letter in shape.form for letter in "9-./@"):  # a form of letters alone is anybody's
        return 0.0
    best, share = form(cells)
    return share if best == shape.form else 0.0


def _fit(type: str, cells: pa.Array) -> float:
    """The share of the cells that are not blank which a type of the contract can be, 0 where the type takes anything."""
    cells = cells.filter(pc.not_equal(cells, "")).slice(0, LOOKED_AT)
    if not len(cells) or type not in TELLING:
        return 0.0
    if type in values.PATTERNS:
        return float(pc.mean(pc.match_substring_regex(cells, f"^(?:{values.PATTERNS[type]})$")).as_py())
    counted = pc.value_counts(cells)
    return float(sum(each["counts"] for each in counted.to_pylist() if values.understood(type, each["values"])) / len(cells))
