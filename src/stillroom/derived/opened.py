"""Open thumbnail."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Final

from stillroom.errors import BackendUnavailable
from stillroom.storage.values import StoredImage

_READ_BYTES: Final = 256 * 1024


class DerivedImage:
    """Open thumbnail, a file in the cache or bytes in memory. Implements `OpenedImage`."""

    def __init__(self, image: StoredImage, source: int | bytes) -> None:
        self.image = image
        self._source = source

    async def chunks(self, start: int, length: int) -> AsyncIterator[bytes]:
        """Yield the `length` bytes that begin at the offset `start`, in chunks."""
        end = start + length
        while start < end:
            size = min(end - start, _READ_BYTES)
            if isinstance(self._source, bytes):
                piece = self._source[start : start + size]
            else:
                piece = await _read(self._source, start, size)
            if not piece:
                raise BackendUnavailable(
                    "the cached thumbnail became shorter while it was read: request it again"
                )
            start += len(piece)
            yield piece

    def close(self) -> None:
        """Close the file, if there is one. Another call does nothing."""
        source, self._source = self._source, b""
        if isinstance(source, int):
            os.close(source)


async def _read(file: int, start: int, size: int) -> bytes:
    """Read from a file: directly if the bytes are in the page cache, else in a thread."""
    buffer = bytearray(size)
    try:
        count = os.preadv(file, [buffer], start, os.RWF_NOWAIT)
    except OSError:  # EAGAIN: not cached; EOPNOTSUPP: not supported by this filesystem
        return await asyncio.to_thread(os.pread, file, size, start)
    return bytes(memoryview(buffer)[:count]) if count else b""
