"""uvicorn's HTTP/1.1 protocol, with bounds, strict framing and polite refusals.

uvicorn keeps half-sent heads for ever, takes heads of any size, swallows whatever
follows a refusal, and closes so abruptly that the client may never see the answer.
It has no settings for these, so this leans on its internals:
`HttpToolsProtocol.on_headers_complete`, `RequestResponseCycle.send`, and the names of
their attributes. The pin in requirements/ and tests/acceptance/test_edge.py guard that.
"""

import asyncio
import functools
import http
import logging
import re
import time
from email.utils import formatdate
from typing import Any, Final, cast
from urllib.parse import unquote

import httptools
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from stillroom.http.problems import plain_problem

MAX_HEAD_BYTES: Final = 32 * 1024
MAX_HEADERS: Final = 100
MAX_TARGET_BYTES: Final = 8 * 1024
"""The longest key, each byte escaped, is 3 KiB."""

HEAD_TIMEOUT_S: Final = 10.0
"""For a connection's first byte, and for a head once it has begun."""

LINGER_BYTES: Final = 1024**2
LINGER_S: Final = 2.0
"""How much and how long a refused body is still dropped, so that the client sees the answer."""

_TARGET: Final = re.compile(rb"(?:http://[^/?#]*)?/[\x21\x22\x24-\x7e]*", re.IGNORECASE)
"""Origin form or absolute form, ASCII, without a fragment."""

access_log = logging.getLogger("stillroom.access")


class StillroomProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  (uvicorn's signature)
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._refused = False
        self._lingering = False
        self._linger_timer: asyncio.TimerHandle | None = None
        self._dropped = 0

    # From the transport ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Begin; a client that says nothing is not waited for."""
        super().connection_made(transport)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._stop_head_timer()
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        super().connection_lost(exc)

    def eof_received(self) -> bool | None:  # type: ignore[override]  # asyncio's own type
        """A client that has sent all it wants may still be reading: answer it, then close."""
        if self._is_answering and not self.cycle.more_body and not self.pipeline:
            self.cycle.keep_alive = False
            return True
        return None

    def data_received(self, data: bytes) -> None:
        """Feed the parser, unless this connection has had its last answer."""
        if self._lingering:
            self._dropped += len(data)
            if self._dropped > LINGER_BYTES:
                self.transport.close()
            return
        if self._refused:
            return
        if self._in_head and self._head_timer is None:
            self._start_head_timer()
        was_in_head, self._message_ended = self._in_head, False
        super().data_received(data)
        if self._in_head and was_in_head and not self._message_ended:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(431, "the head of the request is too large")

    # From the parser ---------------------------------------------------------------------

    def on_url(self, url: bytes) -> None:
        """Collect the target."""
        super().on_url(url)
        if len(self.url) > MAX_TARGET_BYTES:
            self._refuse(414, "the target is too long")

    def on_headers_complete(self) -> None:
        """Check the head, then start the application on it."""
        self._in_head = False
        self._stop_head_timer()
        if self._refused:
            return
        if refusal := self._fault_of_head():
            self._refuse(*refusal)
            return
        self._fill_scope()
        is_pipelined = self._is_answering
        keep_alive = (
            self.parser.get_http_version() != "1.0"
            and self.parser.should_keep_alive()
            and not self.parser.should_upgrade()  # nothing sensible can follow
        )
        cycle = _Cycle(
            scope=self.scope,
            transport=cast("asyncio.Transport", _ClosingPolitely(self)),
            flow=self.flow,
            logger=self.logger,
            access_logger=access_log,
            access_log=False,  # uvicorn would log the query, and a query may hold a signature
            default_headers=[(b"date", _date_now(int(time.time())))],
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )
        self.cycle = cycle
        if is_pipelined:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))
        else:
            self._start_asgi_task(cycle, self.app)

    def on_message_complete(self) -> None:
        """The next byte begins another head."""
        self._in_head = True
        self._message_ended = True
        self._head_bytes = 0
        if not self._refused:
            super().on_message_complete()

    def on_body(self, body: bytes) -> None:
        """Hand on a piece of the body."""
        if not self._refused:
            super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        del msg
        self._refuse(400, "malformed HTTP request")

    @property
    def _is_answering(self) -> bool:
        cycle = cast("RequestResponseCycle | None", self.cycle)  # None before the first request
        return cycle is not None and not cycle.response_complete

    # Refusing ----------------------------------------------------------------------------

    def _fault_of_head(self) -> tuple[int, str] | None:
        """What is wrong with a complete head, if anything."""
        names = [name for name, _ in self.headers]
        size = sum(len(name) + len(value) + 4 for name, value in self.headers)
        if len(names) > MAX_HEADERS or size > MAX_HEAD_BYTES:
            return 431, f"more than {MAX_HEADERS} header fields, or {MAX_HEAD_BYTES} bytes of them"
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
        if codings not in ([], [b"chunked"]):
            return 400, "the only transfer coding is chunked"
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

    def _refuse(self, status: int, message: str) -> None:
        """Answer without the application, and end the connection."""
        if self._refused:
            return
        self._refused = True
        if self._is_answering and not self._end_broken_request():
            self.cycle.keep_alive = False  # an answer is under way; nothing may come between
            return
        found = plain_problem(status, message, http.HTTPStatus(status).phrase.lower())
        head = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}", "connection: close"]
        head += [f"{name}: {value}" for name, value in found.headers]
        head.append(f"date: {_date_now(int(time.time())).decode()}")
        self.transport.write("\r\n".join(head).encode() + b"\r\n\r\n" + found.body)
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
        self._stop_head_timer()
        self._unset_keepalive_if_required()
        self.transport.write_eof()
        self.flow.resume_reading()
        self._linger_timer = self.loop.call_later(LINGER_S, self.transport.close)

    # Time --------------------------------------------------------------------------------

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._head_took_too_long)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_took_too_long(self) -> None:
        self._head_timer = None
        if self._head_bytes:
            self._refuse(408, "the head of the request did not arrive in time")
        else:
            self.transport.close()


class _Cycle(RequestResponseCycle):
    """One request and its answer."""

    async def send(self, message: ASGISendEvent) -> None:
        """Send a part of the answer.

        Raises:
            ConnectionResetError: more of a body goes to a client that is gone.
        """
        if message["type"] == "http.response.start":
            if self.more_body:
                self.keep_alive = False  # what was not read can only be dropped
            if access_log.isEnabledFor(logging.INFO):
                self._log(message["status"])
        elif self.disconnected and message.get("more_body"):
            raise ConnectionResetError("the client went away")
        await super().send(message)

    def _log(self, status: int) -> None:
        host = (self.scope["client"] or ("-",))[0]
        path = self.scope["raw_path"].decode("ascii")
        access_log.info("%s %s %s %d", host, self.scope["method"], path, status)


class _ClosingPolitely:
    """The transport as an answer sees it: closing it lingers if a body is still coming."""

    def __init__(self, protocol: StillroomProtocol) -> None:
        self._protocol = protocol
        self.write = protocol.transport.write
        self.is_closing = protocol.transport.is_closing

    def close(self) -> None:
        if self._protocol.cycle.more_body:
            self._protocol.linger()
        else:
            self._protocol.transport.close()


@functools.lru_cache(maxsize=4)
def _date_now(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode("ascii")
