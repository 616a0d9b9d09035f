"""Waiting one's turn: for memory, and for a key."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator

from stillroom.errors import BackendUnavailable


class Reservation:
    """A share of a budget. Give it back once, and no byte of it is used afterwards."""

    def __init__(self, budget: "MemoryBudget", size: int) -> None:
        self._budget = budget
        self.size = size

    def shrink(self, size: int) -> None:
        """Keep `size` bytes of it; more than it has changes nothing."""
        size = min(size, self.size)
        self._budget.give_back(self.size - size)
        self.size = size


class MemoryBudget:
    """So many bytes for all uploads together; who does not fit waits, first come first served.

    A share is taken in one go, so two uploads never wait for each other's second half.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @contextlib.asynccontextmanager
    async def reserve(self, size: int, *, wait_s: float) -> AsyncIterator[Reservation]:
        """Hold `size` bytes, at most the whole budget.

        Raises:
            BackendUnavailable: they did not become free in time.
        """
        if not self._take_now(size):
            try:
                async with asyncio.timeout(wait_s):
                    await self._take(size)
            except TimeoutError:
                raise BackendUnavailable("too many uploads wait for the bucket") from None
        held = Reservation(self, size)
        try:
            yield held
        finally:
            held.shrink(0)

    def has_room(self, size: int) -> bool:
        """Whether so much could be reserved without waiting."""
        return not self._waiting and self._free >= size

    def _take_now(self, size: int) -> bool:
        if not self.has_room(size):
            return False
        self._free -= size
        return True

    async def _take(self, size: int) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(size)  # reserved in the very moment that the waiter was cancelled
            else:
                with contextlib.suppress(ValueError):  # `give_back` may have passed it over already
                    self._waiting.remove((size, turn))
                self.give_back(0)
            raise

    def give_back(self, size: int) -> None:
        """Make room, and let in the waiters that fit now."""
        self._free += size
        while self._waiting and self._waiting[0][0] <= self._free:
            wanted, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._free -= wanted
                turn.set_result(None)


class KeyLocks:
    """One holder per key at a time, in this process; keys without a holder cost nothing."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @contextlib.asynccontextmanager
    async def hold(self, key: str, *, deadline: float) -> AsyncIterator[None]:
        """Hold `key`; others wait, in the order in which they came.

        Args:
            key: Any text.
            deadline: Of the event loop's clock; who has not got it by then gives up.

        Raises:
            BackendUnavailable: the others took too long.
        """
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            try:
                async with asyncio.timeout_at(deadline) if users else contextlib.nullcontext():
                    await lock.acquire()
            except TimeoutError:
                raise BackendUnavailable("too many changes to this image are under way") from None
            try:
                yield
            finally:
                lock.release()
        finally:
            lock, users = self._locks[key]
            if users == 1:
                del self._locks[key]
            else:
                self._locks[key] = (lock, users - 1)
