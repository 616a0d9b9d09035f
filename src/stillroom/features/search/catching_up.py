"""Comparison of storage and index after a server start, to find changes that the index has missed.

A process that crashes loses its queued changes. After a server start, one process therefore
compares the index with the images that have changed since the newest indexed image was saved. If
the index is empty or belongs to another storage, all images are compared, with pauses.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from stillroom.errors import BackendUnavailable
from stillroom.features.database.clock import now
from stillroom.features.database.database import Database
from stillroom.features.search.comparing import SETTLED_NS, Comparing, Healed
from stillroom.features.search.database import comparison_rows
from stillroom.features.search.healing import TREES, StopsWithin, healing_pause
from stillroom.features.search.values import BEHIND_ALL, NEVER_NS, KeyRange
from stillroom.paths import KeyPrefix
from stillroom.store.capabilities import FindsChangedFolders
from stillroom.store.pages import each_page
from stillroom.store.port import ImageStorage
from stillroom.store.values import ListQuery, StoredImage

_LEASE: Final = timedelta(seconds=30)  # short, so that a crashed scan is soon repeated
_RENEW_S: Final = 5.0
_TRY_AGAIN_S: Final = 5.0
_PAGE: Final = 1000  # names; a bucket lists at most this number in one request

log = logging.getLogger("stillroom.media")


class CatchingUp:
    """Comparison of one storage with its index after this process has started or lost changes."""

    def __init__(self, storage: ImageStorage, database: Database) -> None:
        self._storage = storage
        self._database = database
        self._started = now()
        self._since: str | None = None
        self._noting = asyncio.Lock()
        self._caught_up: datetime | None = None
        self._has_warned = False

    async def note_start(self, lost_ns: int = NEVER_NS) -> str:
        """Store and return the time (nanoseconds) since which the index may lack changes.

        Call this before each write to the index. `lost_ns` is the time of the earliest change that
        this process has lost, if there is one. The next call of `catch_up` then compares again.
        """
        async with self._noting:
            if self._since is None or lost_ns != NEVER_NS:
                scans = await comparison_rows(self._database)
                started = self._started if lost_ns == NEVER_NS else now()
                self._since = await scans.note_start(started, lost_ns)
                if lost_ns != NEVER_NS:
                    self._started = now()  # scans that began before may have missed the change
        return self._since

    async def catch_up(self, stops_within: StopsWithin) -> Healed | None:
        """Compare the index with the images that have changed since the newest indexed save.

        On a disk, only the images in changed folders are compared. In a bucket, all names are
        compared, and also the metadata of changed images. If several processes start together, only
        one of them compares, and the others return None. If the storage or the database fails
        (`BackendUnavailable`), the next call compares again from the beginning.
        """
        if self._caught_up == self._started:
            return None
        since, healed = await self.note_start(), None
        started = self._started
        rows, scans = await comparison_rows(self._database), await self._database.scans()
        while await rows.needs_start(started):
            claim = uuid.uuid4()
            claimed = await rows.claim_start(claim, started=started, since=since, lease=_LEASE)
            if claimed is not None:
                try:
                    healed = await self._catch_up(claim, *claimed, stops_within)
                except BackendUnavailable:
                    self._started = now()  # the interrupted comparison does not count
                    with contextlib.suppress(BackendUnavailable):
                        await scans.end(claim, next_at=None)
                    raise
                break
            if await stops_within(_TRY_AGAIN_S):
                return None
        self._caught_up = started
        return healed

    async def _catch_up(
        self, claim: uuid.UUID, since: str, began: datetime, stops_within: StopsWithin
    ) -> Healed | None:
        rows = await comparison_rows(self._database)
        has_other = await rows.has_other_storage()
        if has_other:
            self._warn()
            since = "0"
        since_ns, started_ns = int(since) - SETTLED_NS, int(self._started.timestamp() * 1e9)
        comparing = Comparing(
            self._storage, self._database, names_since_ns=since_ns, saved_until_ns=started_ns
        )
        healed, scans = comparing.healed, await self._database.scans()
        page_began = renewed = began_s = time.monotonic()
        async for found_some in self._changed_pages(comparing, since_ns):
            took_s = time.monotonic() - page_began
            # A comparison of all images must not slow down requests.
            pause_s = healing_pause(found_some, took_s) if since == "0" else 0
            if await stops_within(pause_s):
                await scans.end(claim, next_at=None)
                return healed
            page_began = time.monotonic()
            if page_began - renewed > _RENEW_S:
                if not await scans.keep(claim, after=since, lease=_LEASE):
                    return None  # the lease has expired, and another process starts over
                renewed = page_began
        healed.is_whole = True
        if has_other:
            await rows.note_storage()
        await scans.end(claim, next_at=began)
        log.info(
            "startup: compared %d images with the search index in %.1f s (wrote %d rows, "
            "removed %d; on a disk, only images in changed folders are compared)",
            healed.images, time.monotonic() - began_s, healed.written, healed.removed,
        )  # fmt: skip
        return healed

    def _warn(self) -> None:
        if not self._has_warned:  # otherwise each attempt would repeat the warning
            log.warning(
                "startup: the database has a search index of another storage than %s: comparing "
                "all images, without events about deletions (use one database for each storage)",
                self._database.storage_name,
            )
        self._has_warned = True

    async def _changed_pages(self, comparing: Comparing, since_ns: int) -> AsyncIterator[bool]:
        if isinstance(self._storage, FindsChangedFolders):
            async for folders in self._storage.changed_folders(since_ns):
                async for found_some in self._folders(comparing, folders):
                    yield found_some
                yield False
            return
        for tree in TREES:
            after: str | None = ""
            while after is not None:
                query = ListQuery(KeyPrefix(tree), after, _PAGE)
                found_some, after = await comparing.compare_page(query)
                yield found_some

    async def _folders(
        self, comparing: Comparing, folders: Sequence[KeyPrefix]
    ) -> AsyncIterator[bool]:
        # Compares the images directly in `folders`, and removes the rows of deleted subfolders.
        there, ranges, began_ns = dict[str, StoredImage](), list[KeyRange](), time.time_ns()
        for number, folder in enumerate(folders, 1):
            behind = folder.text
            query = ListQuery(folder, limit=_PAGE, delimited=True)
            async for page in each_page(self._storage.entries, query):
                there |= {image.key.text: image for image in page.images}
                inner = [item.text for item in page.entries if isinstance(item, KeyPrefix)]
                after = page.next_after
                for inside in sorted(inner):
                    ranges.append((behind, inside))
                    behind = inside + BEHIND_ALL
                ranges.append((behind, after or folder.text + BEHIND_ALL))
                if after is not None:
                    behind = after + BEHIND_ALL * after.endswith("/")
                is_last = number == len(folders) and after is None
                if is_last or len(there) + len(ranges) >= _PAGE:
                    known = await (await comparison_rows(self._database)).in_ranges(*ranges)
                    yield await comparing.compare(there, known, began_ns)
                    there, ranges, began_ns = {}, [], time.time_ns()
