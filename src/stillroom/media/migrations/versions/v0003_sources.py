"""Where a resource came from, and whose bytes a source's deletion relies on."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0003"
down_revision: Final = "0002"


def upgrade() -> None:
    """Add the columns; what was recorded in place came from where it lies."""
    op.add_column("media_resources", sa.Column("source_key", sa.String(1024)))
    op.add_column("media_deletions", sa.Column("content_hash", sa.LargeBinary(32)))
    op.add_column("media_dead_letters", sa.Column("content_hash", sa.LargeBinary(32)))
    op.execute(
        "UPDATE media_resources SET source_key = storage_key WHERE storage_key LIKE 'compute/%'"
    )


def downgrade() -> None:
    """Take them away."""
    op.drop_column("media_dead_letters", "content_hash")
    op.drop_column("media_deletions", "content_hash")
    op.drop_column("media_resources", "source_key")
