"""Healing of the search index: what is stored is compared with the rows, page by page.

It finds what other tools have put into the folder or the bucket, what a crash has left out, and
what an older version has saved. One process at a time goes through everything; where it is, is
kept in a row, so that another one goes on there if it dies.
"""

import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from stillroom.concurrently import for_each_concurrently
from stillroom.errors import ImageNotFound
from stillroom.media.database import MediaDatabase
from stillroom.media.index.filling import read_facts
from stillroom.media.index.values import IndexedImage, Removed
from stillroom.media.resource import now
from stillroom.paths import COMPUTE_PREFIX, MEDIA_PREFIX, KeyPrefix, StorageKey
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
            found_some, next_after = await self._page(tree, after, healed, anew=anew)
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
        self, tree: str, after: str, healed: Healed, *, anew: bool
    ) -> tuple[bool, str | None]:
        """Compare one page; whether anything differed, and where the next one begins."""
        began_ns = time.time_ns()
        rows = (await self._database.rows()).search
        query = ListQuery(KeyPrefix(tree), after=after, limit=_PAGE)
        if anew or self._compares_saves:
            described = await self._storage.entries(query)
            there = {one.key.text: one for one in described.entries if isinstance(one, StoredImage)}
            next_after = described.next_after
            known = await rows.between(after, next_after, tree)
            images: Sequence[StoredImage] = [
                one
                for key, one in there.items()
                if anew or (key not in known or not known[key].is_of(one))
            ]
            seen = set(there)
        else:
            page = await self._storage.list(query)
            seen = set(page.entries)
            next_after = page.entries[-1] if page.more else None
            known = await rows.between(after, next_after, tree)
            images, _ = await self._looked_at(seen - known.keys())
        changed = [one for one in images if anew or one.modified_ns < began_ns - _SETTLED_NS]
        # A row may be newer than the listing.
        _, gone = await self._looked_at(known.keys() - seen)
        healed.images += len(seen)
        healed.removed += len(gone)
        healed.written += await self._write(changed, [Removed(key, began_ns) for key in gone])
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

    async def _write(self, images: Sequence[StoredImage], removed: Sequence[Removed]) -> int:
        if not images and not removed:
            return 0
        indexed: list[IndexedImage] = []

        async def read(image: StoredImage) -> None:
            indexed.append(await read_facts(self._storage, image))

        await for_each_concurrently(read, images, limit=_READ_AT_ONCE)
        rows = (await self._database.rows()).search
        return await rows.write(indexed, removed, certain=True)


async def never_pauses(_: float) -> bool:
    """For commands: go on at once."""
    return False


def _healing_pause(found_some: bool, took_s: float) -> float:  # noqa: FBT001  (a callback)
    return max(_SHORT_PAUSE_S, _PAUSE_FACTOR * took_s) if found_some else _PAUSE_S
