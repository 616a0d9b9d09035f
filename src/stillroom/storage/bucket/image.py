"""An `OpenedImage` in a bucket, read by range requests."""

from collections.abc import AsyncIterator
from typing import Final

from stillroom.errors import BackendUnavailable
from stillroom.storage.objectstore import ObjectStore
from stillroom.storage.values import StoredImage

_READ_BYTES: Final = 4 * 1024**2
"""Bytes read by one request. They are in memory until the caller has consumed them."""


class ObjectImage:
    """An opened object. Range requests are conditional on its ETag, so all read one version."""

    def __init__(self, store: ObjectStore, image: StoredImage) -> None:
        self._store = store
        self.image = image

    async def chunks(self, start: int, length: int) -> AsyncIterator[bytes]:
        """Yield `length` bytes from offset `start` in chunks; see `OpenedImage.chunks`."""
        end = start + length
        while start < end:
            last = min(end, start + _READ_BYTES) - 1
            data = await self._store.get_range(self.image.key.text, self.image.etag, start, last)
            if data is None:
                raise BackendUnavailable("the image was replaced while it was read: read it again")
            if len(data) != last - start + 1:
                raise BackendUnavailable(
                    "the bucket returned a different range of the image than requested"
                )
            yield data
            start = last + 1

    def close(self) -> None:
        """Do nothing, since no connection is open between reads."""
