"""An object's bytes for this process itself: an `OpenedImage`, read in ranges of one save."""

from collections.abc import AsyncIterator
from typing import Final

from stillroom.errors import BackendUnavailable
from stillroom.storage.objectstore import ObjectStore
from stillroom.storage.values import StoredImage

_READ_BYTES: Final = 4 * 1024**2
"""Asked for in one request, and held in memory until it is used."""


class ObjectImage:
    """An object that was looked at; every range is read on condition that it is still the same."""

    def __init__(self, store: ObjectStore, image: StoredImage) -> None:
        self._store = store
        self.image = image

    async def chunks(self, start: int, length: int) -> AsyncIterator[bytes]:
        """The bytes from `start` on, in pieces; see `OpenedImage.chunks`."""
        end = start + length
        while start < end:
            last = min(end, start + _READ_BYTES) - 1
            data = await self._store.get_range(self.image.key.text, self.image.etag, start, last)
            if data is None:
                raise BackendUnavailable("the image was replaced while it was read")
            if len(data) != last - start + 1:
                raise BackendUnavailable("the bucket answered another range than was asked for")
            yield data
            start = last + 1

    def close(self) -> None:
        """There is nothing to give back."""
