"""Rows that tell of contacts become contacts: who is who, which phones are one person's, and what stays because a row could not be read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from json.encoder import encode_basestring_ascii

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.model import ENTITIES, Roster
from sftp_ingest.roster import arrow, shelf
from sftp_ingest.roster.arrow import TEXT, Mask, array_of, is_in, key_of, places_of
from sftp_ingest.roster.court import Court, Rows, distinct_ids

MOST = 5
"""Contacts of one student that Clever takes, by its developers' pages; its help pages know no limit (contract 1.5)."""

_ROWS = 100_000
"""So many rows are in Python's hands at once."""

_ENTITY = ENTITIES["contacts"]
CELLS = ("name", "type", "relationship", "phone", "phone_type", "email", "sis_id")
"""The columns of a contact that are sent, in students.csv behind `Contact_`."""

_MERGED = ("name", "type", "relationship", "email", "sis_id")
"""Those of which a contact has one text, the first in order of all his rows."""

Phone = tuple[str, str]
Places = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.int64]


def told(rows: pd.DataFrame, now: Roster, seen: pd.DataFrame | None, *, merge: bool) -> pd.DataFrame:
    """One row a student and contact, of rows as they were sent; `contact_id` is filled here.

    With `merge`, rows of one contact are one, and his further phones go to other_phones as a JSON list of phone and type; without, every row
    that differs is a contact of its own. Where rows of a student could not be read (`seen`), a contact who would lose anything stays as he is.
    """
    rows = rows.assign(contact_id=pd.array(shelf.put(ids(rows) if merge else _ids_alone(rows)), dtype=TEXT))
    group = arrow.encoded(_key(rows)).places
    again = np.bincount(group)[group] > 1 if len(group) else np.zeros(0, dtype=bool)
    if again.any():
        rows = shelf.stacked([shelf.filtered(rows, ~again), _merged(rows[again], group[again])])
    if seen is None or not len(seen):
        return rows
    held = _spoken_for(now, seen)
    return _with_what_he_had(rows, held, array_of(seen["student_id"])) if len(held) else rows


def ids(rows: pd.DataFrame) -> pa.Array:
    """Who each row means: Contact_sis_id, else name and e-mail, else name and phone, else the student and all but the phone (contract 1.5)."""
    sis_id = array_of(rows["sis_id"])
    unnamed = pc.equal(sis_id, "").to_numpy(zero_copy_only=False)
    if not unnamed.any():
        return sis_id
    cells = [array_of(rows[column]) for column in ("student_id", "name", "type", "relationship", "phone", "phone_type", "email")]
    at = np.flatnonzero(unnamed)
    told = [_digests(*(each.take(pa.array(at[begin : begin + _ROWS])).to_pylist() for each in cells)) for begin in range(0, len(at), _ROWS)]
    return pc.replace_with_mask(sis_id, pa.array(unnamed), pa.concat_arrays(told))


def _digests(*columns: Sequence[str]) -> pa.Array:
    digests = []
    for student, name, kind, relationship, phone, phone_type, email in zip(*columns, strict=True):
        if email:
            digests.append("~" + _digest("email", name, email))
        elif phone:
            digests.append("~" + _digest("phone", name, phone))
        else:
            digests.append("~" + _digest("student", student, name, kind, relationship, phone_type))
    return pa.array(digests, pa.string())


def _ids_alone(rows: pd.DataFrame) -> pa.Array:
    cells = [array_of(rows[column]) for column in CELLS]
    parts = ([each.slice(begin, _ROWS).to_pylist() for each in cells] for begin in range(0, len(rows), _ROWS))
    return pa.array(("~" + _digest("row", *row) for part in parts for row in zip(*part, strict=True)), pa.string())


def _digest(*texts: str) -> str:
    """Twenty hex digits of the texts as a JSON list, which keeps ("a", "bc") and ("ab", "c") apart; there may be millions."""
    return hashlib.blake2b(f"[{', '.join([encode_basestring_ascii(text) for text in texts])}]".encode(), digest_size=10).hexdigest()


def _key(rows: pd.DataFrame) -> pa.Array:
    return key_of([array_of(rows[column]) for column in _ENTITY.key])


def _table(rows: pd.DataFrame) -> pa.Table:
    return pa.table({column: array_of(rows[column]) for column in _ENTITY.key})


# ---------------------------------------------------------------- several rows of one contact


def _merged(rows: pd.DataFrame, group: Places) -> pd.DataFrame:
    """One row a group: of every column the first text in order, blanks last, as the order of rows means nothing; and all its phones."""
    order = np.argsort(group, kind="stable")
    begins = arrow.begins_of(group[order])
    columns = {column: array_of(rows[column]).take(pa.array(order[begins])) for column in _ENTITY.key}
    for column in (*_MERGED, "source"):
        # of a contact told in the main files and in a side file, the main files' word on the source, which is blank, stands
        known, rank = _ranked(array_of(rows[column]), blank_last=column != "source")
        columns[column] = known.take(pa.array(np.minimum.reduceat(rank[order], begins)))
    number = np.repeat(np.arange(len(begins)), np.diff(begins, append=len(order)))
    columns |= _phones(rows.iloc[order], number, len(begins))
    return pd.DataFrame({column: pd.array(columns[column], dtype=TEXT) for column in _ENTITY.columns}, copy=False)


def _ranked(cells: pa.Array, *, blank_last: bool = True) -> tuple[pa.Array, Places]:
    """The distinct texts in order, and the place of each cell among them."""
    distinct = pc.unique(cells)
    distinct = distinct.take(pc.sort_indices(distinct))
    if blank_last and distinct[0].as_py() == "":
        distinct = pa.concat_arrays([distinct.slice(1), distinct.slice(0, 1)])
    return distinct, pc.index_in(cells, value_set=distinct).to_numpy()


def _phones(rows: pd.DataFrame, group: Numbers, groups: int) -> dict[str, pa.Array]:
    """The first phone of each group in order, and the others as a JSON list; one told twice is one."""
    phone, kind = array_of(rows["phone"]), array_of(rows["phone_type"])
    others = array_of(rows["other_phones"])
    several = np.flatnonzero(pc.not_equal(others, "").to_numpy(zero_copy_only=False))
    further = [(group[at], *pair) for at in several.tolist() for pair in json.loads(others[at].as_py())]
    if further:
        numbers, phones, kinds = zip(*further, strict=True)
        group = np.concatenate((group, np.array(numbers, dtype=np.int64)))
        phone, kind = pa.concat_arrays([phone, pa.array(phones, pa.string())]), pa.concat_arrays([kind, pa.array(kinds, pa.string())])
    there = pc.not_equal(phone, "").to_numpy(zero_copy_only=False)
    group, phone, kind = group[there], phone.filter(pa.array(there)), kind.filter(pa.array(there))
    blank = {column: pa.repeat("", groups) for column in ("phone", "phone_type", "other_phones")}
    if not len(group):
        return blank
    (phones_known, phone_rank), (kinds_known, kind_rank) = _ranked(phone), _ranked(kind)
    order = np.lexsort((kind_rank, phone_rank, group))
    group, phone_rank, kind_rank = group[order], phone_rank[order], kind_rank[order]
    new = (np.diff(group, prepend=-1) != 0) | (np.diff(phone_rank, prepend=-1) != 0) | (np.diff(kind_rank, prepend=-1) != 0)
    group, phone, kind = group[new], phones_known.take(pa.array(phone_rank[new])), kinds_known.take(pa.array(kind_rank[new]))
    first = np.diff(group, prepend=-1) != 0
    of_group = np.full(groups, -1, dtype=np.int64)
    of_group[group[first]] = np.flatnonzero(first)
    at = pa.array(of_group, mask=of_group < 0)
    rest = pa.array(~first)
    pairs = [
        f"[{encode_basestring_ascii(each)}, {encode_basestring_ascii(of)}]"
        for each, of in zip(phone.filter(rest).to_pylist(), kind.filter(rest).to_pylist(), strict=True)
    ]
    ends = np.searchsorted(group[~first], np.arange(groups + 1))
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(pairs, pa.string())), ", ")
    listed = pc.binary_join_element_wise("[", joined, "]", "")
    return {
        "phone": phone.take(at).fill_null(""),
        "phone_type": kind.take(at).fill_null(""),
        "other_phones": pc.if_else(pc.equal(joined, ""), "", listed),
    }


# ---------------------------------------------------------------- rows that could not be read


def _spoken_for(now: Roster, seen: pd.DataFrame) -> pd.DataFrame:
    """The contacts whom rows that could not be read may speak of."""
    held = now.entities["contacts"]
    held = held[held["active"].to_numpy(dtype=bool)]
    nobody = seen["student_id"].isna()
    if (nobody & seen["contact_id"].isna()).any():
        return held
    students, others = array_of(seen.loc[~nobody, "student_id"]), array_of(seen.loc[nobody, "contact_id"])
    return held[is_in(array_of(held["student_id"]), students) | is_in(array_of(held["contact_id"]), others)]


def _with_what_he_had(rows: pd.DataFrame, held: pd.DataFrame, named: pa.Array) -> pd.DataFrame:
    """The rows, in which a contact stays as he is held where tonight's word is what is left of it without a row that could not be read.

    Then phones or a text are gone. Or, of a student who is `named` by such a row, another text stands, one that would not have come first.
    """
    place = places_of(_key(rows), _key(held))
    at = np.flatnonzero(place >= 0)
    tonight, before = rows.iloc[at], held.iloc[place[at]]
    lost = _differ(tonight, before, ("phone", "phone_type", "other_phones"))
    lost[lost] = [known > told for told, known in zip(_phones_of(tonight[lost]), _phones_of(before[lost]), strict=True)]
    of_named = is_in(array_of(tonight["student_id"]), named)
    for column in _MERGED:
        told, known = array_of(tonight[column]), array_of(before[column])
        there, blank = (pc.not_equal(known, "").to_numpy(zero_copy_only=False), pc.equal(told, "").to_numpy(zero_copy_only=False))
        lost |= there & (blank | (of_named & pc.less(known, told).to_numpy(zero_copy_only=False)))
    if not lost.any():
        return rows
    stays = np.ones(len(rows), dtype=bool)
    stays[at[lost]] = False
    return pd.concat([rows[stays], before.loc[lost, list(_ENTITY.columns)]], ignore_index=True)


def _differ(some: pd.DataFrame, others: pd.DataFrame, columns: Sequence[str]) -> Mask:
    """Which rows have another text in any of the columns."""
    differ: Mask = np.logical_or.reduce([pc.not_equal(array_of(some[column]), array_of(others[column])).to_numpy(zero_copy_only=False) for column in columns])
    return differ


def _phones_of(contacts: pd.DataFrame) -> list[set[Phone]]:
    columns = (array_of(contacts[column]).to_pylist() for column in ("phone", "phone_type", "other_phones"))
    return [
        {(phone, kind) for phone, kind in [(phone, kind), *(json.loads(others) if others else ())] if phone}
        for phone, kind, others in zip(*columns, strict=True)
    ]


# ---------------------------------------------------------------- what rows may not say


def check_contacts(court: Court, rows: Rows) -> None:
    """Contacts without name or type, one id for two people, and more contacts than Clever takes (contract 1.5, 1.10.2); the students stay."""
    columns = [column for column in rows.frame.columns if column.startswith("contact_")]
    if "contact_name" not in columns:
        return
    nameless = pc.equal(rows.column("contact_name"), "").to_numpy(zero_copy_only=False)
    told = np.zeros(len(nameless), dtype=bool)
    for column in columns:
        told |= pc.not_equal(rows.column(column), "").to_numpy(zero_copy_only=False)
    if (nameless & told).any():
        court.find("contact_incomplete", rows, "Contact_name", nameless & told)
    untyped = ~nameless & rows.kept
    if "contact_type" in columns:
        untyped &= pc.equal(rows.column("contact_type"), "").to_numpy(zero_copy_only=False)
        if "contact_type" in rows.unknown:  # a word that is no keyword is told as such, and is a type (contract 1.6.8)
            untyped &= ~rows.frame.index.isin(rows.unknown["contact_type"])
    if untyped.any():
        court.find("contact_type_missing", rows, "Contact_type", untyped)
        if court.strict:  # left out as one without a name is
            cleared = pc.if_else(pa.array(untyped), "", rows.column("contact_name"))
            rows.frame = rows.frame.assign(contact_name=pd.Series(pd.array(cleared, dtype=TEXT), index=rows.frame.index))
    named = rows.kept & pc.not_equal(rows.column("contact_name"), "").to_numpy(zero_copy_only=False)
    if "contact_sis_id" in columns:
        _check_shared_contacts(court, rows, named & pc.not_equal(rows.column("contact_sis_id"), "").to_numpy(zero_copy_only=False))
    _check_many_contacts(court, rows, named)


def _check_shared_contacts(court: Court, rows: Rows, mask: Mask) -> None:
    """One Contact_sis_id is one person, who has one name."""
    at = np.flatnonzero(mask)
    of_row = rows.encoded("contact_sis_id").places[at]
    first = np.zeros(len(rows.encoded("contact_sis_id").texts), dtype=np.int64)
    first[of_row[::-1]] = at[::-1]
    names = rows.column("contact_name")
    differs = pc.not_equal(names.take(pa.array(at)), names.take(pa.array(first[of_row]))).to_numpy(zero_copy_only=False)
    shared = mask & np.isin(rows.encoded("contact_sis_id").places, np.unique(of_row[differs]))
    if shared.any():
        court.find("contact_id_shared", rows, "Contact_sis_id", shared, values=distinct_ids(rows.column("contact_sis_id"), shared, pa.array([], pa.string())))


def _check_many_contacts(court: Court, rows: Rows, mask: Mask) -> None:
    """Several rows may be one contact, so only students with more rows than Clever takes contacts are looked at closely."""
    at = np.flatnonzero(mask)
    students = rows.encoded("student_id").places[at]
    at = at[np.bincount(students)[students] > MOST] if len(at) else at
    if not len(at):
        return
    blank = pd.array(pa.repeat("", len(at)), dtype=TEXT)
    there = rows.frame.iloc[at]
    told = {column: there[f"contact_{column}"].array if f"contact_{column}" in there.columns else blank for column in CELLS}
    student = arrow.encoded(array_of(there["student_id"]))
    contact = arrow.encoded(ids(pd.DataFrame({"student_id": there["student_id"].array, **told})))
    of_student = np.unique(arrow.groups([student, contact])) // len(contact.texts)
    _, first = np.unique(student.places, return_index=True)
    many = np.zeros(len(mask), dtype=bool)
    many[at[first[np.bincount(of_student) > MOST]]] = True
    if many.any():
        court.find("contacts_many", rows, "Student_id", many)
