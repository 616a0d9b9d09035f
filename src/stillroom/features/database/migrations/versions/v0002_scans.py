"""Table for the progress of the scan that finds expired images."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0002"
down_revision: Final = "0001"


def upgrade() -> None:
    """Create the table `media_scans`."""
    op.create_table(
        "media_scans",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("after", sa.String(1024), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("claimed_by", sa.Uuid()),
        sa.Column("lease_until", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("name", name="pk_media_scans"),
    )
