"""Healing: computes missing metadata of resources in the background (docs/adr/0032).

An ingest queues a job for the metadata that requires decoding. `POST /media-resources/heal` queues
jobs that also read the metadata in the file header. A job has four steps:

1. Claim the job in a separate transaction. After a crash, another process can claim it later.
2. Read the file, and decode it in another process.
3. Write the fields that are still null.
4. Delete the job's row, or postpone the job.

If an image cannot be decoded, its fields remain null. They are computed again only on request.
"""

import contextlib
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from stillroom.errors import ImageNotFound, ResourceNotFound, StillroomError, UnsupportedMedia
from stillroom.features.database.clock import now
from stillroom.features.library.database import MediaDatabase
from stillroom.features.library.headers.probe import probe
from stillroom.features.library.recorded_bytes import is_intact
from stillroom.features.library.resource import (
    VIDEO,
    Change,
    HealingJob,
    MediaResource,
    ResourceQuery,
)
from stillroom.features.library.source import poster_key
from stillroom.paths import StorageKey
from stillroom.store.port import ImageStorage
from stillroom.store.values import OpenedImage

HEAL_EVERY_S: Final = 5.0  # seconds between two checks for due jobs
_BATCH: Final = 4  # jobs per claim; they run one by one, because thumbnails have priority
_LEASE: Final = timedelta(minutes=10)  # decoding four of the largest images takes 6 minutes
MAX_ATTEMPTS: Final = 5
_FIRST_PAUSE: Final = timedelta(minutes=1)  # doubles each time, so retries span 15 minutes
_PAGE: Final = 10_000  # jobs that one transaction queues, in about 50 ms with SQLite
_REREAD: Final = ("color_profile", "duration", "ai_mark")  # read from the file header

log = logging.getLogger("stillroom.media")


class Colors(Protocol):
    """Interface for computing an image's dominant colour in a separate process."""

    def decodes(self, content_type: str) -> bool:
        """Return whether images of this type can be decoded."""

    async def dominant_color(self, original: OpenedImage) -> str | None:
        """Return `#rrggbb` in sRGB, or None for a fully transparent image.

        Raises `UnsupportedMedia` if the image cannot be decoded or exceeds the limits, and
        `BackendUnavailable` if it cannot be read or decoded at the moment.
        """


class Outcome(StrEnum):
    """Outcome of a job that computes a resource's missing metadata."""

    FILLED = "filled"
    UNFILLED = "unfilled"  # the image cannot be decoded, or has no visible pixels
    GONE = "gone"  # the resource or its file no longer exists
    RETRIED = "retried"
    GIVEN_UP = "given_up"


Healed = Counter[Outcome]  # number of jobs by outcome


@dataclass(eq=False)
class Healer:
    """Runner of jobs that compute missing metadata. Several processes can run jobs at once."""

    storage: ImageStorage
    database: MediaDatabase
    colors: Colors | None = None
    report: Callable[[Outcome], None] = lambda _: None

    async def ask(self, ids: Collection[uuid.UUID] | None = None) -> int:
        """Queue jobs for all resources (or those in `ids`) that lack metadata. Return their number.

        If the database becomes unreachable, some of the jobs may have been queued.
        """
        rows, requested, after = (await self.database.rows()).healing, 0, None
        while page := await rows.ask(ids, after=after, limit=_PAGE):
            requested, after = requested + len(page), page[-1]
        return requested

    async def waiting(self) -> int:
        """Return the number of all queued jobs, including jobs that are not yet due."""
        return await (await self.database.rows()).healing.waiting()

    async def heal(
        self,
        is_stopping: Callable[[], bool] = lambda: False,
        progress: Callable[[Healed], None] = lambda _: None,
    ) -> Healed:
        """Run all due jobs, one after the other, and call `progress` after each job.

        When `is_stopping` returns True, claimed jobs that have not begun are released. If the
        database fails (`BackendUnavailable`), other processes can claim the jobs after `_LEASE`.
        """
        healed, rows = Healed(), (await self.database.rows()).healing
        while True:
            jobs = await rows.claim(limit=_BATCH, lease=_LEASE)
            for job in jobs:
                put_off: tuple[int, datetime] | None = job.attempts - 1, now()
                if not is_stopping():
                    outcome = await self._run(job)
                    self.report(outcome)
                    healed[outcome] += 1
                    pause = _FIRST_PAUSE * 2.0 ** (job.attempts - 1)
                    is_retried = outcome is Outcome.RETRIED
                    put_off = (job.attempts, now() + pause) if is_retried else None
                await rows.end(job, put_off=put_off)
                progress(healed)
            if not jobs or is_stopping():
                return healed

    async def _run(self, job: HealingJob) -> Outcome:
        resource = job.resource
        if job.attempts > MAX_ATTEMPTS:
            log.warning(
                "gave up computing the missing properties of resource %s: the attempts ended "
                "without a result, perhaps because a worker crashed",
                resource.id,
            )
            return Outcome.GIVEN_UP
        try:
            change = await self._compute(resource, reread=job.reread)
            rows = (await self.database.rows()).resources
            await rows.change(resource.id, change, only_unset=True)
        except (ImageNotFound, ResourceNotFound):
            return Outcome.GONE
        except StillroomError as error:
            last = job.attempts == MAX_ATTEMPTS
            log.warning(
                "%s computing the missing properties of resource %s: %s (%r)",
                "gave up" if last else "will retry", resource.id, error, error.__cause__,
            )  # fmt: skip
            return Outcome.GIVEN_UP if last else Outcome.RETRIED
        is_filled = any(value is not None for value in change.values())
        return Outcome.FILLED if is_filled else Outcome.UNFILLED

    async def _compute(self, resource: MediaResource, *, reread: bool) -> Change:
        is_colorless, is_video = resource.dominant_color is None, resource.resource_type == VIDEO
        colors = self.colors if is_colorless and not is_video else None
        if colors is not None and not colors.decodes(resource.content_type):
            colors = None
        change = Change()
        if colors is not None or reread:
            with contextlib.closing(await self.storage.open(resource.storage_key)) as opened:
                if not is_intact(opened.image, resource):
                    raise ImageNotFound
                try:
                    if reread:
                        probed = await probe(opened)
                        change = {name: getattr(probed, name) for name in _REREAD}
                    if colors is not None:
                        change["dominant_color"] = await colors.dominant_color(opened)
                except UnsupportedMedia as error:
                    message = "cannot compute all missing properties of resource %s: %s"
                    log.info(message, resource.id, error)
        if is_colorless and is_video:
            change["dominant_color"] = await self._color_of_poster(resource)
        return change

    async def _color_of_poster(self, video: MediaResource) -> str | None:
        key = poster_key(video.source_key or video.storage_key)
        try:
            with contextlib.closing(await self._open_poster(key)) as poster:
                if self.colors is not None and self.colors.decodes(poster.image.content_type):
                    return await self.colors.dominant_color(poster)
        except ImageNotFound:
            pass
        except UnsupportedMedia as error:
            message = "cannot compute the dominant colour of video %s from its poster image: %s"
            log.info(message, video.id, error)
        return None

    async def _open_poster(self, key: StorageKey | None) -> OpenedImage:
        if key is None:
            raise ImageNotFound
        try:
            return await self.storage.open(key)
        except ImageNotFound:  # perhaps the poster was moved into the library
            query = ResourceQuery(source_keys=[key], limit=1)
            found = (await (await self.database.rows()).resources.page(query)).resources
            if not found:
                raise
            return await self.storage.open(found[0].storage_key)
