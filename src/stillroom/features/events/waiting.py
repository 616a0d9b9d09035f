"""Long polls: requests that wait for new events. One query per second serves all of them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from stillroom.errors import StillroomError
from stillroom.features.database.database import Database
from stillroom.features.events.database import event_rows
from stillroom.store import shutdown

_EVERY_S: Final = 1.0
"""Seconds between two queries. An event is in the feed within two seconds of the change, of which
the search index uses up to half a second."""


class FeedWaiting:
    """Queue of requests in one event loop that wait until the feed has new events."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting = 0
        self._polling: asyncio.Task[None] | None = None
        self._polled = asyncio.Event()
        self._last_position = 0
        self._error: StillroomError | None = None
        self.is_ended = False

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Context manager: let requests wait, until the block ends or the server shuts down."""
        self.is_ended, self._polling, self._polled = False, None, asyncio.Event()
        try:
            with shutdown.calling(self.end):
                yield
        finally:
            self.end()
            await self._stop_polling()

    def end(self) -> None:
        """End all waits at once, and let later requests not wait. The server is shutting down."""
        self.is_ended = True
        self._wake()

    async def wait(self, after: int, seconds: float) -> None:
        """Wait until the feed has an event after a position, at most for `seconds`.

        Raises `BackendUnavailable` if the database does not respond.
        """
        self._waiting += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while not self.is_ended:
                        await self._next_poll()
                        if self._error is not None:
                            raise self._error
                        if self._last_position > after:
                            return
        finally:
            self._waiting -= 1

    async def _next_poll(self) -> None:
        if self._polling is None or self._polling.done():
            self._polled = asyncio.Event()
            self._polling = asyncio.create_task(self._poll())
        await self._polled.wait()

    async def _poll(self) -> None:
        """Query the newest position once per second, while requests are waiting."""
        while self._waiting and not self.is_ended:
            self._error = None
            try:
                state = await (await event_rows(self._database)).state()
                self._last_position = state.last_position
            except StillroomError as error:
                self._error = error
            self._wake()
            await asyncio.sleep(_EVERY_S)

    async def _stop_polling(self) -> None:
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.wait([self._polling])

    def _wake(self) -> None:
        polled, self._polled = self._polled, asyncio.Event()
        polled.set()
