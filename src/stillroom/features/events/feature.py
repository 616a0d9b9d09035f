"""Events feature: a feed of changes to images, runs and media resources, and webhooks."""

import contextlib
import functools
from collections.abc import Iterable

from stillroom.features.database.feature import DatabaseFeature
from stillroom.features.events.database import event_rows, record_events
from stillroom.features.events.operation import EventOperation
from stillroom.features.events.settings import EventsSettings
from stillroom.features.events.waiting import FeedWaiting
from stillroom.features.events.webhook_opening import open_webhooks, register_endpoints
from stillroom.store.api.images import ImageOperations
from stillroom.store.background import Job, Stopping
from stillroom.store.feature import Feature, Store


class EventsFeature(Feature):
    """Feed of events, and their delivery as webhooks. Transactions of other features add events.

    If `STILLROOM_EVENTS_RETENTION` is 0, there are no events, and `is_on` is False.
    """

    def __init__(self, store: Store) -> None:
        opened = store.need(DatabaseFeature)
        self.retention = store.settings.section(EventsSettings).events_retention
        self._has_jobs = store.settings.sweep_interval_seconds > 0
        self.is_on = bool(self.retention)
        self.database = opened.database
        self.webhooks = open_webhooks(store, self.database)
        self._waiting = FeedWaiting(self.database)
        if self.is_on:
            registering = functools.partial(register_endpoints, webhooks=self.webhooks)
            self.database.on_connect += [record_events, registering]

    def routes(self, images: ImageOperations) -> Iterable[tuple[str, object]]:
        """Return the feed with its URL prefix."""
        feed = EventOperation(self.database, images.authorize, self._waiting, is_on=self.is_on)
        return [("/storage/events", feed)]

    def jobs(self) -> Iterable[Job]:
        """Return the jobs that delete old events and deliver webhooks."""
        return [Job(self._drop_old), *self.webhooks.jobs()] if self.is_on else []

    async def _drop_old(self, stopping: Stopping) -> None:
        rows = await event_rows(self.database)
        while not stopping.is_set() and await rows.drop(self.retention):
            pass

    def running(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Context manager: let requests wait for events, until the server shuts down."""
        return self._waiting.running()

    def facts(self) -> Iterable[str]:
        """Return a line with the names of the webhooks, for the server's log."""
        names = ", ".join(self.webhooks.watched.content.endpoints)
        return [f"webhooks: {names}"] if names else []

    def warnings(self) -> Iterable[str]:
        """Return warnings about webhooks that are not sent, and about files with secrets."""
        content = self.webhooks.watched.content
        if content.endpoints and not self._has_jobs:
            yield "this server sends no webhooks, because STILLROOM_SWEEP_INTERVAL_SECONDS is 0"
        yield from content.warnings
