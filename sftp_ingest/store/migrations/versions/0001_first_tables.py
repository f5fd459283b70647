"""The first tables: nine of the roster, five of the ledger, and the districts."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_USER = (
    "school_id first_name middle_name last_name email username ext number state_id preferred_first_name preferred_middle_name "
    "preferred_last_name grade gender graduation_year dob race hispanic_latino home_language ell_status frl_status iep_status "
    "gifted_status section_504_status disability_status disability_type disability_code street city state zip unweighted_gpa "
    "weighted_gpa title department staff_role school_ids"
)
_SCHOOL = "name number state_id low_grade high_grade principal principal_email address city state zip phone ext"
_JSON = {"ext", "school_ids", "other_phones"}


def upgrade() -> None:
    """From nothing."""
    op.create_table(
        "districts",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("password_hash", sa.Text, nullable=False),
        sa.Column("authorized_keys", sa.Text, nullable=False),
        sa.Column("paused", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_districts")),
    )
    _create_ledger()
    _create_roster("schools", "school_id", _SCHOOL)
    _create_roster("terms", "term_id", "name start_date end_date")
    _create_roster("courses", "course_id", "name number description")
    _create_roster("users", "role sis_id", _USER, check=("role", "role IN ('student', 'teacher', 'staff')"))
    _create_roster("sections", "section_id", "school_id name number grade subject period course_id term_id ext")
    _create_roster("section_teachers", "section_id teacher_id", "position", check=("position", "position BETWEEN 1 AND 10"))
    _create_roster("enrollments", "section_id student_id", "school_id")
    _create_roster("contacts", "student_id contact_id", "name type relationship phone phone_type other_phones email sis_id")
    op.create_index(op.f("ix_users_district_id_school_id"), "users", ["district_id", "school_id"])
    op.create_index(op.f("ix_sections_district_id_school_id"), "sections", ["district_id", "school_id"])
    op.create_index(op.f("ix_enrollments_district_id_student_id"), "enrollments", ["district_id", "student_id"])


def _create_roster(name: str, key: str, values: str, check: tuple[str, str] | None = None) -> None:
    op.create_table(
        name,
        sa.Column("district_id", sa.Text, nullable=False),
        *(sa.Column(column, sa.Text, nullable=False) for column in key.split()),
        *(sa.Column(column, sa.JSON if column in _JSON else sa.Integer if column == "position" else sa.Text) for column in values.split()),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("first_seen_run", sa.Integer, nullable=False),
        sa.Column("last_changed_run", sa.Integer, nullable=False),
        sa.Column("deactivated_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("district_id", *key.split(), name=op.f(f"pk_{name}")),
        _refers_to(name, "district_id", "districts"),
        *((sa.CheckConstraint(check[1], name=op.f(f"ck_{name}_{check[0]}")),) if check else ()),
        sqlite_with_rowid=False,
    )


def _refers_to(table: str, column: str, other: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{other}.id"], name=op.f(f"fk_{table}_{column}_{other}"))


def _create_ledger() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("district_id", sa.Text, nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("folder", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("signature", sa.Text, nullable=False),
        sa.Column("files", sa.JSON, nullable=False),
        sa.Column("headers", sa.JSON),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        _refers_to("deliveries", "district_id", "districts"),
    )
    op.create_index(op.f("ix_deliveries_district_id_received_at"), "deliveries", ["district_id", "received_at"])
    op.create_table(
        "sync_runs",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("district_id", sa.Text, nullable=False),
        sa.Column("delivery_id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("outcome", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True)),
        sa.Column("claimed_by", sa.Text),
        sa.Column("approved_digest", sa.Text, nullable=False),
        sa.Column("counts", sa.JSON, nullable=False),
        sa.Column("seconds", sa.JSON, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sync_runs")),
        _refers_to("sync_runs", "district_id", "districts"),
        _refers_to("sync_runs", "delivery_id", "deliveries"),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_sync_runs_delivery_id"), "sync_runs", ["delivery_id"])
    op.create_index(op.f("ix_sync_runs_state"), "sync_runs", ["state"])
    op.create_index(op.f("ix_sync_runs_district_id_id"), "sync_runs", ["district_id", "id"])
    running = sa.text("state = 'running'")
    op.create_index("one_running_run_a_district", "sync_runs", ["district_id"], unique=True, sqlite_where=running, postgresql_where=running)
    op.create_table(
        "findings",
        sa.Column("run_id", sa.Integer, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("severity", sa.Text, nullable=False),
        sa.Column("file", sa.Text, nullable=False),
        sa.Column("column_name", sa.Text, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("lines", sa.JSON, nullable=False),
        sa.Column("values", sa.JSON, nullable=False),
        sa.Column("hint", sa.Text, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "position", name=op.f("pk_findings")),
        _refers_to("findings", "run_id", "sync_runs"),
    )
    op.create_table(
        "holds",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("run_id", sa.Integer, nullable=False),
        sa.Column("district_id", sa.Text, nullable=False),
        sa.Column("delivery_id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("reasons", sa.JSON, nullable=False),
        sa.Column("scope", sa.JSON, nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True)),
        sa.Column("decided_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_holds")),
        _refers_to("holds", "run_id", "sync_runs"),
        _refers_to("holds", "district_id", "districts"),
        _refers_to("holds", "delivery_id", "deliveries"),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_holds_run_id"), "holds", ["run_id"])
    op.create_index(op.f("ix_holds_district_id_state"), "holds", ["district_id", "state"])
    op.create_table(
        "changes",
        sa.Column("run_id", sa.Integer, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("district_id", sa.Text, nullable=False),
        sa.Column("entity", sa.Text, nullable=False),
        sa.Column("key", sa.JSON, nullable=False),
        sa.Column("operation", sa.Text, nullable=False),
        sa.Column("before", sa.JSON),
        sa.Column("after", sa.JSON),
        sa.PrimaryKeyConstraint("run_id", "sequence", name=op.f("pk_changes")),
        _refers_to("changes", "run_id", "sync_runs"),
        _refers_to("changes", "district_id", "districts"),
    )
