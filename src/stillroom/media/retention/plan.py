"""Retention plan: a dry run that lists the images which an expiry scan would delete."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from stillroom.media.database import MediaDatabase
from stillroom.media.retention.evaluator import ExpiredPage, RetentionEvaluator, to_nanoseconds
from stillroom.media.retention.rules import Expiration
from stillroom.media.runs.service import Runs
from stillroom.paths import ImagePath
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import StoredImage

_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """Image that an expiry scan would mark for deletion, or has already marked.

    Attributes:
        run: Published run that contains the image; None if the image expires individually.
        due_at: Time of the deletion if the image is already marked, else None.
    """

    image: StoredImage
    expiration: Expiration
    run: ImagePath | None
    due_at: datetime | None


class Plan:
    """Dry run of an expiry scan: applies the rules to the stored images, but changes nothing."""

    def __init__(
        self, storage: ImageStorage, database: MediaDatabase, evaluator: RetentionEvaluator
    ) -> None:
        self._evaluator = evaluator
        self._database = database
        self._runs = Runs(storage, database)

    async def images(
        self, at: datetime, on_page: Callable[[int], None] = lambda _: None
    ) -> AsyncIterator[PlannedImage]:
        """Yield the images whose deletion a scan at a given time would schedule, or has scheduled.

        Args:
            at: Time of the scan. For a future time, the result assumes that nothing changes.
            on_page: Called after each page of the listing with the number of images.

        Raises:
            ListingUnsupported: the storage cannot list.
        """
        state, at_ns = await self._evaluator.begin_scan(), to_nanoseconds(at)
        async for images, _ in self._evaluator.pages("", _PAGE):
            expired = await self._evaluator.find_expired(images, at_ns, state)
            async for image in self._plan_page(expired):
                yield image
            on_page(len(images))

    async def _plan_page(self, expired: ExpiredPage) -> AsyncIterator[PlannedImage]:
        rows = await self._database.rows()
        expirations = {image.key: expiration for image, expiration in expired.images}
        markable = await rows.scans.filter_markable([image for image, _ in expired.images])
        due = {mark.storage_key: mark.due_at for mark in await rows.deletions.of_saves(markable)}
        for image in markable:
            yield PlannedImage(image, expirations[image.key], None, due.get(image.key))
        for run in expired.runs:
            async for page in self._runs.images(run.folder):
                old = [image for image in page if image.modified_ns <= run.saved_until_ns]
                recorded = await rows.resources.recorded_in_place(old)
                due = {mark.storage_key: mark.due_at for mark in await rows.deletions.of_saves(old)}
                for image in old:
                    if image.key not in recorded:
                        yield PlannedImage(image, run.expiration, run.folder, due.get(image.key))
