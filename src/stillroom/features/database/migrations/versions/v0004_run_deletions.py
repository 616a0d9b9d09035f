"""Table for the progress of run deletions."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0004"
down_revision: Final = "0003"


def upgrade() -> None:
    """Create the table `media_run_deletions`."""
    op.create_table(
        "media_run_deletions",
        sa.Column("folder", sa.String(1024), nullable=False),
        sa.Column("saved_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("after", sa.String(1024), nullable=False),
        sa.Column("marked", sa.BigInteger(), nullable=False),
        sa.Column("kept", sa.BigInteger(), nullable=False),
        sa.Column("newer", sa.BigInteger(), nullable=False),
        sa.Column("claimed_by", sa.Uuid()),
        sa.Column("lease_until", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("folder", name="pk_media_run_deletions"),
    )
