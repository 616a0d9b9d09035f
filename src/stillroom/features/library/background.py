"""Background jobs of the server: pending deletions, expiry, metadata, search index and metrics."""

import asyncio
import contextlib
import functools
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from stillroom.errors import BackendUnavailable
from stillroom.features.database.database import MediaDatabase
from stillroom.features.library.healing import HEAL_EVERY_S, Healer
from stillroom.features.library.missing_bytes import warn_about_missing_bytes
from stillroom.features.library.resource import QueueMetrics
from stillroom.features.library.sweeper import Sweeper, Swept
from stillroom.features.retention.expiry import Expiry
from stillroom.features.search.catching_up import CatchingUp
from stillroom.features.search.healing import IndexHealing
from stillroom.store.port import ImageStorage

REPORT_S: Final = 30.0
"""Maximum age in seconds of the reported metrics of the deletion queue (counts of rows)."""

_CATCH_UP_S: Final = 5.0
"""Seconds between attempts to compare the search index with the storage after a start."""

log = logging.getLogger("stillroom.media")


@dataclass(frozen=True, slots=True)
class Background:
    """Periodic jobs of a server process. Several processes may run them concurrently.

    Attributes:
        expiry: Scan for expired images and runs; None if there are no retention rules.
        bucket: Bucket that is checked after a start, because resources may lack their files in it.
        report: Called with the deletion queue's metrics after each sweep (run of the pending
            deletions) and at least every `REPORT_S` seconds, so that a metrics scrape never waits
            for the database.
        report_swept: Called with the result of each sweep, even if the sweep failed.
    """

    database: MediaDatabase
    sweeper: Sweeper
    expiry: Expiry | None = None
    healer: Healer | None = None
    index_healing: IndexHealing | None = None
    catching_up: CatchingUp | None = None
    bucket: ImageStorage | None = None
    report: Callable[[QueueMetrics], None] | None = None
    report_swept: Callable[[Swept], None] | None = None

    @contextlib.asynccontextmanager
    async def running(self, *, every_s: float, stop_within_s: float) -> AsyncIterator[None]:
        """Context manager: run the background jobs every `every_s` seconds until the block ends.

        If `every_s` is 0, only the metrics of the deletion queue are reported. When the block ends,
        running jobs have `stop_within_s` seconds to finish. Then they are cancelled, as in a crash.
        A cancelled deletion is repeated after its lease (a claim that expires) has ended.
        """
        stopping = asyncio.Event()
        tasks = [
            asyncio.create_task(_repeat(stopping, pause_s, job))
            for pause_s, job in self._jobs(stopping, every_s)
        ]
        if every_s and self.catching_up is not None:
            catch_up = functools.partial(self._catch_up, self.catching_up, stopping)
            pause_s = min(every_s, _CATCH_UP_S)
            tasks.append(asyncio.create_task(_repeat(stopping, pause_s, catch_up, at_once=True)))
        try:
            yield
        finally:
            stopping.set()
            await asyncio.wait(tasks, timeout=stop_within_s)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def _jobs(
        self, stopping: asyncio.Event, every_s: float
    ) -> list[tuple[float, Callable[[], Awaitable[object]]]]:
        stops_within = functools.partial(_stops_within, stopping)
        jobs: list[tuple[float, Callable[[], Awaitable[object]]]] = []
        if every_s:
            jobs.append((every_s, functools.partial(self._sweep, stopping.is_set)))
            if self.expiry is not None:
                jobs.append((every_s, functools.partial(self.expiry.mark_expired, stops_within)))
            if self.healer is not None:
                heal = functools.partial(self._heal, self.healer, stopping.is_set)
                jobs.append((min(every_s, HEAL_EVERY_S), heal))
            if self.index_healing is not None:
                jobs.append((every_s, functools.partial(self.index_healing.heal, stops_within)))
        if not 0 < every_s <= REPORT_S:
            jobs.append((REPORT_S, self._report_queue))
        return jobs

    async def _catch_up(self, catching_up: CatchingUp, stopping: asyncio.Event) -> None:
        # If another process has compared the index, that process also warns about missing files.
        healed = await catching_up.catch_up(functools.partial(_stops_within, stopping))
        if healed is not None and healed.is_whole and self.bucket is not None:
            await warn_about_missing_bytes(self.bucket, self.database, stopping.is_set)

    async def _sweep(self, is_stopping: Callable[[], bool]) -> None:
        swept = [Swept()]
        try:
            await self.sweeper.sweep(swept.append, is_stopping=is_stopping)
        finally:
            if self.report_swept is not None:
                self.report_swept(swept[-1])
        await self._report_queue()

    async def _heal(self, healer: Healer, is_stopping: Callable[[], bool]) -> None:
        if await healer.heal(is_stopping):
            await self._report_queue()

    async def _report_queue(self) -> None:
        if self.report is not None:
            self.report(await (await self.database.rows()).queue_metrics())


async def _repeat(
    stopping: asyncio.Event,
    every_s: float,
    job: Callable[[], Awaitable[object]],
    *,
    at_once: bool = False,
) -> None:
    away = False
    # The random pause keeps workers that start together from sweeping at the same time.
    pause = 0.0 if at_once else random.SystemRandom().uniform(every_s / 2, every_s)
    while not await _stops_within(stopping, pause):
        pause = every_s
        try:
            await job()
            away = False
        except BackendUnavailable as error:
            if not away:  # log only once: the database may be away for a whole night
                log.warning(
                    "cannot run a background job of the media library yet, will retry: %s (%r)",
                    error,
                    error.__cause__,
                )
            away = True
        except Exception:  # a failure must not end the loop: the next sweep may succeed
            log.exception(
                "a background job of the media library failed: it runs again after the usual pause"
            )


async def _stops_within(stopping: asyncio.Event, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)
    return stopping.is_set()
