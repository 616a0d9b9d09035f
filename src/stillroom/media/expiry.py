"""Expiry: what has come to its end by the rules of retention is found page by page, and marked.

What is in a published run goes with the run, by the time of its manifest, and that goes first.

One process at a time goes through all that a rule may end, slowly enough for requests. Where it is,
is committed with the marks of each page, so that another one goes on there if it dies. Each mark is
held to the rules once more before the sweeper deletes.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from stillroom.errors import BackendUnavailable, PreconditionFailed, RunConflict, RunNotFound
from stillroom.media import clock
from stillroom.media.database import MediaDatabase
from stillroom.media.resource import DueMark, now
from stillroom.media.retention.ends import EndedRun, Ends, nanoseconds
from stillroom.media.retention.rules import Rules
from stillroom.media.runs.deletion import RunDeletions
from stillroom.storage.port import ImageStorage

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
    """Marks what has come to its end."""

    def __init__(
        self, storage: ImageStorage, database: MediaDatabase, *, rules: Rules, grace: timedelta
    ) -> None:
        """Go through `storage`, and mark in `database`.

        Args:
            storage: Where compute results are.
            database: Where the marks are, and how far it has come.
            rules: What ends, and when.
            grace: How long one can still be ingested after it was marked.
        """
        self._storage = storage
        self._database = database
        self._ends = Ends(storage, database, rules)
        self._runs = RunDeletions(storage, database, grace=grace)
        self._due_after = max(grace, _SHORTEST_GRACE)
        self._every = min((rules.shortest or _PASSES * _LONGEST_WAIT) / _PASSES, _LONGEST_WAIT)

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
        position = await scans.claim(claim, lease=_LEASE, every=self._every)
        if position is None:
            return 0
        begun, marked = await self._ends.begin(), 0
        async for entries, after in self._ends.pages(position, _PAGE):
            ended = await self._ends.of_page(entries, nanoseconds(clock.earliest()), begun)
            for run in ended.runs:
                marked += await self._delete_run(run)
            keys = await scans.mark_ended(
                claim,
                [image for image, _ in ended.images],
                due_at=clock.latest() + self._due_after,
                after=after or "",
                lease=_LEASE,
            )
            if keys is None:
                return marked  # it took too long, and another one goes on
            rules = {image.key: end.rule.name for image, end in ended.images}
            for key in keys:
                log.info("marked %r: it has expired by %s", key.text, rules[key])
            marked += len(keys)
            if after is not None and await stops_within(_PAUSE_S):
                await scans.end(claim, next_at=None)
                return marked
        await scans.end(claim, next_at=now() + self._every)
        return marked

    async def still_holds(self, mark: DueMark) -> bool:
        """Whether what was marked would be marked again: the rules, tags and runs are today's.

        Raises:
            ImageNotFound, PreconditionFailed: the marked save is not there any more.
            BackendUnavailable: as its name says.
        """
        image = await self._storage.stat(mark.storage_key)
        if image.save_id != mark.save_id:
            raise PreconditionFailed
        return await self._ends.has_ended(image, nanoseconds(clock.earliest()))

    async def _delete_run(self, run: EndedRun) -> int:
        """Delete a run without what was saved into it since; how many images were marked."""
        saved_until = datetime.fromtimestamp(run.saved_until_ns / 1e9, UTC)
        try:
            deleted = await self._runs.delete(run.folder, saved_until=saved_until)
        except (RunNotFound, RunConflict, BackendUnavailable) as error:
            # Another process was first, or is at it; what is left of it is found the next time.
            log.warning("the run %r has expired, and is not deleted: %s", run.folder.text, error)
            return 0
        log.info("the run %r has expired by %s", run.folder.text, run.end.rule.name)
        return deleted.marked


async def never_stops(seconds: float) -> bool:
    """For commands: wait, and go on."""
    await asyncio.sleep(seconds)
    return False
