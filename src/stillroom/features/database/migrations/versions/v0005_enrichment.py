"""Columns and tables for durations, colours, tags and jobs that compute missing metadata."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0005"
down_revision: Final = "0004"


def upgrade() -> None:
    """Add the metadata columns, and create the tables for tags and healing jobs."""
    op.add_column("media_resources", sa.Column("duration", sa.Double()))
    op.add_column("media_resources", sa.Column("dominant_color", sa.String(7)))
    op.create_table(
        "media_tags",
        sa.Column("resource_id", sa.Uuid(), nullable=False),
        sa.Column("tag", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("resource_id", "tag", name="pk_media_tags"),
        sa.ForeignKeyConstraint(
            ["resource_id"],
            ["media_resources.id"],
            name="fk_media_tags_resource_id",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_media_tags_tag", "media_tags", ["tag", "resource_id"])
    op.create_table(
        "media_healing",
        sa.Column("resource_id", sa.Uuid(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("reread", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.PrimaryKeyConstraint("resource_id", name="pk_media_healing"),
    )
    op.create_index("ix_media_healing_due_at", "media_healing", ["due_at"])
