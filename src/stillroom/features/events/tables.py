"""Tables of events: the events themselves, and one row with the state of the feed."""

import secrets
from collections.abc import Collection
from typing import Final

import sqlalchemy as sa

from stillroom.features.database.tables import Moment, metadata
from stillroom.features.events.types import RUN_TYPES, TYPES
from stillroom.features.search.values import BEHIND_ALL
from stillroom.paths import MAX_KEY_BYTES

events: Final = sa.Table(
    "events",
    metadata,
    # Position in the feed: the time of the transaction in microseconds, increased until unique.
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
    # Always 1: the table has one row, which is inserted when the table is created.
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    # Random id, which is part of every cursor and of the ids of events.
    sa.Column("feed_id", sa.String(16), nullable=False),
    # Position of the newest event, or 0. A transaction that adds events locks the row.
    sa.Column("last_position", sa.BigInteger, nullable=False),
    # Position of the newest event that was deleted after the retention time, or 0.
    sa.Column("dropped_position", sa.BigInteger, nullable=False),
)


@sa.event.listens_for(event_feed, "after_create")
def _insert_feed(_: object, connection: sa.Connection, **_options: object) -> None:
    row = {"id": 1, "feed_id": secrets.token_hex(8), "last_position": 0, "dropped_position": 0}
    connection.execute(event_feed.insert().values(row))


def matching(types: Collection[str], prefix: str) -> list[sa.ColumnElement[bool]]:
    """Build the SQL conditions for events of some types whose paths begin with a prefix.

    If the prefix ends with a slash, events about a run in exactly this folder match, too.
    """
    conditions: list[sa.ColumnElement[bool]] = []
    if set(types) != set(TYPES):
        conditions.append(events.c.type.in_(types))
    if prefix:
        path = events.c.path
        is_below = sa.and_(path >= prefix, path < prefix + BEHIND_ALL)
        is_run = sa.and_(path == prefix.removesuffix("/"), events.c.type.in_(RUN_TYPES))
        conditions.append(sa.or_(is_below, is_run) if prefix.endswith("/") else is_below)
    return conditions
