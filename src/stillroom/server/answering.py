"""One request and its answer, as the connection that they belong to wants them.

It leans on uvicorn's `RequestResponseCycle` and `FlowControl`, as `protocol` does on the rest.
"""

import asyncio
import functools
import logging
import time
from email.utils import formatdate
from typing import Any, Protocol, cast

from uvicorn._types import ASGI3Application, ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from stillroom.api.operation import OPERATION
from stillroom.telemetry import metrics, request_id
from stillroom.telemetry.logging import access_log, log_access


class Lingering(Protocol):
    """A connection that can wait for its client before it closes."""

    transport: asyncio.Transport

    @property
    def has_more_coming(self) -> bool:
        """Whether more has come than is answered."""
        ...

    def linger(self) -> None:
        """Say that nothing more comes, drop what still arrives for a while, then close."""
        ...


class Cycle(RequestResponseCycle):
    """One request and its answer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  (uvicorn's signature)
        super().__init__(*args, **kwargs)
        self._began = time.perf_counter()
        named = request_id.sent(self.scope["headers"])
        self._is_named = named is not None
        self._request_id = named or request_id.made()
        self._status = 0
        self._received = self._sent = 0
        self._told = False

    async def run_asgi(self, app: ASGI3Application) -> None:
        """Run the application; a stop that waits no longer is no fault of its."""
        request_id.current.set(self._request_id)
        metrics.begin()

        async def until_stopped(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401  (ASGI's)
            try:
                await app(scope, receive, send)
            except asyncio.CancelledError:
                self.disconnected = True
                self.transport.close()

        try:
            await super().run_asgi(until_stopped)
        finally:
            metrics.end()
            self._tell()

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
            if self._is_named or self._status >= 400:
                field = (request_id.FIELD.encode(), self._request_id.encode())
                message = {**message, "headers": [*message.get("headers", []), field]}
        elif message["type"] == "http.response.body":
            if self.disconnected and message.get("more_body"):
                raise ConnectionResetError("the client went away")
            if not self.disconnected and self.scope["method"] != "HEAD":
                self._sent += len(message.get("body", b""))
            if not message.get("more_body"):
                self._tell()  # before the client has it all, and looks for the line
        await super().send(message)

    def _tell(self) -> None:
        """Count the bytes, and what has reached no operation; log it for those who want that."""
        if self._told or not self._status:
            return
        self._told = True
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


class Flow(FlowControl):
    """Reading can be held, whatever an answer that is under way wants to read."""

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
        """Read on, unless it is held."""
        if not self._is_held:
            super().resume_reading()


class ClosingPolitely:
    """The transport as an answer sees it: closing it lingers if more is still coming."""

    cycle: "Cycle"

    def __init__(self, protocol: Lingering) -> None:
        self._protocol = protocol
        self.write = protocol.transport.write
        self.is_closing = protocol.transport.is_closing

    def close(self) -> None:
        """Close, or linger first."""
        if self.cycle.more_body or self._protocol.has_more_coming:
            self._protocol.linger()
        else:
            self._protocol.transport.close()


@functools.lru_cache(maxsize=4)
def date_at(second: int) -> bytes:
    """A `Date` field's value."""
    return formatdate(second, usegmt=True).encode("ascii")
