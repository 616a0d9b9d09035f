"""Expiry scan: finds images and runs that have expired, and schedules their deletion.

Only one process scans at a time, slowly enough not to delay requests. For each page, one
transaction records the position and the pending deletions, so that another process can resume the
scan after a crash. Before a pending deletion is executed, the retention rules are checked again.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from stillroom.errors import BackendUnavailable, PreconditionFailed, RunConflict, RunNotFound
from stillroom.features.database import clock
from stillroom.features.library.database import MediaDatabase
from stillroom.features.library.resource import DueMark
from stillroom.features.retention.evaluator import ExpiredRun, RetentionEvaluator, expiry_rows
from stillroom.features.retention.rules import Rules
from stillroom.features.runs.deletion import SHORTEST_GRACE, RunDeletions
from stillroom.store.port import ImageStorage

_PAGE: Final = 250
_PAUSE_S: Final = 1.0  # after each page, so that a million images take 67 minutes
_LEASE: Final = timedelta(minutes=5)
SCAN: Final = "expiry"  # name in the table of the background scans, before the rules' digest
_SCANS_PER_LIFETIME: Final = 24  # with the shortest rule: images expire at most 4 % late
_LONGEST_WAIT: Final = timedelta(days=1)

log = logging.getLogger("stillroom.media")


class Expiry:
    """Scan that schedules the deletion of expired images and runs."""

    def __init__(
        self, storage: ImageStorage, database: MediaDatabase, *, rules: Rules, grace: timedelta
    ) -> None:
        self._storage = storage
        self._database = database
        self._evaluator = RetentionEvaluator(storage, database, rules)
        self._runs = RunDeletions(storage, database, grace=grace)
        self._due_after = max(grace, SHORTEST_GRACE)
        lifetime = rules.shortest or _SCANS_PER_LIFETIME * _LONGEST_WAIT
        self._every = min(lifetime / _SCANS_PER_LIFETIME, _LONGEST_WAIT)
        # With changed rules, the scan has another name that has no row, so it is due at once.
        self._scan = f"{SCAN} {rules.digest}"
        self._has_started = False

    async def mark_expired(self, stops_within: Callable[[float], Awaitable[bool]]) -> int:
        """Run or resume the scan if it is due. Return the number of images to be deleted.

        `stops_within` waits for a number of seconds, and returns whether to stop the scan. If the
        storage or the database fails (`BackendUnavailable`), a later call resumes the scan.
        """
        marked, scans = list[int](), await self._database.scans()
        if not self._has_started:
            await scans.forget(f"{SCAN} ", but=self._scan)
            log.info("retention: %s", await self.schedule())
            self._has_started = True
        await scans.run(
            self._scan,
            lambda claim, after: self._mark_pages(claim, after, marked),
            stops_within,
            lease=_LEASE,
            every=self._every,
        )
        return sum(marked)

    async def schedule(self) -> str:
        """Return a text with the time of the next scan, for the log and for commands."""
        next_at = await (await self._database.scans()).next_at(self._scan)
        wait = (next_at or clock.now()) - clock.now()
        if not timedelta(0) < wait <= self._every:
            return "a scan is due now"
        return f"the next scan is at {next_at:%Y-%m-%dT%H:%M:%SZ} (in {str(wait).split('.')[0]})"

    async def _mark_pages(
        self, claim: uuid.UUID, position: str, marked: list[int]
    ) -> AsyncGenerator[float, None]:
        rows, state = await expiry_rows(self._database), await self._evaluator.begin_scan()
        async for images, after in self._evaluator.pages(position, _PAGE):
            at_ns = clock.to_nanoseconds(clock.CLOCK.earliest())
            expired, runs = await self._evaluator.find_expired(images, at_ns, state)
            marked.extend([await self._delete_run(run) for run in runs])
            keys = await rows.mark_expired(
                claim,
                [image for image, _ in expired],
                due_at=clock.CLOCK.latest() + self._due_after,
                after=after or "",
                lease=_LEASE,
            )
            if keys is None:
                return  # the lease ran out, and another process has claimed the scan
            rules = {image.key: expiration.rule.name for image, expiration in expired}
            message = "%r will be deleted, because it has expired (retention rule: %s)"
            for key in keys:
                log.info(message, key.text, rules[key])
            marked.append(len(keys))
            if after is not None:
                yield _PAUSE_S

    async def still_holds(self, mark: DueMark) -> bool:
        """Return whether an image with a pending deletion is still expired by the current rules.

        Raises `ImageNotFound`, or `PreconditionFailed` if the image was saved again.
        """
        image = await self._storage.stat(mark.storage_key)
        if image.save_id != mark.save_id:
            raise PreconditionFailed
        at_ns = clock.to_nanoseconds(clock.CLOCK.earliest())
        return await self._evaluator.has_expired(image, at_ns)

    async def _delete_run(self, run: ExpiredRun) -> int:
        saved_until = datetime.fromtimestamp(run.saved_until_ns / 1e9, UTC)
        name, rule = run.folder.text, run.expiration.rule.name
        try:
            deleted = await self._runs.delete(run.folder, saved_until=saved_until)
        except (RunNotFound, RunConflict, BackendUnavailable) as error:
            # Another process is deleting the run. The next scan finds any images that are left.
            log.warning("cannot delete the expired run %r, will retry: %s", name, error)
            return 0
        log.info("deleted the run %r, because it had expired (retention rule: %s)", name, rule)
        return deleted.marked


async def never_stops(seconds: float) -> bool:
    """Wait for `seconds`, and return False. Commands pass this function as `stops_within`."""
    await asyncio.sleep(seconds)
    return False
