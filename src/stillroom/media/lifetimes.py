"""Saves that have an end: each is marked for deletion as soon as it is saved."""

import contextlib
from datetime import datetime, timedelta

from stillroom.errors import BackendUnavailable, StillroomError
from stillroom.media import clock
from stillroom.media.database import MediaDatabase
from stillroom.media.resource import EXPIRED
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import StoredImage


class Lifetimes:
    """Gives saves an end, by marks. Saved again, an image starts anew."""

    def __init__(self, storage: ImageStorage, database: MediaDatabase) -> None:
        """Mark in `database` what was saved in `storage`."""
        self._storage = storage
        self._database = database

    async def require_database(self) -> None:
        """Return if a mark could be written now; ask before anything is saved.

        Raises:
            BackendUnavailable: the database is away.
        """
        await (await self._database.rows()).check()

    async def end(self, image: StoredImage, after: timedelta) -> datetime:
        """Mark a save that was just made.

        Args:
            image: What was saved.
            after: How long from now it stays.

        Returns:
            When it goes, UTC; some seconds later as a rule, with the next sweep.

        Raises:
            BackendUnavailable: the mark could not be written, so the save was taken back: it would
                stay for ever.
        """
        due_at = clock.latest() + after
        try:
            await (await self._database.rows()).deletions.mark_save(image, EXPIRED, due_at)
        except BackendUnavailable:
            with contextlib.suppress(StillroomError):
                await self._storage.delete(image.key, save_id=image.save_id)
            raise
        return due_at
