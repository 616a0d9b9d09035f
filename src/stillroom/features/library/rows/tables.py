"""Tables of the media library. A test checks that migrations lead to the same tables."""

from typing import Final

import sqlalchemy as sa

from stillroom.features.database.tables import Key, Moment, lease_columns, metadata
from stillroom.features.library.resource import DELETION

resources: Final = sa.Table(
    "media_resources",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("resource_type", sa.String(32), nullable=False),
    sa.Column("storage_key", Key, nullable=False),
    # Null in rows that older versions wrote, if the source is unknown.
    sa.Column("source_key", Key),
    sa.Column("save_id", sa.Text, nullable=False),
    sa.Column("content_hash", sa.LargeBinary(32), nullable=False),
    sa.Column("extension", sa.String(16), nullable=False),
    sa.Column("content_type", sa.String(255), nullable=False),
    sa.Column("file_size", sa.BigInteger, nullable=False),
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("height", sa.Integer, nullable=False),
    sa.Column("color_profile", sa.String(255)),
    # Seconds, for videos; null in rows that older versions wrote.
    sa.Column("duration", sa.Double),
    sa.Column("ai_mark", sa.String(8)),
    sa.Column("dominant_color", sa.String(7)),
    sa.Column("protected", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("alt_text", sa.Text),
    sa.Column("caption", sa.Text),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("deleted_at", Moment),
    # Only one of several concurrent ingests of the same bytes succeeds.
    sa.UniqueConstraint("content_hash"),
    # Not unique, because an image that was recorded in place may have been overwritten.
    sa.Index(None, "storage_key"),
    sa.Index(None, "source_key"),
    sa.Index(None, "created_at"),
)

tags: Final = sa.Table(
    "media_tags",
    metadata,
    # CASCADE because an older version without tags may delete resources.
    sa.Column("resource_id", sa.Uuid, sa.ForeignKey("media_resources.id", ondelete="CASCADE")),
    sa.Column("tag", sa.String(64)),
    sa.PrimaryKeyConstraint("resource_id", "tag"),
    # For filters: resources with a tag, in page order.
    sa.Index(None, "tag", "resource_id"),
)

healing: Final = sa.Table(
    "media_healing",
    metadata,
    # No foreign key, because the resource may be deleted concurrently.
    sa.Column("resource_id", sa.Uuid, primary_key=True),
    # End of the lease if the row is claimed.
    sa.Column("due_at", Moment, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    # True to also parse the file header again.
    sa.Column("reread", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Index(None, "due_at"),
)

intents: Final = sa.Table(
    "media_intents",
    metadata,
    sa.Column("media_key", Key, primary_key=True),
    sa.Column("resource_id", sa.Uuid, nullable=False),
    sa.Column("source_key", Key, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("lease_until", Moment, nullable=False),
    # True when the sweeper deletes the copy, so that no ingest may use it any more.
    sa.Column("sweeping", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Index(None, "lease_until"),
)

deletions: Final = sa.Table(
    "media_deletions",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("storage_key", Key, nullable=False),
    sa.Column("save_id", sa.Text, nullable=False),
    sa.Column("reason", sa.String(32), nullable=False),
    # Hash of a relocated source, which is deleted only if a resource has these bytes.
    sa.Column("content_hash", sa.LargeBinary(32)),
    # Source of a deleted resource, whose row is deleted before its file.
    sa.Column("source_key", Key),
    # SET NULL because the pending deletion must remain when the resource is deleted.
    sa.Column("resource_id", sa.Uuid, sa.ForeignKey("media_resources.id", ondelete="SET NULL")),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("due_at", Moment, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("last_error", sa.Text),
    *lease_columns(),
    sa.UniqueConstraint("storage_key", "save_id"),
    sa.Index(None, "due_at"),
    sa.Index(None, "resource_id"),
)

dead_letters: Final = sa.Table(
    "media_failures",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    # Data for a retry, in a format that depends on the kind.
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("payload", sa.JSON, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("failed_at", Moment, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("last_error", sa.Text),
)

_payload: Final = dead_letters.c.payload

failed_deletions: Final = (
    # Dead letters of deletions, with the names of the columns of `deletions`.
    sa.select(
        dead_letters,
        sa.type_coerce(_payload["storage_key"].as_string(), Key()).label("storage_key"),
        *(_payload[name].as_string().label(name) for name in ("save_id", "reason", "content_hash")),
    )
    .where(dead_letters.c.kind == DELETION)
    .subquery("failed_deletions")
)
