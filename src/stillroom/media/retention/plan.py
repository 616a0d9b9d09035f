"""The plan: what a round would mark at a time, found by the same questions; nothing is changed."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from stillroom.media.database import MediaDatabase
from stillroom.media.retention.ends import Ended, Ends, nanoseconds
from stillroom.media.retention.rules import End
from stillroom.media.runs.service import Runs
from stillroom.paths import ImagePath
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import StoredImage

_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """An image that would go.

    Attributes:
        image: The very save.
        end: When it comes to its end, and by which rule.
        run: The published run with which it goes; None: it goes by itself.
        due_at: When it goes, if it is marked already; None: a round would mark it.
    """

    image: StoredImage
    end: End
    run: ImagePath | None
    due_at: datetime | None


class Plan:
    """Applies the rules to what is there, as a round does, and changes nothing."""

    def __init__(self, storage: ImageStorage, database: MediaDatabase, ends: Ends) -> None:
        """Look into `storage` and `database`."""
        self._ends = ends
        self._database = database
        self._runs = Runs(storage, database)

    async def images(
        self, at: datetime, on_page: Callable[[int], None] = lambda _: None
    ) -> AsyncIterator[PlannedImage]:
        """What a round at a time would mark, or has marked, page by page of the listing.

        Args:
            at: When that would be. What is saved, published or tagged until then is not foreseen.
            on_page: Gets the number of images of each page that was looked at.

        Raises:
            ListingUnsupported, BackendUnavailable: as their names say.
        """
        begun, at_ns = await self._ends.begin(), nanoseconds(at)
        async for entries, _ in self._ends.pages("", _PAGE):
            ended = await self._ends.of_page(entries, at_ns, begun)
            async for image in self._planned(ended):
                yield image
            on_page(len(entries))

    async def _planned(self, ended: Ended) -> AsyncIterator[PlannedImage]:
        rows = await self._database.rows()
        alone = {image.key: end for image, end in ended.images}
        kept = await rows.scans.not_left_alone([image for image, _ in ended.images])
        due = {mark.storage_key: mark.due_at for mark in await rows.deletions.of_saves(kept)}
        for image in kept:
            yield PlannedImage(image, alone[image.key], None, due.get(image.key))
        for run in ended.runs:
            async for page in self._runs.images(run.folder):
                old = [image for image in page if image.modified_ns <= run.saved_until_ns]
                recorded = await rows.resources.recorded_in_place(old)
                due = {mark.storage_key: mark.due_at for mark in await rows.deletions.of_saves(old)}
                for image in old:
                    if image.key not in recorded:
                        yield PlannedImage(image, run.end, run.folder, due.get(image.key))
