"""What ids that nobody has, or that have changed, probably were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.model import ENTITIES, ChangeSet
from sftp_ingest.roster import drift
from sftp_ingest.roster.arrow import TEXT, Mask, array_of, is_in

Positions = npt.NDArray[np.int64]

# ---------------------------------------------------------------- ids that nobody has


LIKELY = 0.5
"""A rule is told as the reason where at least this share of the unknown ids becomes known by it: below that it explains the smaller part."""

LIKELY_IDS = 3
"""A rule needs this many ids: one or two agree with somebody's by chance."""

LONGEST_AFFIX = 16
"""Prefixes and suffixes are looked for up to this many letters; systems add short ones, such as SCH- or .0."""

TRIED = 100
"""So many unknown ids are asked for candidates of a prefix or suffix; the winner is then tried on all."""

_NONE = pa.array([], pa.string())
_LIKE_AN_ID = r"^[^\s@]*\d[^\s@]*$"
_LIKE_A_DATE = r"^\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}$"
_UNSENT = "from the nights before, and were not sent tonight"


@dataclass(frozen=True)
class Likely:
    """What unknown ids probably were: `meant` has, beside each of `unknown`, the known id that it stands for, or null.

    `sentence` tells the rule behind `ruled`, those of the ids that it makes known, in their own order, so that those of every file are told
    alike; without a rule it is blank, and they are none. `unseen` tells how many of the ids differ from known ones by letters that nobody sees,
    which no two ids do by chance: of one it is told as well.
    """

    unknown: pa.Array
    meant: pa.Array
    ruled: pa.Array
    sentence: str = ""
    unseen: str = ""

    def hint(self, value: str) -> str:
        """What to tell of one unknown id that no rule makes known: the known one that it resembles, where there is one."""
        place = pc.index(self.unknown, value).as_py()
        known = self.meant[place].as_py() if place >= 0 else None
        if known == value:
            return "it is known from the nights before, and was not sent tonight"
        return f"{known} is known" if known else ""


@dataclass(frozen=True)
class _Try:
    """One rule tried on all unknown ids: what each would be by it, and the rule in words."""

    meant: pa.Array
    words: str

    @property
    def hits(self) -> int:
        return int(len(self.meant) - self.meant.null_count)


def presentable(texts: pa.Array, known: pa.Array) -> Mask:
    """Which texts of a column of ids may be shown: a name, an address or a date that slipped into it, as where a row lost a cell, may not (law 10).

    What has no digit, or is otherwise unlike an id, may be shown only where a known id has its very form.
    """
    like: Mask = pc.and_not(pc.match_substring_regex(texts, _LIKE_AN_ID), pc.match_substring_regex(texts, _LIKE_A_DATE)).to_numpy(zero_copy_only=False).copy()
    if not like.all():
        like[~like] = is_in(drift.forms(texts.filter(pa.array(~like))), pc.unique(drift.forms(known)))
    return like


def likely(unknown: pa.Array, known: pa.Array, standing: pa.Array = _NONE) -> Likely:
    """What the unknown ids probably were: known ones that lost their zeros, changed case or punctuation, got or lost a prefix or suffix.

    Those of the nights before are `standing`: they are known as well, and an unknown id that is among them is one that was not sent tonight.
    Every unknown id counts once, however many rows have it.
    """
    unknown = pc.unique(unknown)
    known = pc.unique(pa.concat_arrays([known, standing]))
    known = known.filter(pc.invert(pc.is_in(known, value_set=unknown)))
    spelt = _alike(unknown, known, _plain, "in another spelling")
    unsent = _Try(pc.if_else(pc.is_in(unknown, value_set=standing), unknown, None), _UNSENT)
    tried = [
        _zeros(unknown, known),
        _alike(unknown, known, pc.utf8_lower, "in another case"),
        spelt,
        *_affixed(unknown, known),
        unsent,
    ]
    meant = pc.coalesce(spelt.meant, unsent.meant)
    unseen = _unseen(unknown, known)
    best = max(tried, key=lambda each: each.hits)  # of equals the first, which says most
    if best.hits >= LIKELY_IDS and best.hits >= LIKELY * len(unknown):
        ruled = unknown.filter(pc.is_valid(best.meant)).sort()
        return Likely(unknown, pc.coalesce(best.meant, meant), ruled, f"{best.hits:,} of {len(unknown):,} unknown ids are known {best.words}", unseen)
    return Likely(unknown, meant, unknown.slice(0, 0), unseen=unseen)


_PUNCTUATION = b" \t\n\f\r\v._/-"
_INVISIBLE = r"[\x{AD}\x{200B}-\x{200D}\x{2060}\x{FEFF}]+"
"""Letters that nobody sees, and that are copied along with an id from a page or out of another file."""


def _plain(ids: pa.Array) -> pa.Array:
    """Ids without what spreadsheets and keyboards change: case, leading zeros, spaces and hyphens; and without letters that nobody sees."""
    lower = pc.utf8_lower(ids)
    _, _, letters = lower.buffers()
    letters = letters.to_pybytes() if letters else b""
    if not letters.isascii():
        lower = pc.replace_substring_regex(lower, _INVISIBLE, "")
    # to look for what is nowhere would cost more than the parsing; \s of Arrow is ASCII's
    if len(letters.translate(None, _PUNCTUATION)) < len(letters):
        lower = pc.replace_substring_regex(lower, r"[\s._/-]+", "")
    return _unpadded(lower)


def _unseen(unknown: pa.Array, known: pa.Array) -> str:
    """How many of the unknown ids differ from known ones by letters that nobody sees, in words; blank where none does."""
    odd, strange = (ids.filter(pc.invert(pc.string_is_ascii(ids))) for ids in (unknown, known))
    odd, strange = (ids.filter(pc.match_substring_regex(ids, _INVISIBLE)) for ids in (odd, strange))
    hits = sum(_alike(*each, _seen, "").hits for each in ((odd, known), (unknown, strange)) if len(odd) or len(strange))
    return f"{hits:,} of {len(unknown):,} unknown ids are known but for letters that nobody sees" if hits else ""


def _seen(ids: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(ids, _INVISIBLE, "")


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
