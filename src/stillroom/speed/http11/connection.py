"""HTTP/1.1 connection, implemented as a state machine.

    IDLE ──first byte──▶ HEAD ──complete──▶ BODY ──complete──▶ ANSWER ──answered──▶ IDLE

A request without a body changes the state from HEAD to ANSWER. The last response changes it to
CLOSED. If the response is sent before the request is complete, the state changes to LINGER: more
bytes are read and ignored until the client closes its side or a time limit is reached.

Requests are handled one at a time, by the fast path or by the ASGI application. If the client
already sends the next request (pipelining), its data is buffered, and reading is paused.
"""

import asyncio
import fcntl
import logging
import socket
import termios
import time
from collections.abc import Coroutine
from enum import Enum
from functools import partial
from typing import Any, Final

from stillroom.speed.http11 import head
from stillroom.speed.http11.body import RequestBody
from stillroom.speed.http11.exchange import Address, Exchange
from stillroom.speed.http11.service import Service, address_of, log_failure
from stillroom.store.telemetry import metrics, request_id
from stillroom.store.telemetry.logging import log_access

BODY_WINDOW_S: Final = 30.0  # the speed of a body is measured over this time; it may pause

_LINGER_S: Final = 2.0  # after a refused request, the rest of it is dropped for this time
_LINGER_BYTES: Final = 1024**2  # after this many bytes, nothing more is read

log = logging.getLogger("stillroom.server")


class State(Enum):
    """State of a connection. The values describe what the connection waits for."""

    IDLE = "the first byte of a head"
    HEAD = "the rest of a head"
    BODY = "the rest of a body, while its request is being handled"
    ANSWER = "the end of the response to a complete request"
    LINGER = "the client's FIN, after the last response"
    CLOSED = "nothing"


_IDLE, _HEAD, _BODY = State.IDLE, State.HEAD, State.BODY
_ANSWER, _LINGER, _CLOSED = State.ANSWER, State.LINGER, State.CLOSED


class Connection(asyncio.Protocol):
    """Connection to a client. `served` is the number of requests with a complete head."""

    _transport: asyncio.Transport
    _socket: socket.socket

    def __init__(self, service: Service) -> None:
        self.client: Address | None = None
        self.server: Address | None = None
        self.served = 0
        self._service = service
        self._fast_path = service.fast_path
        self._state = _IDLE
        self._since = service.loop.time()  # start of the timeout of the current state
        self._head: head.HeadParser | None = None
        self._body = _NO_BODY
        self._window_bytes = 0  # body bytes received before `_since`
        self._exchange: Exchange | None = None
        self._buffer = b""  # data after the current request
        self._dropped_bytes = 0
        self._writable: asyncio.Event | None = None  # not None while the transport's buffer is full
        self._unsent = 0
        self._progress_at = self._since

    # From the transport ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # of a stream socket
        """Set up the connection, or reject it if there are too many connections."""
        self._transport = transport
        # This is the transport's descriptor, used to send without the transport's buffer.
        self._socket = socket.socket(fileno=transport.get_extra_info("socket").fileno())
        self._socket.setblocking(False)  # it already is, but Python must know this for `dup`
        self.client = address_of(transport.get_extra_info("peername"))
        self.server = address_of(transport.get_extra_info("sockname"))
        service = self._service
        service.connections.add(self)
        service.timer.start()
        if len(service.connections) > 2 * service.settings.max_connections:
            self._state = _CLOSED
            transport.abort()  # each 503 uses a descriptor
        elif len(service.connections) > service.settings.max_connections:
            self.refuse(503, "too many connections: try again later")

    def connection_lost(self, exc: Exception | None) -> None:
        """Abort the current request, because the connection is closed."""
        del exc
        self._state = _CLOSED
        self._service.connections.discard(self)
        self._socket.detach()
        self._buffer = b""
        self._body.abort()
        if self._exchange is not None:
            self._exchange.disconnect()
            self._exchange = None
        self.resume_writing()

    def eof_received(self) -> bool:
        """Finish the response before closing the connection: the client may still read it."""
        if self._state is _ANSWER and self._exchange is not None:
            self._exchange.keep_alive = False
            return True
        return False

    def data_received(self, data: bytes) -> None:
        """Process received data. Respond with 500 if an unexpected error occurs."""
        try:
            self._process(data)
        except Exception as error:  # noqa: BLE001  (the loop would close without a response)
            id_ = self.refuse(500, "internal server error; see the server log")
            if not id_:
                self.abort()
            log_failure(error, id_)  # in one line, since a client could cause many errors

    def _process(self, data: bytes) -> None:
        state = self._state
        if state is _IDLE:
            fast = self._fast_path
            if fast is None or len(data) > fast.longest_head or not fast.answer(self, data):
                self._read_head(data)
        elif state is _HEAD:
            self._read_head(data)
        elif state is _BODY:
            self._read_body(data)
        elif state is _ANSWER:
            self._buffer += data
            self._transport.pause_reading()
        elif state is _LINGER:
            self._dropped_bytes += len(data)
            if self._dropped_bytes > _LINGER_BYTES:
                self._transport.pause_reading()  # closing now would send a reset to a busy proxy

    def pause_writing(self) -> None:
        """Make `drain` wait, because the send buffer is full."""
        self._writable = asyncio.Event()

    def resume_writing(self) -> None:
        """Make `drain` return, because the client has read data."""
        self._progress_at = self._service.loop.time()
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    def shutdown(self) -> None:
        """Finish the current request, then close. uvicorn calls this when the server stops."""
        if self._exchange is not None:
            self._exchange.keep_alive = False
        elif self._state is not _LINGER:
            self.close()

    # Reading -----------------------------------------------------------------------------

    def _read_head(self, data: bytes) -> None:
        if self._state is _IDLE:
            data = data.lstrip(b"\r\n")
            if not data:
                return  # line ends between requests are ignored and do not extend the timeout
            self._state, self._since = _HEAD, self._service.loop.time()
            self._head = head.HeadParser(self._service.settings)
            whole = data
        else:
            whole = b""
        assert self._head is not None  # noqa: S101  (set in IDLE)
        try:
            rest = self._head.feed(data)
            if rest is None:
                return
            request = self._head.request()
        except head.BadRequest as error:
            self.refuse(error.status, error.message)
            return
        self._head = None
        if whole and not rest and self._fast_path is not None and request.length == 0:
            self._state = _IDLE
            if self._fast_path.learn(self, whole, request):
                return
        self._begin(request, rest)

    def _begin(self, request: head.Request, rest: bytes) -> None:
        self.served += 1
        self._since, self._window_bytes = self._service.loop.time(), 0
        self._state = _ANSWER if request.length == 0 else _BODY
        body = RequestBody(request.length, max_overhead=self._service.settings.max_head_bytes)
        if request.length != 0:
            body.set_reading = self._set_reading
            if request.expects_continue:
                body.on_first_read = partial(self.write, b"HTTP/1.1 100 Continue\r\n\r\n")
        self._body = body
        self._exchange = self._service.begin(self, request, body)
        if rest:
            self.data_received(rest)

    def _read_body(self, data: bytes) -> None:
        try:
            rest = self._body.feed(data)
        except head.BadRequest as error:
            self.refuse(error.status, error.message)
            return
        if rest is not None:
            self._state = _ANSWER
            if rest:
                self.data_received(rest)
        elif self._body.has_undecoded_chunks:
            self._service.run_in_turn(self._decode_more)

    def _decode_more(self) -> None:
        if self._state is _BODY:
            self._read_body(b"")

    def _set_reading(self, reads: bool) -> None:  # noqa: FBT001  (the method's name explains it)
        if self._state is _BODY and not self._transport.is_closing():
            (self._transport.resume_reading if reads else self._transport.pause_reading)()

    # Answering ---------------------------------------------------------------------------

    def run(self, handler: Coroutine[Any, Any, None]) -> None:
        """Start a task for a coroutine that handles a request. A slow shutdown cancels the task."""
        task = self._service.loop.create_task(handler)
        self._service.tasks.add(task)
        task.add_done_callback(self._service.tasks.discard)

    @property
    def has_unsent_bytes(self) -> bool:
        """True if earlier bytes are still buffered. Until they are sent, no file can be sent."""
        return self._transport.get_write_buffer_size() > 0

    @property
    def socket(self) -> socket.socket:
        """Socket for sending a file. Use it only while `has_unsent_bytes` is False."""
        return self._socket

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send data immediately if possible, and buffer the rest."""
        sent = 0
        if not self._transport.get_write_buffer_size():
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                pass
            except OSError:
                self.abort()
                return
            if sent == len(data):
                return
        self._transport.write(bytes(data[sent:]))

    async def drain(self) -> None:
        """Wait until the send buffer has space."""
        if self._writable is not None:
            await self._writable.wait()

    def note_response(self) -> None:
        """Count a response that the fast path has sent completely."""
        self.served += 1
        self._since = self._service.loop.time()

    def continue_with(self, exchange: Exchange) -> None:
        """Let `exchange` send the response to the current request."""
        self.served += 1
        self._state, self._exchange = _ANSWER, exchange

    def finish(self, exchange: Exchange) -> None:
        """Handle the next request after a complete response, or close the connection."""
        if exchange is not self._exchange or self._transport.is_closing():
            return  # the connection is closed or closing
        self._exchange = None
        if not exchange.keep_alive or self._state is _BODY:
            self.close()
            return
        self._state, self._since = _IDLE, self._service.loop.time()
        self._transport.resume_reading()
        if self._buffer:
            buffer, self._buffer = self._buffer, b""
            self.data_received(buffer)

    # Refusing and closing ----------------------------------------------------------------

    def refuse(self, status: int, message: str) -> str:
        """Send an error response, then close. Return its request id.

        If another response has begun, close when that response ends, and return an empty string.
        """
        if self._exchange is not None:
            self._body.abort()
            if self._exchange.has_begun:
                self._exchange.keep_alive = False
                self._state = _ANSWER
                return ""
            self._exchange.disconnect()
            self._exchange = None
        metrics.count("connection", status)
        id_ = request_id.generate()
        problem = head.refusal(status, message, id_)
        lines = head.header_lines(problem.headers)
        self.write(head.make_head(status, lines, id_, keep_alive=False) + problem.body)
        # Method and target are unknown: the request may be incomplete, or not HTTP at all.
        log_access(
            self.client, "-", "-", status,
            operation="connection", request_id=id_, began=time.perf_counter(),
            sent=len(problem.body),
        )  # fmt: skip
        self._linger()
        return id_

    def close(self) -> None:
        """Send buffered data, then close. Data that the client still sends is read and ignored."""
        if self._buffer or self._state is _HEAD or not self._body.is_complete:
            self._linger()
        elif self._state is not _CLOSED:
            self._transport.close()

    def drop(self) -> None:
        """Close after sending buffered data, even if the client is still sending."""
        self._transport.close()

    def abort(self) -> None:
        """Close immediately, without sending buffered data."""
        self._transport.abort()
        # Do not wait for `connection_lost`, since sending from the page cache never yields.
        if self._exchange is not None:
            self._exchange.disconnect()

    def _linger(self) -> None:
        # After an immediate close, incoming data would cause a reset, and the client could lose the
        # response. So send FIN, and drop incoming data for a limited time (lingering close).
        if self._state in (_LINGER, _CLOSED) or self._transport.is_closing():
            return
        self._state, self._since = _LINGER, self._service.loop.time()
        self._buffer, self._head = b"", None
        self._transport.write_eof()
        self._transport.resume_reading()

    # Timeouts ----------------------------------------------------------------------------

    def check_timeouts(self, now: float) -> None:
        """Close the connection or respond with 408 after a timeout. `now` is the loop's time."""
        settings, waited_s = self._service.settings, now - self._since
        if self._has_stopped_reading(now):
            self.abort()
        elif self._state is _LINGER:
            unacknowledged = any(fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)))
            has_bytes = self.has_unsent_bytes or unacknowledged
            if waited_s > (settings.write_timeout_seconds if has_bytes else _LINGER_S):
                self._transport.close()
        elif self._state is _IDLE:
            # The first byte of a connection must arrive within the timeout of a head.
            first_s = settings.head_timeout_seconds
            if waited_s > (settings.idle_timeout_seconds if self.served else first_s):
                self._transport.close()
        elif self._state is _HEAD:
            if waited_s > settings.head_timeout_seconds:
                self.refuse(408, "the head of the request did not arrive in time")
        elif self._state is _BODY and self._body.is_awaited and waited_s > BODY_WINDOW_S:
            received = self._body.received - self._window_bytes
            if received < settings.min_body_bytes_per_second * waited_s:
                self.refuse(408, "the body came too slowly")
            self._since, self._window_bytes = now, self._body.received

    def _has_stopped_reading(self, now: float) -> bool:
        unsent = self._transport.get_write_buffer_size()
        if self._exchange is not None:
            unsent += self._exchange.unsent_bytes
        if unsent == 0 or unsent != self._unsent:
            self._unsent, self._progress_at = unsent, now
        return now - self._progress_at > self._service.settings.write_timeout_seconds


_NO_BODY: Final = RequestBody(0)
