"""HTTP/1.1 connections to one server, with one request at a time on each connection.

Redirects, proxies and compression are not supported. See docs/adr/0013.
"""

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Final, cast

import aiohappyeyeballs
import httptools

CONNECT_S: Final = 3.0  # DNS lookup, connection and TLS handshake together
_IDLE_S: Final = 30.0
_HAPPY_EYEBALLS_S: Final = 0.25  # recommended delay (RFC 8305, 8)
_LOOPBACK_NAMES: Final = ".localhost"  # this machine (RFC 6761, 6.3); few resolvers support them
_MAX_HEAD_BYTES: Final = 16 * 1024
_MAX_WAITING_BYTES: Final = 1024**2  # unread; then reading is paused
_PIECE_BYTES: Final = 256 * 1024
_CLOSING_S: Final = 1.0

Body = bytes | memoryview
Addresses = Sequence[aiohappyeyeballs.AddrInfoType]
LookUp = Callable[[str, int], Awaitable[Addresses]]


class NotConnectedError(OSError):
    """Error that occurred before any byte of the request was sent."""


class BrokenAnswerError(OSError):
    """Error for an invalid or incomplete HTTP/1.1 response."""


class Response:
    """A response whose headers were read. The caller must read it completely or close it.

    The names in `headers` are lower-case. The last value of a repeated header is kept.
    """

    def __init__(self, connection: "_Connection", pool: "Connections") -> None:
        self.status = connection.status
        self.headers: Mapping[str, str] = connection.headers
        self._connection: _Connection | None = connection
        self._pool = pool

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body. Raises `OSError` if the connection was interrupted."""
        while self._connection is not None:
            piece = await self._connection.piece()
            if not piece:
                self.close()
                return
            yield piece

    def close(self) -> None:
        """Return the connection to the pool if the body was read completely, else close it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.release(connection)


async def look_up(host: str, port: int) -> Addresses:
    """Look up the addresses of a host in the thread pool of the event loop."""
    return await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
    )


class Connections:
    """A connection pool for one event loop. Callers must limit the number of connections."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: bool,
        stalled_s: float,
        connect_s: float | None = None,
        idle_s: float = _IDLE_S,
        look_up: LookUp = look_up,
        needs_length: bool = True,
    ) -> None:
        """Prepare a pool for `host` (without brackets). With `tls`, certificates are verified.

        The kernel closes a connection whose peer acknowledges nothing for `stalled_s` seconds. A
        new connection may take `connect_s` seconds (default: `CONNECT_S`), and an unused connection
        is kept for `idle_s` seconds. With `needs_length`, a response must be chunked or declare
        its length. Without it, a response may also end when the server closes the connection.
        """
        self._host = host
        self._port = port
        self._tls = tls
        self._context: ssl.SSLContext | None = None
        self._opening = asyncio.Lock()
        self._connect_s, self._idle_s = connect_s, idle_s
        self._look_up = look_up
        self._needs_length = needs_length
        self._stalled_ms = int(stalled_s * 1000)
        self._idle: deque[_Connection] = deque()
        self._all: set[_Connection] = set()

    async def send(
        self,
        head: bytes,
        body: Body,
        *,
        has_response_body: bool,
        on_start: Callable[[], None] = lambda: None,
    ) -> Response:
        """Send a request once, and wait for the headers of its response.

        `head` includes the empty line. `on_start` is called just before the first byte is sent.
        On failure, raises `NotConnectedError` if no byte was sent, else another `OSError`.
        """
        connection = self._take_idle() or await self._connect()
        on_start()
        try:
            await connection.send(head, body, has_response_body=has_response_body)
        except BaseException:
            connection.transport.abort()
            raise
        return Response(connection, self)

    def _take_idle(self) -> "_Connection | None":
        oldest = asyncio.get_running_loop().time() - self._idle_s
        while self._idle and self._idle[0].idle_since < oldest:
            self._idle.popleft().transport.close()
        while self._idle:
            connection = self._idle.pop()
            if not connection.transport.is_closing():
                return connection
        return None

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        async with self._opening:
            if self._tls and self._context is None:  # loading the CAs takes about 10 ms
                self._context = await asyncio.to_thread(ssl.create_default_context)
        sock: socket.socket | None = None
        try:
            async with asyncio.timeout(self._connect_s or CONNECT_S):
                name = "localhost" if self._host.endswith(_LOOPBACK_NAMES) else self._host
                sock = await aiohappyeyeballs.start_connection(
                    await self._look_up(name, self._port),
                    happy_eyeballs_delay=_HAPPY_EYEBALLS_S,
                    interleave=1,
                    loop=loop,
                    socket_factory=self._socket_with_timeout,
                )
                _, connection = await loop.create_connection(
                    lambda: _Connection(needs_length=self._needs_length),
                    sock=sock,
                    ssl=self._context,
                    server_hostname=self._host if self._tls else None,
                )
        except OSError as error:  # includes TimeoutError
            raise NotConnectedError(f"{type(error).__name__} {error}".rstrip()) from error
        self._all.add(connection)
        connection.lost.add_done_callback(lambda _: self._all.discard(connection))
        return connection

    def _socket_with_timeout(self, address: aiohappyeyeballs.AddrInfoType) -> socket.socket:
        """Create a socket that the kernel closes if the server acknowledges no data (tcp(7))."""
        family, kind, protocol, _, _ = address
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self._stalled_ms)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def release(self, connection: "_Connection") -> None:
        """Return a connection to the pool if it is reusable, else close it."""
        if connection.is_reusable:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)
        else:
            connection.transport.abort()

    async def close(self) -> None:
        """Close all connections."""
        self._idle.clear()
        ending = [connection.lost for connection in self._all]
        for connection in list(self._all):
            connection.transport.abort()
        if ending:
            await asyncio.wait(ending, timeout=_CLOSING_S)


class _Connection(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, *, needs_length: bool) -> None:
        self._needs_length = needs_length
        self.status = 0
        self.headers: dict[str, str] = {}
        self.idle_since = 0.0
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self._parser: httptools.HttpResponseParser | None = None
        self._has_body = True
        self._head_bytes = self._unparsed_bytes = 0
        self._has_head = False
        self._ended = True
        self._keeps = False
        self._pieces: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._is_writable = True
        self._waiter: asyncio.Future[None] | None = None
        self._fault: OSError | None = None

    async def send(self, head: bytes, body: Body, *, has_response_body: bool) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._has_body = has_response_body
        self._head_bytes = self._unparsed_bytes = 0
        self._has_head, self._ended, self._keeps = False, False, False
        self.headers = {}
        if len(body) <= _PIECE_BYTES:
            self.transport.writelines([head, body] if body else [head])
        else:
            self.transport.write(head)
            await self._send_body(memoryview(body))
        while not self._has_head:
            await self._wait_for_change()

    async def _send_body(self, body: memoryview) -> None:
        for start in range(0, len(body), _PIECE_BYTES):
            while not self._is_writable and not self._has_head:
                await self._wait_for_change()
            if self._has_head or self.transport.is_closing():
                return
            self.transport.write(body[start : start + _PIECE_BYTES])

    async def piece(self) -> bytes:
        while not self._pieces:
            if self._ended:
                return b""
            await self._wait_for_change()
        piece = self._pieces.popleft()
        self._waiting_bytes -= len(piece)
        if not self._pieces and not self._ended:
            self.transport.resume_reading()
        return piece

    @property
    def is_reusable(self) -> bool:
        return (
            self._ended
            and self._keeps
            and self._fault is None
            and not self._pieces
            and not self.transport.is_closing()
            and not self.transport.get_write_buffer_size()
        )

    async def _wait_for_change(self) -> None:
        if self._fault is not None:
            raise self._fault
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection ended: {exc}" if exc else "the connection ended")
        self.lost.set_result(None)

    def pause_writing(self) -> None:
        self._is_writable = False

    def resume_writing(self) -> None:
        self._is_writable = True
        self._wake()

    def data_received(self, data: bytes) -> None:
        if self._ended or self._parser is None:
            self._fail("the server sent bytes after the end of the response")
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"the response is not valid HTTP/1.1: {error}")
        if not self._has_head:
            self._unparsed_bytes += len(data)
            if self._unparsed_bytes > _MAX_HEAD_BYTES:
                self._fail("the headers of the response are too large")
        elif self._waiting_bytes > _MAX_WAITING_BYTES and not self._ended:
            self.transport.pause_reading()
        self._wake()

    def _fail(self, why: str) -> None:
        if self._fault is None:
            self._fault = BrokenAnswerError(why)
        self._keeps = False
        self.transport.abort()
        self._wake()

    def on_message_begin(self) -> None:
        if self._ended:
            self._keeps = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_head:
            self._head_bytes += len(name) + len(value)
            if self._head_bytes > _MAX_HEAD_BYTES:
                raise BrokenAnswerError("the headers of the response are too large")
            self.headers[name.decode("latin-1").lower()] = value.decode("utf-8", "surrogateescape")

    def on_headers_complete(self) -> None:
        parser = cast("httptools.HttpResponseParser", self._parser)
        if self._has_head:
            return
        self.status = parser.get_status_code()
        if self.status < 200:  # noqa: PLR2004  (interim, such as 100 Continue)
            self.headers = {}
            return
        self._keeps = parser.should_keep_alive()
        self._has_head = True
        if not self._has_body or self.status in (204, 304):
            self._ended = True
        elif self._needs_length and not (
            self.headers.keys() & {"content-length", "transfer-encoding"}
        ):
            raise BrokenAnswerError("the response has no Content-Length")

    def on_body(self, body: bytes) -> None:
        if self._ended:
            self._keeps = False
            return
        self._pieces.append(body)
        self._waiting_bytes += len(body)

    def on_message_complete(self) -> None:
        if self._has_head:
            self._ended = True
