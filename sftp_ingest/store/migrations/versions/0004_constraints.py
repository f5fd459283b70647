"""What always holds becomes a rule of the tables: references within a district, states and outcomes, and who is active."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations

revision = "0004"
down_revision = "0003"

_ROSTER = ("schools", "terms", "courses", "users", "sections", "section_teachers", "enrollments", "contacts", "attendance")
_NUMBERED = ("sync_runs", "holds")
_MADE_UP = {  # columns that say the same in every row, or what is known to be a school
    "users": ("known_school_id", "CASE WHEN role <> 'staff' THEN school_id END"),
    "section_teachers": ("teacher_role", "'teacher'"),
    "enrollments": ("student_role", "'student'"),
    "contacts": ("student_role", "'student'"),
}
_REFERENCES = {
    "users": ("known_school_id schools school_id",),
    "sections": ("school_id schools school_id", "term_id terms term_id", "course_id courses course_id"),
    "section_teachers": ("section_id sections section_id", "teacher_role,teacher_id users role,sis_id"),
    "enrollments": ("section_id sections section_id", "student_role,student_id users role,sis_id"),
    "contacts": ("student_role,student_id users role,sis_id",),
    "sync_runs": ("delivery_id deliveries id", "reverts sync_runs id"),
    "holds": ("run_id sync_runs id", "delivery_id deliveries id"),
    "changes": ("run_id sync_runs id",),
}
_INSTEAD_OF = {
    "section_teachers": ("fk_section_teachers_district_id_districts",),
    "enrollments": ("fk_enrollments_district_id_districts",),
    "contacts": ("fk_contacts_district_id_districts",),
    "sync_runs": ("fk_sync_runs_delivery_id_deliveries", "sync_runs_reverts_fkey"),
    "holds": ("fk_holds_run_id_sync_runs", "fk_holds_district_id_districts", "fk_holds_delivery_id_deliveries"),
    "changes": ("fk_changes_run_id_sync_runs", "fk_changes_district_id_districts"),
}
_CHECKS: Mapping[str, Mapping[str, str]] = {
    **{table: {"active": "active = (deactivated_at IS NULL)"} for table in _ROSTER},
    "deliveries": {"origin": "origin IN ('sftp', 'folder', 'preview')"},
    "sync_runs": {
        "state": "state IN ('pending', 'running', 'closed')",
        "outcome": "outcome IN ('successful', 'unchanged', 'refused', 'on_hold', 'superseded', 'failed', 'previewed')",
        "closed": "(state = 'closed') = (outcome IS NOT NULL) AND (state = 'closed') = (finished_at IS NOT NULL)",
        "claimed": "state <> 'running' OR (started_at IS NOT NULL AND claimed_by IS NOT NULL)",
    },
    "findings": {"severity": "severity IN ('refuse', 'reject', 'warn')", "count": "count >= 0"},
    "holds": {"state": "state IN ('open', 'released', 'discarded', 'superseded')", "decided": "(state = 'open') = (decided_at IS NULL)"},
    "changes": {"operation": "operation IN ('created', 'updated', 'moved', 'deactivated', 'reactivated', 'baseline')"},
}


def upgrade() -> None:
    """From reverts. Raises IntegrityError where a row breaks a rule; SQLite looks at references only before the transaction is kept."""
    op.drop_index(op.f("ix_sync_runs_district_id_id"), "sync_runs")
    op.create_index(op.f("ix_sync_runs_district_id_id"), "sync_runs", ["district_id", "id"], unique=True)
    op.create_index(op.f("ix_deliveries_district_id_id"), "deliveries", ["district_id", "id"], unique=True)
    op.drop_index(op.f("ix_holds_run_id"), "holds")
    op.create_index(op.f("ix_holds_run_id"), "holds", ["run_id"], unique=True)
    op.drop_index("ix_changes_record", "changes")
    with _numbers_going_on():
        for table in _CHECKS:
            with _changed(table) as change:
                _constrain(change, table)
    op.create_index("ix_changes_record", "changes", ["district_id", "entity", sa.text("CAST(key AS TEXT)")])
    for table, column in (("users", "known_school_id"), ("sections", "term_id"), ("sections", "course_id"), ("section_teachers", "teacher_id")):
        op.create_index(op.f(f"ix_{table}_district_id_{column}"), table, ["district_id", column])


def _constrain(change: BatchOperations, table: str) -> None:
    if table == "section_teachers":
        change.alter_column("position", existing_type=sa.Integer, nullable=False)
    if table in _MADE_UP:
        name, says = _MADE_UP[table]
        change.add_column(sa.Column(name, sa.Text, sa.Computed(says, persisted=True), nullable=table == "users"))
    for name in _INSTEAD_OF.get(table, ()):
        change.drop_constraint(op.f(name), type_="foreignkey")
    for told in _REFERENCES.get(table, ()):
        columns, parent, named = told.split()
        change.create_foreign_key(op.f(f"fk_{table}_district_id_{parent}"), parent, ["district_id", *columns.split(",")], ["district_id", *named.split(",")])
    for name, rule in _CHECKS[table].items():
        change.create_check_constraint(op.f(f"ck_{table}_{name}"), rule)


@contextmanager
def _changed(table: str) -> Iterator[BatchOperations]:
    """The table's own changes, in one. SQLite makes the table anew, of which what cannot be read from it is said here."""
    kind: dict[str, Any] = {"sqlite_with_rowid": table not in _ROSTER, "sqlite_autoincrement": table in _NUMBERED}
    unnamed = {"fk": "%(table_name)s_%(column_0_name)s_fkey"}  # the one that came with its column, as PostgreSQL names it
    with op.batch_alter_table(table, table_kwargs=kind, naming_convention=unnamed) as change:
        yield change


@contextmanager
def _numbers_going_on() -> Iterator[None]:
    """SQLite would begin again behind the last row that is left, and so give an erased run's number to another."""
    if op.get_bind().dialect.name != "sqlite":
        yield
        return
    last = op.get_bind().execute(sa.text("SELECT name, seq FROM sqlite_sequence")).all()
    yield
    op.execute("DELETE FROM sqlite_sequence")
    for name, number in last:
        op.get_bind().execute(sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :number)"), {"name": name, "number": number})
