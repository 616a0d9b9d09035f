"""Table `media_tags`: tags of resources. `statements.py` documents the lock order."""

import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.features.database.engine import Rows
from stillroom.features.database.statements import insert_into
from stillroom.features.library.rows.changes import CHANGED, change_of
from stillroom.features.library.rows.resources import lock_resource
from stillroom.features.library.rows.tables import resources, tags
from stillroom.paths import StorageKey
from stillroom.store.values import StoredImage


class TagRows(Rows):
    """Database access to the tags of resources."""

    async def change(
        self, resource_id: uuid.UUID, replace: Callable[[frozenset[str]], frozenset[str]]
    ) -> frozenset[str]:
        """Replace the tags of a resource with `replace(tags)`, and return the new tags.

        Concurrent calls run one after the other. Raises `ResourceNotFound`, or the error of
        `replace`. The tags are then unchanged.
        """
        async with self._engine.writing() as connection:
            resource = await lock_resource(connection, resource_id)
            after = await change_tags(connection, resource_id, replace)
            await self._engine.note_changed(connection, [resource.storage_key])
            if after != frozenset(resource.tags):
                await self._engine.note_written(connection, change_of(CHANGED, resource))
        return after

    async def of_images(
        self, images: Sequence[StoredImage], names: Collection[str]
    ) -> dict[StorageKey, frozenset[str]]:
        """Return the tags of each image, by image key. Only tags in `names` are considered.

        An image has the tags of a resource with the same hash or key. If the hash of the image is
        unknown, it also has the tags of a resource that was ingested from its key.
        """
        by_hash = defaultdict[bytes | None, set[str]](set)
        by_key = defaultdict[StorageKey | None, set[str]](set)
        unhashed = [image.key for image in images if image.sha256 is None]
        statement = _select_tagged(names).where(
            sa.or_(
                resources.c.content_hash.in_([image.sha256 for image in images if image.sha256]),
                resources.c.storage_key.in_([image.key for image in images]),
                *([resources.c.source_key.in_(unhashed)] if unhashed else []),
            )
        )
        for row in await self._read(statement):
            by_hash[row.content_hash].add(row.tag)
            for key in (row.storage_key, row.source_key):
                by_key[key].add(row.tag)
        by_image = {
            image.key: frozenset(by_key.get(image.key, ())).union(by_hash.get(image.sha256, ()))
            for image in images
        }
        return {key: tags_of_image for key, tags_of_image in by_image.items() if tags_of_image}

    async def are_below(self, prefix: str, names: Collection[str]) -> bool:
        """Return whether a resource with one of these tags has a key or source key in a folder."""
        keys = (resources.c.source_key, resources.c.storage_key)
        starts = [sa.func.substr(sa.type_coerce(key, sa.String), 1, len(prefix)) for key in keys]
        statement = _select_tagged(names).where(sa.or_(*(start == prefix for start in starts)))
        return bool(await self._read(statement.limit(1)))


def _select_tagged(names: Collection[str]) -> sa.Select[Any]:
    return (
        sa.select(
            tags.c.tag, resources.c.content_hash, resources.c.storage_key, resources.c.source_key
        )
        .join(resources, resources.c.id == tags.c.resource_id)
        .where(tags.c.tag.in_(sorted(names)), resources.c.deleted_at.is_(None))
    )


async def change_tags(
    connection: AsyncConnection,
    resource_id: uuid.UUID,
    replace: Callable[[frozenset[str]], frozenset[str]],
) -> frozenset[str]:
    """Replace the tags of a locked resource with `replace(tags)`, and return the new tags."""
    own = tags.c.resource_id == resource_id
    before = frozenset((await connection.execute(sa.select(tags.c.tag).where(own))).scalars())
    after = replace(before)
    if removed := before - after:
        await connection.execute(sa.delete(tags).where(own, tags.c.tag.in_(sorted(removed))))
    if added := after - before:
        await connection.execute(
            insert_into(connection, tags),
            [{"resource_id": resource_id, "tag": tag} for tag in sorted(added)],
        )
    return after
