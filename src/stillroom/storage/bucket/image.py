"""An object's bytes for this process itself: an `OpenedImage`, read in ranges of one save."""

from collections.abc import AsyncIterator
from typing import Final

from stillroom.errors import BackendUnavailable
from stillroom.storage.s3.client import BucketClient, Call
from stillroom.storage.values import StoredImage

_READ_BYTES: Final = 4 * 1024**2
"""Asked for in one request, and held in memory until it is used."""

_REPLACED: Final = frozenset((404, 412))


class ObjectImage:
    """An object that was looked at; every range is read on condition that it is still the same."""

    def __init__(self, client: BucketClient, image: StoredImage) -> None:
        self._client = client
        self.image = image

    async def chunks(self, start: int, length: int) -> AsyncIterator[bytes]:
        """The bytes from `start` on, in pieces; see `OpenedImage.chunks`."""
        end = start + length
        while start < end:
            last = min(end, start + _READ_BYTES) - 1
            call = Call(
                "GetObject",
                "GET",
                self.image.key.text,
                headers={"range": f"bytes={start}-{last}", "if-match": self.image.etag},
                expected=_REPLACED,
            )
            answer = await self._client.send(call)
            if answer.status in _REPLACED:
                raise BackendUnavailable("the image was replaced while it was read")
            if len(answer.body) != last - start + 1:
                raise BackendUnavailable("the bucket answered another range than was asked for")
            yield answer.body
            start = last + 1

    def close(self) -> None:
        """There is nothing to give back."""
