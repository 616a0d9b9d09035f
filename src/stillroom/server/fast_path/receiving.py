"""Request body of an upload: a bounded queue with backpressure, between connection and save."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Self

_MAX_BYTES: Final = 64 * 1024
"""Queued bytes beyond which a connection is not read. One read brings up to 256,000 more."""


class Body:
    """The pieces of one body of known length, in order; an async iterator.

    Attributes:
        remaining: Bytes that have not come yet.
        on_first_read: Called before the first piece is waited for, to send `100 Continue`.
        set_reading: Called with whether to read from the connection.
    """

    on_first_read: Callable[[], None]
    set_reading: Callable[[bool], None]

    def __init__(self, length: int) -> None:
        """Expect `length` bytes."""
        self.remaining = length
        self.on_first_read = self.set_reading = _do_nothing
        self._reading_begun = False
        self._pieces: deque[bytes] = deque()
        self._queued_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._aborted = False

    @property
    def is_awaited(self) -> bool:
        """Whether a reader waits for a piece, so that the client is the slow side."""
        return self._waiter is not None

    def feed(self, data: bytes) -> bytes:
        """Queue what belongs to the body; returns what is behind it, the next request."""
        piece = data if len(data) <= self.remaining else data[: self.remaining]
        self.remaining -= len(piece)
        self._pieces.append(piece)
        self._queued_bytes += len(piece)
        if self._waiter is not None:
            self._wake()
        # Many reads may come in one turn of the loop.
        if self._queued_bytes > _MAX_BYTES and self.remaining:
            self.set_reading(False)
        return data[len(piece) :]

    def abort(self) -> None:
        """Fail the reader: the rest will not come."""
        self._aborted = True
        self._wake()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next piece.

        Raises:
            ConnectionError: the client is gone, or `abort` was called.
        """
        if not self._reading_begun:
            self._reading_begun = True
            self.on_first_read()
        while not self._pieces:
            if self._aborted:
                raise ConnectionError("the client went away")
            if not self.remaining:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        piece = self._pieces.popleft()
        self._queued_bytes -= len(piece)
        if not self._pieces and self.remaining:
            self.set_reading(True)
        return piece

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _do_nothing(*_: object) -> None:
    pass
