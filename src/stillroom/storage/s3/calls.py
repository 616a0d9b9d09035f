"""One call to S3 and the answer to it, as values."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from stillroom.errors import BackendUnavailable
from stillroom.storage.s3.connections import Response
from stillroom.storage.s3.signing import EMPTY_SHA256


class BucketError(Exception):
    """What a bucket answered instead of doing it; the cause of a `BackendUnavailable`."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request to the bucket.

    Attributes:
        operation: As S3's documents call it.
        method: Of HTTP.
        key: Of the object; empty for the bucket itself.
        query: Decoded.
        headers: Lower-case names.
        body: Whole; it may have to be sent again.
        sha256: Of the body, hexadecimal.
        expected: Refusals that mean something to the caller; all others raise.
        timeout_s: How long one attempt may take beside its body; None for the usual.
        streams: Leave the body of a good answer to be read piece by piece.
        once: It is not sent again when it fails: what allowed it may not hold any more.
    """

    operation: str
    method: str
    key: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | memoryview = b""
    sha256: str = EMPTY_SHA256
    expected: frozenset[int] = frozenset()
    timeout_s: float | None = None
    streams: bool = False
    once: bool = False

    @property
    def changes(self) -> bool:
        """Whether anything is another way after it, so that an unknown outcome matters."""
        return self.method not in ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the bucket said in the end.

    Attributes:
        status: 2xx, or one of those that the caller expected.
        headers: Lower-case names.
        body: Whole; empty if it is left in `rest`.
        doubtful: An attempt before this one may have been carried out already.
        rest: A body that streams; close it.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    doubtful: bool = False
    rest: "BodyStream | None" = None


class BodyStream:
    """The body of an answer on its way."""

    def __init__(self, response: Response, *, timeout_s: float) -> None:
        """Read the body of `response`; each piece must come within `timeout_s`."""
        self._response = response
        self._timeout_s = timeout_s

    async def chunks(self) -> AsyncIterator[bytes]:
        """All of it, as it comes.

        Raises:
            BackendUnavailable: it broke off, or nothing came for too long.
        """
        pieces = self._response.pieces()
        while True:
            try:
                async with asyncio.timeout(self._timeout_s):
                    piece = await anext(pieces, b"")
            except TimeoutError:
                raise BackendUnavailable("the bucket stopped in the middle of an image") from None
            except OSError as error:
                raise BackendUnavailable("the bucket broke off in the middle of an image") from (
                    BucketError(f"{type(error).__name__}")
                )
            if not piece:
                return
            yield piece

    def close(self) -> None:
        """Give the connection back if all was read, else close it."""
        self._response.close()
