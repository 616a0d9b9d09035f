"""What a connection and those who answer its requests know of each other."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from stillroom.server.http11.body import RequestBody
    from stillroom.server.http11.connection import Connection
    from stillroom.server.http11.head import Request


class Exchange(Protocol):
    """One request that is being answered.

    Attributes:
        keep_alive: Whether another request may follow. The connection sets it to False.
        has_begun: Bytes of the answer were sent, so that no other answer can take its place.
        unsent_bytes: Of the answer, beside those in the transport's buffer.
    """

    keep_alive: bool

    @property
    def has_begun(self) -> bool: ...  # noqa: D102  (above)

    @property
    def unsent_bytes(self) -> int: ...  # noqa: D102  (above)

    def disconnect(self) -> None:
        """The client is gone, or gets another answer: send no more."""
        ...


class Responder(Protocol):
    """Begins to answer a request."""

    def begin(self, connection: "Connection", request: "Request", body: "RequestBody") -> Exchange:
        """Start what answers a request."""
        ...


class FastPath(Protocol):
    """Answers simple requests at once.

    Attributes:
        longest_head: It is not asked about more bytes: those of uploads need not be looked through.
    """

    longest_head: int

    def answer(self, connection: "Connection", data: bytes) -> bool:
        """Answer a whole head by its bytes alone; False: nothing was done."""
        ...

    def learn(self, connection: "Connection", data: bytes, request: "Request") -> bool:
        """Remember a head that has passed all checks, and answer it; False: nothing was sent."""
        ...
