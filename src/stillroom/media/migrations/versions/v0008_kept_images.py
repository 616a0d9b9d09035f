"""Which resources were taken from a key, for folders that show what of them is in the library."""

from typing import Final

from alembic import op

revision: Final = "0008"
down_revision: Final = "0007"


def upgrade() -> None:
    """Add the index."""
    op.create_index("ix_media_resources_source_key", "media_resources", ["source_key"])


def downgrade() -> None:
    """Take it away."""
    op.drop_index("ix_media_resources_source_key", "media_resources")
