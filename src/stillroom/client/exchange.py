"""Messages between operations, which do no I/O, and senders, which do only I/O.

An operation is a generator. It yields a `Call` and receives the response or failure, or it yields
a `Wait`. The sync and the async sender can therefore run the same operations.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from stillroom.client.sinks import Sink
from stillroom.client.sources import ImagePayload

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Form:
    """A multipart/form-data body that contains an image.

    Attributes:
        head: Part of the body before the image.
        tail: Part of the body after the image.
    """

    head: bytes
    upload: ImagePayload
    tail: bytes


@dataclass(frozen=True, slots=True)
class Call:
    """Request to send.

    Attributes:
        target: Path and query relative to the API's root; or a complete URL, to which no token is
            sent.
        sink: Destination for the body of a 200 or 206 response; None to keep it in memory.
        timeout_s: Limit for each single read or write of the socket.
        progress: Called with the number of bytes transferred and the total, if known.
    """

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Form | None = None
    sink: Sink | None = None
    timeout_s: float = 60
    progress: Callable[[int, int | None], None] | None = None

    @property
    def elsewhere(self) -> bool:
        """Return whether the target is a complete URL, usually of another server."""
        return not self.target.startswith("/")


@dataclass(frozen=True, slots=True)
class Answer:
    """Response with lower-case header names. The body is empty if it was written to a sink."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """Failed request: there was no response, or it was interrupted.

    Attributes:
        sent: True if the server may have received the request.
        head: Status code and headers of an interrupted response; None if there was no response.
        permanent: True if a retry is unlikely to help (unknown host, invalid certificate).
    """

    error: Exception
    sent: bool
    head: Answer | None = None
    permanent: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Pause before the next attempt."""

    seconds: float


Flow = Generator[Call | Wait, Answer | Failure | None, T]
