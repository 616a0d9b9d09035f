"""Tables of events: the events themselves, and one row with the state of the feed."""

from typing import Final

import sqlalchemy as sa

from stillroom.features.database.tables import Moment, metadata
from stillroom.paths import MAX_KEY_BYTES

events: Final = sa.Table(
    "events",
    metadata,
    # Time of the transaction in microseconds, increased until it is unique.
    sa.Column(
        "position",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column("type", sa.String(32), nullable=False),
    sa.Column("occurred_at", Moment, nullable=False),
    # Collation in byte order, for prefixes. This is the default in SQLite.
    sa.Column(
        "path",
        sa.String(MAX_KEY_BYTES).with_variant(
            sa.String(MAX_KEY_BYTES, collation="C"), "postgresql"
        ),
    ),
    sa.Column("resource_id", sa.Uuid),
    sa.Column("actor", sa.String(255)),
    sa.Column("reason", sa.String(16)),
    sa.Column("data", sa.JSON, nullable=False),
    sa.Column("found", sa.Boolean, nullable=False),
)


event_feed: Final = sa.Table(
    "event_feed",
    metadata,
    # Always 1: the table has one row, which the first use inserts.
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    # Random id, which is part of every cursor.
    sa.Column("feed_id", sa.String(16), nullable=False),
    # Position of the newest event. A transaction that adds events locks the row.
    sa.Column("last_position", sa.BigInteger, nullable=False),
    # Position of the newest event that was deleted after the retention time.
    sa.Column("dropped_position", sa.BigInteger, nullable=False),
)
