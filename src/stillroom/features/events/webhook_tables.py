"""Tables of webhooks: the progress of each endpoint, and the deliveries that have failed."""

from typing import Final

import sqlalchemy as sa

from stillroom.features.database.tables import Moment, lease_columns, metadata
from stillroom.features.events.webhook_file import MAX_NAME_CHARACTERS
from stillroom.paths import MAX_KEY_BYTES

endpoints: Final = sa.Table(
    "webhook_endpoints",
    metadata,
    sa.Column("name", sa.String(MAX_NAME_CHARACTERS), primary_key=True),
    # Position in the feed. Each event up to it was delivered, has failed, or is a dead letter.
    sa.Column("position", sa.BigInteger, nullable=False),
    # Types and prefix of the endpoint (JSON object). They are needed to count lost events.
    sa.Column("filter", sa.JSON, nullable=False),
    # Failed attempts since the last success. From ten on, the endpoint is paused.
    sa.Column("failures", sa.Integer, nullable=False),
    # Time of the next probe, or the end of the pause that the receiver asked for.
    sa.Column("wait_until", Moment),
    # SHA-256 of `webhooks.toml` at a response 410. The endpoint is off until the file changes.
    sa.Column("gone_digest", sa.String(64)),
    sa.Column("succeeded_at", Moment),
    sa.Column("last_error", sa.Text),
    # Number of events that were deleted after the retention time without having been delivered.
    sa.Column("lost", sa.BigInteger, nullable=False),
    # Time at which a process last delivered to the endpoint, or found nothing to deliver.
    sa.Column("seen_at", Moment, nullable=False),
    *lease_columns(),
)

failures: Final = sa.Table(
    "webhook_failures",
    metadata,
    sa.Column("endpoint", sa.String(MAX_NAME_CHARACTERS), primary_key=True),
    # Position of the event in the feed.
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    # See `Delivery.path`. Events with equal paths are sent in order.
    sa.Column("path", sa.String(MAX_KEY_BYTES), nullable=False),
    # Body of the webhook, without a signed URL.
    sa.Column("event", sa.JSON, nullable=False),
    sa.Column("occurred_at", Moment, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("failed_at", Moment),
    sa.Column("attempted_at", Moment),
    # Time of the next attempt. NULL: an earlier event with the same path must be delivered first.
    sa.Column("due_at", Moment),
    sa.Column("last_error", sa.Text),
    sa.Index("ix_webhook_failures_path", "endpoint", "path", "position"),
    sa.Index("ix_webhook_failures_due_at", "endpoint", "due_at"),
)
