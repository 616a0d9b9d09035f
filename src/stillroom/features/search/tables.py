"""Tables of the search index, with one row for each image."""

import json
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSVECTOR

from stillroom.errors import BackendUnavailable
from stillroom.features.database.tables import metadata, scans
from stillroom.features.search.values import IndexedImage
from stillroom.generation.facts import generation_of
from stillroom.generation.reading import Found
from stillroom.paths import MAX_KEY_BYTES, StorageKey
from stillroom.store.values import StoredImage

_ADVISORY_LOCK: Final = int.from_bytes(b"stllidx", "big")

# Name of a row of `scans` that is not a scan. `after` is the storage whose images are indexed, or
# empty while the index may contain images of several storages.
STORAGE: Final = "storage"

MAX_VALUE: Final = 255  # characters of a value in `search_counts`

# Row for `search_images`, whose generation metadata is not encoded yet, and full text by column.
Row = tuple[dict[str, Any], dict[str, str]]

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
    sa.Index(None, "size", "id"),
    sa.Index(None, "sha256"),
    sa.Index(None, "words", postgresql_using="gin").ddl_if(dialect="postgresql"),
)

# Number of indexed images with each model, LoRA, sampler and tool, and of each day (`counts.py`).
search_counts: Final = sa.Table(
    "search_counts",
    metadata,
    # Index word of the value (`words.facet`), which ignores case.
    sa.Column("word", sa.String(20), primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("value", sa.String(MAX_VALUE), nullable=False),
    sa.Column("images", sa.BigInteger, nullable=False),
    sa.Index(None, "kind", "images"),
)


@sa.event.listens_for(search_images, "after_create")
def _create_full_text(_: object, connection: sa.Connection, **_options: object) -> None:
    if connection.dialect.name != "sqlite":
        return
    known = connection.exec_driver_sql("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'")
    if known.first() is None:
        raise BackendUnavailable(
            "this Python's SQLite has no full-text search (FTS5): use a Python whose SQLite has "
            "it, or PostgreSQL with STILLROOM_DATABASE_URL"
        )
    connection.exec_driver_sql(  # the `ascii` tokenizer splits texts only at spaces
        "CREATE VIRTUAL TABLE search_words USING fts5"
        "(prompt, path, model, lora, facets, tokenize = 'ascii')"
    )


def other_storage(name: str) -> sa.Select[tuple[str]]:
    """Build a SELECT that returns a row if the index may contain images of another storage."""
    return sa.select(scans.c.after).where(scans.c.name == STORAGE, scans.c.after != name)


def lock_index(connection: sa.Connection) -> None:
    """Lock the search index until the transaction ends. SQLite allows only one writer anyway."""
    if connection.dialect.name != "sqlite":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))


def image_of(row: sa.Row[Any]) -> IndexedImage:
    """Convert a row of `search_images` to an entry of the search index."""
    names = ("size", "etag", "content_type", "sha256", "save_id")
    properties = {name: getattr(row, name) for name in names}
    image = StoredImage(StorageKey(row.storage_key), modified_ns=row.saved_ns, **properties)
    facts = None if row.generation is None else generation_of(json.loads(row.generation))
    return IndexedImage(image, Found(facts, ai_mark=row.ai_mark))
