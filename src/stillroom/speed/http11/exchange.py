"""Interfaces between a connection and the objects that respond to its requests."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from stillroom.speed.http11.body import RequestBody
from stillroom.speed.http11.head import Request, make_head
from stillroom.store.telemetry import metrics, request_id
from stillroom.store.telemetry.logging import log_access

if TYPE_CHECKING:
    from stillroom.speed.http11.connection import Connection

Address = tuple[str, int]  # host and port


class Exchange(Protocol):
    """Request whose response is being prepared or sent."""

    keep_alive: bool  # True if another request may follow. The connection can set it to False.

    @property
    def has_begun(self) -> bool:
        """True if a part of the response was sent, so that no error response can be sent."""

    @property
    def unsent_bytes(self) -> int:
        """Number of unsent bytes of the response, without those in the connection's buffer."""

    def disconnect(self) -> None:
        """Stop sending, because the client has disconnected or gets an error response instead."""


class RequestExchange:
    """Base class for exchanges (request and response) that an asyncio task handles."""

    has_begun = False
    unsent_bytes = 0

    def __init__(self, connection: "Connection", request: Request, body: RequestBody) -> None:
        self.keep_alive = request.keep_alive
        self._connection: Connection | None = connection  # None after a disconnect
        self._client = connection.client
        self._request = request
        self._body = body
        self._started = time.perf_counter()
        client_id = request_id.from_client(request.headers)
        self._has_client_id = client_id is not None
        self._request_id = client_id or request_id.generate()

    def disconnect(self) -> None:
        """Stop sending, because the client has disconnected or gets an error response instead."""
        self._connection = None

    def _make_head(self, status: int, headers: bytes) -> bytes:
        self.keep_alive = self.keep_alive and self._body.is_complete
        visible_id = self._request_id if self._has_client_id or status >= 400 else ""
        return make_head(status, headers, visible_id, keep_alive=self.keep_alive)

    def _record(self, operation: str, status: int, sent: int) -> None:
        metrics.count_sent(operation, sent)
        log_access(
            self._client, self._request.method, self._request.path.decode("ascii"), status,
            operation=operation, request_id=self._request_id, began=self._started,
            received=self._body.received, sent=sent,
        )  # fmt: skip


Begin = Callable[["Connection", Request, RequestBody], Exchange]
"""Function that starts to handle a request. The body may arrive later."""


class FastPath(Protocol):
    """Handler that responds to simple requests immediately, without a task."""

    longest_head: int  # maximum length in bytes of the request heads that `answer` accepts

    def answer(self, connection: "Connection", data: bytes) -> bool:
        """Respond to a raw request head from the cache. Return False if nothing was sent."""

    def learn(self, connection: "Connection", data: bytes, request: Request) -> bool:
        """Cache a valid request head, and respond to it. Return False if nothing was sent."""
