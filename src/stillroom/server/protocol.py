"""uvicorn's HTTP/1.1 protocol, with bounds, strict framing and polite refusals.

uvicorn keeps half-sent heads for ever, takes heads of any size, swallows whatever
follows a refusal, and closes so abruptly that the client may never see the answer.
It has no settings for these, so this leans on its internals:
`HttpToolsProtocol.on_headers_complete`, `RequestResponseCycle.send`, and the names of
their attributes. The pin in requirements/ and tests/acceptance/test_edge.py guard that.
"""

import asyncio
import fcntl
import http
import logging
import re
import termios
import time
from typing import Any, Final, cast
from urllib.parse import unquote

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from stillroom.http.problems import RETRY_AFTER_S, plain_problem
from stillroom.server.answering import ClosingPolitely, Cycle, Flow, date_at
from stillroom.server.bounds import BODY_WINDOW_S, LINGER_BYTES, LINGER_S, Bounds
from stillroom.server.watch import Watch
from stillroom.telemetry import metrics, request_id
from stillroom.telemetry.logging import access_log, log_access

_TARGET: Final = re.compile(rb"(?:http://[^/?#]*)?/[\x21\x22\x24-\x7e]*", re.IGNORECASE)
"""Origin form or absolute form, ASCII, without a fragment."""

_CODES: Final = {
    400: "bad_request",
    408: "request_timeout",
    414: "uri_too_long",
    431: "request_header_fields_too_large",
    503: "service_unavailable",
}
"""Of refusals that reach no operation; https://www.iana.org/assignments/http-status-codes."""

_PIECE_BYTES: Final = 1024
"""Most heads are smaller, so they are parsed in one go."""

_MAX_WAITING: Final = 16
_MAX_WAITING_BYTES: Final = 64 * 1024
"""Requests that wait behind the one that is answered, and bytes of the last one's body. The last
piece may bring some more."""


class StillroomProtocol(HttpToolsProtocol):
    """One connection."""

    flow: "Flow"

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
        self._answering: Cycle | None = None
        self._has_asked = False
        self._refused = False
        self._taken = False
        self._lingering = False
        self._draining = False
        self._dropped = 0
        self._unsent = 0
        self._sent_since = self._since
        self._missing = 0  # of a body whose length was declared
        self._waiting = bytearray()  # requests that are not parsed yet

    # From the transport ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Begin, unless there are too many."""
        super().connection_made(transport)
        self.flow = Flow(transport)
        _watch_of(self).start()
        if len(self.connections) > 2 * self._bounds.connections:
            self._refused = True
            transport.abort()
        elif len(self.connections) > self._bounds.connections:
            self._refuse(503, "too many connections: try again later")

    def connection_lost(self, exc: Exception | None) -> None:
        """End every request of this connection, not only the newest."""
        for cycle in (self._answering, *(waiting for waiting, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        super().connection_lost(exc)

    def eof_received(self) -> bool | None:  # type: ignore[override]  # asyncio's own type
        """A client that has sent all it wants may still be reading: answer it, then close."""
        if self._is_answering and not self.cycle.more_body and not self.pipeline:
            self.cycle.keep_alive = False
            return True
        return None

    def data_received(self, data: bytes) -> None:
        """Feed the parser, unless this connection has had its last answer."""
        if self._waiting or self._is_crowded:
            self._waiting += data
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
            if self._is_crowded:
                self._waiting += data[at:] if at else data
                self.flow.hold()
                return
            size = _PIECE_BYTES if self._in_head else max(_PIECE_BYTES, self._missing)
            piece = data[at : at + size]
            at += len(piece)
            self._feed(piece)

    @property
    def _is_crowded(self) -> bool:
        """Whether enough waits behind the answer that is under way."""
        return bool(self.pipeline) and (
            len(self.pipeline) >= _MAX_WAITING or len(self.cycle.body) > _MAX_WAITING_BYTES
        )

    def _feed(self, data: bytes) -> None:
        if self._lingering:
            self._dropped += len(data)
            if self._dropped > LINGER_BYTES:
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
        """The client has taken something."""
        self._sent_since = self.loop.time()
        super().resume_writing()

    def shutdown(self) -> None:
        """The server stops: finish what runs, take on nothing new."""
        self._draining = True
        super().shutdown()

    # From the parser ---------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins; line ends between requests do not."""
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
        """Check the head, then start the application on it."""
        self._in_head, self._has_asked = False, True
        self._since, self._body_bytes, self._trailer_bytes = self.loop.time(), 0, 0
        self._missing = 0
        if self._refused:
            return
        if refusal := self._fault_of_head():
            self._refuse(*refusal)
            return
        self._missing = sum(int(value) for name, value in self.headers if name == b"content-length")
        if not self._is_answering and self._take():
            self._taken = True
            return
        self._fill_scope()
        is_pipelined = self._is_answering
        version = self.parser.get_http_version()
        keep_alive = (
            version != "1.0"
            and self.parser.should_keep_alive()
            and not self.parser.should_upgrade()  # nothing sensible can follow
        )
        closing = ClosingPolitely(self)
        cycle = Cycle(
            scope=self.scope,
            transport=cast("asyncio.Transport", closing),
            flow=self.flow,
            logger=self.logger,
            access_logger=access_log,
            access_log=False,  # uvicorn would log the query, and a query may hold a signature
            default_headers=[(b"date", date_at(int(time.time())))],
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue and version != "1.0",
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )
        self.cycle = closing.cycle = cycle
        if is_pipelined:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))
        else:
            self._start_asgi_task(cycle, self.app)

    def on_message_complete(self) -> None:
        """The next byte begins another head."""
        self._in_head, self._message_begun, self._message_ended = True, False, True
        self._head_bytes = 0
        if self._taken:
            self._taken = False
            self._take_end()
        elif not self._refused:
            super().on_message_complete()

    def on_body(self, body: bytes) -> None:
        """Hand on a piece of the body."""
        self._body_bytes += len(body)
        self._missing -= len(body)
        self._trailer_bytes = 0
        if self._taken:
            self._take_body(body)
        elif not self._refused:
            super().on_body(body)

    def _make_last(self) -> None:
        """Close behind the answer that is under way."""
        self.cycle.keep_alive = False

    # For a protocol that answers some requests itself ---------------------------------------

    def _take(self) -> bool:
        """Whether the request whose head is complete needs no application."""
        return False

    def _take_body(self, body: bytes) -> None:
        """A piece of the body of a taken request."""

    def _take_end(self) -> None:
        """The end of a taken request."""

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        del msg
        self._refuse(400, "malformed HTTP request")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cast("Cycle", cycle)
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Go on with the next request, unless the last answer said that none will be."""
        if self._lingering or (self._answering is not None and not self._answering.keep_alive):
            self.pipeline.clear()
            self._waiting.clear()
        self._since = self.loop.time()
        super().on_response_complete()
        if self._waiting and not self._is_crowded and not self.transport.is_closing():
            waiting, self._waiting = bytes(self._waiting), bytearray()
            self.flow.release()
            self._feed_in_pieces(waiting)

    @property
    def has_more_coming(self) -> bool:
        """Whether more has come than is answered, so that still more may be on its way."""
        return bool(self.pipeline) or self._refused

    @property
    def _is_answering(self) -> bool:
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None before the first request
        return cycle is not None and not cycle.response_complete

    # Refusing ----------------------------------------------------------------------------

    def _fault_of_head(self) -> tuple[int, str] | None:
        """What is wrong with a complete head, if anything."""
        if self._draining:
            return 503, "the server is stopping: try again"
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            return 400, "another version of HTTP: send 1.1 or 1.0"
        names = [name for name, _ in self.headers]
        size = sum(len(name) + len(value) + 4 for name, value in self.headers)
        if len(names) > self._bounds.header_fields or size > self._bounds.head_bytes:
            return 431, "the head of the request is too large, or has too many fields"
        hosts = names.count(b"host")
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() != "1.0"):
            return 400, "exactly one Host field is required"
        if not _TARGET.fullmatch(self.url):
            return 400, "the request target is not an ASCII path"
        return self._fault_of_framing(names)

    def _fault_of_framing(self, names: list[bytes]) -> tuple[int, str] | None:
        lengths = names.count(b"content-length")
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        if lengths > 1 or (lengths and codings):
            return 400, "the length of the body is declared twice"
        if codings and (codings != [b"chunked"] or self.parser.get_http_version() == "1.0"):
            return 400, "the only transfer coding is chunked, and only in HTTP/1.1"
        if self.parser.should_upgrade() and (lengths or codings):
            # The parser takes no body behind an Upgrade, and would read it as a request.
            return 400, "a body cannot follow an offer to upgrade: leave out the Upgrade field"
        return None

    def _fill_scope(self) -> None:
        target = httptools.parse_url(self.url)
        raw_path = target.path or b"/"
        self.scope["method"] = self.parser.get_method().decode("ascii")
        self.scope["http_version"] = self.parser.get_http_version()
        self.scope["raw_path"] = raw_path
        self.scope["path"] = unquote(raw_path.decode("ascii"))
        self.scope["query_string"] = target.query or b""

    def _count_trailer(self, size: int) -> None:
        self._trailer_bytes += size
        if self._trailer_bytes > self._bounds.head_bytes:
            self._refuse(431, "too much behind the body")

    def _refuse(self, status: int, message: str) -> None:
        """Answer without the application, and end the connection."""
        if self._refused:
            return
        self._refused = True
        if self._is_answering and not self._end_broken_request():
            self._make_last()  # an answer is under way; nothing may come between
            return
        metrics.count("connection", status)
        named = request_id.made()
        found = plain_problem(status, message, _CODES[status], named)
        head = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}", "connection: close"]
        head += [f"{name}: {value}" for name, value in found.headers]
        head.append(f"{request_id.FIELD}: {named}")
        if status == 503:
            head.append(f"retry-after: {RETRY_AFTER_S}")
        head.append(f"date: {date_at(int(time.time())).decode()}")
        self.transport.write("\r\n".join(head).encode() + b"\r\n\r\n" + found.body)
        if access_log.isEnabledFor(logging.INFO):
            # What it asked for may be anything: half a head, or no HTTP at all.
            log_access(
                self.client, "-", "-", status,
                operation="connection", request_id=named, began=time.perf_counter(),
                sent=len(found.body),
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
        """Say that nothing more comes, drop what still arrives for a while, then close.

        Closing at once would answer data in flight with a reset, and a reset makes the
        client's system throw away the answer that it has not read yet.
        """
        if self._lingering or self.transport.is_closing():
            return
        self._lingering = True
        self._since = self.loop.time()
        self._unset_keepalive_if_required()
        self._waiting.clear()
        self.transport.write_eof()
        self.flow.release()

    # Time --------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Once a second: give up what takes too long."""
        if self._has_stalled(now):
            self.transport.abort()
        elif self._lingering:
            if now - self._since > (self._bounds.write_timeout_s if self._is_untaken else LINGER_S):
                self.transport.close()
        elif self._in_head and self.flow.read_paused:
            self._since = now  # it is we who do not read on
        elif self._in_head:
            self._end_head_after(now - self._since)
        elif self._is_awaiting_body and now - self._since > BODY_WINDOW_S:
            if self._body_bytes < self._bounds.body_bytes_per_s * (now - self._since):
                self._refuse(408, "the body came too slowly")
            self._since, self._body_bytes = now, 0

    @property
    def _is_awaiting_body(self) -> bool:
        """Whether it is the client who keeps us waiting, not the disk or our own 100 Continue."""
        return (
            self._is_answering  # else there may have been no request at all
            and self.cycle.more_body
            and not self._refused
            and not self.flow.read_paused
            and not self.cycle.waiting_for_100_continue
        )

    def _has_stalled(self, now: float) -> bool:
        unsent = self._unsent_bytes
        if unsent == 0 or unsent != self._unsent:
            self._unsent, self._sent_since = unsent, now
        return now - self._sent_since > self._bounds.write_timeout_s

    @property
    def _unsent_bytes(self) -> int:
        """Of an answer that the client is taking."""
        return self.transport.get_write_buffer_size()

    @property
    def _is_untaken(self) -> bool:
        """Whether bytes of the last answer are still on their way; a reset would drop them."""
        connection = self.transport.get_extra_info("socket")
        return self._unsent_bytes > 0 or any(fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))

    def _end_head_after(self, waited_s: float) -> None:
        if self._head_bytes:
            if waited_s > self._bounds.head_timeout_s:
                self._refuse(408, "the head of the request did not arrive in time")
        elif not self._has_asked:
            if waited_s > self._bounds.head_timeout_s:
                self.transport.close()  # it has never said anything
        elif waited_s > self._bounds.idle_timeout_s and not self._is_answering:
            self.transport.close()


def _watch_of(protocol: StillroomProtocol) -> Watch:
    """The one clock of a server, kept beside its connections."""
    state = protocol.server_state
    watch: Watch | None = getattr(state, "watch", None)
    if watch is None:
        connections = cast("set[StillroomProtocol]", state.connections)
        watch = Watch(protocol.loop, connections)
        state.watch = watch  # type: ignore[attr-defined]  # ours; uvicorn has no such hook
    return watch
