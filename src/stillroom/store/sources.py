"""Sources from which a storage backend reads an upload."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Protocol, Self

from stillroom.store.values import SaveRules, StoredImage

_MAX_TYPE: Final = 255


class ImageSource(Protocol):
    """An asynchronous iterable that yields the bytes of one upload."""

    max_bytes: int | None  # maximum size of the upload; None if it is unknown
    expected_sha256: bytes | None
    """SHA-256 from the client, or None; final after the last chunk, as a form may contain it."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the chunks. An exception means that the upload was interrupted."""


@dataclass(slots=True)
class DescribedSource:
    """A source of `chunks` with its own content type, time, save id or rules for the save."""

    chunks: AsyncIterator[bytes]
    max_bytes: int | None
    expected_sha256: bytes | None = None
    content_type: str | None = None  # content type to store. If None, it is detected.
    modified_ns: int | None = None  # in nanoseconds since the epoch; None: the current time
    rules: SaveRules | None = None  # rules for this save. If None, the store's rules apply.
    save_id: str | None = None  # save id that a bucket stores. If None, it is random.

    @classmethod
    def of_image(cls, image: StoredImage, sha256: bytes, chunks: AsyncIterator[bytes]) -> Self:
        """Return the source for importing an image with this SHA-256 from another store."""
        # A stored text may be too long for a content type (RFC 6838, 4.2).
        kind = image.content_type if len(image.content_type) <= _MAX_TYPE else None
        return cls(chunks, image.size, sha256, kind, image.modified_ns)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.chunks


class BytesSource(DescribedSource):
    """An upload that is already in memory, for tests and small tools."""

    def __init__(self, data: bytes, *, expected_sha256: bytes | None = None) -> None:
        super().__init__(_yield(data), len(data), expected_sha256)


async def _yield(data: bytes) -> AsyncIterator[bytes]:
    await asyncio.sleep(0)  # let other tasks run
    yield data
