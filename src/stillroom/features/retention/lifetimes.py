"""Lifetimes of images (`Expires-In`): a deletion is scheduled directly after the save."""

from datetime import datetime, timedelta
from typing import ClassVar, Final

from stillroom.durations import TEN_YEARS
from stillroom.features.database import clock
from stillroom.features.library.database import MediaDatabase
from stillroom.features.library.resource import EXPIRED
from stillroom.store.hooks import Finish, RequestHeader
from stillroom.store.http.fields import Fields, lifetime
from stillroom.store.values import StoredImage

_EXPIRES_IN: Final = (
    "Lifetime: `90s`, `15m`, `12h`, `7d`, or seconds. Without it, the image does not expire."
)


class Lifetimes:
    """Hook into saves (`SaveHook`) that schedules the deletion of images with a lifetime."""

    headers: ClassVar[tuple[RequestHeader, ...]] = (RequestHeader("Expires-In", _EXPIRES_IN, "7d"),)

    def __init__(self, database: MediaDatabase) -> None:
        self._database = database

    async def prepare(self, fields: Fields) -> Finish | None:
        """Parse `Expires-In`, and return a function that schedules the deletion after the save."""
        after = lifetime(fields, "expires-in", TEN_YEARS, "ten years")
        if after is None:
            return None
        await (await self._database.engine()).check()

        async def finish(image: StoredImage) -> dict[str, object]:
            return {"expires_at": (await self.end(image, after)).isoformat()}

        return finish

    async def end(self, image: StoredImage, after: timedelta) -> datetime:
        """Schedule the deletion of an image after a lifetime, and return its expiration time.

        A repeated call for the same version of the image does not change the expiration time.
        """
        due_at = clock.CLOCK.latest() + after
        return await (await self._database.rows()).deletions.mark_save(image, EXPIRED, due_at)
