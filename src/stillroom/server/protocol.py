"""HTTP/1.1 protocol of a connection: keep-alive, pipelining, time-outs, graceful refusals.

uvicorn's own keeps half-sent heads for ever, takes heads of any size, swallows what
follows a refusal, and closes so abruptly that the client may never see the answer.
It has no settings for these, so this class leans on its internals:
`HttpToolsProtocol.on_headers_complete`, `RequestResponseCycle.send`, and the names of
their attributes. The pin in requirements/ and tests/acceptance/test_edge.py guard that.
"""

import asyncio
import fcntl
import logging
import termios
import time
from typing import Any, Final, cast

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from stillroom.server.bounds import BODY_WINDOW_S, LINGER_BYTES, LINGER_S, Bounds
from stillroom.server.head_checks import fault_of_head
from stillroom.server.refusals import refusal
from stillroom.server.request_cycle import (
    HoldableFlowControl,
    RequestCycle,
    fill_scope,
)
from stillroom.server.timeout_timer import timer_of
from stillroom.telemetry import metrics
from stillroom.telemetry.logging import access_log, log_access

_PIECE_BYTES: Final = 1024
"""Most heads are smaller, so they are parsed in one go."""

_MAX_PIPELINED: Final = 16
_MAX_PIPELINED_BYTES: Final = 64 * 1024
"""Pipelined requests that wait behind the one that is answered, and bytes of the last one's body.
The last piece may bring some more."""


class StillroomProtocol(HttpToolsProtocol):
    """One connection, and the ASGI path of its requests.

    A subclass can answer some requests itself: `_try_fast_path`, `_on_fast_path_body`.
    """

    flow: HoldableFlowControl

    def __init__(self, *args: Any, bounds: Bounds, **kwargs: Any) -> None:  # noqa: ANN401  (uvicorn's signature)
        super().__init__(*args, **kwargs)
        self._bounds = bounds
        self._since = self.loop.time()
        self._in_head = True
        self._head_bytes = 0
        self._message_begun = False
        self._message_ended = False
        self._body_bytes = 0
        self._trailer_bytes = 0
        self._answering: RequestCycle | None = None
        self._has_received_request = False
        self._refused = False
        self._is_on_fast_path = False
        self._lingering = False
        self._draining = False
        self._dropped_bytes = 0
        self._last_unsent_bytes = 0
        self._taken_since = self._since
        self._body_remaining = 0  # of a body whose length was declared
        self._unparsed = bytearray()  # requests that are not parsed yet

    # From the transport ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Set up a connection, unless there are too many."""
        super().connection_made(transport)
        self.flow = HoldableFlowControl(transport)
        timer_of(self.server_state, self.loop).start()
        if len(self.connections) > 2 * self._bounds.connections:
            self._refused = True
            transport.abort()
        elif len(self.connections) > self._bounds.connections:
            self._refuse(503, "too many connections: try again later")

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell every request of this connection, not only the newest."""
        for cycle in (self._answering, *(waiting for waiting, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        super().connection_lost(exc)

    def eof_received(self) -> bool | None:  # type: ignore[override]  # asyncio's own type
        """Half-close: a client that has sent all it wants may still read: answer, then close."""
        if self._is_answering and not self.cycle.more_body and not self.pipeline:
            self.cycle.keep_alive = False
            return True
        return None

    def data_received(self, data: bytes) -> None:
        """Feed the parser, unless the pipeline is full."""
        if self._unparsed or self._pipeline_is_full:
            self._unparsed += data
            self.flow.hold()
        else:
            self._feed_in_pieces(data)

    def _feed_in_pieces(self, data: bytes) -> None:
        """Parse no further than some requests ahead; what follows those waits as it came.

        A request of 27 bytes becomes several kilobytes once it is parsed, and the parser cannot
        be stopped, so it gets little at a time, but for a body whose length is known.
        """
        at = 0
        while at < len(data):
            if self._pipeline_is_full:
                self._unparsed += data[at:] if at else data
                self.flow.hold()
                return
            size = _PIECE_BYTES if self._in_head else max(_PIECE_BYTES, self._body_remaining)
            piece = data[at : at + size]
            at += len(piece)
            self._feed(piece)

    @property
    def _pipeline_is_full(self) -> bool:
        """Whether enough pipelined requests wait behind the one that is answered."""
        return bool(self.pipeline) and (
            len(self.pipeline) >= _MAX_PIPELINED or len(self.cycle.body) > _MAX_PIPELINED_BYTES
        )

    def _feed(self, data: bytes) -> None:
        if self._lingering:
            self._dropped_bytes += len(data)
            if self._dropped_bytes > LINGER_BYTES:
                self.flow.pause_reading()  # closing now would reset a proxy that is still sending
            return
        if self._refused:
            return
        if self._in_head and not self._message_begun and not data.strip(b"\r\n"):
            return  # line ends between requests are passed over, and are no sign of life
        if self._in_head and not self._head_bytes:
            self._since = self.loop.time()
        was_in_head, body_bytes = self._in_head, self._body_bytes
        self._message_ended = False
        HttpToolsProtocol.data_received(self, data)
        if self._in_head and self._message_begun and self._message_ended:
            self._since, self._head_bytes = self.loop.time(), 1  # the next head has begun, too
        elif self._in_head and was_in_head and self._message_begun:
            self._head_bytes += len(data)
            if self._head_bytes > self._bounds.head_bytes:
                self._refuse(431, "the head of the request is too large")
        elif not self._in_head and not was_in_head and self._body_bytes == body_bytes:
            # Neither body nor its end: the size of a chunk, or a field behind the last one.
            self._count_trailer(len(data))

    def resume_writing(self) -> None:
        """Note for the write time-out that the client has taken something."""
        self._taken_since = self.loop.time()
        super().resume_writing()

    def shutdown(self) -> None:
        """Graceful shutdown: finish what runs, take on nothing new."""
        self._draining = True
        super().shutdown()

    # From the parser ---------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Note that a request has begun; line ends between requests are none."""
        self._message_begun = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a field of the head; trailers behind a body are ignored."""
        if self._in_head:
            super().on_header(name, value)
        else:
            self._count_trailer(len(name) + len(value))

    def on_url(self, url: bytes) -> None:
        """Collect the target."""
        super().on_url(url)
        if len(self.url) > self._bounds.target_bytes:
            self._refuse(414, "the target is too long")

    def on_headers_complete(self) -> None:
        """Check the head, then take the fast path or start the application."""
        self._in_head, self._has_received_request = False, True
        self._since, self._body_bytes, self._trailer_bytes = self.loop.time(), 0, 0
        self._body_remaining = 0
        if self._refused:
            return
        if fault := self._fault_of_head():
            self._refuse(*fault)
            return
        self._body_remaining = sum(
            int(value) for name, value in self.headers if name == b"content-length"
        )
        if not self._is_answering and self._try_fast_path():
            self._is_on_fast_path = True
            return
        fill_scope(self.scope, self.parser, self.url)
        is_pipelined = self._is_answering
        version = self.parser.get_http_version()
        keep_alive = (
            version != "1.0"
            and self.parser.should_keep_alive()
            and not self.parser.should_upgrade()  # nothing sensible can follow
        )
        self.cycle = cycle = RequestCycle(
            self,
            keep_alive=keep_alive,
            expect_100_continue=self.expect_100_continue and version != "1.0",
        )
        if is_pipelined:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))
        else:
            self._start_asgi_task(cycle, self.app)

    def on_message_complete(self) -> None:
        """Note that the next byte begins another head."""
        self._in_head, self._message_begun, self._message_ended = True, False, True
        self._head_bytes = 0
        if self._is_on_fast_path:
            self._is_on_fast_path = False
        elif not self._refused:
            super().on_message_complete()

    def on_body(self, body: bytes) -> None:
        """Give a piece of the body to its request."""
        self._body_bytes += len(body)
        self._body_remaining -= len(body)
        self._trailer_bytes = 0
        if self._is_on_fast_path:
            self._on_fast_path_body(body)
        elif not self._refused:
            super().on_body(body)

    def _end_keep_alive(self) -> None:
        """Close the connection behind the answer that is under way."""
        self.cycle.keep_alive = False

    # The fast path -----------------------------------------------------------------------

    def _try_fast_path(self) -> bool:
        """Whether the request whose head is complete is answered without the application."""
        return False

    def _on_fast_path_body(self, body: bytes) -> None:
        """Take a piece of the body of a request on the fast path."""

    # From the application ----------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        del msg
        self._refuse(400, "malformed HTTP request")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cast("RequestCycle", cycle)
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Go on with the next pipelined request, unless the last answer ended keep-alive."""
        if self._lingering or (self._answering is not None and not self._answering.keep_alive):
            self.pipeline.clear()
            self._unparsed.clear()
        self._since = self.loop.time()
        super().on_response_complete()
        if self._unparsed and not self._pipeline_is_full and not self.transport.is_closing():
            unparsed, self._unparsed = bytes(self._unparsed), bytearray()
            self.flow.release()
            self._feed_in_pieces(unparsed)

    @property
    def has_unanswered_input(self) -> bool:
        """Whether more has come than is answered, so that still more may be on its way."""
        return bool(self.pipeline) or self._refused

    @property
    def _is_answering(self) -> bool:
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None before the first request
        return cycle is not None and not cycle.response_complete

    # Refusing ----------------------------------------------------------------------------

    def _fault_of_head(self) -> tuple[int, str] | None:
        if self._draining:
            return 503, "the server is stopping: try again"
        return fault_of_head(self.parser, self.url, self.headers, self._bounds)

    def _count_trailer(self, size: int) -> None:
        self._trailer_bytes += size
        if self._trailer_bytes > self._bounds.head_bytes:
            self._refuse(431, "too much behind the body")

    def _refuse(self, status: int, message: str) -> None:
        """Respond without the application, and end the connection."""
        if self._refused:
            return
        self._refused = True
        if self._is_answering and not self._end_broken_request():
            self._end_keep_alive()  # an answer is under way; nothing may come between
            return
        metrics.count("connection", status)
        response = refusal(status, message)
        self.transport.write(response.head + response.body)
        if access_log.isEnabledFor(logging.INFO):
            # What it asked for may be anything: half a head, or no HTTP at all.
            log_access(
                self.client, "-", "-", status,
                operation="connection", request_id=response.request_id, began=time.perf_counter(),
                sent=len(response.body),
            )  # fmt: skip
        self.linger()

    def _end_broken_request(self) -> bool:
        """Take a request whose own body is broken away from the application, if it can be."""
        if self.pipeline or self.cycle.response_started or not self.cycle.more_body:
            return False
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        return True

    def linger(self) -> None:
        """Lingering close: send FIN, drop what still arrives for a while, then close.

        Closing at once would answer data in flight with a reset, and a reset makes the
        client's system throw away the answer that it has not read yet.
        """
        if self._lingering or self.transport.is_closing():
            return
        self._lingering = True
        self._since = self.loop.time()
        self._unset_keepalive_if_required()
        self._unparsed.clear()
        self.transport.write_eof()
        self.flow.release()

    # Time-outs ---------------------------------------------------------------------------

    def check_timeouts(self, now: float) -> None:
        """Once a second: end what is too slow, in sending or in reading, or idle for too long."""
        if self._has_stopped_reading(now):
            self.transport.abort()
        elif self._lingering:
            if now - self._since > (
                self._bounds.write_timeout_s if self._has_unacknowledged_bytes else LINGER_S
            ):
                self.transport.close()
        elif self._in_head and self.flow.read_paused:
            self._since = now  # it is we who do not read on
        elif self._in_head:
            self._check_head_timeout(now - self._since)
        elif self._is_awaiting_body and now - self._since > BODY_WINDOW_S:
            if self._body_bytes < self._bounds.body_bytes_per_s * (now - self._since):
                self._refuse(408, "the body came too slowly")
            self._since, self._body_bytes = now, 0

    @property
    def _is_awaiting_body(self) -> bool:
        """Whether the client is the slow side, not the disk or our own 100 Continue."""
        return (
            self._is_answering  # else there may have been no request at all
            and self.cycle.more_body
            and not self._refused
            and not self.flow.read_paused
            and not self.cycle.waiting_for_100_continue
        )

    def _has_stopped_reading(self, now: float) -> bool:
        unsent = self._unsent_bytes
        if unsent == 0 or unsent != self._last_unsent_bytes:
            self._last_unsent_bytes, self._taken_since = unsent, now
        return now - self._taken_since > self._bounds.write_timeout_s

    @property
    def _unsent_bytes(self) -> int:
        """Bytes of an answer that the kernel has not taken yet."""
        return self.transport.get_write_buffer_size()

    @property
    def _has_unacknowledged_bytes(self) -> bool:
        """Whether bytes of the last answer are not acknowledged (TIOCOUTQ); a reset drops them."""
        connection = self.transport.get_extra_info("socket")
        return self._unsent_bytes > 0 or any(fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))

    def _check_head_timeout(self, waited_s: float) -> None:
        if self._head_bytes:
            if waited_s > self._bounds.head_timeout_s:
                self._refuse(408, "the head of the request did not arrive in time")
        elif not self._has_received_request:
            if waited_s > self._bounds.head_timeout_s:
                self.transport.close()  # it has never said anything
        elif waited_s > self._bounds.idle_timeout_s and not self._is_answering:
            self.transport.close()
