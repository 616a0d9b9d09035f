"""Rebuild of the search index in PostgreSQL, to include pairs of consecutive words."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0011"
down_revision: Final = "0010"


def upgrade() -> None:
    """Empty the search index in PostgreSQL. A background scan rebuilds it from the images."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DELETE FROM search_images")
        scans = sa.table("media_scans", sa.column("name"))
        op.execute(sa.delete(scans).where(scans.c.name.in_(["index", "rebuild"])))


def downgrade() -> None:
    """Empty the search index again, so that it is rebuilt."""
    upgrade()
