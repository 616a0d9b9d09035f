"""Events feature: a feed of changes to images, runs and media resources, and webhooks."""

import contextlib
from collections.abc import Iterable
from typing import Final

from stillroom.features.database.feature import DatabaseFeature
from stillroom.features.events.database import record_events
from stillroom.features.events.operation import EventOperation
from stillroom.features.events.retention import drop_old_events
from stillroom.features.events.settings import EventSettings
from stillroom.features.events.waiting import FeedWaiting
from stillroom.features.events.webhook_opening import ROWS as WEBHOOK_ROWS
from stillroom.features.events.webhook_opening import open_webhooks
from stillroom.store.api.images import ImageOperations
from stillroom.store.background import Job
from stillroom.store.feature import Feature, Store

_ROWS: Final = "stillroom.features.events.rows"


class EventsFeature(Feature):
    """Feed of events, which transactions of other features add, and their delivery as webhooks.

    Attributes:
        is_on: False if the retention time is zero, so that there are no events.
    """

    def __init__(self, store: Store) -> None:
        """Let the transactions of other features add events."""
        opened = store.need(DatabaseFeature)
        self.retention = store.settings.section(EventSettings).events_retention
        self.is_on = bool(self.retention)
        self.database = opened.database
        self.webhooks = open_webhooks(store, self.database, self.retention)
        self._waiting = FeedWaiting(self.database)
        if self.is_on:
            opened.modules += [_ROWS, *WEBHOOK_ROWS]
            self.database.on_connect.append(record_events)

    def routes(self, images: ImageOperations) -> Iterable[tuple[str, object]]:
        """Return the feed with its URL prefix."""
        feed = EventOperation(self.database, images.authorize, self._waiting, is_on=self.is_on)
        return [("/storage/events", feed)]

    def jobs(self) -> Iterable[Job]:
        """Return the jobs that delete old events and deliver webhooks."""
        if not self.is_on:
            return []
        dropping = Job(lambda stopping: drop_old_events(self.database, self.retention, stopping))
        return [dropping, *self.webhooks.jobs()]

    def running(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Context manager: let requests wait for events, until the server shuts down."""
        return self._waiting.running()

    def facts(self) -> Iterable[str]:
        """Return a line with the names of the webhooks, for the server's log."""
        return self.webhooks.facts()

    def warnings(self) -> Iterable[str]:
        """Return warnings about the files with the secrets of webhooks."""
        return self.webhooks.warnings()
