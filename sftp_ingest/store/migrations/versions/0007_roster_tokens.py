"""A token of each roster as a run left it, by which a copy of exactly that roster is known."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """From rosters of which no copy was kept."""
    op.add_column("roster_states", sa.Column("token", sa.Text, nullable=False, server_default=""))
