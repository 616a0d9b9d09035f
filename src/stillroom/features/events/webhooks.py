"""Background job that delivers events to the endpoints in `webhooks.toml`.

All processes of all servers run this job. Each endpoint is claimed by one process, which delivers
to it (`endpoint_delivery.py`). The other processes try to claim it every few seconds.
"""

import asyncio
import logging
import uuid
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from stillroom.errors import BackendUnavailable
from stillroom.features.database.database import Database
from stillroom.features.events.database import event_rows, webhook_rows
from stillroom.features.events.webhook_file import Endpoint, WatchedWebhooks, WebhookFile
from stillroom.features.events.webhook_values import EndpointMetrics, EndpointState
from stillroom.store.background import REPORT_S, Job, Stopping

if TYPE_CHECKING:  # imports of the database driver and the HTTP client take long
    from collections.abc import Callable

    from stillroom.features.events.delivery import SignUrl

_CHECK_S: Final = 5.0  # seconds between two checks of the file and the claims
_AFTER_ERROR_S: Final = 30.0  # pause of an endpoint after an unexpected error

log = logging.getLogger("stillroom.events")


class Webhooks:
    """Delivery of events to all endpoints. `count` and `report` are functions that set metrics."""

    def __init__(
        self, watched: WatchedWebhooks, database: Database, *, sign_url: "SignUrl | None" = None
    ) -> None:
        self.watched = watched
        self._database = database
        self._sign_url = sign_url
        self._registered: set[str] = set()
        self._claims: defaultdict[str, uuid.UUID] = defaultdict(uuid.uuid4)
        self.count: Callable[[str, str], None] = lambda _name, _result: None
        self.report: Callable[[list[EndpointMetrics]], None] | None = None

    def jobs(self) -> list[Job]:
        """Return the job that delivers events, and two jobs that report metrics."""
        reporting = Job(self._report, max_pause_s=REPORT_S), Job(self._report, is_report=True)
        return [Job(self.run, max_pause_s=1.0, at_once=True), *reporting]

    @property
    def unregistered(self) -> list[Endpoint]:
        """Endpoints for which this process has inserted no row yet.

        A transaction that adds events inserts these rows, too. Otherwise, a new endpoint would miss
        the events of a process that is killed before this job has inserted the row.
        """
        endpoints = self.watched.content.endpoints.values()
        return [endpoint for endpoint in endpoints if endpoint.name not in self._registered]

    async def run(self, stopping: Stopping) -> None:
        """Deliver events until `stopping` is set."""
        tasks: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.to_thread(self.watched.reload)
                content = self.watched.content
                for name, endpoint in content.endpoints.items():
                    if name not in tasks or tasks[name].done():
                        delivering = self._deliver(content, endpoint, stopping)
                        tasks[name] = group.create_task(delivering)
                if await stopping.within(_CHECK_S):
                    break

    async def _deliver(self, content: WebhookFile, endpoint: Endpoint, stopping: Stopping) -> None:
        """Deliver to an endpoint until the settings change or another process claims it."""
        name = endpoint.name
        try:
            rows, feed = await webhook_rows(self._database), await event_rows(self._database)
            from stillroom.features.events.delivery import Sender
            from stillroom.features.events.endpoint_delivery import EndpointDelivery

            if name not in self._registered:
                await rows.add(endpoint)
                self._registered.add(name)
            sender = Sender(endpoint, sign_url=self._sign_url)
            claim = self._claims[name]
            delivery = EndpointDelivery(
                endpoint, rows, feed, sender, claim, content.digest, count=self.count
            )
            await delivery.run(
                stopping.within, lambda: stopping.is_set() or self.watched.content is not content
            )
        except BackendUnavailable:
            pass  # `run` tries again every few seconds, and other jobs log the outage
        except Exception:  # other endpoints get their events nevertheless
            log.exception("cannot deliver to the webhook %r, will retry", name)
            await stopping.within(_AFTER_ERROR_S)

    async def _report(self, _: Stopping) -> None:
        """Report metrics of all endpoints. Endpoints that are no longer configured have no lag."""
        in_file = self.watched.content.endpoints.keys()
        reported = in_file | self._registered
        if self.report is not None and reported:
            rows = await (await webhook_rows(self._database)).metrics()
            metrics = {row.state.name: row for row in rows if row.state.name in reported}
            for name in metrics.keys() - in_file:
                last = metrics[name].state
                metrics[name] = EndpointMetrics(EndpointState(name, last.position, lost=last.lost))
            self.report([*metrics.values()])
