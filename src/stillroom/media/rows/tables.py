"""Definitions of the database tables. The migrations create them; a test compares both."""

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    Uuid,
    false,
    select,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import TSVECTOR

from stillroom.media.resource import DELETION
from stillroom.paths import MAX_KEY_BYTES, StorageKey


class Moment(TypeDecorator[datetime]):
    """Column type for a time in UTC. SQLite stores no time zone, so it is added on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert a time to UTC before it is stored."""
        del dialect
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert a time from the session's time zone to UTC."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Key(TypeDecorator[StorageKey]):
    """Column type for a storage key. Keys are not validated again when they are read."""

    impl = String(MAX_KEY_BYTES)
    cache_ok = True

    def process_bind_param(self, value: StorageKey | None, dialect: Dialect) -> str | None:
        """Convert a key to text."""
        del dialect
        return None if value is None else value.text

    def process_result_value(self, value: str | None, dialect: Dialect) -> StorageKey | None:
        """Convert text to a key."""
        del dialect
        return None if value is None else StorageKey(value)


metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

resources: Final = Table(
    "media_resources",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("resource_type", String(32), nullable=False),
    Column("storage_key", Key, nullable=False),
    # Null in rows that older versions wrote, if the source is unknown.
    Column("source_key", Key),
    Column("save_id", Text, nullable=False),
    Column("content_hash", LargeBinary(32), nullable=False),
    Column("extension", String(16), nullable=False),
    Column("content_type", String(255), nullable=False),
    Column("file_size", BigInteger, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("color_profile", String(255)),
    # Seconds, for videos; null in rows that older versions wrote.
    Column("duration", Double),
    Column("ai_mark", String(8)),
    Column("dominant_color", String(7)),
    Column("protected", Boolean, nullable=False, server_default=false()),
    Column("alt_text", Text),
    Column("caption", Text),
    Column("created_at", Moment, nullable=False),
    Column("deleted_at", Moment),
    # Only one of several concurrent ingests of the same bytes succeeds.
    UniqueConstraint("content_hash"),
    # Not unique, because an image that was recorded in place may have been overwritten.
    Index(None, "storage_key"),
    Index(None, "source_key"),
    Index(None, "created_at"),
)

tags: Final = Table(
    "media_tags",
    metadata,
    # CASCADE because an older version without tags may delete resources.
    Column("resource_id", Uuid, ForeignKey("media_resources.id", ondelete="CASCADE")),
    Column("tag", String(64)),
    PrimaryKeyConstraint("resource_id", "tag"),
    # For filters: resources with a tag, in page order.
    Index(None, "tag", "resource_id"),
)

healing: Final = Table(
    "media_healing",
    metadata,
    # No foreign key, because the resource may be deleted concurrently.
    Column("resource_id", Uuid, primary_key=True),
    # End of the lease if the row is claimed.
    Column("due_at", Moment, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    # True to also parse the file header again.
    Column("reread", Boolean, nullable=False, server_default=false()),
    Index(None, "due_at"),
)

intents: Final = Table(
    "media_intents",
    metadata,
    Column("media_key", Key, primary_key=True),
    Column("resource_id", Uuid, nullable=False),
    Column("source_key", Key, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("lease_until", Moment, nullable=False),
    # True when the sweeper deletes the copy, so that no ingest may use it any more.
    Column("sweeping", Boolean, nullable=False, server_default=false()),
    Index(None, "lease_until"),
)

deletions: Final = Table(
    "media_deletions",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("storage_key", Key, nullable=False),
    Column("save_id", Text, nullable=False),
    Column("reason", String(32), nullable=False),
    # Hash of a relocated source, which is deleted only if a resource has these bytes.
    Column("content_hash", LargeBinary(32)),
    # SET NULL because the pending deletion must remain when the resource is deleted.
    Column("resource_id", Uuid, ForeignKey("media_resources.id", ondelete="SET NULL")),
    Column("created_at", Moment, nullable=False),
    Column("due_at", Moment, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("last_error", Text),
    # Id of the sweeper's claim, and the end of its lease.
    Column("claimed_by", Uuid),
    Column("lease_until", Moment),
    UniqueConstraint("storage_key", "save_id"),
    Index(None, "due_at"),
    Index(None, "resource_id"),
)

dead_letters: Final = Table(
    "dead_letters",
    metadata,
    Column("id", Uuid, primary_key=True),
    # Each kind has its own payload: what a retry needs.
    Column("kind", String(32), nullable=False),
    Column("payload", JSON, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("failed_at", Moment, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("last_error", Text),
)

_payload: Final = dead_letters.c.payload
failed_deletions: Final = (
    # Dead letters of deletions, with the names of the columns of `deletions`.
    select(
        dead_letters,
        type_coerce(_payload["storage_key"].as_string(), Key()).label("storage_key"),
        type_coerce(_payload["save_id"].as_string(), Text()).label("save_id"),
        type_coerce(_payload["reason"].as_string(), Text()).label("reason"),
        type_coerce(_payload["content_hash"].as_string(), Text()).label("content_hash"),
    )
    .where(dead_letters.c.kind == DELETION)
    .subquery("failed_deletions")
)

run_deletions: Final = Table(
    "media_run_deletions",
    metadata,
    # Key prefix of the run's images: `compute/<folder>/`.
    Column("folder", String(MAX_KEY_BYTES), primary_key=True),
    # Images that were saved later are kept.
    Column("saved_until", Moment, nullable=False),
    # Last key on the last page that was marked; empty at the start.
    Column("after", String(MAX_KEY_BYTES), nullable=False),
    Column("marked", BigInteger, nullable=False),
    Column("kept", BigInteger, nullable=False),
    Column("newer", BigInteger, nullable=False),
    Column("claimed_by", Uuid),
    Column("lease_until", Moment),
)

scans: Final = Table(
    "media_scans",
    metadata,
    Column("name", String(32), primary_key=True),
    # Last key on the last page; empty at the start.
    Column("after", String(MAX_KEY_BYTES), nullable=False),
    Column("next_at", Moment, nullable=False),
    Column("claimed_by", Uuid),
    Column("lease_until", Moment),
)

search_images: Final = Table(
    "search_images",
    metadata,
    # Save time in nanoseconds, increased until it is unique.
    Column(
        "id",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=False,
    ),
    # Collation in byte order, as in listings. This is the default in SQLite.
    Column(
        "storage_key",
        String(MAX_KEY_BYTES).with_variant(String(MAX_KEY_BYTES, collation="C"), "postgresql"),
        nullable=False,
    ),
    Column("saved_ns", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("etag", Text, nullable=False),
    Column("content_type", String(255), nullable=False),
    Column("sha256", LargeBinary(32)),
    Column("save_id", Text, nullable=False),
    # Generation metadata as JSON, without `raw`.
    Column("generation", Text),
    Column("ai_mark", String(16)),
    # Null in SQLite, where the words are in the virtual FTS5 table `search_words`.
    Column("words", Text().with_variant(TSVECTOR, "postgresql")),
    UniqueConstraint("storage_key"),
    Index(None, "words", postgresql_using="gin").ddl_if(dialect="postgresql"),
)
