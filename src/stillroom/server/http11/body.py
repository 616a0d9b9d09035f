"""Request body: framing (length, chunked), and a bounded queue between connection and reader."""

import asyncio
import re
from collections import deque
from collections.abc import Callable
from typing import Final, Self

from stillroom.server.http11.head import BadRequest

_MAX_BYTES: Final = 64 * 1024
"""Queued bytes beyond which a connection is not read. One read brings up to 256,000 more."""

_CHUNKS_AT_ONCE: Final = 256
"""Chunks decoded before other connections have their turn; about 0.4 ms."""

_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
"""A size and extensions, which are ignored (RFC 9112, 7.1.1)."""


class RequestBody:
    """The pieces of one body, in order; an async iterator.

    Attributes:
        is_complete: All of it has come.
        received: Bytes that have come.
        on_first_read: Called before the first piece is waited for, to send `100 Continue`.
        set_reading: Called with whether to read from the connection.
    """

    on_first_read: Callable[[], None]
    set_reading: Callable[[bool], None]

    def __init__(self, length: int | None, *, max_overhead: int = 0) -> None:
        """Expect `length` bytes.

        Args:
            length: None: the body is chunked.
            max_overhead: Bytes between two of data in a chunked body, and of its trailers.
        """
        self.on_first_read = self.set_reading = _do_nothing
        self.received = 0
        self.is_complete = length == 0
        self._remaining = length or 0
        self._chunks = None if length is not None else ChunkedDecoder(max_overhead)
        self._reading_begun = False
        self._pieces: deque[bytes] = deque()
        self._queued_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._aborted = False

    @property
    def is_awaited(self) -> bool:
        """Whether a reader waits for a piece, so that the client is the slow side."""
        return self._waiter is not None

    @property
    def is_delivered(self) -> bool:
        """Whether the reader has all of it."""
        return self.is_complete and not self._pieces

    @property
    def has_undecoded_chunks(self) -> bool:
        """Whether `feed` must be called again, without data, in another turn of the loop."""
        return self._chunks is not None and self._chunks.has_more

    def feed(self, data: bytes) -> bytes | None:
        """Queue what belongs to the body, as one piece.

        Returns:
            What follows the body, once it is complete: the next request; None before.

        Raises:
            BadRequest: a chunked body is malformed.
        """
        if self._chunks is not None:
            had_more = self._chunks.has_more
            piece, rest = self._chunks.feed(data)
            if piece:
                self._queue(piece)
            self.is_complete = rest is not None
            if had_more and not self._pieces:
                self._read_on()
        else:
            piece = data if len(data) <= self._remaining else data[: self._remaining]
            self._remaining -= len(piece)
            self._queue(piece)
            self.is_complete = not self._remaining
            rest = data[len(piece) :] if self.is_complete else None
        self._wake()
        # Many reads may come in one turn of the loop.
        is_full = self._queued_bytes > _MAX_BYTES or self.has_undecoded_chunks
        if is_full and not self.is_complete:
            self.set_reading(False)
        return rest

    def abort(self) -> None:
        """Fail the reader: the rest will not come."""
        self._aborted = True
        self._wake()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next piece.

        Raises:
            ConnectionError: the client is gone, or `abort` was called.
        """
        if not self._reading_begun:
            self._reading_begun = True
            self.on_first_read()
        while not self._pieces:
            if self._aborted:
                raise ConnectionError("the client went away")
            if self.is_complete:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        piece = self._pieces.popleft()
        self._queued_bytes -= len(piece)
        if not self._pieces:
            self._read_on()
        return piece

    def _read_on(self) -> None:
        if not self.is_complete and not self.has_undecoded_chunks:
            self.set_reading(True)

    def _queue(self, piece: bytes) -> None:
        self.received += len(piece)
        self._queued_bytes += len(piece)
        self._pieces.append(piece)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class ChunkedDecoder:
    """Chunked transfer coding (RFC 9112, 7.1). Strict about line ends; trailers are dropped.

    httptools would not say where in its input a message ends, so that a pipelined request
    behind it would be lost.

    Attributes:
        has_more: There is undecoded input, because it has too many chunks for one call.
    """

    def __init__(self, max_overhead: int) -> None:
        """Begin before the first chunk; `max_overhead` as in `RequestBody`."""
        self.has_more = False
        self._max_overhead = max_overhead
        self._overhead = 0
        self._held = b""  # a line that is not complete, or more chunks
        self._at = 0  # in what is held
        self._left = 0  # of the chunk that is read
        self._next = self._read_size

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Decode what came: the data in it, joined, and what follows a complete body.

        Raises:
            BadRequest: 400 for what is malformed, 431 for too much that is no data.
        """
        held, at = self._held, self._at
        self.has_more, self._held, self._at = False, b"", 0
        if data:
            data, at = held[at:] + data, 0
        else:
            data = held
        pieces: list[bytes] = []
        while at < len(data):
            if self._left:
                if len(pieces) == _CHUNKS_AT_ONCE:
                    self.has_more, self._held, self._at = True, data, at
                    return b"".join(pieces), None
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                pieces.append(piece)
                self._overhead = 0
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                self._held = data[at:]
                self._check_overhead(len(self._held))
                break
            line = data[at:end]
            at = end + 2
            self._overhead += len(line) + 2
            self._check_overhead(0)
            if self._next(line):
                return b"".join(pieces), data[at:]
        return b"".join(pieces), None

    def _read_size(self, line: bytes) -> bool:
        found = _CHUNK_SIZE.fullmatch(line)
        if found is None:
            raise BadRequest(400, "malformed HTTP request")
        self._left = int(found[1], 16)
        self._next = self._read_end_of_chunk if self._left else self._read_trailer
        return False

    def _read_end_of_chunk(self, line: bytes) -> bool:
        if line:
            raise BadRequest(400, "malformed HTTP request")
        self._next = self._read_size
        return False

    def _read_trailer(self, line: bytes) -> bool:
        if b"\n" in line or b"\r" in line or b"\0" in line:
            raise BadRequest(400, "malformed HTTP request")
        return not line

    def _check_overhead(self, held: int) -> None:
        if self._overhead + held > self._max_overhead:
            raise BadRequest(431, "too much behind the body")


def _do_nothing(*_: object) -> None:
    pass
