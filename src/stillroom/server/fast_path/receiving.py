"""The body of an upload: a bounded queue between the connection and the save."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Self

_MAX_BYTES: Final = 64 * 1024
"""Waiting bytes beyond which a connection is not read. One read brings up to 256,000 more."""


class Body:
    """The pieces of one body of known length, in order; an async iterator.

    Attributes:
        missing: Bytes that have not come yet.
        on_begin: Called before the first piece is waited for; `100 Continue` is due.
        on_pressure: Told whether to go on reading from the connection.
    """

    on_begin: Callable[[], None]
    on_pressure: Callable[[bool], None]

    def __init__(self, length: int) -> None:
        """Expect `length` bytes."""
        self.missing = length
        self.on_begin = self.on_pressure = _nothing
        self._begun = False
        self._pieces: deque[bytes] = deque()
        self._waiting = 0
        self._waiter: asyncio.Future[None] | None = None
        self._lost = False

    @property
    def is_awaited(self) -> bool:
        """Whether a reader waits for a piece, so that the client is the slow side."""
        return self._waiter is not None

    def feed(self, data: bytes) -> bytes:
        """Take what belongs to the body; what is behind it comes back."""
        piece = data if len(data) <= self.missing else data[: self.missing]
        self.missing -= len(piece)
        self._pieces.append(piece)
        self._waiting += len(piece)
        if self._waiter is not None:
            self._wake()
        if self._waiting > _MAX_BYTES and self.missing:  # many reads come in one turn of the loop
            self.on_pressure(False)
        return data[len(piece) :]

    def lose(self) -> None:
        """The rest will never come."""
        self._lost = True
        self._wake()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next piece.

        Raises:
            ConnectionError: the client is gone, or its body was given up.
        """
        if not self._begun:
            self._begun = True
            self.on_begin()
        while not self._pieces:
            if self._lost:
                raise ConnectionError("the client went away")
            if not self.missing:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        piece = self._pieces.popleft()
        self._waiting -= len(piece)
        if not self._pieces and self.missing:
            self.on_pressure(True)
        return piece

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _nothing(*_: object) -> None:
    pass
