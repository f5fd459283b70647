"""A district may have several accounts; what it logged in with so far is the account of its own id."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """From districts that had one log-in each."""
    op.create_table(
        "accounts",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("district_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("password_hash", sa.Text, nullable=False),
        sa.Column("authorized_keys", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_accounts")),
        sa.ForeignKeyConstraint(["district_id"], ["districts.id"], name=op.f("fk_accounts_district_id_districts")),
    )
    op.create_index(op.f("ix_accounts_district_id"), "accounts", ["district_id"])
    op.execute(
        "INSERT INTO accounts (name, district_id, created_at, password_hash, authorized_keys) "
        "SELECT id, id, created_at, password_hash, authorized_keys FROM districts"
    )
    for column in ("password_hash", "authorized_keys"):
        op.drop_column("districts", column)
