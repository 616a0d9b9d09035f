"""Tables of events, of webhooks, and of published runs that have an event.

The table `media_dead_letters`, which only versions before 0.3 read, is removed with its triggers.
"""

import secrets
from typing import Final

import sqlalchemy as sa
from alembic import op

from stillroom.features.database.tables import lease_columns

revision: Final = "0012"
down_revision: Final = "0011"

_KEY_BYTES: Final = 1024
_MOMENT: Final = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables. They are empty, except for the state of the feed with its random id."""
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    position = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "events",
        sa.Column("position", position, primary_key=True, autoincrement=False),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("occurred_at", _MOMENT, nullable=False),
        sa.Column("path", sa.String(_KEY_BYTES, collation=None if is_sqlite else "C")),
        sa.Column("resource_id", sa.Uuid()),
        sa.Column("actor", sa.String(255)),
        sa.Column("reason", sa.String(16)),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("found", sa.Boolean(), nullable=False),
    )
    feed = op.create_table(
        "event_feed",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("feed_id", sa.String(16), nullable=False),
        sa.Column("last_position", sa.BigInteger(), nullable=False),
        sa.Column("dropped_position", sa.BigInteger(), nullable=False),
    )
    row = {"id": 1, "feed_id": secrets.token_hex(8), "last_position": 0, "dropped_position": 0}
    op.bulk_insert(feed, [row])
    op.create_table(
        "media_run_publications",
        sa.Column("folder", sa.String(_KEY_BYTES), primary_key=True),
        sa.Column("save_id", sa.Text(), nullable=False),
    )
    _create_webhooks()
    kind, cascade = ("TRIGGER", "") if is_sqlite else ("FUNCTION", " CASCADE")
    for table in ("media_failures", "media_dead_letters"):
        for event in ("insert", "delete"):
            op.execute(f"DROP {kind} {table}_{event}{cascade}")
    op.drop_table("media_dead_letters")
    # Servers of version 0.3 lock these two tables in this order, too.
    op.add_column("media_deletions", sa.Column("source_key", sa.String(_KEY_BYTES)))


def _create_webhooks() -> None:
    op.create_table(
        "webhook_endpoints",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("filter", sa.JSON(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("wait_until", _MOMENT),
        sa.Column("gone_digest", sa.String(64)),
        sa.Column("succeeded_at", _MOMENT),
        sa.Column("last_error", sa.Text()),
        sa.Column("lost", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", _MOMENT, nullable=False),
        *lease_columns(),
    )
    op.create_table(
        "webhook_failures",
        sa.Column("endpoint", sa.String(64), primary_key=True),
        sa.Column("position", sa.BigInteger(), primary_key=True),
        sa.Column("path", sa.String(_KEY_BYTES), nullable=False),
        sa.Column("event", sa.JSON(), nullable=False),
        sa.Column("occurred_at", _MOMENT, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failed_at", _MOMENT),
        sa.Column("attempted_at", _MOMENT),
        sa.Column("due_at", _MOMENT),
        sa.Column("last_error", sa.Text()),
    )
    for columns in (("path", "position"), ("due_at",)):
        name = f"ix_webhook_failures_{columns[0]}"
        op.create_index(name, "webhook_failures", ["endpoint", *columns])
