"""What the statements on several tables share; the order of locks, and INSERT of both dialects.

A public method of the classes in this package is one transaction. Those that change something lock
rows in one order (docs/adr/0012): marks, then resources, then intents. A condition that must hold
stands in the statement itself, so that two processes cannot both believe it.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.media.resource import MediaResource
from stillroom.media.rows.tables import dead_letters, deletions, intents, resources
from stillroom.paths import StorageKey


def insert_into(connection: AsyncConnection, table: sa.Table) -> Any:  # noqa: ANN401  (one of two classes with the same methods)
    """An INSERT with the ON CONFLICT of this database."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)


def resource_of(row: sa.Row[Any]) -> MediaResource:
    """A resource as its row says."""
    return MediaResource(**row._asdict())


def values_of(resource: MediaResource) -> dict[str, object]:
    """A resource by the names of its columns."""
    return {column.name: getattr(resource, column.name) for column in resources.columns}


async def keys_with_resource(
    connection: AsyncConnection, keys: Sequence[StorageKey]
) -> set[StorageKey]:
    """Those of the keys under which a resource has its bytes."""
    if not keys:
        return set()
    asked = sa.select(resources.c.storage_key).where(resources.c.storage_key.in_(keys))
    return set((await connection.execute(asked)).scalars())


async def keys_with_intent(
    connection: AsyncConnection, keys: Sequence[StorageKey]
) -> set[StorageKey]:
    """Those of the keys to which a copy is under way."""
    if not keys:
        return set()
    asked = sa.select(intents.c.media_key).where(intents.c.media_key.in_(keys))
    return set((await connection.execute(asked)).scalars())


async def known_keys(connection: AsyncConnection, keys: Sequence[StorageKey]) -> set[StorageKey]:
    """Those of the keys that a row of any table names."""
    if not keys:
        return set()
    columns = (
        resources.c.storage_key,
        intents.c.media_key,
        deletions.c.storage_key,
        dead_letters.c.storage_key,
    )
    asked = sa.union(*(sa.select(column).where(column.in_(keys)) for column in columns))
    return set((await connection.execute(asked)).scalars())
