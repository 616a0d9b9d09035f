"""An open image in memory."""

from collections.abc import AsyncIterator

from stillroom.paths import StorageKey
from stillroom.store.values import StoredImage


class OpenedBytes:
    """Counts the bytes that are read of it, and the reads: with a bucket, as many requests."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.read = 0
        self.reads = 0
        self.image = StoredImage(StorageKey("compute/a"), len(data), '"e"', 0, "", None, "s")

    async def chunks(self, start: int, length: int) -> AsyncIterator[bytes]:
        assert 0 <= start <= start + length <= len(self.data)
        self.read += length
        self.reads += 1
        yield self.data[start : start + length]

    def close(self) -> None:
        pass
