"""Tables for resources, ingest intents, pending deletions and failed deletions."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0001"
down_revision: Final = None


def upgrade() -> None:
    """Create the media library's tables."""
    op.create_table(
        "media_resources",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("resource_type", sa.String(32), nullable=False),
        sa.Column("storage_key", sa.String(1024), nullable=False),
        sa.Column("save_id", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("extension", sa.String(16), nullable=False),
        sa.Column("content_type", sa.String(255), nullable=False),
        sa.Column("file_size", sa.BigInteger(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("color_profile", sa.String(255)),
        sa.Column("protected", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("alt_text", sa.Text()),
        sa.Column("caption", sa.Text()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_media_resources"),
        sa.UniqueConstraint("content_hash", name="uq_media_resources_content_hash"),
    )
    op.create_index("ix_media_resources_storage_key", "media_resources", ["storage_key"])
    op.create_index("ix_media_resources_created_at", "media_resources", ["created_at"])
    op.create_table(
        "media_intents",
        sa.Column("media_key", sa.String(1024), nullable=False),
        sa.Column("resource_id", sa.Uuid(), nullable=False),
        sa.Column("source_key", sa.String(1024), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sweeping", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.PrimaryKeyConstraint("media_key", name="pk_media_intents"),
    )
    op.create_index("ix_media_intents_lease_until", "media_intents", ["lease_until"])
    op.create_table(
        "media_deletions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("storage_key", sa.String(1024), nullable=False),
        sa.Column("save_id", sa.Text(), nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("resource_id", sa.Uuid()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("last_error", sa.Text()),
        sa.Column("claimed_by", sa.Uuid()),
        sa.Column("lease_until", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_media_deletions"),
        sa.UniqueConstraint("storage_key", "save_id", name="uq_media_deletions_storage_key"),
        sa.ForeignKeyConstraint(
            ["resource_id"],
            ["media_resources.id"],
            name="fk_media_deletions_resource_id",
            ondelete="SET NULL",
        ),
    )
    op.create_index("ix_media_deletions_due_at", "media_deletions", ["due_at"])
    op.create_index("ix_media_deletions_resource_id", "media_deletions", ["resource_id"])
    op.create_table(
        "media_dead_letters",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("storage_key", sa.String(1024), nullable=False),
        sa.Column("save_id", sa.Text(), nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_media_dead_letters"),
    )
    op.create_index("ix_media_dead_letters_failed_at", "media_dead_letters", ["failed_at"])
