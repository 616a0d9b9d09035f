"""Rows of `media_tags`: the tags of resources. The order of locks: `statements.py`."""

import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.errors import ResourceNotFound
from stillroom.media.rows.engine import RowsEngine
from stillroom.media.rows.library_words import reword
from stillroom.media.rows.statements import insert_into
from stillroom.media.rows.tables import resources, tags
from stillroom.paths import StorageKey
from stillroom.storage.values import StoredImage


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
                sa.select(resources.c.storage_key)
                .where(resources.c.id == resource_id, resources.c.deleted_at.is_(None))
                .with_for_update()
            )
            key = locked.scalar_one_or_none()
            if key is None:
                raise ResourceNotFound
            # Read by a statement of its own: PostgreSQL has chosen what the first one sees before
            # it waited for the lock.
            found = await _tags_of(connection, resource_id)
            after = wanted(found)
            await _replace(connection, resource_id, found, after)
            await connection.run_sync(reword, [key])
        return after

    async def of_images(
        self, images: Sequence[StoredImage], wanted: Collection[str]
    ) -> dict[StorageKey, frozenset[str]]:
        """Which of some tags the library has for images: for their bytes, or recorded in place.

        Where the hash of an image is not known, also for what was ingested from its key.
        """
        by_hash = defaultdict[bytes | None, set[str]](set)
        by_key = defaultdict[StorageKey | None, set[str]](set)
        unhashed = [image.key for image in images if image.sha256 is None]
        asked = _tagged(wanted).where(
            sa.or_(
                resources.c.content_hash.in_([image.sha256 for image in images if image.sha256]),
                resources.c.storage_key.in_([image.key for image in images]),
                *([resources.c.source_key.in_(unhashed)] if unhashed else []),
            )
        )
        async with self._engine.reading() as connection:
            for row in (await connection.execute(asked)).all():
                by_hash[row.content_hash].add(row.tag)
                for key in (row.storage_key, row.source_key):
                    by_key[key].add(row.tag)
        found = {
            image.key: frozenset(by_key.get(image.key, ())).union(by_hash.get(image.sha256, ()))
            for image in images
        }
        return {key: names for key, names in found.items() if names}

    async def are_below(self, keys_begin: str, wanted: Collection[str]) -> bool:
        """Whether any of some tags is that of a resource which was ingested from such a key."""
        length = len(keys_begin)
        asked = _tagged(wanted).where(
            sa.or_(
                *(
                    sa.func.substr(sa.type_coerce(column, sa.String), 1, length) == keys_begin
                    for column in (resources.c.source_key, resources.c.storage_key)
                )
            )
        )
        async with self._engine.reading() as connection:
            return (await connection.execute(asked.limit(1))).first() is not None


def _tagged(wanted: Collection[str]) -> sa.Select[tuple[str, bytes, StorageKey, StorageKey | None]]:
    """The resources that have one of these tags, and are not deleted."""
    columns = (
        tags.c.tag,
        resources.c.content_hash,
        resources.c.storage_key,
        resources.c.source_key,
    )
    return (
        sa.select(*columns)
        .join(resources, resources.c.id == tags.c.resource_id)
        .where(tags.c.tag.in_(sorted(wanted)), resources.c.deleted_at.is_(None))
    )


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
