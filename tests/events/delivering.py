"""Deliveries to one endpoint, with a clock that tests move."""

import uuid
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from stillroom.features.database import clock
from stillroom.features.database.changes import Change
from stillroom.features.events.database import event_rows, webhook_rows
from stillroom.features.events.delivery import Sender
from stillroom.features.events.endpoint_delivery import EndpointDelivery
from stillroom.features.events.rows import EventRows
from stillroom.features.events.types import IMAGE_SAVED
from stillroom.features.events.webhook_file import Endpoint
from stillroom.features.events.webhook_rows import WebhookRows
from stillroom.features.events.webhook_tables import endpoints, failures
from stillroom.features.events.webhook_upkeep import restore_delivery
from stillroom.features.events.webhook_values import WEBHOOK
from stillroom.features.library.database import MediaDatabase
from stillroom.features.library.rows.tables import dead_letters


class Deliveries:
    """An endpoint, its rows, and the events that it gets."""

    rows: WebhookRows
    feed: EventRows

    def __init__(self, database: MediaDatabase, endpoint: Endpoint) -> None:
        self.database, self.endpoint = database, endpoint
        self.digest = "1"
        self.moved = timedelta(0)
        self.timeout_s = 60.0
        self._number = 0
        database.on_connect.append(
            lambda engine: engine.hooks.retries.update({WEBHOOK: restore_delivery})
        )

    async def open(self) -> "Deliveries":
        self.rows, self.feed = await webhook_rows(self.database), await event_rows(self.database)
        await self.rows.add(self.endpoint)
        return self

    def now(self) -> datetime:
        return clock.now() + self.moved

    async def happen(self, *paths: str, type: str = IMAGE_SAVED, note: str = "") -> None:  # noqa: A002  (as in the event)
        """Write an event for each path, numbered in this order."""
        changes = []
        for path in paths:
            changes.append(Change(type, path, data={"number": self._number, "note": note}))
            self._number += 1
        async with (await self.database.engine()).writing() as connection:
            await (await self.database.engine()).note_written(connection, *changes)

    def delivery(self, counted: list[str] | None = None) -> EndpointDelivery:
        return EndpointDelivery(
            self.endpoint,
            self.rows,
            self.feed,
            Sender(self.endpoint, timeout_s=self.timeout_s),
            claim=uuid.uuid4(),
            digest=self.digest,
            now=self.now,
            count=lambda _, result: None if counted is None else counted.append(result),
        )

    async def deliver(self, *, unless: Callable[[], bool] = lambda: False) -> list[str]:
        """Deliver until nothing is due. Return the results of the attempts."""
        results: list[str] = []

        async def is_idle(_: float) -> bool:
            return True

        await self.delivery(results).run(is_idle, unless)
        return results

    async def later(self, moved: timedelta) -> list[str]:
        """Deliver after some time has passed."""
        self.moved += moved
        return await self.deliver()

    async def failures(self) -> Sequence[Any]:
        return await self._rows(sa.select(failures).order_by(failures.c.position))

    async def letters(self) -> Sequence[Any]:
        return await self._rows(sa.select(dead_letters).order_by(dead_letters.c.id))

    async def state(self) -> Any:
        (row,) = await self._rows(
            sa.select(endpoints).where(endpoints.c.name == self.endpoint.name)
        )
        return row

    async def _rows(self, statement: sa.Select[Any]) -> Sequence[Any]:
        async with (await self.database.engine()).reading() as connection:
            rows: Sequence[Any] = (await connection.execute(statement)).all()
        return rows
