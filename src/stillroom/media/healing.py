"""Healing: what is missing of resources is computed in the background (docs/adr/0032).

An ingest asks for what only pixels say; `POST /media-resources/heal` also for what the header says.
The steps, and what each leaves if the process dies after it:

1. claim, in a transaction of its own         a row whose lease runs out
2. read the bytes, decode them elsewhere      the same
3. write what is still null                   the same; the next finds less to do
4. end: the row goes, or is due later         everything

What cannot be decoded stays null, and is tried again only if it is asked for.
"""

import contextlib
import dataclasses
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from stillroom.errors import (
    ImageNotFound,
    InvalidPath,
    ResourceNotFound,
    StillroomError,
    UnsupportedMedia,
)
from stillroom.media.database import MediaDatabase
from stillroom.media.headers.probe import probe
from stillroom.media.recorded_bytes import is_intact
from stillroom.media.resource import VIDEO, Change, HealingJob, MediaResource, now
from stillroom.paths import poster_of
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import OpenedImage

HEAL_EVERY_S: Final = 5.0
"""How often a process looks for something to do: one quick query. What is ingested has its colour
that soon."""

_BATCH: Final = 4
"""Claimed together and done one after the other: the pictures that requests wait for go first."""

_LEASE: Final = timedelta(minutes=10)
"""Fetching and decoding the worst image takes 80 s; four do in six minutes."""

MAX_ATTEMPTS: Final = 5
_FIRST_PAUSE: Final = timedelta(minutes=1)
"""It doubles: a bucket that is away for a quarter of an hour costs no colour."""

_PAGE: Final = 10_000
"""Resources that one transaction asks for; it takes some 50 ms of a SQLite."""

log = logging.getLogger("stillroom.media")


class Colors(Protocol):
    """What finds the dominant colour of an image, in a process that may come to harm."""

    def decodes(self, content_type: str) -> bool:
        """Whether it is worth trying with this type."""
        ...

    async def dominant_color(self, original: OpenedImage) -> str | None:
        """`#rrggbb`, sRGB; None for an image that shows nothing. The caller closes it.

        Raises:
            UnsupportedMedia: it cannot be decoded, or not within the limits.
            BackendUnavailable: it cannot be read or decoded now.
        """
        ...


class Outcome(StrEnum):
    """What became of a resource."""

    FILLED = "filled"
    UNFILLED = "unfilled"
    """It cannot be decoded, or shows nothing; what is missing stays missing."""

    GONE = "gone"
    """Its bytes are, or it is."""

    RETRIED = "retried"
    GIVEN_UP = "given_up"


Healed = Counter[Outcome]
"""How many resources had which outcome."""


class Healer:
    """Computes what is missing in one library. Any number of them may run."""

    def __init__(
        self,
        storage: ImageStorage,
        database: MediaDatabase,
        colors: Colors,
        *,
        report: Callable[[Outcome], None] = lambda _: None,
    ) -> None:
        """Read bytes from `storage`, and write what they say to `database`.

        Args:
            storage: Where the bytes are.
            database: Where the resources are, and what waits.
            colors: Decodes.
            report: Gets the outcome of each resource.
        """
        self._storage = storage
        self._database = database
        self._colors = colors
        self._report = report

    async def ask(self, ids: Collection[uuid.UUID] | None = None) -> int:
        """Have computed what is missing of these resources, or of all.

        Returns:
            Of how many something is missing.

        Raises:
            BackendUnavailable: the database is away; some of them may have been asked for.
        """
        rows, asked, after = (await self._database.rows()).healing, 0, None
        while page := await rows.ask(ids, after=after, limit=_PAGE):
            asked, after = asked + len(page), page[-1]
        return asked

    async def waiting(self) -> int:
        """Of how many resources something is to be computed, now or later.

        Raises:
            BackendUnavailable: the database is away.
        """
        return await (await self._database.rows()).healing.waiting()

    async def heal(
        self,
        is_stopping: Callable[[], bool] = lambda: False,
        progress: Callable[[Healed], None] | None = None,
    ) -> Healed:
        """Compute everything that is due now, one resource after the other.

        Args:
            is_stopping: Asked before each of them.
            progress: Called after each of them.

        Raises:
            BackendUnavailable: the database is away; what was claimed is due again after a while.
        """
        healed, rows = Healed(), (await self._database.rows()).healing
        while True:
            claimed = await rows.claim(limit=_BATCH, lease=_LEASE)
            for job in claimed.jobs:
                put_off: tuple[int, datetime] | None = None
                if is_stopping():
                    put_off = job.attempts - 1, now()
                else:
                    outcome = await self._outcome(job)
                    self._report(outcome)
                    healed[outcome] += 1
                    if outcome is Outcome.RETRIED:
                        pause = _FIRST_PAUSE * 2.0 ** (job.attempts - 1)
                        put_off = job.attempts, now() + pause
                await rows.end(job, lease_until=claimed.lease_until, put_off=put_off)
                if progress is not None:
                    progress(healed)
            if not claimed.jobs or is_stopping():
                return healed

    async def _outcome(self, job: HealingJob) -> Outcome:
        """Do one job."""
        resource = job.resource
        if job.attempts > MAX_ATTEMPTS:
            log.warning("gave up healing %s: no result from the last attempts", resource.id)
            return Outcome.GIVEN_UP
        try:
            change = await self._found(resource, reread=job.reread)
            await (await self._database.rows()).resources.change(
                resource.id, change, only_unset=True
            )
        except (ImageNotFound, ResourceNotFound):
            return Outcome.GONE
        except StillroomError as error:
            last = job.attempts == MAX_ATTEMPTS
            said = "gave up" if last else "will try again"
            log.warning("%s healing %s: %s (%r)", said, resource.id, error, error.__cause__)
            return Outcome.GIVEN_UP if last else Outcome.RETRIED
        found = any(value is not None for value in change.values.values())
        return Outcome.FILLED if found else Outcome.UNFILLED

    async def _found(self, resource: MediaResource, *, reread: bool) -> Change:
        """What the bytes of a resource say; the colour of a video is that of its poster.

        Raises:
            ImageNotFound: they are gone.
            BackendUnavailable: they cannot be read or decoded now.
        """
        is_colorless, is_video = resource.dominant_color is None, resource.resource_type == VIDEO
        decodes = is_colorless and not is_video and self._colors.decodes(resource.content_type)
        change = Change()
        if decodes or reread:
            opened = await self._storage.open(resource.storage_key)
            with contextlib.closing(opened):
                if not is_intact(opened.image, resource):
                    raise ImageNotFound
                try:
                    if reread:
                        probed = await probe(opened)
                        change = Change(
                            color_profile=probed.color_profile,
                            duration=probed.duration,
                            ai_mark=probed.ai_mark,
                        )
                    if decodes:
                        color = await self._colors.dominant_color(opened)
                        change = dataclasses.replace(change, dominant_color=color)
                except UnsupportedMedia as error:
                    log.info("not all of %s can be healed: %s", resource.id, error)
        if is_colorless and is_video:
            color = await self._color_of_poster(resource)
            change = dataclasses.replace(change, dominant_color=color)
        return change

    async def _color_of_poster(self, video: MediaResource) -> str | None:
        """The colour of the picture beside a video, where it came from; None without one.

        Raises:
            BackendUnavailable: it cannot be read or decoded now.
        """
        source = video.source_key or video.storage_key
        try:
            with contextlib.closing(await self._storage.open(poster_of(source))) as poster:
                if self._colors.decodes(poster.image.content_type):
                    return await self._colors.dominant_color(poster)
        except (ImageNotFound, InvalidPath):
            pass
        except UnsupportedMedia as error:
            log.info("the poster of %s has no colour: %s", video.id, error)
        return None
