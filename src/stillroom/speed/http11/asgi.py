"""ASGI path: passes requests to the ASGI application, and records metrics and the access log."""

import asyncio
import logging
import re
from typing import Any, Final
from urllib.parse import unquote

from starlette.types import ASGIApp, Message

from stillroom.speed.http11.body import RequestBody
from stillroom.speed.http11.connection import Connection
from stillroom.speed.http11.exchange import RequestExchange
from stillroom.speed.http11.head import Request
from stillroom.store.api.responses import OPERATION
from stillroom.store.http.problems import internal_error
from stillroom.store.telemetry import metrics, request_id

# Valid names and values of response headers (RFC 9110, 5), to prevent header injection.
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")

State = dict[str, Any]  # state that the application returned from its lifespan

log = logging.getLogger("stillroom.server")


def begin(
    app: ASGIApp, state: State, connection: Connection, request: Request, body: RequestBody
) -> "AsgiExchange":
    """Start a task in which `app` handles a request. The request gets a copy of `state`."""
    exchange = AsgiExchange(connection, request, body, state)
    connection.run(exchange.run(app))
    return exchange


class AsgiExchange(RequestExchange):
    """Request that the ASGI application handles, and its response."""

    def __init__(
        self, connection: Connection, request: Request, body: RequestBody, state: State
    ) -> None:
        super().__init__(connection, request, body)
        self._scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": request.version,
            "method": request.method,
            "scheme": "http",
            "path": unquote(request.path.decode("ascii")),
            "raw_path": request.path,
            "query_string": request.query,
            "root_path": "",
            "headers": request.headers,
            "client": connection.client,
            "server": connection.server,
            "state": state.copy(),
        }
        self._status = 0
        self._head = b""  # sent with the first piece of the body
        self._left: int | None = None  # unsent part of the declared length, if any
        self._is_chunked = False
        self._body_is_read = False
        self._sent = 0
        self._is_recorded = False
        self._ended = asyncio.Event()  # set when the response is complete or the client is gone

    def disconnect(self) -> None:
        """Stop sending, because the client has disconnected or gets an error response instead."""
        super().disconnect()
        self._ended.set()

    async def run(self, app: ASGIApp) -> None:
        """Run the application. The task is cancelled if a shutdown takes too long."""
        request_id.current.set(self._request_id)
        metrics.begin()
        try:
            await app(self._scope, self._receive, self._send)
            if not self._ended.is_set():
                log.error(
                    "the application returned before its response was complete: the client gets "
                    "an error"
                )
        except asyncio.CancelledError:
            if self._connection is not None:
                self._connection.drop()
                self.disconnect()
        except Exception:
            log.exception("Exception in ASGI application")
        finally:
            metrics.end()
            if not self._ended.is_set():
                await self._end_incomplete()
            self._end()

    async def _end_incomplete(self) -> None:
        if self._status and self._connection is not None:
            self._connection.drop()  # so that the client notices that the response is incomplete
        elif not self._status:
            problem = internal_error(self._request_id)
            fields = [(name.encode(), value.encode()) for name, value in problem.headers]
            self.keep_alive = False
            await self._send({"type": "http.response.start", "status": 500, "headers": fields})
            await self._send({"type": "http.response.body", "body": problem.body})

    async def _receive(self) -> Message:
        if not self._ended.is_set() and not self._body_is_read:
            try:
                piece = await anext(self._body, b"")
            except ConnectionError:
                return {"type": "http.disconnect"}
            self._body_is_read = self._body.is_delivered
            return {"type": "http.request", "body": piece, "more_body": not self._body_is_read}
        await self._ended.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._connection is not None:
            await self._connection.drain()
        if message["type"] not in ("http.response.start", "http.response.body"):
            raise RuntimeError(f"unknown ASGI message {message['type']!r}")
        if message["type"] == "http.response.start":
            self._start(message["status"], message.get("headers", ()))
        elif self._connection is None:
            if message.get("more_body"):
                raise ConnectionResetError("the client disconnected")
        else:
            body, more_body = message.get("body", b""), message.get("more_body", False)
            self._continue(self._connection, body, is_last=not more_body)

    def _start(self, status: int, fields: Any) -> None:  # noqa: ANN401  (pairs of bytes, as in ASGI)
        if self._status:
            raise RuntimeError("the response has already begun")
        self._status, lines, self.has_begun = status, b"", True
        for raw_name, value in fields:
            name = raw_name.lower()
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise RuntimeError("a header of the response is not valid in HTTP")
            if name == b"content-length":
                self._left = int(value)
            if name == b"connection":
                self.keep_alive = self.keep_alive and value.lower() != b"close"
            else:
                lines += b"%s: %s\r\n" % (name, value)
        if self._has_no_body:
            self._left = 0
        elif self._left is None and self._request.version == "1.1":
            self._is_chunked = True
            lines += b"transfer-encoding: chunked\r\n"
        self._head = self._make_head(status, lines)

    def _continue(self, connection: Connection, body: bytes, *, is_last: bool) -> None:
        if not self._status or self._ended.is_set():
            raise RuntimeError("a body was sent before the response began or after it ended")
        if self._has_no_body:
            body = b""
        self._sent += len(body)
        if self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (self._left and is_last):
                raise RuntimeError("the body of the response is not as long as its Content-Length")
        if is_last:
            self._end()  # before the client has the response, and may look for the log line
        connection.write(self._head + self._frame(body, is_last=is_last))
        self._head = b""
        if is_last:
            self._ended.set()
            connection.finish(self)

    @property
    def _has_no_body(self) -> bool:
        return self._request.method == "HEAD" or self._status in (204, 304)

    def _frame(self, body: bytes, *, is_last: bool) -> bytes:
        if not self._is_chunked:
            return body
        chunk = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
        return chunk + b"0\r\n\r\n" if is_last else chunk

    def _end(self) -> None:
        if self._is_recorded or not self._status:
            return
        self._is_recorded = True
        operation: str | None = self._scope.get(OPERATION)
        if operation is None:
            operation = metrics.OTHER
            metrics.count(operation, self._status)
        metrics.count_received(operation, self._body.received)
        self._record(operation, self._status, self._sent)
