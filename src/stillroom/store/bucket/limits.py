"""Memory budget for uploads, and locks by key."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from stillroom.errors import BackendUnavailable


@dataclass(slots=True)
class Reservation:
    """Memory reserved from a budget, until the block of `MemoryBudget.reserve` ends."""

    budget: "MemoryBudget"
    size: int

    def shrink(self, size: int) -> None:
        """Release all but `size` bytes. Does nothing if fewer are reserved."""
        size = min(size, self.size)
        self.budget.release(self.size - size)
        self.size = size


class MemoryBudget:
    """Memory limit in bytes for all uploads. Uploads wait in order until their memory is free.

    Each upload reserves its memory in one step, so uploads cannot deadlock.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @contextlib.asynccontextmanager
    async def reserve(self, size: int, *, wait_s: float) -> AsyncIterator[Reservation]:
        """Context manager: reserve `size` bytes, or raise `BackendUnavailable` after `wait_s`."""
        if self.has_room(size):
            self._free -= size
        else:
            try:
                async with asyncio.timeout(wait_s):
                    await self._wait_for(size)
            except TimeoutError:
                raise BackendUnavailable(
                    "too many uploads are waiting for the bucket: try again later"
                ) from None
        reservation = Reservation(self, size)
        try:
            yield reservation
        finally:
            reservation.shrink(0)

    def has_room(self, size: int) -> bool:
        """Return whether `size` bytes could be reserved without waiting."""
        return not self._waiting and self._free >= size

    async def _wait_for(self, size: int) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(size)  # the bytes were reserved just before the waiter was cancelled
            else:
                with contextlib.suppress(ValueError):  # `release` may have removed it already
                    self._waiting.remove((size, turn))
                self.release(0)
            raise

    def release(self, size: int) -> None:
        """Return bytes to the budget, and wake the waiting uploads that fit now."""
        self._free += size
        while self._waiting and self._waiting[0][0] <= self._free:
            waiting_size, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._free -= waiting_size
                turn.set_result(None)


class KeyLocks:
    """Locks by key, within this process. Keys that are not locked use no memory."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @contextlib.asynccontextmanager
    async def hold(self, key: str, *, deadline: float) -> AsyncIterator[None]:
        """Context manager: lock `key`, or raise `BackendUnavailable` at `deadline` (loop time)."""
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            try:
                async with asyncio.timeout_at(deadline) if users else contextlib.nullcontext():
                    await lock.acquire()
            except TimeoutError:
                raise BackendUnavailable(
                    "too many changes to this image are in progress: try again later"
                ) from None
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
