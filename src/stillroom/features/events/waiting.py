"""Long polls: requests that wait for new events. One query per second serves all of them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Final

from stillroom.errors import StillroomError
from stillroom.features.database.database import Database
from stillroom.features.events.database import event_rows
from stillroom.features.events.event import Event
from stillroom.store import shutdown

if TYPE_CHECKING:  # a normal import would load the database driver at every start
    from stillroom.features.events.rows import EventPage

_EVERY_S: Final = 1.0
"""Seconds between two queries. An event is in the feed within two seconds of the change, of which
the search index uses up to half a second."""

_LIMIT: Final = 1000
"""Number of events that one query reads. If there are more, requests read the others."""


class FeedWaiting:
    """Requests in one event loop that wait until the feed has new events."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._next: asyncio.Task[tuple[int, EventPage] | StillroomError] | None = None
        self.is_ended = False

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Context manager: let requests wait, until the block ends or the server shuts down."""
        self.is_ended = False
        try:
            with shutdown.calling(self.end):
                yield
        finally:
            self.end()
            if self._next is not None:
                await asyncio.wait([self._next])

    def end(self) -> None:
        """End all waits at once, and let later requests not wait. The server is shutting down."""
        self.is_ended = True
        if self._next is not None:
            self._next.cancel()

    async def wait(self, after: int, seconds: float, matches: Callable[[Event], bool]) -> int:
        """Wait up to `seconds` for an event after a position that matches.

        Return the position after which the request continues to read. No event before it matches.
        Raises `BackendUnavailable` if the database does not respond.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.is_ended:
                    if self._next is None or self._next.done():
                        self._next = asyncio.create_task(self._read(after))
                    await asyncio.wait([reading := self._next])
                    if reading.cancelled():
                        break
                    if isinstance(read := reading.result(), StillroomError):
                        raise read
                    began, page = read
                    if after < began or any(
                        event.position > after and matches(event) for event in page.events
                    ):
                        break
                    after = max(after, page.through)
        return after

    async def _read(self, after: int) -> "tuple[int, EventPage] | StillroomError":
        """Read the events after a position, a second from now. Return them with the position."""
        await asyncio.sleep(_EVERY_S)
        try:
            return after, await (await event_rows(self._database)).read(after, _LIMIT)
        except StillroomError as error:
            return error
