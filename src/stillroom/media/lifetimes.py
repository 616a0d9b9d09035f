"""Images saved with a limited lifetime: their deletion is scheduled right after the save."""

import contextlib
from datetime import datetime, timedelta

from stillroom.errors import BackendUnavailable, StillroomError
from stillroom.media import clock
from stillroom.media.database import MediaDatabase
from stillroom.media.resource import EXPIRED
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import StoredImage


class Lifetimes:
    """Lifetimes of images, stored as pending deletions.

    A lifetime applies to one version of an image. A version that is saved later does not inherit
    it.
    """

    def __init__(self, storage: ImageStorage, database: MediaDatabase) -> None:
        self._storage = storage
        self._database = database

    async def require_database(self) -> None:
        """Check that the database can store a pending deletion. Call this before the save.

        Raises:
            BackendUnavailable: the database is unreachable.
        """
        await (await self._database.rows()).check()

    async def end(self, image: StoredImage, after: timedelta) -> datetime:
        """Schedule the deletion of a new image after a lifetime, and return the expiration time.

        Raises:
            BackendUnavailable: the deletion could not be scheduled. Because the image would never
                expire, it was deleted at once.
        """
        due_at = clock.latest() + after
        try:
            await (await self._database.rows()).deletions.mark_save(image, EXPIRED, due_at)
        except BackendUnavailable:
            with contextlib.suppress(StillroomError):
                await self._storage.delete(image.key, save_id=image.save_id)
            raise
        return due_at
