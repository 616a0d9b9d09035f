"""One HTTP/1.1 connection: a state machine from bytes to requests, and from answers to bytes.

    IDLE ──first byte──▶ HEAD ──complete──▶ BODY ──complete──▶ ANSWER ──answered──▶ IDLE
                          │                  │                   │
                          └────refused───────┴──answered early,  └──last answer──▶ CLOSED
                                 │              or refused                            ▲
                                 └──────────────────┴──▶ LINGER ──FIN seen, or time──┘

A request without a body goes from HEAD to ANSWER. One request is answered at a time; what a client
sends ahead (pipelining) waits as bytes, unparsed, and is not read beyond what one read brings.
Who answers is an `Exchange`: the ASGI application (`asgi`), or the fast path (`server/fast_path`).
"""

import asyncio
import fcntl
import logging
import socket
import termios
import time
from collections.abc import Coroutine
from enum import Enum
from typing import Any, Final

from stillroom.server.http11.body import RequestBody
from stillroom.server.http11.bounds import BODY_WINDOW_S, LINGER_BYTES, LINGER_S
from stillroom.server.http11.exchange import Address, Exchange
from stillroom.server.http11.head import BadRequest, HeadParser, Request
from stillroom.server.http11.refusals import refusal
from stillroom.server.http11.service import Service, address_of, log_failure
from stillroom.telemetry import metrics
from stillroom.telemetry.logging import access_log, log_access

log = logging.getLogger("stillroom.server")


class State(Enum):
    """What a connection waits for; see the picture above."""

    IDLE = "the first byte of a head"
    HEAD = "the rest of a head"
    BODY = "the rest of a body; its request is being answered"
    ANSWER = "the end of an answer to a request that has come whole"
    LINGER = "the client's FIN, behind the last answer"
    CLOSED = "nothing"


_IDLE, _HEAD, _BODY, _ANSWER = State.IDLE, State.HEAD, State.BODY, State.ANSWER
_LINGER, _CLOSED = State.LINGER, State.CLOSED


class Connection(asyncio.Protocol):
    """One connection.

    Attributes:
        client: The other end's address and port.
        server: Our end's.
        served: Requests whose heads were complete.
    """

    _transport: asyncio.Transport
    _socket: socket.socket

    def __init__(self, service: Service) -> None:
        self.client: Address | None = None
        self.server: Address | None = None
        self.served = 0
        self._service = service
        self._fast_path = service.fast_path
        self._state = _IDLE
        self._since = service.loop.time()  # the state was entered, or its time began anew
        self._head: HeadParser | None = None
        self._body = _NO_BODY
        self._window_bytes = 0  # of the body, that had come when `_since` was set
        self._exchange: Exchange | None = None
        self._held = b""  # what came behind the request that is answered
        self._dropped_bytes = 0
        self._writable: asyncio.Event | None = None  # while the transport's buffer is full
        self._unsent = 0
        self._taken_since = self._since

    # From the transport ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # of a stream socket
        """Set up a connection, unless there are too many."""
        self._transport = transport
        # The transport's own, for as long as it lives: answers go past its buffer.
        self._socket = socket.socket(fileno=transport.get_extra_info("socket").fileno())
        self._socket.setblocking(False)  # as it is; else `dup` would make it block
        self.client = address_of(transport.get_extra_info("peername"))
        self.server = address_of(transport.get_extra_info("sockname"))
        service = self._service
        service.connections.add(self)
        service.timer.start()
        if len(service.connections) > 2 * service.bounds.connections:
            self._state = _CLOSED
            transport.abort()
        elif len(service.connections) > service.bounds.connections:
            self.refuse(503, "too many connections: try again later")

    def connection_lost(self, exc: Exception | None) -> None:
        """End what is under way."""
        del exc
        self._state = _CLOSED
        self._service.connections.discard(self)
        self._socket.detach()
        self._held = b""
        self._body.abort()
        if self._exchange is not None:
            self._exchange.disconnect()
            self._exchange = None
        self.resume_writing()

    def eof_received(self) -> bool:
        """Half-close: a client that has sent all it wants may still read: answer, then close."""
        if self._state is _ANSWER and self._exchange is not None:
            self._exchange.keep_alive = False
            return True
        return False

    def data_received(self, data: bytes) -> None:
        """Take bytes, as the state has it; an error of ours is answered 500."""
        try:
            self._take(data)
        except Exception as error:  # noqa: BLE001  (the loop would close without an answer)
            self._fail(error)

    def _take(self, data: bytes) -> None:
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
            self._held += data
            self._transport.pause_reading()
        elif state is _LINGER:
            self._dropped_bytes += len(data)
            if self._dropped_bytes > LINGER_BYTES:
                self._transport.pause_reading()  # closing now would reset a proxy that is sending

    def pause_writing(self) -> None:
        """The transport's buffer is full: `drained` waits from now on."""
        self._writable = asyncio.Event()

    def resume_writing(self) -> None:
        """The client has taken something."""
        self._taken_since = self._service.loop.time()
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    def shutdown(self) -> None:
        """Graceful shutdown, called by uvicorn: finish what runs, take on nothing new."""
        if self._exchange is not None:
            self._exchange.keep_alive = False
        elif self._state is not _LINGER:
            self.close()

    # Reading -----------------------------------------------------------------------------

    def _read_head(self, data: bytes) -> None:
        if self._state is _IDLE:
            data = data.lstrip(b"\r\n")
            if not data:
                return  # line ends between requests are passed over, and are no sign of life
            self._state, self._since = _HEAD, self._service.loop.time()
            self._head = HeadParser(self._service.bounds)
            whole = data
        else:
            whole = b""
        assert self._head is not None  # noqa: S101  (since the first byte)
        try:
            rest = self._head.feed(data)
            if rest is None:
                return
            request = self._head.request()
        except BadRequest as error:
            self.refuse(error.status, error.message)
            return
        self._head = None
        if whole and not rest and self._fast_path is not None and request.length == 0:
            self._state = _IDLE
            if self._fast_path.learn(self, whole, request):
                return
        self._begin(request, rest)

    def _begin(self, request: Request, rest: bytes) -> None:
        self.served += 1
        self._since, self._window_bytes = self._service.loop.time(), 0
        self._state = _ANSWER if request.length == 0 else _BODY
        body = RequestBody(request.length, max_overhead=self._service.bounds.head_bytes)
        if request.length != 0:
            body.set_reading = self._set_reading
            if request.expects_continue:
                body.on_first_read = self._send_100_continue
        self._body = body
        self._exchange = self._service.responder.begin(self, request, body)
        if rest:
            self.data_received(rest)

    def _read_body(self, data: bytes) -> None:
        try:
            rest = self._body.feed(data)
        except BadRequest as error:
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

    def _set_reading(self, reads: bool) -> None:  # noqa: FBT001  (the name says it)
        if self._state is _BODY and not self._transport.is_closing():
            (self._transport.resume_reading if reads else self._transport.pause_reading)()

    def _send_100_continue(self) -> None:
        self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # Answering ---------------------------------------------------------------------------

    def run(self, answering: Coroutine[Any, Any, None]) -> None:
        """Run the task of an exchange; it is cancelled when a shutdown's drain time is over."""
        task = self._service.loop.create_task(answering)
        self._service.tasks.add(task)
        task.add_done_callback(self._service.tasks.discard)

    @property
    def has_unsent_bytes(self) -> bool:
        """Whether the kernel has not taken all of the last answer: no file can follow it."""
        return self._transport.get_write_buffer_size() > 0

    @property
    def socket(self) -> socket.socket:
        """For sending a file; only while there are no unsent bytes."""
        return self._socket

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send, at once if possible; the transport would wait for the end of the loop's turn."""
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

    async def drained(self) -> None:
        """Wait until the client has taken enough that more can be written."""
        if self._writable is not None:
            await self._writable.wait()

    def answered(self) -> None:
        """Note an answer that was sent whole, without an exchange (fast path)."""
        self.served += 1
        self._since = self._service.loop.time()

    def answer_with(self, exchange: Exchange) -> None:
        """Go on with an answer that takes longer (fast path)."""
        self.served += 1
        self._state, self._exchange = _ANSWER, exchange

    def finish(self, exchange: Exchange) -> None:
        """The answer is sent whole: go on with the next request, or close."""
        if exchange is not self._exchange or self._transport.is_closing():
            return  # disconnected, or about to be
        self._exchange = None
        if not exchange.keep_alive or self._state is _BODY:
            self.close()
            return
        self._state, self._since = _IDLE, self._service.loop.time()
        self._transport.resume_reading()
        if self._held:
            held, self._held = self._held, b""
            self.data_received(held)

    # Refusing and closing ----------------------------------------------------------------

    def refuse(self, status: int, message: str) -> str:
        """Answer without the application, and close.

        Returns:
            The id in the response; empty if another one had begun.
        """
        if self._exchange is not None:
            self._body.abort()
            if self._exchange.has_begun:
                self._exchange.keep_alive = False  # nothing may come between
                self._state = _ANSWER
                return ""
            self._exchange.disconnect()
            self._exchange = None
        metrics.count("connection", status)
        response = refusal(status, message)
        self.write(response.head + response.body)
        if access_log.isEnabledFor(logging.INFO):
            # What it asked for may be anything: half a head, or no HTTP at all.
            log_access(
                self.client, "-", "-", status,
                operation="connection", request_id=response.request_id, began=time.perf_counter(),
                sent=len(response.body),
            )  # fmt: skip
        self._linger()
        return response.request_id

    def _fail(self, error: Exception) -> None:
        """Respond 500 and log one line: a client that finds such a request can repeat it."""
        request_id = self.refuse(500, "internal server error; see the server log")
        if not request_id:
            self.abort()
        log_failure(error, request_id)

    def close(self) -> None:
        """Close behind what was sent; linger if the client may be sending."""
        if self._held or self._state is _HEAD or not self._body.is_complete:
            self._linger()
        elif self._state is not _CLOSED:
            self._transport.close()

    def drop(self) -> None:
        """Close without lingering, behind what was written."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once; what is not sent is dropped."""
        self._transport.abort()
        # Now, and not with the loop's next turn: an answer from the page cache never waits for one.
        if self._exchange is not None:
            self._exchange.disconnect()

    def _linger(self) -> None:
        """Lingering close: send FIN, drop what still arrives for a while, then close.

        Closing at once would answer data in flight with a reset, and a reset makes the
        client's system throw away the answer that it has not read yet.
        """
        if self._state in (_LINGER, _CLOSED) or self._transport.is_closing():
            return
        self._state, self._since = _LINGER, self._service.loop.time()
        self._held, self._head = b"", None
        self._transport.write_eof()
        self._transport.resume_reading()

    # Time-outs ---------------------------------------------------------------------------

    def check_timeouts(self, now: float) -> None:
        """Once a second: end what is too slow, in sending or in reading, or idle for too long."""
        bounds, waited_s = self._service.bounds, now - self._since
        if self._has_stopped_reading(now):
            self.abort()
        elif self._state is _LINGER:
            unacknowledged = self._has_unacknowledged_bytes
            if waited_s > (bounds.write_timeout_s if unacknowledged else LINGER_S):
                self._transport.close()
        elif self._state is _IDLE:
            # Before its first byte a connection has the time of a head.
            if waited_s > (bounds.idle_timeout_s if self.served else bounds.head_timeout_s):
                self._transport.close()
        elif self._state is _HEAD:
            if waited_s > bounds.head_timeout_s:
                self.refuse(408, "the head of the request did not arrive in time")
        elif self._state is _BODY and self._body.is_awaited and waited_s > BODY_WINDOW_S:
            if self._body.received - self._window_bytes < bounds.body_bytes_per_s * waited_s:
                self.refuse(408, "the body came too slowly")
            self._since, self._window_bytes = now, self._body.received

    def _has_stopped_reading(self, now: float) -> bool:
        unsent = self._transport.get_write_buffer_size()
        if self._exchange is not None:
            unsent += self._exchange.unsent_bytes
        if unsent == 0 or unsent != self._unsent:
            self._unsent, self._taken_since = unsent, now
        return now - self._taken_since > self._service.bounds.write_timeout_s

    @property
    def _has_unacknowledged_bytes(self) -> bool:
        """Whether bytes of the last answer are not acknowledged (TIOCOUTQ); a reset drops them."""
        return self.has_unsent_bytes or any(fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)))


_NO_BODY: Final = RequestBody(0)
