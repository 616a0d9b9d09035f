"""Index on source keys, to find which images in a folder are in the library."""

from typing import Final

from alembic import op

revision: Final = "0008"
down_revision: Final = "0007"


def upgrade() -> None:
    """Add the index on source keys."""
    op.create_index("ix_media_resources_source_key", "media_resources", ["source_key"])
