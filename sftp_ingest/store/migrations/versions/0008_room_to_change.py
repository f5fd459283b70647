"""Room on each page of PostgreSQL's roster tables, so that a record that changes stays on its page and no index is written for it."""

from alembic import op

revision = "0008"
down_revision = "0007"

_CHANGING = ("users", "sections", "section_teachers", "enrollments", "contacts")


def upgrade() -> None:
    """From full pages; those that are there already get room as they are vacuumed. SQLite's rows lie within their keys, and have room as it comes."""
    if op.get_bind().dialect.name == "postgresql":
        for table in _CHANGING:
            op.execute(f"ALTER TABLE {table} SET (fillfactor = 90)")
