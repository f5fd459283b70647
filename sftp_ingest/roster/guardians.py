"""OneRoster's guardians in the words of contacts, and whose guardians they are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sftp_ingest.roster import contacts
from sftp_ingest.roster.arrow import TEXT, array_of, is_in
from sftp_ingest.roster.desk import Desk, as_sent, listed, lower, mapped, pairs

CONTACT_TYPES: Mapping[str, tuple[str, str]] = {
    "guardian": ("Parent/Guardian", "Other"),
    "parent": ("Parent/Guardian", "Parent"),
    "relative": ("Family", "Other"),
}
"""Role of a guardian → type and relationship, for files that have no columns for them."""


def described(users: pd.DataFrame, roles: pd.DataFrame | None) -> pd.DataFrame:
    """Guardians in the words of contacts."""
    role = lower(users, "role")
    if roles is not None and len(roles):
        first = roles.drop_duplicates("user_id")
        place = pc.index_in(array_of(users["user_id"]), value_set=array_of(first["user_id"]))
        role = pc.coalesce(lower(first, "role").take(place), role)
    names = [array_of(users[column]) for column in ("first_name", "last_name") if column in users.columns]
    told: dict[str, pa.Array] = {"name": pc.utf8_trim_whitespace(pc.binary_join_element_wise(*names, " "))} if names else {}
    for at, column in enumerate(("type", "relationship")):
        if column not in users.columns:
            told[column] = mapped(role, {word: said[at] for word, said in CONTACT_TYPES.items()}.get)
    if "sms" in users.columns:
        sms = array_of(users["sms"])
        phone = array_of(users["phone"]) if "phone" in users.columns else sms
        told["phone"] = pc.if_else(pc.equal(phone, ""), sms, phone)
    return users.assign(**{column: pd.Series(pd.array(cells, dtype=TEXT), index=users.index) for column, cells in told.items()})


def links_of(desk: Desk, users: pd.DataFrame, students: pd.DataFrame, guardians: pd.DataFrame) -> pd.DataFrame:
    """Student and guardian, each pair once: whom a student's agentSourcedIds name, and whose a guardian's do."""
    children, agents = _agents(students)
    parents, wards = _agents(guardians)
    pupils = array_of(students["user_id"])
    people = array_of(guardians["user_id"])
    if "users" in desk.delta:
        pupils = pa.concat_arrays([pupils, desk.standing("students")])
        people = pa.concat_arrays([people, desk.standing("contacts")])
    _tell_unknown_agents(desk, users, students, agents)
    theirs, his = pa.array(is_in(agents, people)), pa.array(is_in(wards, pupils))
    links = pairs(
        [*children.filter(theirs).to_pylist(), *wards.filter(his).to_pylist()], [*agents.filter(theirs).to_pylist(), *parents.filter(his).to_pylist()]
    )
    links = links.drop_duplicates(ignore_index=True)
    several = pc.value_counts(array_of(links["student_id"]))
    many = is_in(array_of(students["user_id"]), several.field("values").filter(pc.greater(several.field("counts"), contacts.MOST)))
    if many.any():
        desk.find("contacts_many", "users", "agentSourcedIds", many, students)
    if "users" in desk.delta:
        _end_links(desk, children, links)
    return links


def _agents(people: pd.DataFrame) -> tuple[pa.Array, pa.Array]:
    """Whose row it is, and whom it names, a pair for each name."""
    ids = array_of(people["user_id"])
    if "agents" not in people.columns:
        return ids.slice(0, 0), ids.slice(0, 0)
    lists = pc.split_pattern(array_of(people["agents"]), ",")
    named = pc.utf8_trim_whitespace(pc.list_flatten(lists))
    there = pc.not_equal(named, "")
    return ids.take(pc.list_parent_indices(lists)).filter(there), named.filter(there)


def _tell_unknown_agents(desk: Desk, users: pd.DataFrame, students: pd.DataFrame, agents: pa.Array) -> None:
    """Warn of guardians that no row of users.csv is of, be it one that could not be read or one that has ended."""
    if desk.unread["users"]["user_id"].isna().any() or not len(agents):
        return
    missing = agents.filter(pa.array(~is_in(agents, desk.named(users))))
    if not len(missing):
        return
    gone = set(missing.to_pylist())
    named = np.array([not gone.isdisjoint(listed(text)) for text in students["agents"].to_list()], dtype=bool)
    desk.find("contact_unknown", "users", "agentSourcedIds", named, students)


def _end_links(desk: Desk, children: pa.Array, links: pd.DataFrame) -> None:
    """A student whose changed row names guardians has these and no others; one whose row names none keeps those that he has."""
    held = desk.now.entities["contacts"]
    held = held[held["active"].to_numpy(dtype=bool) & is_in(array_of(held["student_id"]), pc.unique(children))]
    stay = set(zip(links["student_id"].to_list(), links["contact_id"].to_list(), strict=True))
    sent = zip(held["student_id"].to_list(), as_sent(held)["contact_id"].to_list(), strict=True)
    left = held[np.array([pair not in stay for pair in sent], dtype=bool)]
    desk.end("contacts", left["student_id"].to_list(), left["contact_id"].to_list())
