"""Tables of events, of the state of their feed, and of published runs that were reported."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0012"
down_revision: Final = "0011"

_KEY_BYTES: Final = 1024


def upgrade() -> None:
    """Create empty tables. The first use inserts the row of the feed, with a random id."""
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    op.create_table(
        "events",
        sa.Column(
            "position",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            autoincrement=False,
        ),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("path", sa.String(_KEY_BYTES, collation=None if is_sqlite else "C")),
        sa.Column("resource_id", sa.Uuid()),
        sa.Column("actor", sa.String(255)),
        sa.Column("reason", sa.String(16)),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("found", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_events"),
    )
    op.create_table(
        "event_feed",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("feed_id", sa.String(16), nullable=False),
        sa.Column("last_position", sa.BigInteger(), nullable=False),
        sa.Column("dropped_position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_event_feed"),
    )
    op.create_table(
        "media_run_publications",
        sa.Column("folder", sa.String(_KEY_BYTES), nullable=False),
        sa.Column("save_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("folder", name="pk_media_run_publications"),
    )
