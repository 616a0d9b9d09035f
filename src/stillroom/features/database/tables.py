"""Table of the background scans, and the column types and naming conventions of all tables."""

from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from stillroom.paths import MAX_KEY_BYTES, StorageKey


class Moment(sa.TypeDecorator[datetime]):
    """Column type for times in UTC. SQLite stores no time zone, so UTC is added to times read."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _: object) -> datetime | None:
        """Convert a time to UTC before it is stored."""
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _: object) -> datetime | None:
        """Convert a stored time to UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Key(sa.TypeDecorator[StorageKey]):
    """Column type for a storage key. Keys are not validated again when they are read."""

    impl = sa.String(MAX_KEY_BYTES)
    cache_ok = True

    def process_bind_param(self, value: StorageKey | None, _: object) -> str | None:
        """Convert a key to text."""
        return None if value is None else value.text

    def process_result_value(self, value: str | None, _: object) -> StorageKey | None:
        """Convert text to a key."""
        return None if value is None else StorageKey(value)


metadata: Final = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def lease_columns() -> tuple[sa.Column[Any], sa.Column[Any]]:
    """Create the columns of a table whose rows can be claimed (`leases.py`).

    Migrations call this function, so never change it. Change columns in a new migration.
    """
    return sa.Column("claimed_by", sa.Uuid), sa.Column("lease_until", Moment)


scans: Final = sa.Table(
    "media_scans",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    # Last key on the last page; empty at the start.
    sa.Column("after", sa.String(MAX_KEY_BYTES), nullable=False),
    sa.Column("next_at", Moment, nullable=False),
    *lease_columns(),
)
