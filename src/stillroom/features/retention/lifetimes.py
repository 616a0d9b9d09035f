"""Images saved with a limited lifetime: their deletion is scheduled right after the save."""

import contextlib
from datetime import datetime, timedelta

from stillroom.errors import BackendUnavailable, StillroomError
from stillroom.features.database import clock
from stillroom.features.library.database import MediaDatabase
from stillroom.features.library.resource import EXPIRED
from stillroom.store.port import ImageStorage
from stillroom.store.values import StoredImage


class Lifetimes:
    """Lifetimes of single versions of images, stored as pending deletions."""

    def __init__(self, storage: ImageStorage, database: MediaDatabase) -> None:
        self._storage = storage
        self._database = database

    async def require_database(self) -> None:
        """Raise `BackendUnavailable` if no deletion can be scheduled. Call this before the save."""
        await (await self._database.engine()).check()

    async def end(self, image: StoredImage, after: timedelta) -> datetime:
        """Schedule the deletion of a new image after a lifetime, and return the expiration time.

        If that fails (`BackendUnavailable`), the image is deleted at once, because it would never
        expire.
        """
        due_at = clock.CLOCK.latest() + after
        try:
            await (await self._database.rows()).deletions.mark_save(image, EXPIRED, due_at)
        except BackendUnavailable:
            with contextlib.suppress(StillroomError):
                await self._storage.delete(image.key, save_id=image.save_id)
            raise
        return due_at
