"""Sources from which a storage backend reads an upload."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final, Protocol, Self

from stillroom.storage.values import SaveRules, StoredImage

_MAX_TYPE: Final = 255


class ImageSource(Protocol):
    """An asynchronous iterable that yields the bytes of one upload.

    Attributes:
        max_bytes: Maximum size of the upload; None if it is unknown.
        expected_sha256: SHA-256 that the client sent, or None. Read it after the last chunk: in a
            multipart form, it becomes known only when the image's part begins.
    """

    max_bytes: int | None
    expected_sha256: bytes | None

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the chunks. Any exception means that the upload was interrupted."""
        ...


class DescribedSource:
    """A source whose content type and time are known beforehand.

    A disk stores both; a bucket stores only the content type.

    Attributes:
        content_type: Content type to store. If None, it is detected.
        modified_ns: Time of the save in nanoseconds since the epoch. If None, the current time.
        rules: Rules for this save. If None, the store's rules apply.
    """

    content_type: str | None = None
    modified_ns: int | None = None
    rules: SaveRules | None = None


class Document(DescribedSource):
    """A document that Stillroom itself writes. Its content is generated while it is saved."""

    expected_sha256: bytes | None = None

    def __init__(
        self,
        content_type: str,
        chunks: AsyncIterator[bytes],
        *,
        max_bytes: int | None,
        rules: SaveRules,
    ) -> None:
        """Save the bytes of `chunks`, at most `max_bytes` in total if that is not None."""
        self.content_type = content_type
        self.max_bytes: int | None = max_bytes
        self.rules = rules
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks


class ImportedImage(DescribedSource):
    """An image to import from another store.

    Attributes:
        image: Metadata in the other store.
        content_type: None if the stored text is too long for a content type (RFC 6838, 4.2).
    """

    def __init__(self, image: StoredImage, sha256: bytes, chunks: AsyncIterator[bytes]) -> None:
        """Save the bytes of `chunks`, which must have this SHA-256."""
        self.image = image
        self.max_bytes: int | None = image.size
        self.expected_sha256: bytes | None = sha256
        self.content_type = image.content_type if len(image.content_type) <= _MAX_TYPE else None
        self.modified_ns = image.modified_ns
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks


class BytesSource:
    """An upload that is already in memory, for tests and small tools."""

    def __init__(self, data: bytes, *, expected_sha256: bytes | None = None) -> None:
        self._data = data
        self.max_bytes: int | None = len(data)
        self.expected_sha256 = expected_sha256

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._data:
            raise StopAsyncIteration
        await asyncio.sleep(0)  # let other tasks run
        data, self._data = self._data, b""
        return data
