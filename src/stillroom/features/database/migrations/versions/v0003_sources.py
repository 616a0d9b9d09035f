"""Columns for the keys from which resources were ingested, and for hashes of images to delete."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0003"
down_revision: Final = "0002"


def upgrade() -> None:
    """Add the columns. If a file was not copied, the storage key becomes the source key."""
    op.add_column("media_resources", sa.Column("source_key", sa.String(1024)))
    op.add_column("media_deletions", sa.Column("content_hash", sa.LargeBinary(32)))
    op.add_column("media_dead_letters", sa.Column("content_hash", sa.LargeBinary(32)))
    op.execute(
        "UPDATE media_resources SET source_key = storage_key WHERE storage_key LIKE 'compute/%'"
    )
