"""Rows of `media_tags`: the tags of resources. The order of locks: `statements.py`."""

import uuid
from collections.abc import Callable, Collection

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.errors import ResourceNotFound
from stillroom.media.rows.engine import RowsEngine
from stillroom.media.rows.statements import insert_into
from stillroom.media.rows.tables import resources, tags


class TagRows:
    """Tags of one library's resources."""

    def __init__(self, engine: RowsEngine) -> None:
        """Use `engine`; its maker closes it."""
        self._engine = engine

    async def change(
        self, resource_id: uuid.UUID, wanted: Callable[[frozenset[str]], frozenset[str]]
    ) -> frozenset[str]:
        """Replace a resource's tags by what `wanted` makes of them; changes go one by one.

        Raises:
            ResourceNotFound: there is none, or its deletion is due.
            Exception: what `wanted` raises; nothing is changed then.
        """
        async with self._engine.writing() as connection:
            locked = await connection.execute(
                sa.select(resources.c.id)
                .where(resources.c.id == resource_id, resources.c.deleted_at.is_(None))
                .with_for_update()
            )
            if locked.one_or_none() is None:
                raise ResourceNotFound
            # Read by a statement of its own: PostgreSQL has chosen what the first one sees before
            # it waited for the lock.
            found = await _tags_of(connection, resource_id)
            after = wanted(found)
            await _replace(connection, resource_id, found, after)
        return after


async def replace_tags(
    connection: AsyncConnection, resource_id: uuid.UUID, wanted: Collection[str]
) -> None:
    """Give a resource, which the transaction has written, these tags and no others."""
    found = await _tags_of(connection, resource_id)
    await _replace(connection, resource_id, found, frozenset(wanted))


async def _tags_of(connection: AsyncConnection, resource_id: uuid.UUID) -> frozenset[str]:
    asked = sa.select(tags.c.tag).where(tags.c.resource_id == resource_id)
    return frozenset((await connection.execute(asked)).scalars())


async def _replace(
    connection: AsyncConnection,
    resource_id: uuid.UUID,
    found: frozenset[str],
    wanted: frozenset[str],
) -> None:
    if gone := found - wanted:
        await connection.execute(
            sa.delete(tags).where(tags.c.resource_id == resource_id, tags.c.tag.in_(sorted(gone)))
        )
    if fresh := wanted - found:
        await connection.execute(
            insert_into(connection, tags),
            [{"resource_id": resource_id, "tag": tag} for tag in sorted(fresh)],
        )
