"""What passes between an operation, which does no I/O, and a sender, which does nothing else.

An operation is a generator: it yields a `Call` and is sent what came of it, or yields a
`Wait`. So each is written once, and the sync and the async sender both run it.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from stillroom.client.sinks import Sink
from stillroom.client.sources import ImagePayload

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Form:
    """A multipart/form-data body with an image in it.

    Attributes:
        head: What stands before the image.
        tail: What stands behind it.
    """

    head: bytes
    upload: ImagePayload
    tail: bytes


@dataclass(frozen=True, slots=True)
class Call:
    """One request.

    Attributes:
        target: Behind the API's root; or a whole URL, to which no token goes.
        sink: Where the body of a 200 or 206 goes.
        timeout_s: No single read or write of the socket takes longer.
        progress: Told how many bytes of the image have passed.
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
        """Whether it goes to another server than ours."""
        return not self.target.startswith("/")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, its names in lower case; the body is empty where a sink took it."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """No answer, or only the beginning of one.

    Attributes:
        sent: Whether the server may have seen the request.
        head: Of an answer that broke off, without its body.
        permanent: Unlikely to change soon: an unknown host, or a certificate that does not hold.
    """

    error: Exception
    sent: bool
    head: Answer | None = None
    permanent: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """A pause before the next attempt."""

    seconds: float


Flow = Generator[Call | Wait, Answer | Failure | None, T]


class Sends(Protocol):
    """What carries calls to the operations, and waits for their answers."""

    def send(self, call: Call) -> Answer | Failure:
        """What came of a call.

        Raises:
            ConfigurationError: it can never be sent.
        """
        ...

    def close(self) -> None:
        """Give everything back; it may be used again."""
        ...


class AsyncSends(Protocol):
    """`Sends` for an event loop."""

    async def send(self, call: Call) -> Answer | Failure:
        """See `Sends.send`."""
        ...

    async def close(self) -> None:
        """See `Sends.close`."""
        ...
