"""Table of the trash, and column for the trash id of a run that is being deleted."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0014"
down_revision: Final = "0013"

_KEY_BYTES: Final = 1024
_MOMENT: Final = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the table, and add the column."""
    deletion = sa.ForeignKey("media_deletions.id", ondelete="CASCADE")
    op.create_table(
        "media_trash",
        sa.Column("id", sa.Uuid(), deletion, primary_key=True),
        sa.Column("trash_id", sa.Uuid(), nullable=False),
        sa.Column("path", sa.String(_KEY_BYTES), nullable=False),
        sa.Column("storage_key", sa.String(_KEY_BYTES), nullable=False),
        sa.Column("place", sa.String(_KEY_BYTES), nullable=False),
        sa.Column("save_id", sa.Text(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(32)),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("deleted_at", _MOMENT, nullable=False),
        sa.Column("purge_at", _MOMENT, nullable=False),
        sa.Column("actor", sa.String(255)),
    )
    op.create_index("ix_media_trash_trash_id", "media_trash", ["trash_id"])
    op.add_column("media_run_deletions", sa.Column("trash_id", sa.Uuid()))
