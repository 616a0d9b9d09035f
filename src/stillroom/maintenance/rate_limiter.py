"""Rate limiter for the number of bytes that a migration or verification reads per second."""

import asyncio
import time


class RateLimiter:
    """Limit on bytes per second (None: unlimited), shared by all concurrent readers."""

    def __init__(self, bytes_per_s: float | None) -> None:
        self._bytes_per_s = bytes_per_s
        self.is_bounded = bytes_per_s is not None
        self._free_at = time.monotonic()

    async def spend(self, size: int) -> None:
        """Wait until `size` more bytes may be read."""
        if self._bytes_per_s is None:
            return
        now = time.monotonic()
        self._free_at = max(self._free_at, now) + size / self._bytes_per_s
        await asyncio.sleep(self._free_at - now)
