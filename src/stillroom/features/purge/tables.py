"""Table of purges that are due: one row for each URL, until the URL was purged twice."""

from typing import Final

import sqlalchemy as sa

from stillroom.features.database.tables import Moment, lease_columns, metadata

purges: Final = sa.Table(
    "purges",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("due_at", Moment, nullable=False),
    # Failed attempts since the row was inserted, or since the first purge.
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    # True after the first purge.
    sa.Column("is_repeat", sa.Boolean, nullable=False, server_default=sa.false()),
    *lease_columns(),
    sa.Index(None, "due_at"),
)
