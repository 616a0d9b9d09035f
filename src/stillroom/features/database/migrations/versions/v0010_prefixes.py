"""Rebuild of the search index, to add file names, library texts and model names as single words."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0010"
down_revision: Final = "0009"


def upgrade() -> None:
    """Empty the search index. A background scan then immediately rebuilds it from the images."""
    op.execute("DELETE FROM search_images")
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DELETE FROM search_words")
    scans = sa.table("media_scans", sa.column("name"))
    op.execute(sa.delete(scans).where(scans.c.name.in_(["index", "rebuild"])))
