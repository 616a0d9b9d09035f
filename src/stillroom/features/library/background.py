"""Background jobs of the media library: pending deletions, missing metadata and metrics."""

from collections.abc import Callable
from dataclasses import dataclass

from stillroom.features.library.database import MediaDatabase
from stillroom.features.library.healing import HEAL_EVERY_S, Healer
from stillroom.features.library.resource import QueueMetrics
from stillroom.features.library.sweeper import Sweeper, Swept
from stillroom.store.background import Job, Stopping


@dataclass(slots=True)
class LibraryJobs:
    """Background jobs of one media library.

    Attributes:
        report: Called with the queue metrics after each sweep (execution of the due deletions), and
            also at regular intervals.
        report_swept: Called with the result of each sweep, even if the sweep failed.
    """

    database: MediaDatabase
    sweeper: Sweeper
    healer: Healer | None = None
    report: Callable[[QueueMetrics], None] | None = None
    report_swept: Callable[[Swept], None] | None = None

    def all(self) -> list[Job]:
        """Return all background jobs."""
        jobs = [Job(self._sweep), Job(lambda _: self._report_queue(), is_report=True)]
        if self.healer is not None:
            jobs.append(Job(self._heal, max_pause_s=HEAL_EVERY_S))
        return jobs

    async def _sweep(self, stopping: Stopping) -> None:
        swept = [Swept()]
        try:
            await self.sweeper.sweep(swept.append, is_stopping=stopping.is_set)
        finally:
            if self.report_swept is not None:
                self.report_swept(swept[-1])
        await self._report_queue()

    async def _heal(self, stopping: Stopping) -> None:
        assert self.healer is not None  # noqa: S101  (the job exists only with a healer)
        if await self.healer.heal(stopping.is_set):
            await self._report_queue()

    async def _report_queue(self) -> None:
        if self.report is not None:
            self.report(await (await self.database.rows()).queue_metrics())
