"""The whole contract: attendance, what was sent beside what was derived, side files, previews, and readings of findings."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """From the first tables. What was sent is what stood there until now, so the next night finds nothing changed by this."""
    _add("users", "sis_school_id source")
    op.execute("UPDATE users SET sis_school_id = school_id")
    _add("sections", "sis_name sis_grade sis_subject course_name course_number term_name term_start term_end source")
    op.execute("UPDATE sections SET sis_name = name, sis_grade = grade, sis_subject = subject")
    for section, own, table in (
        ("course_name", "name", "courses"),
        ("course_number", "number", "courses"),
        ("term_name", "name", "terms"),
        ("term_start", "start_date", "terms"),
        ("term_end", "end_date", "terms"),
    ):
        key = f"{table.removesuffix('s')}_id"
        same = f"parent.district_id = sections.district_id AND parent.{key} = sections.{key}"
        op.execute(f"UPDATE sections SET {section} = (SELECT parent.{own} FROM {table} parent WHERE {same})")
    _add("contacts", "source")
    op.add_column("sync_runs", sa.Column("preview", sa.JSON))
    op.add_column("findings", sa.Column("readings", sa.JSON, nullable=False, server_default="[]"))
    op.add_column("findings", sa.Column("left_out", sa.JSON, nullable=False, server_default="{}"))
    op.create_table(
        "attendance",
        sa.Column("district_id", sa.Text, nullable=False),
        sa.Column("attendance_id", sa.Text, nullable=False),
        *(sa.Column(column, sa.Text) for column in ("student_id", "date", "status", "type", "excuse_code", "section_id", "school_id")),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("first_seen_run", sa.Integer, nullable=False),
        sa.Column("last_changed_run", sa.Integer, nullable=False),
        sa.Column("deactivated_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("district_id", "attendance_id", name=op.f("pk_attendance")),
        sa.ForeignKeyConstraint(["district_id"], ["districts.id"], name=op.f("fk_attendance_district_id_districts")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_attendance_district_id_date"), "attendance", ["district_id", "date"])


def _add(table: str, columns: str) -> None:
    for column in columns.split():
        op.add_column(table, sa.Column(column, sa.Text))
