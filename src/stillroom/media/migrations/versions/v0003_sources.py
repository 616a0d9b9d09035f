"""Source keys of resources, and hashes that the deletion of a source requires."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0003"
down_revision: Final = "0002"


def upgrade() -> None:
    """Add the columns. The source of a resource in place is its own key."""
    op.add_column("media_resources", sa.Column("source_key", sa.String(1024)))
    op.add_column("media_deletions", sa.Column("content_hash", sa.LargeBinary(32)))
    op.add_column("media_dead_letters", sa.Column("content_hash", sa.LargeBinary(32)))
    op.execute(
        "UPDATE media_resources SET source_key = storage_key WHERE storage_key LIKE 'compute/%'"
    )


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("media_dead_letters", "content_hash")
    op.drop_column("media_deletions", "content_hash")
    op.drop_column("media_resources", "source_key")
