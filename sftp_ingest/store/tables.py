"""The tables: a roster as `model.ENTITIES` draws it, one row a record, and the ledger of what was done to it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    cast,
    text,
)
from sqlalchemy.types import TypeDecorator, TypeEngine

from sftp_ingest.findings import Severity
from sftp_ingest.model import ENTITIES, OPERATIONS, HoldState, Outcome

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


class UtcTimestamp(TypeDecorator[datetime]):
    """A moment: aware in, aware and in UTC out. SQLite knows no time zones, so what it keeps is UTC by this agreement."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The moment in UTC. Raises ValueError where it does not say its time zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without its time zone cannot be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The moment in UTC, aware."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# JSON and not JSONB: the text of an extension column is compared with tomorrow's file, so it must come back as it was written.
_TYPES: dict[str, type[TypeEngine[Any]]] = {"ext": JSON, "school_ids": JSON, "other_phones": JSON, "position": Integer}

ALWAYS = "always"
"""In the `info` of a column that says the same in every row: what it says."""

_CHECKS = {
    "users": CheckConstraint("role IN ('student', 'teacher', 'staff')", name="role"),
    "section_teachers": CheckConstraint("position BETWEEN 1 AND 10", name="position"),
}
_REFERENCES = {
    "users": {"known_school_id": "schools"},
    "sections": {"school_id": "schools", "term_id": "terms", "course_id": "courses"},
    "section_teachers": {"section_id": "sections", "teacher_id": "teachers"},
    "enrollments": {"section_id": "sections", "student_id": "students"},
    "contacts": {"student_id": "students"},
}
"""Table → column → the entity that it names, within the district. None holds of attendance, which may come before its student is let in, nor of the
school that an enrollment tells beside its section's."""

# What a member of the district's office has for a school may be a word that names none.
_KNOWN_SCHOOL = Column("known_school_id", Text, Computed("CASE WHEN role <> 'staff' THEN school_id END", persisted=True))


def _roster_table(name: str) -> Table:
    """The table of one or more entities: `users` has the columns of students, teachers and staff together."""
    entities = [each for each in ENTITIES.values() if each.table == name]
    key = (*entities[0].fixed, *entities[0].key)
    values = dict.fromkeys(column for each in entities for column in each.values)
    references = [part for column, entity in _REFERENCES.get(name, {}).items() for part in _reference(column, entity)]
    # Where a part of the key names another record, the district is that record's: it is looked up once and not twice for every row.
    own_district = () if any(column in key for column in _REFERENCES.get(name, {})) else (ForeignKey("districts.id"),)
    return Table(
        name,
        metadata,
        Column("district_id", Text, *own_district, primary_key=True),
        *(Column(column, Text, primary_key=True) for column in key),
        *(Column(column, _TYPES.get(column, Text), nullable=column != "position") for column in values),
        Column("active", Boolean, nullable=False),
        Column("first_seen_run", Integer, nullable=False),
        Column("last_changed_run", Integer, nullable=False),
        Column("deactivated_at", UtcTimestamp),
        *((_KNOWN_SCHOOL,) if name == "users" else ()),
        *references,
        CheckConstraint("active = (deactivated_at IS NULL)", name="active"),
        *((_CHECKS[name],) if name in _CHECKS else ()),
        # Rows live in the primary key itself: they arrive in key order, and an enrollment is little more than its key.
        sqlite_with_rowid=False,
    )


def _reference(column: str, entity: str) -> list[Column[str] | ForeignKeyConstraint]:
    """A foreign key within the district. Of a person his role is part of it, and so a column that says the same in every row."""
    parent = ENTITIES[entity]
    here, there, columns = ["district_id"], ["district_id"], []
    for name, value in parent.fixed.items():
        columns.append(Column(f"{column.removesuffix('id')}{name}", Text, Computed(f"'{value}'", persisted=True), nullable=False, info={ALWAYS: value}))
        here.append(columns[-1].name)
        there.append(name)
    named = ForeignKeyConstraint([*here, column], [f"{parent.table}.{each}" for each in (*there, *parent.key)])
    return [*columns, named]


def _one_of(column: str, *allowed: str) -> CheckConstraint:
    """What may stand in a column."""
    return CheckConstraint(f"{column} IN ({', '.join(map(repr, allowed))})", name=column)


districts = Table(
    "districts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("created_at", UtcTimestamp, nullable=False),
    Column("paused", Boolean, nullable=False),
)

# Every district has an account of its own id, so that no account of another can be called as it is.
accounts = Table(
    "accounts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("district_id", Text, ForeignKey("districts.id"), nullable=False, index=True),
    Column("created_at", UtcTimestamp, nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("authorized_keys", Text, nullable=False),
)

rosters = {name: _roster_table(name) for name in dict.fromkeys(each.table for each in ENTITIES.values())}
"""Table name → roster table."""

Index(None, rosters["users"].c.district_id, rosters["users"].c.school_id)
Index(None, rosters["users"].c.district_id, rosters["users"].c.known_school_id)
Index(None, rosters["sections"].c.district_id, rosters["sections"].c.school_id)
Index(None, rosters["sections"].c.district_id, rosters["sections"].c.term_id)
Index(None, rosters["sections"].c.district_id, rosters["sections"].c.course_id)
Index(None, rosters["section_teachers"].c.district_id, rosters["section_teachers"].c.teacher_id)
Index(None, rosters["enrollments"].c.district_id, rosters["enrollments"].c.student_id)
Index(None, rosters["attendance"].c.district_id, rosters["attendance"].c.date)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Text, primary_key=True),
    Column("district_id", Text, ForeignKey("districts.id"), nullable=False),
    Column("received_at", UtcTimestamp, nullable=False),
    Column("folder", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("signature", Text, nullable=False),
    Column("files", JSON, nullable=False),
    Column("headers", JSON(none_as_null=True)),
    Index(None, "district_id", "received_at"),
    Index(None, "district_id", "id", unique=True),
    _one_of("origin", "sftp", "folder", "preview"),
)

sync_runs = Table(
    "sync_runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("district_id", Text, ForeignKey("districts.id"), nullable=False),
    Column("delivery_id", Text, nullable=False, index=True),
    Column("state", Text, nullable=False, index=True),
    Column("created_at", UtcTimestamp, nullable=False),
    Column("started_at", UtcTimestamp),
    Column("finished_at", UtcTimestamp),
    Column("outcome", Text),
    Column("attempts", Integer, nullable=False),
    Column("not_before", UtcTimestamp),
    Column("claimed_by", Text),
    Column("approved_digest", Text, nullable=False),
    Column("counts", JSON, nullable=False),
    Column("seconds", JSON, nullable=False),
    Column("error", Text, nullable=False),
    Column("preview", JSON(none_as_null=True)),
    Column("reverts", Integer),
    Column("left_alone", JSON(none_as_null=True)),
    Index(None, "district_id", "id", unique=True),
    ForeignKeyConstraint(["district_id", "delivery_id"], ["deliveries.district_id", "deliveries.id"]),
    ForeignKeyConstraint(["district_id", "reverts"], ["sync_runs.district_id", "sync_runs.id"]),
    _one_of("state", "pending", "running", "closed"),
    _one_of("outcome", *get_args(Outcome)),
    CheckConstraint("(state = 'closed') = (outcome IS NOT NULL) AND (state = 'closed') = (finished_at IS NOT NULL)", name="closed"),
    CheckConstraint("state <> 'running' OR (started_at IS NOT NULL AND claimed_by IS NOT NULL)", name="claimed"),
    sqlite_autoincrement=True,
)

# The law that a district never has two runs at once, kept by the database itself.
Index("one_running_run_a_district", sync_runs.c.district_id, unique=True, sqlite_where=text("state = 'running'"), postgresql_where=text("state = 'running'"))

# What is known of each district's roster as it stands, see `states`.
roster_states = Table(
    "roster_states",
    metadata,
    Column("district_id", Text, ForeignKey("districts.id"), primary_key=True),
    Column("run_id", Integer),
    Column("rules", Text, nullable=False),
    Column("repeatable", Boolean, nullable=False),
    Column("read_at", UtcTimestamp),
    Column("touches", Integer, nullable=False),
    Column("touches_known", Integer, nullable=False),
    Column("token", Text, nullable=False, server_default=""),
    ForeignKeyConstraint(["district_id", "run_id"], ["sync_runs.district_id", "sync_runs.id"]),
)

findings = Table(
    "findings",
    metadata,
    Column("run_id", Integer, ForeignKey("sync_runs.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("code", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("file", Text, nullable=False),
    Column("column_name", Text, nullable=False),
    Column("count", Integer, nullable=False),
    Column("lines", JSON, nullable=False),
    Column("values", JSON, nullable=False),
    Column("hint", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("readings", JSON, nullable=False),
    Column("left_out", JSON, nullable=False),
    _one_of("severity", *get_args(Severity)),
    CheckConstraint("count >= 0", name="count"),
)

holds = Table(
    "holds",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", Integer, nullable=False, index=True, unique=True),
    Column("district_id", Text, nullable=False),
    Column("delivery_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", UtcTimestamp, nullable=False),
    Column("digest", Text, nullable=False),
    Column("reasons", JSON, nullable=False),
    Column("scope", JSON, nullable=False),
    Column("decided_at", UtcTimestamp),
    Column("decided_by", Text, nullable=False),
    Index(None, "district_id", "state"),
    ForeignKeyConstraint(["district_id", "run_id"], ["sync_runs.district_id", "sync_runs.id"]),
    ForeignKeyConstraint(["district_id", "delivery_id"], ["deliveries.district_id", "deliveries.id"]),
    _one_of("state", *get_args(HoldState)),
    CheckConstraint("(state = 'open') = (decided_at IS NULL)", name="decided"),
    sqlite_autoincrement=True,
)

changes = Table(
    "changes",
    metadata,
    Column("run_id", Integer, primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("district_id", Text, nullable=False),
    Column("entity", Text, nullable=False),
    Column("key", JSON, nullable=False),
    Column("operation", Text, nullable=False),
    Column("before", JSON),
    Column("after", JSON),
    ForeignKeyConstraint(["district_id", "run_id"], ["sync_runs.district_id", "sync_runs.id"]),
    _one_of("operation", *OPERATIONS, "baseline"),
)

record = cast(changes.c.key, Text)
"""The record that an entry of changes is about, as text: JSON itself can be neither compared nor looked up."""

Index("ix_changes_record", changes.c.district_id, changes.c.entity, record)
