"""Tables of the search index: one row per image, and the words to search for."""

from typing import Final

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TSVECTOR

from stillroom.errors import BackendUnavailable

revision: Final = "0006"
down_revision: Final = "0005"

_KEY_BYTES: Final = 1024


def upgrade() -> None:
    """Create empty tables. They are filled when images are saved, and by background scans."""
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    op.create_table(
        "search_images",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            autoincrement=False,
        ),
        sa.Column(
            "storage_key",
            sa.String(_KEY_BYTES, collation=None if is_sqlite else "C"),
            nullable=False,
        ),
        sa.Column("saved_ns", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("etag", sa.Text(), nullable=False),
        sa.Column("content_type", sa.String(255), nullable=False),
        sa.Column("sha256", sa.LargeBinary(32)),
        sa.Column("save_id", sa.Text(), nullable=False),
        sa.Column("generation", sa.Text()),
        sa.Column("ai_mark", sa.String(16)),
        sa.Column("words", sa.Text() if is_sqlite else TSVECTOR()),
        sa.PrimaryKeyConstraint("id", name="pk_search_images"),
        sa.UniqueConstraint("storage_key", name="uq_search_images_storage_key"),
    )
    if is_sqlite:
        _make_full_text()
    else:
        op.create_index(
            "ix_search_images_words", "search_images", ["words"], postgresql_using="gin"
        )


def _make_full_text() -> None:
    """Create the full-text table. The `ascii` tokenizer splits the texts only at spaces."""
    known = op.get_bind().execute(sa.text("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'"))
    if known.first() is None:
        raise BackendUnavailable(
            "this Python's SQLite has no full-text search (FTS5): use a Python whose SQLite has "
            "it, or PostgreSQL with STILLROOM_DATABASE_URL"
        )
    op.execute(
        "CREATE VIRTUAL TABLE search_words USING fts5"
        "(prompt, path, model, lora, facets, tokenize = 'ascii')"
    )
