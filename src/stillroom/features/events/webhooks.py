"""Background job that delivers events to the endpoints in `webhooks.toml`.

All processes of all servers run this job. For each endpoint, one of them has a lease and delivers
(`endpoint_delivery.py`). The other processes try every few seconds whether the lease has ended.
"""

import asyncio
import logging
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection
from datetime import datetime
from typing import TYPE_CHECKING, Final

from stillroom.errors import BackendUnavailable
from stillroom.features.database.clock import now
from stillroom.features.database.database import Database
from stillroom.features.events.database import event_rows, webhook_rows
from stillroom.features.events.webhook_file import Endpoint, WatchedWebhooks, WebhookFile
from stillroom.store.background import REPORT_S, Job, Stopping

if TYPE_CHECKING:  # imports of the database driver and the HTTP client take long
    from stillroom.features.events.delivery import SignUrl
    from stillroom.features.events.webhook_values import EndpointMetrics

_CHECK_S: Final = 5.0  # seconds between two checks of the file and the leases
_AFTER_ERROR_S: Final = 30.0  # pause of an endpoint after an unexpected error

log = logging.getLogger("stillroom.events")


class Webhooks:
    """Delivery of events to all endpoints."""

    def __init__(
        self,
        watched: WatchedWebhooks,
        database: Database,
        *,
        sign_url: "SignUrl | None" = None,
        now: Callable[[], datetime] = now,
    ) -> None:
        self.watched = watched
        self._database = database
        self._sign_url = sign_url
        self._now = now
        self._registered: set[str] = set()
        self._claims: defaultdict[str, uuid.UUID] = defaultdict(uuid.uuid4)
        self.count: Callable[[str, str], None] = lambda _name, _result: None
        self.report: Callable[[list[EndpointMetrics]], None] | None = None

    def jobs(self) -> list[Job]:
        """Return the job that delivers, and two jobs that report metrics.

        One of these two is an `is_report` job, which also runs if other jobs are off, but not at
        short intervals.
        """
        reporting = Job(self._report, max_pause_s=REPORT_S), Job(self._report, is_report=True)
        return [Job(self.run, max_pause_s=1.0, at_once=True), *reporting]

    @property
    def unregistered(self) -> list[Endpoint]:
        """Endpoints for which `run` has inserted no row yet.

        A transaction that adds events inserts these rows, too. Otherwise, a new endpoint would miss
        the events of a process that is killed before `run` has inserted the row.
        """
        known = self.watched.content.endpoints.values()
        return [endpoint for endpoint in known if endpoint.name not in self._registered]

    async def run(self, stopping: Stopping) -> None:
        """Deliver events until `stopping` is set.

        Raises `BackendUnavailable` if the database does not respond. The caller runs the job again.
        """
        tasks: dict[str, asyncio.Task[None]] = {}
        ending = Stopping()
        try:
            while True:
                await asyncio.to_thread(self.watched.reload)
                content = self.watched.content
                for name, endpoint in content.endpoints.items():
                    if name not in tasks or tasks[name].done():
                        if name not in self._registered:
                            await (await webhook_rows(self._database)).add(endpoint)
                            self._registered.add(name)
                        delivering = self._deliver(content, endpoint, ending)
                        tasks[name] = asyncio.create_task(delivering)
                if await stopping.within(_CHECK_S):
                    break
        finally:
            ending.set()
            await _ended(tasks.values())

    async def _deliver(self, content: WebhookFile, endpoint: Endpoint, ending: Stopping) -> None:
        """Deliver to an endpoint until the file changes, unless another process delivers to it."""
        try:
            rows, feed = await webhook_rows(self._database), await event_rows(self._database)
            from stillroom.features.events.delivery import Sender
            from stillroom.features.events.endpoint_delivery import EndpointDelivery

            delivery = EndpointDelivery(
                endpoint,
                rows,
                feed,
                Sender(endpoint, sign_url=self._sign_url),
                claim=self._claims[endpoint.name],
                digest=content.digest,
                now=self._now,
                count=self.count,
            )
            await delivery.run(
                ending.within, lambda: ending.is_set() or self.watched.content is not content
            )
        except BackendUnavailable:
            pass  # `run` tries again every few seconds, and other jobs log the outage
        except Exception:  # other endpoints get their events nevertheless
            log.exception("cannot deliver to the webhook %r, will retry", endpoint.name)
            await ending.within(_AFTER_ERROR_S)

    async def _report(self, _: Stopping) -> None:
        """Report metrics of all endpoints, including those that were removed from the file."""
        known = self.watched.content.endpoints
        reported = known.keys() | self._registered
        if self.report is not None and reported:
            rows = await (await webhook_rows(self._database)).metrics()
            self.report(
                [
                    row if row.state.name in known else row.without_work
                    for row in rows
                    if row.state.name in reported
                ]
            )


async def _ended(tasks: Collection[asyncio.Task[None]]) -> None:
    """Wait for tasks. If this wait is cancelled, cancel the tasks, and wait until they have ended.

    The tasks have logged their errors.
    """
    if tasks:
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            raise
