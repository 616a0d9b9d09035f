"""Table of the search index: one row for each image."""

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSVECTOR

from stillroom.features.database.tables import metadata
from stillroom.paths import MAX_KEY_BYTES

search_images: Final = sa.Table(
    "search_images",
    metadata,
    # Save time in nanoseconds, increased until it is unique.
    sa.Column(
        "id",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=False,
    ),
    # Collation in byte order, as in listings. This is the default in SQLite.
    sa.Column(
        "storage_key",
        sa.String(MAX_KEY_BYTES).with_variant(
            sa.String(MAX_KEY_BYTES, collation="C"), "postgresql"
        ),
        nullable=False,
    ),
    sa.Column("saved_ns", sa.BigInteger, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("etag", sa.Text, nullable=False),
    sa.Column("content_type", sa.String(255), nullable=False),
    sa.Column("sha256", sa.LargeBinary(32)),
    sa.Column("save_id", sa.Text, nullable=False),
    # Generation metadata as JSON, without `raw`.
    sa.Column("generation", sa.Text),
    sa.Column("ai_mark", sa.String(16)),
    # Null in SQLite, where the words are in the virtual FTS5 table `search_words`.
    sa.Column("words", sa.Text().with_variant(TSVECTOR, "postgresql")),
    sa.UniqueConstraint("storage_key"),
    sa.Index(None, "words", postgresql_using="gin").ddl_if(dialect="postgresql"),
)
