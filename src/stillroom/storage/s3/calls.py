"""Values for calls to S3 and their responses."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from stillroom.errors import BackendUnavailable
from stillroom.storage.s3.connections import Response
from stillroom.storage.s3.signing import EMPTY_SHA256


class BucketError(Exception):
    """An error response of a bucket; the cause of a `BackendUnavailable`."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request to the bucket.

    Attributes:
        operation: Name in S3's documentation.
        key: Key of the object; empty for the bucket itself.
        query: Decoded.
        headers: Lower-case names.
        body: The whole body, which may have to be sent again.
        sha256: Hash of the body, hexadecimal.
        expected: Status codes of refusals that the caller handles; all others raise.
        timeout_s: Time for one attempt in addition to its body; None for the default.
        streams: Leave the body of a successful response to be read as a stream.
        once: Do not retry, since its precondition may not hold any more.
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
        """Return whether the call can change anything, so that an unknown outcome matters."""
        return self.method not in ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class BucketResponse:
    """The final response of the bucket.

    Attributes:
        status: 2xx, or a status code that the caller expects.
        body: The whole body; empty if it is left in `rest`.
        doubtful: An earlier attempt may have been carried out already.
        rest: The body as a stream, to be closed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    doubtful: bool = False
    rest: "BodyStream | None" = None


class BodyStream:
    """A response body that is read as a stream."""

    def __init__(self, response: Response, *, timeout_s: float) -> None:
        """Read the body of `response`; each piece must arrive within `timeout_s`."""
        self._response = response
        self._timeout_s = timeout_s

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the whole body.

        Raises:
            BackendUnavailable: it broke off, or nothing arrived for too long.
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
        """Return the connection to the pool if all was read, else close it."""
        self._response.close()
