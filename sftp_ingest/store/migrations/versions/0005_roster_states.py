"""What is known of each district's roster as it stands, and triggers by which a hand that writes to it is noticed."""

import sqlalchemy as sa
from alembic import op

from sftp_ingest.store import states

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """From the schema that knew nothing of it: no roster counts as known, so the next night reads everything."""
    op.create_table(
        "roster_states",
        sa.Column("district_id", sa.Text, nullable=False),
        sa.Column("run_id", sa.Integer),
        sa.Column("rules", sa.Text, nullable=False),
        sa.Column("repeatable", sa.Boolean, nullable=False),
        sa.Column("read_at", sa.DateTime(timezone=True)),
        sa.Column("touches", sa.Integer, nullable=False),
        sa.Column("touches_known", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("district_id", name=op.f("pk_roster_states")),
        sa.ForeignKeyConstraint(["district_id"], ["districts.id"], name=op.f("fk_roster_states_district_id_districts")),
        sa.ForeignKeyConstraint(["district_id", "run_id"], ["sync_runs.district_id", "sync_runs.id"], name=op.f("fk_roster_states_district_id_sync_runs")),
    )
    op.execute("INSERT INTO roster_states (district_id, rules, repeatable, touches, touches_known) SELECT id, '', FALSE, 0, 0 FROM districts")
    states.notice(op.get_bind())
