"""Rows that go for good: those of a whole district, or of one person, each in one transaction, and counted by table."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from sqlalchemy import ColumnElement, Connection, Engine, Select, Table, Text, and_, cast, delete, or_, select, update

from sftp_ingest.errors import ConfigError
from sftp_ingest.model import Role
from sftp_ingest.store import tables
from sftp_ingest.store.database import erasing, insisting, reading

ROLES: tuple[Role, ...] = get_args(Role)
ERASED = "(erased)"
"""What stands in a finding where it quoted the id of someone who was erased."""

_TEACHING = frozenset({"teacher", "staff"})
_PEOPLE = {"student": "students", "teacher": "teachers", "staff": "staff"}


@dataclass(frozen=True)
class Marks:
    """By what a person is known outside his own rows: his id, ids of his attendance, a teacher's last names, and runs whose findings quote his id.

    A section's name may hold its teacher's last name, for that is how Clever makes it.
    """

    id: str
    attendance: frozenset[str] = field(default_factory=frozenset)
    last_names: frozenset[str] = field(default_factory=frozenset)
    runs: frozenset[int] = field(default_factory=frozenset)

    def in_name(self, text: str) -> bool:
        """Whether one of the last names is a word of the text."""
        return any(re.search(rf"(?<!\w){re.escape(each)}(?!\w)", text, re.IGNORECASE) for each in self.last_names)


# ---------------------------------------------------------------- a district


@insisting
def district(engine: Engine, district_id: str) -> dict[str, int]:
    """Deletes every row of the district, in one transaction; table → rows, and what its accounts could be opened with, as `keys` and `passwords`.

    Of a district that is not there, nothing. Raises ConfigError where one of its runs is running.
    """
    runs = tables.sync_runs
    districts, accounts = tables.districts, tables.accounts
    counts: dict[str, int] = {}
    with erasing(engine) as connection:
        if connection.scalar(select(districts.c.id).where(districts.c.id == district_id).with_for_update()) is None:
            return counts
        running = connection.scalar(select(runs.c.id).where(runs.c.district_id == district_id, runs.c.state == "running"))
        if running is not None:
            raise ConfigError(f"run {running} of {district_id} is running; nothing was erased, try again when it has ended")
        mine = select(runs.c.id).where(runs.c.district_id == district_id)
        counts["findings"] = connection.execute(delete(tables.findings).where(tables.findings.c.run_id.in_(mine))).rowcount
        known = connection.execute(select(accounts).where(accounts.c.district_id == district_id)).all()
        for table in (accounts, tables.roster_states, tables.changes, tables.holds, runs, tables.deliveries, *reversed(tables.rosters.values())):
            counts[table.name] = connection.execute(delete(table).where(table.c.district_id == district_id)).rowcount
        counts["districts"] = connection.execute(delete(districts).where(districts.c.id == district_id)).rowcount
        counts["keys"] = sum(len(each.authorized_keys.splitlines()) for each in known)
        counts["passwords"] = sum(bool(each.password_hash) for each in known)
    return counts


# ---------------------------------------------------------------- a person


def in_the_way(engine: Engine, district_id: str) -> str:
    """Why no person of the district can be erased now: a run that is not closed would read the files that are to go. Empty where nothing is."""
    runs = tables.sync_runs
    with reading(engine) as connection:
        row = connection.execute(select(runs.c.id, runs.c.state).where(runs.c.district_id == district_id, runs.c.state != "closed").limit(1)).one_or_none()
    return f"run {row.id} of {district_id} is {row.state}; nothing was erased, try again when it is closed" if row else ""


def roles(engine: Engine, district_id: str, person: str) -> frozenset[str]:
    """What the person of this id is in the district's roster, now or once: student, teacher, staff, contact; empty where there is none."""
    users, contacts = tables.rosters["users"], tables.rosters["contacts"]
    with reading(engine) as connection:
        found = set(connection.scalars(select(users.c.role).where(users.c.district_id == district_id, users.c.sis_id == person)))
        if connection.scalar(select(contacts.c.contact_id).where(_contact(contacts, district_id, person)).limit(1)) is not None:
            found.add("contact")
    return frozenset(found)


def marks(engine: Engine, district_id: str, person: str, roles: Collection[str]) -> Marks:
    """By what the person is known elsewhere, as long as his rows are there to tell it."""
    users, attendance, changes = tables.rosters["users"], tables.rosters["attendance"], tables.changes
    ids: set[str] = set()
    names: set[str] = set()
    with reading(engine) as connection:
        if "student" in roles:
            ids.update(connection.scalars(select(attendance.c.attendance_id).where(*_is(attendance, district_id, student_id=person))))
            ids.update(connection.scalars(_told_attendance(district_id, person)))
        if teaching := _TEACHING & set(roles):
            names.update(connection.scalars(select(users.c.last_name).where(*_is(users, district_id, sis_id=person), users.c.role.in_(teaching))))
            told = [changes.c[side]["last_name"].as_string() for side in ("before", "after")]
            entities = [_PEOPLE[role] for role in teaching]
            here = and_(changes.c.district_id == district_id, changes.c.entity.in_(entities), _key("sis_id") == person)
            for row in connection.execute(select(*told).where(here)):
                names.update(row)
        quoting = frozenset([*(run for run, _, _ in _quoting(connection, district_id, person)), *(run for run, _ in _listing(connection, district_id, person))])
    return Marks(person, frozenset(ids), frozenset(name for name in names if name and name.strip()), quoting)


@insisting
def person(engine: Engine, district_id: str, marks: Marks, roles: Collection[str]) -> dict[str, int]:
    """Deletes every row that is the person's in one of the roles, or tells of him, in one transaction; table → rows.

    Names of his sections lose the part that is his last name, and findings and reverts his id; those rows are counted as `sections`, `findings`
    and `sync_runs`. Raises ConfigError where there is no such district.
    """
    roster, changes, districts = tables.rosters, tables.changes, tables.districts
    counts: dict[str, int] = dict.fromkeys(("changes", "findings", "sync_runs", "sections"), 0)

    with erasing(engine) as connection:
        if connection.scalar(select(districts.c.id).where(districts.c.id == district_id).with_for_update(key_share=True)) is None:
            raise ConfigError(f"there is no district {district_id}")

        def gone(table: Table, *where: ColumnElement[bool]) -> None:
            counts[table.name] = counts.get(table.name, 0) + connection.execute(delete(table).where(*where)).rowcount

        for run, position, told in _quoting(connection, district_id, marks.id):
            here = (tables.findings.c.run_id == run, tables.findings.c.position == position)
            counts["findings"] += connection.execute(update(tables.findings).where(*here).values(told)).rowcount
        for run, listed in _listing(connection, district_id, marks.id):
            counts["sync_runs"] += connection.execute(update(tables.sync_runs).where(tables.sync_runs.c.id == run).values(left_alone=listed)).rowcount
        if _TEACHING & set(roles):
            sections = _sections(connection, district_id, marks.id)
            counts["sections"] = _unnamed(connection, district_id, sections, marks)
            gone(changes, changes.c.district_id == district_id, _numbered(_naming(connection, district_id, sections, marks)))
        gone(changes, changes.c.district_id == district_id, or_(*_entries(district_id, marks.id, roles)))
        if "student" in roles:
            for name in ("enrollments", "contacts", "attendance"):
                gone(roster[name], *_is(roster[name], district_id, student_id=marks.id))
        if _TEACHING & set(roles):
            gone(roster["section_teachers"], *_is(roster["section_teachers"], district_id, teacher_id=marks.id))
        if "contact" in roles:
            gone(roster["contacts"], _contact(roster["contacts"], district_id, marks.id))
        gone(roster["users"], *_is(roster["users"], district_id, sis_id=marks.id), roster["users"].c.role.in_(roles))
    return counts


def _is(table: Table, district_id: str, **cells: str) -> list[ColumnElement[bool]]:
    return [table.c.district_id == district_id, *(table.c[name] == cell for name, cell in cells.items())]


def _contact(contacts: Table, district_id: str, person: str) -> ColumnElement[bool]:
    return and_(contacts.c.district_id == district_id, or_(contacts.c.contact_id == person, contacts.c.sis_id == person))


def _key(name: str) -> ColumnElement[str]:
    cell: ColumnElement[str] = tables.changes.c.key[name].as_string()
    return cell


def _told_attendance(district_id: str, person: str) -> Select[Any]:
    """The ids of attendance that the entries say was the person's: an entry of a later correction names the id alone."""
    changes = tables.changes
    of_him = or_(*(changes.c[side]["student_id"].as_string() == person for side in ("before", "after")))
    return select(_key("attendance_id")).where(changes.c.district_id == district_id, changes.c.entity == "attendance", of_him)


def _entries(district_id: str, person: str, roles: Collection[str]) -> Iterable[ColumnElement[bool]]:
    """Which entries tell of the person in one of the roles."""
    changes, roster = tables.changes, tables.rosters
    entity = changes.c.entity
    yield and_(entity.in_([_PEOPLE[role] for role in roles if role in _PEOPLE]), _key("sis_id") == person)
    if "student" in roles:
        attendance = roster["attendance"]
        ids = select(attendance.c.attendance_id).where(*_is(attendance, district_id, student_id=person))
        yield and_(entity.in_(("enrollments", "contacts")), _key("student_id") == person)
        yield and_(entity == "attendance", or_(_key("attendance_id").in_(ids), _key("attendance_id").in_(_told_attendance(district_id, person))))
    if _TEACHING & set(roles):
        yield and_(entity == "section_teachers", _key("teacher_id") == person)
    if "contact" in roles:
        contacts = roster["contacts"]
        ids = select(contacts.c.contact_id).where(_contact(contacts, district_id, person))
        told = (changes.c[side]["sis_id"].as_string() == person for side in ("before", "after"))
        yield and_(entity == "contacts", or_(_key("contact_id") == person, _key("contact_id").in_(ids), *told))


def _quoting(connection: Connection, district_id: str, person: str) -> list[tuple[int, int, dict[str, Any]]]:
    """The findings that quote the id, by run and position, with what is to stand there instead."""
    findings, runs = tables.findings, tables.sync_runs
    columns = {name: findings.c[name] for name in ("values", "hint", "cause", "readings")}
    query = select(findings.c.run_id, findings.c.position, *columns.values()).join(runs, runs.c.id == findings.c.run_id)
    found = []
    for run, position, *told in connection.execute(query.where(runs.c.district_id == district_id)):
        instead = [_unquoted(each, person) for each in told]
        if instead != told:
            found.append((run, position, dict(zip(columns, instead, strict=True))))
    return found


def _listing(connection: Connection, district_id: str, person: str) -> list[tuple[int, Any]]:
    """The reverts that list the id among what they left alone, with what is to stand there instead."""
    runs = tables.sync_runs
    rows = connection.execute(select(runs.c.id, runs.c.left_alone).where(runs.c.district_id == district_id, runs.c.reverts.is_not(None))).all()
    return [(row.id, instead) for row in rows if (instead := _unquoted(row.left_alone, person)) != row.left_alone]


def _unquoted(told: Any, person: str) -> Any:
    """Texts, however deep in lists and mappings, with ERASED in place of the id."""
    if isinstance(told, str):
        return re.sub(rf"(?<![\w-]){re.escape(person)}(?![\w-])", ERASED, told, flags=re.IGNORECASE)
    if isinstance(told, list):
        return [_unquoted(each, person) for each in told]
    return {name: _unquoted(each, person) for name, each in told.items()} if isinstance(told, dict) else told


# ---------------------------------------------------------------- a teacher's name in those of his sections


def _sections(connection: Connection, district_id: str, teacher: str) -> set[str]:
    """The sections that the teacher has, or had while the entries go back."""
    table, changes = tables.rosters["section_teachers"], tables.changes
    found = set(connection.scalars(select(table.c.section_id).where(*_is(table, district_id, teacher_id=teacher))))
    had = and_(changes.c.district_id == district_id, changes.c.entity == "section_teachers", _key("teacher_id") == teacher)
    return found | set(connection.scalars(select(_key("section_id")).where(had)))


def _unnamed(connection: Connection, district_id: str, sections: Collection[str], marks: Marks) -> int:
    """Takes the teacher's last names out of the names of his sections; how many sections had them."""
    table = tables.rosters["sections"]
    named = select(table.c.section_id, table.c.name, table.c.sis_name).where(table.c.district_id == district_id)
    changed = 0
    for row in connection.execute(named).all():
        if row.section_id not in sections or not (marks.in_name(row.name or "") or marks.in_name(row.sis_name or "")):
            continue
        names = {"name": _without(row.name, marks), "sis_name": _without(row.sis_name, marks)}
        changed += connection.execute(update(table).where(*_is(table, district_id, section_id=row.section_id)).values(names)).rowcount
    return changed


def _without(name: str | None, marks: Marks) -> str | None:
    """The name without the parts that hold a last name; None where nothing is left."""
    return " - ".join(part for part in (name or "").split(" - ") if not marks.in_name(part)) or None


def _naming(connection: Connection, district_id: str, sections: Collection[str], marks: Marks) -> list[tuple[int, int]]:
    """The entries of his sections that hold one of his last names: run and sequence."""
    changes = tables.changes
    sides = [cast(changes.c[side], Text) for side in ("before", "after")]
    query = select(changes.c.run_id, changes.c.sequence, _key("section_id"), *sides).where(changes.c.district_id == district_id, changes.c.entity == "sections")
    found = []
    for run, sequence, section, before, after in connection.execute(query):
        if section in sections and any(marks.in_name(str(cell)) for side in (before, after) for cell in _cells(side)):
            found.append((run, sequence))
    return found


def _cells(side: str | None) -> Collection[Any]:
    told: Mapping[str, Any] = json.loads(side or "null") or {}
    return told.values()


def _numbered(entries: Collection[tuple[int, int]]) -> ColumnElement[bool]:
    """Whether an entry is one of these; a few hundred sections of a teacher at most, each with its nights."""
    changes = tables.changes
    by_run: dict[int, list[int]] = {}
    for run, sequence in entries:
        by_run.setdefault(run, []).append(sequence)
    return or_(False, *(and_(changes.c.run_id == run, changes.c.sequence.in_(numbers)) for run, numbers in by_run.items()))
