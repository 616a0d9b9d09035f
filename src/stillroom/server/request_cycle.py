"""ASGI path of one request: request id, access log, metrics, flow control, lingering close.

It leans on uvicorn's `RequestResponseCycle` and `FlowControl`, as `protocol` does on the rest.
"""

import asyncio
import functools
import logging
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

import httptools
from uvicorn._types import ASGI3Application, ASGIReceiveEvent, ASGISendEvent, HTTPScope
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from stillroom.api.responses import OPERATION
from stillroom.telemetry import metrics, request_id
from stillroom.telemetry.logging import access_log, log_access

if TYPE_CHECKING:
    from stillroom.server.protocol import StillroomProtocol


class RequestCycle(RequestResponseCycle):
    """One request and its answer."""

    def __init__(
        self, protocol: "StillroomProtocol", *, keep_alive: bool, expect_100_continue: bool
    ) -> None:
        super().__init__(
            scope=protocol.scope,
            transport=cast("asyncio.Transport", LingeringTransport(protocol, self)),
            flow=protocol.flow,
            logger=protocol.logger,
            access_logger=access_log,
            access_log=False,  # uvicorn would log the query, and a query may hold a signature
            default_headers=[(b"date", http_date(int(time.time())))],
            message_event=asyncio.Event(),
            expect_100_continue=expect_100_continue,
            keep_alive=keep_alive,
            on_response=protocol.on_response_complete,
        )
        self._began = time.perf_counter()
        client_id = request_id.from_client(self.scope["headers"])
        self._has_client_id = client_id is not None
        self._request_id = client_id or request_id.generate()
        self._status = 0
        self._received = self._sent = 0
        self._is_recorded = False

    async def run_asgi(self, app: ASGI3Application) -> None:
        """Run the application; it is cancelled when the drain time of a shutdown is over."""
        request_id.current.set(self._request_id)
        metrics.begin()

        async def until_cancelled(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401  (ASGI's)
            try:
                await app(scope, receive, send)
            except asyncio.CancelledError:
                self.disconnected = True
                self.transport.close()

        try:
            await super().run_asgi(until_cancelled)
        finally:
            metrics.end()
            self._record_answer()

    async def receive(self) -> ASGIReceiveEvent:
        """Receive a part of the body."""
        message = await super().receive()
        if message["type"] == "http.request":
            self._received += len(message["body"])
        return message

    async def send(self, message: ASGISendEvent) -> None:
        """Send a part of the answer.

        Raises:
            ConnectionResetError: more of a body goes to a client that is gone.
        """
        if message["type"] == "http.response.start":
            if self.more_body:
                self.keep_alive = False  # what was not read can only be dropped
            self._status = message["status"]
            if self._has_client_id or self._status >= 400:
                field = (request_id.FIELD.encode(), self._request_id.encode())
                message = {**message, "headers": [*message.get("headers", []), field]}
        elif message["type"] == "http.response.body":
            if self.disconnected and message.get("more_body"):
                raise ConnectionResetError("the client went away")
            if not self.disconnected and self.scope["method"] != "HEAD":
                self._sent += len(message.get("body", b""))
            if not message.get("more_body"):
                self._record_answer()  # before the client has it all, and looks for the line
        await super().send(message)

    def _record_answer(self) -> None:
        """Count the bytes, and a request that has reached no operation; write the access log."""
        if self._is_recorded or not self._status:
            return
        self._is_recorded = True
        operation = cast("str | None", self.scope.get(OPERATION))
        if operation is None:
            operation = metrics.OTHER
            metrics.count(operation, self._status)
        metrics.count_received(operation, self._received)
        metrics.count_sent(operation, self._sent)
        if access_log.isEnabledFor(logging.INFO):
            log_access(
                self.scope["client"],
                self.scope["method"],
                self.scope["raw_path"].decode("ascii"),
                self._status,
                operation=operation,
                request_id=self._request_id,
                began=self._began,
                received=self._received,
                sent=self._sent,
            )


class HoldableFlowControl(FlowControl):
    """Flow control that can hold reading, even if the application would read on."""

    _is_held = False

    def hold(self) -> None:
        """Read no more until `release`."""
        self.pause_reading()
        self._is_held = True

    def release(self) -> None:
        """Read on."""
        self._is_held = False
        self.resume_reading()

    def resume_reading(self) -> None:
        """Read on, unless reading is held."""
        if not self._is_held:
            super().resume_reading()


class LingeringTransport:
    """The transport as uvicorn's cycle sees it: closing lingers while the client still sends."""

    def __init__(self, protocol: "StillroomProtocol", cycle: RequestCycle) -> None:
        self._cycle = cycle
        self._protocol = protocol
        self.write = protocol.transport.write
        self.is_closing = protocol.transport.is_closing

    def close(self) -> None:
        """Close, or linger first."""
        if self._cycle.more_body or self._protocol.has_unanswered_input:
            self._protocol.linger()
        else:
            self._protocol.transport.close()


def fill_scope(scope: HTTPScope, parser: httptools.HttpRequestParser, target: bytes) -> None:
    """Fill in what ASGI wants to know of a request from its checked request line."""
    url = httptools.parse_url(target)
    raw_path = url.path or b"/"
    scope["method"] = parser.get_method().decode("ascii")
    scope["http_version"] = parser.get_http_version()
    scope["raw_path"] = raw_path
    scope["path"] = unquote(raw_path.decode("ascii"))
    scope["query_string"] = url.query or b""


@functools.lru_cache(maxsize=4)
def http_date(second: int) -> bytes:
    """The value of a Date field."""
    return formatdate(second, usegmt=True).encode("ascii")
