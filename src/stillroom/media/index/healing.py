"""Healing of the search index: what is stored is compared with the rows, page by page.

It finds what other tools have put into the folder or the bucket, what a crash has left out, and
what an older version has saved. One process at a time goes through everything; where it is, is
kept in a row, so that another one goes on there if it dies.

After a start one process compares what the index may lack since its latest save, without pauses.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from stillroom.concurrently import for_each_concurrently
from stillroom.errors import BackendUnavailable, ImageNotFound
from stillroom.media.database import MediaDatabase
from stillroom.media.index.filling import read_facts
from stillroom.media.index.values import Indexed, IndexedImage, Removed
from stillroom.media.resource import now
from stillroom.paths import COMPUTE_PREFIX, MEDIA_PREFIX, KeyPrefix, StorageKey
from stillroom.storage.capabilities import FindsChangedFolders
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import ListQuery, StoredImage

_TREES: Final = (COMPUTE_PREFIX, MEDIA_PREFIX)
_PAGE: Final = 500
_PAUSE_S: Final = 1.0
"""After a page on which nothing was missing: a million images take half an hour."""

_SHORT_PAUSE_S: Final = 0.05
_PAUSE_FACTOR: Final = 4
"""Times what a page took on which something was missing: requests keep four fifths of a core."""

_READ_AT_ONCE: Final = 8
_LEASE: Final = timedelta(minutes=5)
_EVERY: Final = timedelta(hours=1)
_EVERY_IN_BUCKET: Final = timedelta(hours=6)
"""A million names are a thousand listings, half a cent."""

_SETTLED_NS: Final = 10 * 10**9
"""What was saved in the last seconds is on its way into the index by itself."""

_START_LEASE: Final = timedelta(seconds=30)
"""A process that is killed in its comparison is soon followed by another one."""

_RENEW_S: Final = 5.0

_TRY_AGAIN_S: Final = 5.0
_START_PAGE: Final = 1000
"""As many as a bucket lists in one request."""

log = logging.getLogger("stillroom.media")

StopsWithin = Callable[[float], Awaitable[bool]]


@dataclass(slots=True)
class Healed:
    """What a scan did.

    Attributes:
        images: Looked at.
        written: Rows written.
        removed: Rows of images that are not there.
        is_whole: Whether it came to the end; else the next one goes on from there.
        after: Where it goes on.
    """

    images: int = 0
    written: int = 0
    removed: int = 0
    is_whole: bool = False
    after: str = ""


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
        self._started = now()
        self._since: str | None = None
        self._noting = asyncio.Lock()
        self._has_caught_up = False

    async def note_start(self) -> str:
        """Note since when changes may be missing, before this process writes into the index.

        Raises:
            BackendUnavailable: the database is away.
        """
        async with self._noting:
            if self._since is None:
                scans = (await self._database.rows()).scans
                self._since = await scans.note_start(self._started)
        return self._since

    async def catch_up(self, stops_within: StopsWithin) -> Healed | None:
        """Compare what has changed since the latest save in the index, once after a start.

        On a disk the folders that have changed since are compared, in a bucket all names, and the
        images that were saved since. Of several processes that start together one does it.

        Args:
            stops_within: As in `heal`.

        Returns:
            None: another process has done it.

        Raises:
            BackendUnavailable: as in `heal`; the next call begins anew.
        """
        from stillroom.media.rows.scans import START

        if self._has_caught_up:
            return None
        since, healed = await self.note_start(), None
        scans = (await self._database.rows()).scans
        while await scans.needs_start(self._started):
            claim = uuid.uuid4()
            claimed = await scans.claim_start(
                claim, started=self._started, since=since, lease=_START_LEASE
            )
            if claimed is not None:
                try:
                    healed = await self._catch_up(claim, *claimed, stops_within)
                except BackendUnavailable:
                    self._started = now()  # that comparison does not count
                    with contextlib.suppress(BackendUnavailable):
                        await scans.end(claim, next_at=None, name=START)
                    raise
                break
            if await stops_within(_TRY_AGAIN_S):
                return None
        self._has_caught_up = True
        return healed

    async def _catch_up(
        self, claim: uuid.UUID, since: str, began: datetime, stops_within: StopsWithin
    ) -> Healed | None:
        from stillroom.media.rows.scans import START

        healed = Healed()
        scans = (await self._database.rows()).scans
        page_began = renewed = began_s = time.monotonic()
        async for found_some in self._changed_pages(int(since) - _SETTLED_NS, healed):
            took_s = time.monotonic() - page_began
            # An index without a row is not caught up with, but made: that has time.
            pause_s = _healing_pause(found_some, took_s) if since == "0" else 0
            if await stops_within(pause_s):
                await scans.end(claim, next_at=None, name=START)
                return healed
            page_began = time.monotonic()
            if page_began - renewed > _RENEW_S:
                if not await scans.keep(START, claim, after=since, lease=_START_LEASE):
                    return None  # it took too long, and another process begins anew
                renewed = page_began
        healed.is_whole = True
        await scans.end(claim, next_at=began, name=START)
        log.info(
            "compared %d images with the search index after the start in %.1f s: %d rows are "
            "written, %d removed",
            healed.images, time.monotonic() - began_s, healed.written, healed.removed,
        )  # fmt: skip
        return healed

    async def _changed_pages(self, since_ns: int, healed: Healed) -> AsyncIterator[bool]:
        """Compare what may have changed since then, page by page; yield whether anything had."""
        if isinstance(self._storage, FindsChangedFolders):
            async for folders in self._storage.changed_folders(since_ns):
                for folder in folders:
                    async for found_some in self._pages(folder, since_ns, healed, delimited=True):
                        yield found_some
                yield False
            return
        for tree in _TREES:
            async for found_some in self._pages(KeyPrefix(tree), since_ns, healed):
                yield found_some

    async def _pages(
        self, prefix: KeyPrefix, since_ns: int, healed: Healed, *, delimited: bool = False
    ) -> AsyncIterator[bool]:
        after: str | None = ""
        while after is not None:
            query = ListQuery(prefix, after, _START_PAGE, delimited=delimited)
            found_some, after = await self._page(query, healed, since_ns=since_ns)
            yield found_some

    async def heal(self, stops_within: StopsWithin) -> Healed:
        """Go through everything slowly, or go on where another process stopped, if it is time.

        Args:
            stops_within: Waits for so many seconds, and says whether to stop.

        Raises:
            BackendUnavailable: the storage or the database failed; it goes on there later.
        """
        from stillroom.media.rows.scans import INDEX

        every = _EVERY if self._compares_saves else _EVERY_IN_BUCKET
        healed = await self._scan(INDEX, stops_within, _healing_pause, every=every)
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
            if next_after is None and tree != _TREES[-1]:
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
        self, query: ListQuery, healed: Healed, *, anew: bool = False, since_ns: int | None = None
    ) -> tuple[bool, str | None]:
        """Compare one page.

        Args:
            query: Which one.
            healed: Is added to.
            anew: Read each image.
            since_ns: After a start: what was saved then or later is looked at in a bucket, too.
                What was saved just now is compared as well, since the process that has saved it
                may have died. Rows that others have written meanwhile stay.

        Returns:
            Whether anything differed, and where the next page begins.
        """
        began_ns = time.time_ns()
        rows = (await self._database.rows()).search
        after, tree, directly = query.after, query.prefix.text, query.delimited
        there: dict[str, StoredImage] = {}
        if anew or self._compares_saves:
            described = await self._storage.entries(query)
            there = {one.key.text: one for one in described.entries if isinstance(one, StoredImage)}
            seen, next_after = set(there), described.next_after
            known = await rows.between(after, next_after, tree, directly=directly)
            new = {key for key, one in there.items() if not _is_known(one, known)}
        else:
            page = await self._storage.list(query)
            seen, next_after = set(page.entries), page.entries[-1] if page.more else None
            known = await rows.between(after, next_after, tree)
            new = seen - known.keys()
            if since_ns is not None:
                new |= {key for key in seen if page.modified_ns.get(key, 0) >= since_ns}
        images: Sequence[StoredImage] = [*there.values()]
        if not anew:  # looked at after the rows, so that none is older than its row
            images = [one for one in (await self._looked_at(new))[0] if not _is_known(one, known)]
        settled_ns = began_ns - _SETTLED_NS
        is_any_age = anew or since_ns is not None
        changed = [one for one in images if is_any_age or one.modified_ns < settled_ns]
        # A row may be newer than the listing.
        _, gone = await self._looked_at(known.keys() - seen)
        healed.images += len(seen)
        healed.removed += len(gone)
        removed = [Removed(key, began_ns) for key in gone]
        compared_with = None if since_ns is None else known
        healed.written += await self._write(changed, removed, compared_with)
        return bool(changed or gone), next_after

    async def _looked_at(
        self, keys: Collection[str]
    ) -> tuple[Sequence[StoredImage], Sequence[StorageKey]]:
        """The images that these keys have, and the keys that have none."""
        images: list[StoredImage] = []
        gone: list[StorageKey] = []

        async def look(text: str) -> None:
            key = StorageKey(text)
            try:
                images.append(await self._storage.stat(key))
            except ImageNotFound:
                gone.append(key)

        await for_each_concurrently(look, sorted(keys), limit=_READ_AT_ONCE)
        return images, gone

    async def _write(
        self,
        images: Sequence[StoredImage],
        removed: Sequence[Removed],
        compared_with: Mapping[str, Indexed] | None,
    ) -> int:
        if not images and not removed:
            return 0
        indexed: list[IndexedImage] = []

        async def read(image: StoredImage) -> None:
            indexed.append(await read_facts(self._storage, image))

        await for_each_concurrently(read, images, limit=_READ_AT_ONCE)
        rows = (await self._database.rows()).search
        return await rows.write(indexed, removed, certain=True, compared_with=compared_with)


def _is_known(image: StoredImage, known: Mapping[str, Indexed]) -> bool:
    return image.key.text in known and known[image.key.text].is_of(image)


async def never_pauses(_: float) -> bool:
    """For commands: go on at once."""
    return False


def _healing_pause(found_some: bool, took_s: float) -> float:  # noqa: FBT001  (a callback)
    return max(_SHORT_PAUSE_S, _PAUSE_FACTOR * took_s) if found_some else _PAUSE_S
