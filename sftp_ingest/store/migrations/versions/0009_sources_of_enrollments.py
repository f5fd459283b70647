"""Enrollments tell which side file they came from, as other records do: one of a side file may be of a section of the main files."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """From enrollments that were taken to come from where their section does, as is now said of them.

    What a side file said of other sections is not known yet, so the next night reads all files, though they be those of the night before.
    """
    op.add_column("enrollments", sa.Column("source", sa.Text))
    of_section = "SELECT s.source FROM sections s WHERE s.district_id = enrollments.district_id AND s.section_id = enrollments.section_id"
    beside = "SELECT district_id, section_id FROM sections WHERE source IS NOT NULL"
    op.execute(f"UPDATE enrollments SET source = ({of_section}) WHERE (district_id, section_id) IN ({beside})")
    op.execute("UPDATE roster_states SET rules = ''")
