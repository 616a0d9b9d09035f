"""Background jobs of a server process, to which features add their own jobs."""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

from stillroom.errors import BackendUnavailable

REPORT_S: Final = 30.0  # maximum age of reported metrics that are read from the database

log = logging.getLogger("stillroom.media")


class Stopping(asyncio.Event):
    """Event that is set when running background jobs must stop."""

    async def within(self, seconds: float) -> bool:
        """Wait until the event is set, up to `seconds`. Return whether it is set."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.wait(), seconds)
        return self.is_set()


@dataclass(frozen=True, slots=True)
class Job:
    """Work that a server repeats. Several processes may run it concurrently."""

    run: Callable[[Stopping], Awaitable[object]]
    max_pause_s: float = float("inf")  # between two runs, even if `every_s` is longer
    at_once: bool = False  # True to run the job also directly after the start
    is_report: bool = False  # True if the job only reports metrics

    def pause_s(self, every_s: float) -> float | None:
        """Return the seconds between two runs, or None if `running` must not start the job."""
        if self.is_report:  # if regular runs are rarer, so that `/metrics` need not wait
            return None if 0 < every_s <= REPORT_S else REPORT_S
        return min(every_s, self.max_pause_s) if every_s else None


@contextlib.asynccontextmanager
async def running(
    jobs: Iterable[Job], *, every_s: float, stop_within_s: float
) -> AsyncIterator[None]:
    """Context manager: run jobs every `every_s` seconds until the block ends.

    If `every_s` is 0, only jobs that report metrics run. Jobs that have not finished
    `stop_within_s` seconds after the end of the block are cancelled.
    """
    stopping = Stopping()
    tasks = [
        asyncio.create_task(_repeat(stopping, pause_s, job))
        for job in jobs
        if (pause_s := job.pause_s(every_s)) is not None
    ]
    try:
        yield
    finally:
        stopping.set()
        if tasks:
            await asyncio.wait(tasks, timeout=stop_within_s)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def _repeat(stopping: Stopping, every_s: float, job: Job) -> None:
    is_away = False
    # The random pause keeps workers that start together from sweeping at the same time.
    pause = 0.0 if job.at_once else random.SystemRandom().uniform(every_s / 2, every_s)
    while not await stopping.within(pause):
        pause = every_s
        try:
            await job.run(stopping)
            is_away = False
        except BackendUnavailable as error:
            if not is_away:  # log only once: the database may be away for a whole night
                log.warning(
                    "cannot run a background job of the media library yet, will retry: %s (%r)",
                    error,
                    error.__cause__,
                )
            is_away = True
        except Exception:  # a failure must not end the loop: the next sweep may succeed
            log.exception(
                "a background job of the media library failed: it runs again after the usual pause"
            )
