"""Table of purges: requests to a CDN to remove its copies of a URL."""

from typing import Final

import sqlalchemy as sa
from alembic import op

from stillroom.features.database.tables import lease_columns

revision: Final = "0013"
down_revision: Final = "0012"

_MOMENT: Final = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the table, which is empty."""
    op.create_table(
        "purges",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("due_at", _MOMENT, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("is_repeat", sa.Boolean(), nullable=False, server_default=sa.false()),
        *lease_columns(),
    )
    op.create_index("ix_purges_due_at", "purges", ["due_at"])
