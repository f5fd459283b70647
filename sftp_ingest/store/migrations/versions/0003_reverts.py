"""Runs that revert others, and an index by which the changes of one record are found."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """From the whole contract."""
    refers = sa.ForeignKey("sync_runs.id", name=op.f("fk_sync_runs_reverts_sync_runs"))
    op.add_column("sync_runs", sa.Column("reverts", sa.Integer, refers), inline_references=True)  # SQLite adds no constraint later
    op.add_column("sync_runs", sa.Column("left_alone", sa.JSON))
    op.create_index("ix_changes_record", "changes", ["district_id", "entity", sa.text("CAST(key AS TEXT)")])
