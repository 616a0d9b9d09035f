"""Tables of webhooks: the progress of each endpoint, and the deliveries that have failed."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0013"
down_revision: Final = "0012"


def upgrade() -> None:
    """Create the two tables. Each endpoint inserts its row when a server first reads its name."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "webhook_endpoints",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("replay_after", sa.BigInteger()),
        sa.Column("filter", sa.JSON(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("paused_at", moment),
        sa.Column("probes", sa.Integer(), nullable=False),
        sa.Column("wait_until", moment),
        sa.Column("gone_digest", sa.String(64)),
        sa.Column("succeeded_at", moment),
        sa.Column("last_error", sa.Text()),
        sa.Column("lost", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", moment, nullable=False),
        sa.Column("claimed_by", sa.Uuid()),
        sa.Column("lease_until", moment),
        sa.PrimaryKeyConstraint("name", name="pk_webhook_endpoints"),
    )
    op.create_table(
        "webhook_failures",
        sa.Column("endpoint", sa.String(64), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.String(1024), nullable=False),
        sa.Column("event", sa.JSON(), nullable=False),
        sa.Column("occurred_at", moment, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failed_at", moment),
        sa.Column("attempted_at", moment),
        sa.Column("due_at", moment),
        sa.Column("last_error", sa.Text()),
        sa.PrimaryKeyConstraint("endpoint", "position", name="pk_webhook_failures"),
    )
    op.create_index(
        "ix_webhook_failures_path", "webhook_failures", ["endpoint", "path", "position"]
    )
    op.create_index("ix_webhook_failures_due_at", "webhook_failures", ["endpoint", "due_at"])
