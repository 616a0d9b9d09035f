"""Long polls: requests that wait for new events. One query per second serves all of them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Final

from fastapi import Request
from starlette.requests import ClientDisconnect

from stillroom.features.database.database import Database
from stillroom.features.events.database import event_rows
from stillroom.features.events.event import Event
from stillroom.store import shutdown

if TYPE_CHECKING:  # a normal import would load the database driver at every start
    from stillroom.features.events.rows import EventPage

_EVERY_S: Final = 1.0  # seconds between queries; the search index adds up to half a second
_LIMIT: Final = 1000  # events that one query reads; requests read later events themselves
MAX_WAITING: Final = 1000  # waiting requests; further requests get their response at once


class FeedWaiting:
    """Long polls of one event loop: requests that wait until the feed has new events."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._next: asyncio.Task[tuple[int, EventPage]] | None = None
        self._waiting = 0
        self.is_ended = False

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Context manager: let requests wait until the block ends or the server shuts down."""
        self.is_ended = False
        try:
            with shutdown.calling(self.end):
                yield
        finally:
            self.end()
            if self._next is not None:
                await asyncio.wait([self._next])

    def end(self) -> None:
        """End all waits, and do not let later requests wait. Called when the server shuts down."""
        self.is_ended = True
        if self._next is not None:
            self._next.cancel()

    @property
    def has_room(self) -> bool:
        """True if another request may wait."""
        return not self.is_ended and self._waiting < MAX_WAITING

    async def wait(
        self, request: Request, page: "EventPage", seconds: float, matches: Callable[[Event], bool]
    ) -> int:
        """Wait up to `seconds` for a matching event after the last page that a request has read.

        Return a position up to which no event matches. The caller continues reading after it.
        Raises `BackendUnavailable`, or `ClientDisconnect` if the client closes the connection.
        """
        after, last = page.through, page.state.last_position
        with contextlib.suppress(TimeoutError), self._disconnect_of(request) as leaving:
            async with asyncio.timeout(seconds):
                while not self.is_ended:
                    reading = self._next
                    if reading is None or reading.done():
                        # All requests share the query, so it must not begin after the newest event.
                        reading = self._next = asyncio.create_task(self._read(min(after, last)))
                        # Retrieve the error even if no request is left, or asyncio would log it.
                        reading.add_done_callback(lambda task: task.cancelled() or task.exception())
                    await asyncio.wait([reading, leaving], return_when=asyncio.FIRST_COMPLETED)
                    if leaving.done():
                        raise ClientDisconnect
                    if reading.cancelled():
                        break
                    began, page = reading.result()
                    new = [event for event in page.events if event.position > after]
                    if after < began or any(map(matches, new)):
                        break
                    after, last = max(after, page.through), max(last, page.through)
        return after

    @contextlib.contextmanager
    def _disconnect_of(self, request: Request) -> Iterator[asyncio.Task[None]]:
        """Count a waiting request in the block. Yield a task that ends when the client leaves."""

        async def disconnected() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass

        leaving = asyncio.create_task(disconnected())
        self._waiting += 1
        try:
            yield leaving
        finally:
            self._waiting -= 1
            leaving.cancel()

    async def _read(self, after: int) -> "tuple[int, EventPage]":
        """Wait for a second. Return the position `after` with a page of the events after it."""
        await asyncio.sleep(_EVERY_S)
        if shutdown.has_uvicorn_begun():
            self.end()
        return after, await (await event_rows(self._database)).read(after, _LIMIT)
