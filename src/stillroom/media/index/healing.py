"""Healing of the search index: what is stored is compared with the rows, page by page.

It finds what other tools have put into the folder or the bucket, what a crash has left out, and
what an older version has saved. One process at a time goes through everything; where it is, is
kept in a row, so that another one goes on there if it dies.
"""

import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from stillroom.media.database import MediaDatabase
from stillroom.media.index.comparing import Comparing, Healed
from stillroom.media.resource import now
from stillroom.paths import COMPUTE_PREFIX, MEDIA_PREFIX, KeyPrefix
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import ListQuery

TREES: Final = (COMPUTE_PREFIX, MEDIA_PREFIX)
_PAGE: Final = 500
_PAUSE_S: Final = 1.0
"""After a page on which nothing was missing: a million images take half an hour."""

_SHORT_PAUSE_S: Final = 0.05
_PAUSE_FACTOR: Final = 4
"""Times what a page took on which something was missing: requests keep four fifths of a core."""

_LEASE: Final = timedelta(minutes=5)
_EVERY: Final = timedelta(hours=1)
_EVERY_IN_BUCKET: Final = timedelta(hours=6)
"""A million names are a thousand listings, half a cent."""

log = logging.getLogger("stillroom.media")

StopsWithin = Callable[[float], Awaitable[bool]]


class IndexHealing:
    """Compares one storage with its index."""

    def __init__(
        self, storage: ImageStorage, database: MediaDatabase, *, compares_saves: bool
    ) -> None:
        """Go through `storage`, and write into `database`.

        Args:
            storage: What is compared.
            database: With its index.
            compares_saves: Look at each image. Else only at those that are new: in a bucket each
                look is a request that is paid for, and who replaces an image there by other
                tools must rebuild.
        """
        self._storage = storage
        self._database = database
        self._compares_saves = compares_saves
        self._comparing = Comparing(storage, database)

    async def heal(self, stops_within: StopsWithin) -> Healed:
        """Go through everything slowly, or go on where another process stopped, if it is time.

        Args:
            stops_within: Waits for so many seconds, and says whether to stop.

        Raises:
            BackendUnavailable: the storage or the database failed; it goes on there later.
        """
        from stillroom.media.rows.scans import INDEX

        every = _EVERY if self._compares_saves else _EVERY_IN_BUCKET
        healed = await self._scan(INDEX, stops_within, healing_pause, every=every)
        return healed or Healed()

    async def rebuild(
        self, stops_within: StopsWithin, *, restart: bool, progress: Callable[[Healed], None]
    ) -> Healed | None:
        """Read every image again, as fast as it goes; it resumes where an earlier one stopped.

        Args:
            stops_within: As in `heal`.
            restart: Begin from the start whatever was done before.
            progress: Called after each page.

        Returns:
            None: another process is rebuilding it.

        Raises:
            BackendUnavailable: as in `heal`.
        """
        from stillroom.media.rows.scans import REBUILD

        if restart:
            await (await self._database.rows()).scans.restart(REBUILD, at=now())
        return await self._scan(
            REBUILD, stops_within, lambda *_: 0, every=timedelta(0), anew=True, progress=progress
        )

    async def _scan(
        self,
        name: str,
        stops_within: StopsWithin,
        pause: Callable[[bool, float], float],
        *,
        every: timedelta,
        anew: bool = False,
        progress: Callable[[Healed], None] | None = None,
    ) -> Healed | None:
        healed = Healed()
        scans = (await self._database.rows()).scans
        claim = uuid.uuid4()
        after = await scans.claim(claim, lease=_LEASE, name=name)
        if after is None:
            return None
        healed.after = after
        while True:
            tree = MEDIA_PREFIX if after.startswith(MEDIA_PREFIX) else COMPUTE_PREFIX
            began = time.monotonic()
            query = ListQuery(KeyPrefix(tree), after=after, limit=_PAGE)
            found_some, next_after = await self._page(query, healed, anew=anew)
            if next_after is None and tree != TREES[-1]:
                next_after = MEDIA_PREFIX
            after = healed.after = next_after or ""
            healed.is_whole = next_after is None
            if not await scans.keep(name, claim, after=after, lease=_LEASE):
                return healed  # it took too long, and another one goes on
            if progress is not None:
                progress(healed)
            if healed.is_whole:
                await scans.end(claim, next_at=now() + every, name=name)
                return healed
            if await stops_within(pause(found_some, time.monotonic() - began)):
                await scans.end(claim, next_at=None, name=name)
                return healed

    async def _page(
        self, query: ListQuery, healed: Healed, *, anew: bool
    ) -> tuple[bool, str | None]:
        """Compare one page; whether anything differed, and where the next one begins."""
        began_ns, compare = time.time_ns(), self._comparing.compare
        rows = (await self._database.rows()).indexed
        if anew or self._compares_saves:
            images, next_after = await self._comparing.described(query)
            known = await rows.between(query.after, next_after, query.prefix.text)
            return await compare(images, known, began_ns, healed, anew=anew), next_after
        page = await self._storage.list(query)
        next_after = page.entries[-1] if page.more else None
        known = await rows.between(query.after, next_after, query.prefix.text)
        there = dict.fromkeys(page.entries)
        suspected = there.keys() - known.keys()
        return await compare(there, known, began_ns, healed, suspected=suspected), next_after


async def never_pauses(_: float) -> bool:
    """For commands: go on at once."""
    return False


def healing_pause(found_some: bool, took_s: float) -> float:  # noqa: FBT001  (a callback)
    """Return how many seconds to wait after a page that took so long, in the background."""
    return max(_SHORT_PAUSE_S, _PAUSE_FACTOR * took_s) if found_some else _PAUSE_S
