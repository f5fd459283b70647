"""The tables: a roster as `model.ENTITIES` draws it, one row a record, and the ledger of what was done to it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, Boolean, CheckConstraint, Column, DateTime, Dialect, ForeignKey, Index, Integer, MetaData, Table, Text, cast, text
from sqlalchemy.types import TypeDecorator, TypeEngine

from sftp_ingest.model import ENTITIES

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
_CHECKS = {
    "users": CheckConstraint("role IN ('student', 'teacher', 'staff')", name="role"),
    "section_teachers": CheckConstraint("position BETWEEN 1 AND 10", name="position"),
}


def _roster_table(name: str) -> Table:
    """The table of one or more entities: `users` has the columns of students, teachers and staff together."""
    entities = [each for each in ENTITIES.values() if each.table == name]
    key = (*entities[0].fixed, *entities[0].key)
    values = dict.fromkeys(column for each in entities for column in each.values)
    return Table(
        name,
        metadata,
        Column("district_id", Text, ForeignKey("districts.id"), primary_key=True),
        *(Column(column, Text, primary_key=True) for column in key),
        *(Column(column, _TYPES.get(column, Text)) for column in values),
        Column("active", Boolean, nullable=False),
        Column("first_seen_run", Integer, nullable=False),
        Column("last_changed_run", Integer, nullable=False),
        Column("deactivated_at", UtcTimestamp),
        *((_CHECKS[name],) if name in _CHECKS else ()),
        # Rows live in the primary key itself: they arrive in key order, and an enrollment is little more than its key.
        sqlite_with_rowid=False,
    )


districts = Table(
    "districts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("created_at", UtcTimestamp, nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("authorized_keys", Text, nullable=False),
    Column("paused", Boolean, nullable=False),
)

rosters = {name: _roster_table(name) for name in dict.fromkeys(each.table for each in ENTITIES.values())}
"""Table name → roster table."""

Index(None, rosters["users"].c.district_id, rosters["users"].c.school_id)
Index(None, rosters["sections"].c.district_id, rosters["sections"].c.school_id)
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
)

sync_runs = Table(
    "sync_runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("district_id", Text, ForeignKey("districts.id"), nullable=False),
    Column("delivery_id", Text, ForeignKey("deliveries.id"), nullable=False, index=True),
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
    Column("reverts", Integer, ForeignKey("sync_runs.id")),
    Column("left_alone", JSON(none_as_null=True)),
    Index(None, "district_id", "id"),
    sqlite_autoincrement=True,
)

# The law that a district never has two runs at once, kept by the database itself.
Index("one_running_run_a_district", sync_runs.c.district_id, unique=True, sqlite_where=text("state = 'running'"), postgresql_where=text("state = 'running'"))

# What is known of each district's roster as it stands, see `states`.
roster_states = Table(
    "roster_states",
    metadata,
    Column("district_id", Text, ForeignKey("districts.id"), primary_key=True),
    Column("run_id", Integer, ForeignKey("sync_runs.id")),
    Column("rules", Text, nullable=False),
    Column("repeatable", Boolean, nullable=False),
    Column("read_at", UtcTimestamp),
    Column("touches", Integer, nullable=False),
    Column("touches_known", Integer, nullable=False),
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
)

holds = Table(
    "holds",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", Integer, ForeignKey("sync_runs.id"), nullable=False, index=True),
    Column("district_id", Text, ForeignKey("districts.id"), nullable=False),
    Column("delivery_id", Text, ForeignKey("deliveries.id"), nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", UtcTimestamp, nullable=False),
    Column("digest", Text, nullable=False),
    Column("reasons", JSON, nullable=False),
    Column("scope", JSON, nullable=False),
    Column("decided_at", UtcTimestamp),
    Column("decided_by", Text, nullable=False),
    Index(None, "district_id", "state"),
    sqlite_autoincrement=True,
)

changes = Table(
    "changes",
    metadata,
    Column("run_id", Integer, ForeignKey("sync_runs.id"), primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("district_id", Text, ForeignKey("districts.id"), nullable=False),
    Column("entity", Text, nullable=False),
    Column("key", JSON, nullable=False),
    Column("operation", Text, nullable=False),
    Column("before", JSON),
    Column("after", JSON),
)

record = cast(changes.c.key, Text)
"""The record that an entry of changes is about, as text: JSON itself can be neither compared nor looked up."""

Index("ix_changes_record", changes.c.district_id, changes.c.entity, record)
