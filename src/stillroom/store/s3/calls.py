"""Value types for S3 requests and responses."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from stillroom.errors import BackendUnavailable
from stillroom.store.connections import Response
from stillroom.store.s3.signing import EMPTY_SHA256


class BucketError(Exception):
    """Failed request to a bucket, described in a few words, as the cause of an exception."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request to the bucket."""

    operation: str  # name in the documentation of S3
    method: str
    key: str = ""  # key of the object; empty for the bucket itself
    query: Mapping[str, str] = field(default_factory=dict)  # query parameters, not encoded
    headers: Mapping[str, str] = field(default_factory=dict)  # headers, with lower-case names
    body: bytes | memoryview = b""  # the whole body, which a retry sends again
    sha256: str = EMPTY_SHA256  # SHA-256 of the body, in hexadecimal
    expected: frozenset[int] = frozenset()  # refusals that the caller handles
    timeout_s: float | None = None  # of an attempt, in addition to the time for its body
    streams: bool = False  # True to return the body of a successful response as a stream
    presigned: Mapping[str, str] | None = None  # headers for a presigned URL; None: sign the call
    once: bool = False  # prevent retries, since the precondition may no longer hold


@dataclass(frozen=True, slots=True)
class BucketResponse:
    """The final response of the bucket, after retries."""

    status: int  # 2xx, or a status code that the caller expects
    headers: Mapping[str, str]
    body: bytes  # the whole body; empty if `rest` is set
    doubtful: bool = False  # True if an earlier attempt may have been carried out already
    rest: "BodyStream | None" = None  # the body as a stream, which the caller must close


class BodyStream:
    """The body of a response, read as a stream. Implements `Download`."""

    def __init__(self, response: Response, *, timeout_s: float) -> None:
        self._response = response
        self._timeout_s = timeout_s

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the whole body. Raises `BackendUnavailable` if it breaks off or is too slow."""
        pieces = self._response.pieces()
        while True:
            try:
                async with asyncio.timeout(self._timeout_s):
                    piece = await anext(pieces, b"")
            except TimeoutError:
                raise BackendUnavailable(
                    "the bucket stopped sending before the end of the image: try again"
                ) from None
            except OSError as error:
                raise BackendUnavailable(
                    "the connection to the bucket was interrupted before the end of the image: try "
                    "again"
                ) from BucketError(f"{type(error).__name__}")
            if not piece:
                return
            yield piece

    def close(self) -> None:
        """Return the connection to the pool if the body was read completely, else close it."""
        self._response.close()
