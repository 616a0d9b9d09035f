"""Interfaces between a connection and the handlers that respond to its requests."""

import socket
from collections.abc import Coroutine
from typing import Any, Protocol

from stillroom.server.http11.body import RequestBody
from stillroom.server.http11.head import Request

Address = tuple[str, int]
"""Host and port."""


class ClientConnection(Protocol):
    """Connection to a client, as a handler sees it; `Connection` documents the methods."""

    @property
    def client(self) -> Address | None: ...  # noqa: D102  (as above)
    @property
    def server(self) -> Address | None: ...  # noqa: D102
    @property
    def socket(self) -> socket.socket: ...  # noqa: D102
    @property
    def has_unsent_bytes(self) -> bool: ...  # noqa: D102
    def run(self, handler: Coroutine[Any, Any, None]) -> None: ...  # noqa: D102
    def write(self, data: bytes | bytearray | memoryview) -> None: ...  # noqa: D102
    async def drain(self) -> None: ...  # noqa: D102
    def note_response(self) -> None: ...  # noqa: D102
    def continue_with(self, exchange: "Exchange") -> None: ...  # noqa: D102
    def finish(self, exchange: "Exchange") -> None: ...  # noqa: D102
    def drop(self) -> None: ...  # noqa: D102
    def abort(self) -> None: ...  # noqa: D102


class Exchange(Protocol):
    """One request and its response in progress.

    Attributes:
        keep_alive: Whether another request may follow. The connection sets it to False.
        has_begun: Whether bytes of the response were sent, so that no other can replace it.
        unsent_bytes: Bytes of the response, in addition to those in the transport's buffer.
    """

    keep_alive: bool

    @property
    def has_begun(self) -> bool: ...  # noqa: D102  (above)

    @property
    def unsent_bytes(self) -> int: ...  # noqa: D102  (above)

    def disconnect(self) -> None:
        """Stop sending: the client has disconnected, or gets another response."""
        ...


class Responder(Protocol):
    """Handler of requests."""

    def begin(self, connection: ClientConnection, request: Request, body: RequestBody) -> Exchange:
        """Start to handle a request."""
        ...


class FastPath(Protocol):
    """Handler of simple requests. `longest_head` is the longest input of `answer` in bytes."""

    longest_head: int

    def answer(self, connection: ClientConnection, data: bytes) -> bool:
        """Respond to a complete head that was seen before; False if nothing was done."""
        ...

    def learn(self, connection: ClientConnection, data: bytes, request: Request) -> bool:
        """Cache a valid head and respond to it; False if nothing was sent."""
        ...
