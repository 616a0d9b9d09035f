"""Retention plan: a dry run that lists the images which an expiry scan would delete."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from stillroom.features.database.clock import to_nanoseconds
from stillroom.features.retention.evaluator import RetentionEvaluator, expiry_rows
from stillroom.features.retention.rules import Expiration
from stillroom.paths import ImagePath
from stillroom.store.values import StoredImage

_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """Image for which an expiry scan would schedule a deletion, or has scheduled it.

    Attributes:
        run: Published run that contains the image, or None if the image expires individually.
        due_at: Time of the deletion if it is already scheduled.
    """

    image: StoredImage
    expiration: Expiration
    run: ImagePath | None
    due_at: datetime | None


async def planned_images(
    evaluator: RetentionEvaluator, at: datetime, on_page: Callable[[int], None] = lambda _: None
) -> AsyncIterator[PlannedImage]:
    """Yield the images for which a scan at the time `at` would schedule a deletion, or has done so.

    For a future time, the result assumes that nothing changes until then. `on_page` is called with
    the number of images after each page of the listing. Raises `ListingUnsupported`.
    """
    state, rows = await evaluator.begin_scan(), await evaluator.database.rows()
    async for images, _ in evaluator.pages("", _PAGE):
        expired, runs = await evaluator.find_expired(images, to_nanoseconds(at), state)
        expirations = {image.key: expiration for image, expiration in expired}
        candidates = [image for image, _ in expired]
        markable = await (await expiry_rows(evaluator.database)).filter_markable(candidates)
        due = {mark.storage_key: mark.due_at for mark in await rows.deletions.of_saves(markable)}
        for image in markable:
            yield PlannedImage(image, expirations[image.key], None, due.get(image.key))
        for run in runs:
            async for page in evaluator.runs.images(run.folder):
                old = [image for image in page if image.modified_ns <= run.saved_until_ns]
                recorded = await rows.resources.recorded_in_place(old)
                due = {mark.storage_key: mark.due_at for mark in await rows.deletions.of_saves(old)}
                for image in old:
                    if image.key not in recorded:
                        yield PlannedImage(image, run.expiration, run.folder, due.get(image.key))
        on_page(len(images))
