"""Healing of the search index: a scan that compares the storage with the index, page by page.

The scan finds images that other tools have written to the folder or bucket, and changes that were
lost in a crash. Only one process scans at a time. The position of the scan is stored in the
database, so that another process can resume it after a crash.
"""

import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from stillroom.features.database.clock import now
from stillroom.features.database.database import Database
from stillroom.features.search.comparing import Comparing, Healed
from stillroom.features.search.database import comparison_rows, count_rows
from stillroom.features.search.values import INDEX_SCAN, NEVER_NS, REBUILD_SCAN
from stillroom.paths import COMPUTE_PREFIX, MEDIA_PREFIX, KeyPrefix
from stillroom.store.background import Stopping
from stillroom.store.port import ImageStorage
from stillroom.store.values import ListQuery

TREES: Final = (COMPUTE_PREFIX, MEDIA_PREFIX)
_PAGE: Final = 500
_PAUSE_S: Final = 1.0  # after a page without differences; a million images take half an hour
_SHORT_PAUSE_S: Final = 0.05
_PAUSE_FACTOR: Final = 4  # times the time of a page with differences: at most 20 % of a core
_LEASE: Final = timedelta(minutes=5)
_EVERY: Final = timedelta(hours=1)
_EVERY_IN_BUCKET: Final = timedelta(hours=6)  # a million names take 1,000 requests (half a cent)
StopsWithin = Callable[[float], Awaitable[bool]]  # waits for seconds; returns whether to stop


@dataclass(eq=False)
class IndexHealing:
    """Periodic comparison of one storage with its search index, and rebuild of the index.

    If `compares_saves` is False, the periodic comparison only compares names. This is for buckets,
    where reading an image's metadata costs a request. If another tool replaces an image in the
    bucket, only a rebuild detects this.
    """

    storage: ImageStorage
    database: Database
    _: KW_ONLY
    compares_saves: bool

    async def heal(self, stops_within: StopsWithin) -> Healed:
        """Run or resume the periodic comparison if it is due."""
        names_since_ns = None if self.compares_saves else NEVER_NS
        comparing = Comparing(self.storage, self.database, names_since_ns=names_since_ns)
        every = _EVERY if self.compares_saves else _EVERY_IN_BUCKET
        healed = await self._scan(INDEX_SCAN, comparing, stops_within, every=every)
        return healed or Healed()

    async def rebuild(
        self, stops_within: StopsWithin, *, restart: bool, progress: Callable[[Healed], None]
    ) -> Healed | None:
        """Rebuild the index by reading every image, or resume an interrupted rebuild.

        If `restart` is True, start from the beginning. `progress` is called after each page. Return
        None if another process is rebuilding the index. The facet counts are recomputed, too.
        """
        # The epoch, since no server starts here. The call only notes a change of the storage.
        await (await comparison_rows(self.database)).note_start(datetime.fromtimestamp(0, UTC))
        if restart:
            await (await self.database.scans()).restart(REBUILD_SCAN, at=now())
        comparing = Comparing(self.storage, self.database, anew=True)
        healed = await self._scan(
            REBUILD_SCAN, comparing, stops_within, every=timedelta(0), progress=progress
        )
        if healed is not None:
            counts = await count_rows(self.database)
            await counts.reset()
            await counts.catch_up(await self.database.scans(), Stopping().within)
        return healed

    async def _scan(
        self,
        name: str,
        comparing: Comparing,
        stops_within: StopsWithin,
        *,
        every: timedelta,
        progress: Callable[[Healed], None] = lambda _: None,
    ) -> Healed | None:
        healed, scans = comparing.healed, await self.database.scans()

        async def pages(claim: uuid.UUID, after: str) -> AsyncGenerator[float, None]:
            healed.after = after
            while not healed.is_whole:
                tree = MEDIA_PREFIX if healed.after.startswith(MEDIA_PREFIX) else COMPUTE_PREFIX
                began = time.monotonic()
                query = ListQuery(KeyPrefix(tree), healed.after, _PAGE)
                found_some, next_after = await comparing.compare_page(query)
                if next_after is None and tree != TREES[-1]:
                    next_after = MEDIA_PREFIX
                healed.after, healed.is_whole = next_after or "", next_after is None
                if not await scans.keep(claim, after=healed.after, lease=_LEASE):
                    return  # the lease expired, and another process resumed the scan
                progress(healed)
                if not healed.is_whole:
                    yield healing_pause(found_some, time.monotonic() - began)

        is_ours = await scans.run(name, pages, stops_within, lease=_LEASE, every=every)
        return healed if is_ours else None


async def never_pauses(_: float) -> bool:
    """Return False at once. With this `stops_within`, a command neither pauses nor stops."""
    return False


def healing_pause(found_some: bool, took_s: float) -> float:  # noqa: FBT001  (a callback)
    """Return the pause in seconds after a page of images whose comparison took `took_s` seconds."""
    return max(_SHORT_PAUSE_S, _PAUSE_FACTOR * took_s) if found_some else _PAUSE_S
