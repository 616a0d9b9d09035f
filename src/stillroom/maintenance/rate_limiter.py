"""Rate limiter: bounds how many bytes a second a migration or a verification reads."""

import asyncio
import time


class RateLimiter:
    """Limits the bytes read a second; all concurrent readers of a pass share one."""

    def __init__(self, bytes_per_s: float | None) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_at = time.monotonic()

    @property
    def is_bounded(self) -> bool:
        """Whether there is a bound at all."""
        return self._bytes_per_s is not None

    async def spend(self, size: int) -> None:
        """Return when `size` bytes more may be read."""
        if self._bytes_per_s is None:
            return
        now = time.monotonic()
        self._free_at = max(self._free_at, now) + size / self._bytes_per_s
        await asyncio.sleep(self._free_at - now)
