"""Expiry of compute results that were not ingested: they are found page by page, and marked.

What is in a published run goes with the run, by the time of its manifest, and that goes first.

One process at a time goes through all of `compute/`, slowly enough for requests. Where it is, is
committed with the marks of each page, so that another one goes on there if it dies.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from stillroom.errors import ImageNotFound, InvalidPath, RunConflict, RunNotFound
from stillroom.media.database import MediaDatabase
from stillroom.media.resource import now
from stillroom.media.runs.deletion import RunDeletions
from stillroom.paths import COMPUTE_PREFIX, ImagePath, KeyPrefix, StorageKey, image_entry
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import ListQuery, StoredImage

_PAGE: Final = 250
_PAUSE_S: Final = 1.0
"""After each page: a million images take 67 minutes, and a bucket 250 HEADs a second."""

_LEASE: Final = timedelta(minutes=5)

_PASSES: Final = 24
"""In the time that a result lives; so it goes at most 4 % late."""

_LONGEST_WAIT: Final = timedelta(days=1)

_SHORTEST_GRACE: Final = timedelta(minutes=1)
"""A transaction that records a result in place, and began before it was marked, is over by then."""

log = logging.getLogger("stillroom.media")


class Expiry:
    """Marks what is older than it may become."""

    def __init__(
        self, storage: ImageStorage, database: MediaDatabase, *, ttl: timedelta, grace: timedelta
    ) -> None:
        """Go through `storage`, and mark in `database`.

        Args:
            storage: Where compute results are.
            database: Where the marks are, and how far it has come.
            ttl: How old a compute result may become.
            grace: How long one can still be ingested after it was marked.
        """
        self._storage = storage
        self._database = database
        self._runs = RunDeletions(storage, database, grace=grace)
        self._ttl = ttl
        self._due_after = max(grace, _SHORTEST_GRACE)
        self._every = min(ttl / _PASSES, _LONGEST_WAIT)

    async def mark_expired(self, stops_within: Callable[[float], Awaitable[bool]]) -> int:
        """Go through everything, or go on where another process stopped, if it is time.

        Args:
            stops_within: Waits for so many seconds, and says whether to stop.

        Returns:
            How many were marked.

        Raises:
            BackendUnavailable: the storage or the database failed; it goes on there later.
        """
        scans = (await self._database.rows()).scans
        claim = uuid.uuid4()
        after = await scans.claim(claim, lease=_LEASE)
        if after is None:
            return 0
        marked = 0
        while True:
            page = await self._storage.entries(
                ListQuery(KeyPrefix(COMPUTE_PREFIX), after=after, limit=_PAGE, manifests=True)
            )
            before_ns = time.time_ns() - int(self._ttl.total_seconds() * 1e9)
            old = [
                entry
                for entry in page.entries
                if isinstance(entry, StoredImage) and entry.modified_ns < before_ns
            ]
            after = page.next_after or ""
            old, runs = await self._apart_from_runs(old, before_ns)
            for folder in runs:
                marked += await self._delete_run(folder, before_ns)
            keys = await scans.mark_expired(
                claim, old, due_at=now() + self._due_after, after=after, lease=_LEASE
            )
            if keys is None:
                return marked  # it took too long, and another one goes on
            for key in keys:
                log.info("marked %r: it has expired", key.text)
            marked += len(keys)
            if page.next_after is None:
                await scans.end(claim, next_at=now() + self._every)
                return marked
            if await stops_within(_PAUSE_S):
                await scans.end(claim, next_at=None)
                return marked

    async def _apart_from_runs(
        self, old: Sequence[StoredImage], before_ns: int
    ) -> tuple[list[StoredImage], list[ImagePath]]:
        """Those of some images that are in no published run, and the old ones of these runs."""
        apart, runs = list[StoredImage](), dict[ImagePath, None]()
        known: dict[str, int | None] = {}
        for image in old:
            run = await self._run_of(image.key, known)
            if run is None:
                apart.append(image)
            elif run[1] < before_ns:
                runs[run[0]] = None
        return apart, list(runs)

    async def _run_of(
        self, key: StorageKey, known: dict[str, int | None]
    ) -> tuple[ImagePath, int] | None:
        """The published run that an image is in, and when that was; `known` are folders."""
        folder = image_entry(key.text)
        while "/" in folder:
            folder = folder.rpartition("/")[0]
            if folder not in known:
                known[folder] = await self._published_ns(ImagePath(folder))
            published_ns = known[folder]
            if published_ns is not None:
                return ImagePath(folder), published_ns
        return None

    async def _published_ns(self, folder: ImagePath) -> int | None:
        try:
            return (await self._storage.stat(StorageKey.of_manifest(folder))).modified_ns
        except (ImageNotFound, InvalidPath):  # no manifest can have so long a name
            return None

    async def _delete_run(self, folder: ImagePath, before_ns: int) -> int:
        """Delete a run that is old, without what was saved into it since; how many were marked."""
        saved_until = datetime.fromtimestamp(before_ns / 1e9, UTC)
        try:
            deleted = await self._runs.delete(folder, saved_until=saved_until)
        except (RunNotFound, RunConflict):  # another process was first
            return 0
        return deleted.marked


async def never_stops(seconds: float) -> bool:
    """For commands: wait, and go on."""
    await asyncio.sleep(seconds)
    return False
