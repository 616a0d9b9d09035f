"""Background job that delivers events to the endpoints in `webhooks.toml`.

All processes of all servers run this job. For each endpoint, one of them has a lease and delivers
(`endpoint_delivery.py`). The other processes look every few seconds whether the lease has ended.
"""

import asyncio
import importlib
import logging
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from stillroom.errors import BackendUnavailable
from stillroom.features.database.clock import now, to_nanoseconds
from stillroom.features.database.database import Database
from stillroom.features.events.database import event_rows
from stillroom.features.events.watched_webhooks import WatchedWebhooks
from stillroom.features.events.webhook_file import Endpoint, WebhookFile
from stillroom.store.background import Job, Stopping

if TYPE_CHECKING:  # imports of the database driver and the HTTP client take long
    from stillroom.features.events.delivery import SignUrl
    from stillroom.features.events.webhook_rows import WebhookRows
    from stillroom.features.events.webhook_upkeep import WebhookUpkeep
    from stillroom.features.events.webhook_values import EndpointMetrics

_DELIVERY: Final = "stillroom.features.events.endpoint_delivery"

_CHECK_S: Final = 5.0
"""Seconds between two looks at the file and at the leases."""

_AFTER_ERROR_S: Final = 30.0
"""Pause in seconds of an endpoint after an unexpected error."""

_CLOCK_MARGIN: Final = timedelta(seconds=5)
"""Maximum difference between the clocks of two servers."""

_FORGET_AFTER: Final = timedelta(days=30)
"""Time after which an endpoint that is no longer in the file loses its row."""

log = logging.getLogger("stillroom.events")


async def webhook_rows(database: Database) -> "WebhookRows":
    """Return the `WebhookRows` of a database. Raises `BackendUnavailable`."""
    await database.engine()  # which imports SQLAlchemy in a thread
    from stillroom.features.events.webhook_rows import WebhookRows

    return await database.part(WebhookRows)


async def webhook_upkeep(database: Database) -> "WebhookUpkeep":
    """Return the `WebhookUpkeep` of a database. Raises `BackendUnavailable`."""
    await database.engine()  # which imports SQLAlchemy in a thread
    from stillroom.features.events.webhook_upkeep import WebhookUpkeep

    return await database.part(WebhookUpkeep)


class Webhooks:
    """Delivery of events to all endpoints."""

    def __init__(
        self,
        watched: WatchedWebhooks,
        database: Database,
        *,
        retention: timedelta,
        sign_url: "SignUrl | None" = None,
        now: Callable[[], datetime] = now,
    ) -> None:
        """Prepare the delivery. An endpoint that is new gets events from this moment on.

        Args:
            watched: Endpoints.
            database: Database of the events.
            retention: Age at which events are lost that were not delivered.
            sign_url: Function that signs URLs of images.
            now: Function that returns the current time.
        """
        self._watched = watched
        self._database = database
        self._retention = retention
        self._sign_url = sign_url
        self._now = now
        self._seen_at = dict.fromkeys(watched.content.endpoints, now())
        self._registered: set[str] = set()
        self._claim = uuid.uuid4()
        self.count: Callable[[str, str], None] = lambda _name, _result: None
        self.report: Callable[[list[EndpointMetrics]], None] | None = None

    def jobs(self) -> list[Job]:
        """Return the job that delivers, and the one that reports metrics."""
        reporting = Job(lambda _: self._report(), is_report=True)
        return [Job(self.run, max_pause_s=1.0, at_once=True), reporting]

    def facts(self) -> list[str]:
        """Return a line with the names of the endpoints, for the server's log."""
        names = ", ".join(self._watched.content.endpoints)
        return [f"webhooks: {names}"] if names else []

    def warnings(self) -> Sequence[str]:
        """Return warnings about files with secrets."""
        return self._watched.content.warnings

    async def run(self, stopping: Stopping) -> None:
        """Deliver events until `stopping` is set.

        Raises `BackendUnavailable` if the database does not respond. The caller runs the job again.
        """
        tasks: dict[str, asyncio.Task[None]] = {}
        ending = Stopping()
        try:
            while True:
                if await asyncio.to_thread(self._watched.reload):
                    for name in self._watched.content.endpoints:
                        self._seen_at.setdefault(name, self._now())
                await self._begin_deliveries(tasks, ending)
                if await stopping.within(_CHECK_S):
                    break
        finally:
            ending.set()
            await _ended(tasks.values())

    async def _begin_deliveries(
        self, tasks: dict[str, asyncio.Task[None]], ending: Stopping
    ) -> None:
        for name in [name for name, task in tasks.items() if task.done()]:
            tasks.pop(name).result()
        content = self._watched.content
        endpoints = content.endpoints
        idle = endpoints.keys() - tasks.keys()
        if not idle:
            return
        rows = await webhook_rows(self._database)
        await self._register(rows, endpoints)
        for name in await rows.free(idle, self._claim):
            delivering = self._deliver(content, endpoints[name], ending)
            tasks[name] = asyncio.create_task(delivering)

    async def _register(self, rows: "WebhookRows", endpoints: Mapping[str, Endpoint]) -> None:
        """Insert rows for new endpoints, and delete those of endpoints that were removed."""
        new = [endpoint for name, endpoint in endpoints.items() if name not in self._registered]
        if not new:
            return
        state = await (await event_rows(self._database)).state()
        for endpoint in new:
            since = self._seen_at[endpoint.name] - _CLOCK_MARGIN
            position = min(state.last_position, to_nanoseconds(since) // 1000)
            await rows.add([endpoint], position=max(position, state.dropped_position))
        upkeep = await webhook_upkeep(self._database)
        forgotten = await upkeep.forget(endpoints.keys(), unseen_since=self._now() - _FORGET_AFTER)
        for name in forgotten:
            log.info("forgot the webhook %r, which is not in %s", name, self._watched.file)
        self._registered |= endpoints.keys()

    async def _deliver(self, content: WebhookFile, endpoint: Endpoint, ending: Stopping) -> None:
        """Deliver to an endpoint, until the configuration changes or the job ends."""
        # In a thread, because servers without webhooks do not need the HTTP client.
        await asyncio.to_thread(importlib.import_module, _DELIVERY)
        from stillroom.features.events.delivery import Sender
        from stillroom.features.events.endpoint_delivery import EndpointDelivery

        def is_stopping() -> bool:
            return ending.is_set() or self._watched.content is not content

        delivery = EndpointDelivery(
            endpoint,
            await webhook_rows(self._database),
            await event_rows(self._database),
            Sender(endpoint, sign_url=self._sign_url),
            claim=self._claim,
            digest=content.digest,
            retention=self._retention,
            now=self._now,
            count=self.count,
        )
        try:
            await delivery.run(ending.within, is_stopping)
        except BackendUnavailable:
            raise
        except Exception:  # other endpoints get their events nevertheless
            log.exception("cannot deliver to the webhook %r, will retry", endpoint.name)
            await ending.within(_AFTER_ERROR_S)

    async def _report(self) -> None:
        if self.report is not None and self._watched.content.endpoints:
            upkeep = await webhook_upkeep(self._database)
            known = self._watched.content.endpoints.keys()
            self.report([seen for seen in await upkeep.metrics() if seen.state.name in known])


async def _ended(tasks: Collection[asyncio.Task[None]]) -> None:
    """Wait for tasks. If this wait is cancelled, cancel the tasks, and wait until they have ended.

    Their errors are logged by the next run, or have no meaning at the end of the process.
    """
    try:
        if tasks:
            await asyncio.wait(tasks)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        raise
    finally:
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()  # otherwise, asyncio logs that it was never retrieved
