"""Where the bytes of an upload come from."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final, Protocol, Self

from stillroom.storage.values import SaveRules, StoredImage

_MAX_TYPE: Final = 255


class ImageSource(Protocol):
    """The bytes of one upload on their way in.

    Attributes:
        max_bytes: No more than this will come; None where it is unknown.
        expected_sha256: What the client says the bytes hash to. Read it after the
            last chunk: a multipart part announces it only when it begins.
    """

    max_bytes: int | None
    expected_sha256: bytes | None

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The chunks. Any exception means that the upload broke off."""
        ...


class DescribedSource:
    """What is saved with a type that is known beforehand.

    A backend keeps of that what it has a place for: the content type, and on a disk the time.

    Attributes:
        content_type: To be kept; None: it is found out by the content.
        modified_ns: When it was saved, nanoseconds since the epoch; None: now.
        rules: Instead of those that the store has for uploads; None: these.
    """

    content_type: str | None = None
    modified_ns: int | None = None
    rules: SaveRules | None = None


class Document(DescribedSource):
    """A document of our own, made as it is saved."""

    expected_sha256: bytes | None = None

    def __init__(
        self,
        content_type: str,
        chunks: AsyncIterator[bytes],
        *,
        max_bytes: int | None,
        rules: SaveRules,
    ) -> None:
        """Bring `chunks`, no more than `max_bytes`, if that is known."""
        self.content_type = content_type
        self.max_bytes: int | None = max_bytes
        self.rules = rules
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks


class ImportedImage(DescribedSource):
    """An image that comes from another store, with what is known of it there.

    Attributes:
        image: As the other store describes it.
        content_type: None if it is longer than any that is in use (RFC 6838, 4.2).
    """

    def __init__(self, image: StoredImage, sha256: bytes, chunks: AsyncIterator[bytes]) -> None:
        """Bring `chunks`, which must hash to `sha256`."""
        self.image = image
        self.max_bytes: int | None = image.size
        self.expected_sha256: bytes | None = sha256
        self.content_type = image.content_type if len(image.content_type) <= _MAX_TYPE else None
        self.modified_ns = image.modified_ns
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks


class BytesSource:
    """An upload that is already in memory; tests and small tools use it."""

    def __init__(self, data: bytes, *, expected_sha256: bytes | None = None) -> None:
        self._data = data
        self.max_bytes: int | None = len(data)
        self.expected_sha256 = expected_sha256

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._data:
            raise StopAsyncIteration
        await asyncio.sleep(0)  # others have their turn
        data, self._data = self._data, b""
        return data
