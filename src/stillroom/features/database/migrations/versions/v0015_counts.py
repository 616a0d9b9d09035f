"""Table of image counts for facets, and indexes for finding images by size or hash."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0015"
down_revision: Final = "0014"


def upgrade() -> None:
    """Create the table and the indexes. A server counts the existing images in the background."""
    counts = op.create_table(
        "search_counts",
        sa.Column("word", sa.String(20), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("value", sa.String(255), nullable=False),
        sa.Column("images", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_search_counts_kind", "search_counts", ["kind", "images"])
    op.create_index("ix_search_images_size", "search_images", ["size", "id"])
    op.create_index("ix_search_images_sha256", "search_images", ["sha256"])
    # No image has been counted yet (`features/search/counts.py`).
    op.bulk_insert(counts, [{"word": "counted", "kind": "", "value": "", "images": -1}])
