"""Saves with an expiration: each image is marked for deletion as soon as it is saved."""

import contextlib
from datetime import datetime, timedelta

from stillroom.errors import BackendUnavailable, StillroomError
from stillroom.media import clock
from stillroom.media.database import MediaDatabase
from stillroom.media.resource import EXPIRED
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import StoredImage


class Lifetimes:
    """Expirations of saves, stored as marks. Another save of the image discards its mark."""

    def __init__(self, storage: ImageStorage, database: MediaDatabase) -> None:
        self._storage = storage
        self._database = database

    async def require_database(self) -> None:
        """Check that marks can be written; call this before the save.

        Raises:
            BackendUnavailable: the database is away.
        """
        await (await self._database.rows()).check()

    async def end(self, image: StoredImage, after: timedelta) -> datetime:
        """Mark a new save for deletion after a lifetime that begins now, and return the expiration.

        Raises:
            BackendUnavailable: the mark could not be written, so the save was deleted again:
                otherwise it would never expire.
        """
        due_at = clock.latest() + after
        try:
            await (await self._database.rows()).deletions.mark_save(image, EXPIRED, due_at)
        except BackendUnavailable:
            with contextlib.suppress(StillroomError):
                await self._storage.delete(image.key, save_id=image.save_id)
            raise
        return due_at
