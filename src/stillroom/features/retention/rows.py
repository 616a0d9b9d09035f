"""Database rows of the pending deletions of expired images, which the expiry scan inserts."""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.features.database import leases
from stillroom.features.database.engine import Rows
from stillroom.features.database.statements import among
from stillroom.features.database.tables import scans
from stillroom.features.library.resource import RULE
from stillroom.features.library.rows.marks import mark_saves
from stillroom.features.library.rows.statements import keys_with_resource
from stillroom.features.library.rows.tables import failed_deletions
from stillroom.paths import StorageKey
from stillroom.store.values import StoredImage


class ExpiryRows(Rows):
    """Database rows of the pending deletions of expired images."""

    async def mark_expired(
        self,
        claim: uuid.UUID,
        images: Sequence[StoredImage],
        *,
        due_at: datetime,
        after: str,
        lease: timedelta,
    ) -> Sequence[StorageKey] | None:
        """Schedule the deletion of a page of expired images, and record the scan's position.

        Images of the media library, and images whose deletion has failed, are skipped. Return the
        keys of the other images that had no pending deletion. Return None, without any change, if
        another process has claimed the scan.
        """
        async with self._engine.writing() as connection:
            if not await leases.renew(connection, scans, claim, lease, after=after):
                return None
            markable = await _filter_markable(connection, images)
            marked = await mark_saves(connection, markable, RULE, due_at)
        return [image.key for image in markable if image.key in marked]

    async def filter_markable(self, images: Sequence[StoredImage]) -> Sequence[StoredImage]:
        """Return the images that `mark_expired` would not skip."""
        async with self._engine.reading() as connection:
            return await _filter_markable(connection, images)


async def _filter_markable(
    connection: AsyncConnection, images: Sequence[StoredImage]
) -> Sequence[StoredImage]:
    if not images:
        return []
    keys = [image.key for image in images]
    keys_in_use = await keys_with_resource(connection, keys)
    failed = sa.select(failed_deletions.c.storage_key, failed_deletions.c.save_id)
    is_listed = failed_deletions.c.storage_key.in_(among(connection, keys))
    rows = await connection.execute(failed.where(is_listed))
    failed_saves = {tuple(row) for row in rows.all()}
    return [
        image
        for image in images
        if image.key not in keys_in_use and (image.key, image.save_id) not in failed_saves
    ]
