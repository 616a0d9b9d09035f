"""Request body: decoder of the two framings (length or chunked), and a queue of pieces."""

import asyncio
import re
from collections import deque
from collections.abc import Callable
from typing import Final, Self

from stillroom.speed.http11.head import BadRequest

_MAX_BYTES: Final = 64 * 1024  # queued; then reading pauses. A read adds up to 256,000 bytes.
_CHUNKS_PER_CALL: Final = 256  # decoded before other connections are served (about 0.4 ms)

# Chunk size with extensions, which are ignored (RFC 9112, 7.1.1).
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER: Final = re.compile(rb"[^\n\r\0]*")


class RequestBody:
    """Asynchronous iterator over the pieces of a request body, chunked if `length` is None.

    `max_overhead` limits the bytes between two chunks, and the bytes in the trailers.
    """

    on_first_read: Callable[[], None]  # called before the first read, to send `100 Continue`
    set_reading: Callable[[bool], None]  # False pauses reading from the connection, True resumes it

    def __init__(self, length: int | None, *, max_overhead: int = 0) -> None:
        self.on_first_read = lambda: None
        self.set_reading = lambda _: None
        self.received = 0  # number of received bytes
        self.is_complete = length == 0  # True if the whole body was received
        self._remaining = length or 0
        self._chunks = None if length is not None else ChunkedDecoder(max_overhead)
        self._reading_begun = False
        self._pieces: deque[bytes] = deque()
        self._queued_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._aborted = False

    @property
    def is_awaited(self) -> bool:
        """True if the handler of the request is waiting for more of the body."""
        return self._waiter is not None

    @property
    def is_delivered(self) -> bool:
        """True if the iterator has returned the whole body."""
        return self.is_complete and not self._pieces

    @property
    def has_undecoded_chunks(self) -> bool:
        """True if received chunks are not decoded yet. Then call `feed` again, without data."""
        return self._chunks is not None and self._chunks.has_more

    def feed(self, data: bytes) -> bytes | None:
        """Queue received data. Return the bytes after the body, or None if it is incomplete."""
        if self._chunks is not None:
            had_more = self._chunks.has_more
            piece, rest = self._chunks.feed(data)
            if piece:
                self._queue(piece)
            self.is_complete = rest is not None
            if had_more and not self._pieces:
                self._resume_reading()
        else:
            piece = data if len(data) <= self._remaining else data[: self._remaining]
            self._remaining -= len(piece)
            self._queue(piece)
            self.is_complete = not self._remaining
            rest = data[len(piece) :] if self.is_complete else None
        self._wake()
        # Pause here, since the loop may read several times before the reader runs.
        is_full = self._queued_bytes > _MAX_BYTES or self.has_undecoded_chunks
        if is_full and not self.is_complete:
            self.set_reading(False)
        return rest

    def abort(self) -> None:
        """End the iterator with a `ConnectionError`, because the client has disconnected."""
        self._aborted = True
        self._wake()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._reading_begun:
            self._reading_begun = True
            self.on_first_read()
        while not self._pieces:
            if self._aborted:
                raise ConnectionError("the client disconnected")
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
            self._resume_reading()
        return piece

    def _resume_reading(self) -> None:
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
    """Decoder of the chunked transfer coding (RFC 9112, 7.1), which drops trailers.

    httptools does not report where a body ends, so the next pipelined request would be lost.
    """

    def __init__(self, max_overhead: int) -> None:
        self.has_more = False  # True if the input had too many chunks to decode them in one call
        self._max_overhead = max_overhead
        self._overhead = 0
        self._buffer = b""  # an incomplete line, or further chunks
        self._at = 0  # position in `_buffer`
        self._left = 0  # remaining bytes of the current chunk
        self._next = self._read_size

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Return decoded data, and the bytes after the body (None if the body is incomplete)."""
        buffer, at = self._buffer, self._at
        self.has_more, self._buffer, self._at = False, b"", 0
        if data:
            data, at = buffer[at:] + data, 0
        else:
            data = buffer
        pieces: list[bytes] = []
        while at < len(data):
            if self._left:
                if len(pieces) == _CHUNKS_PER_CALL:
                    self.has_more, self._buffer, self._at = True, data, at
                    break
                pieces.append(data[at : at + self._left])
                at += len(pieces[-1])
                self._left -= len(pieces[-1])
                self._overhead = 0
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                self._buffer = data[at:]
                self._check_overhead(len(self._buffer))
                break
            line = data[at:end]
            at = end + 2
            self._overhead += len(line) + 2
            self._check_overhead(0)
            if self._next(line):
                return b"".join(pieces), data[at:]
        return b"".join(pieces), None

    def _read_size(self, line: bytes) -> bool:
        self._left = int(_matched(_CHUNK_SIZE, line)[1], 16)
        self._next = self._read_end_of_chunk if self._left else self._read_trailer
        return False

    def _read_end_of_chunk(self, line: bytes) -> bool:
        if line:
            raise BadRequest(400, "malformed HTTP request")
        self._next = self._read_size
        return False

    def _read_trailer(self, line: bytes) -> bool:
        return not _matched(_TRAILER, line)[0]

    def _check_overhead(self, buffered: int) -> None:
        if self._overhead + buffered > self._max_overhead:
            raise BadRequest(431, "the chunk headers and trailers of the body are too large")


def _matched(pattern: re.Pattern[bytes], line: bytes) -> re.Match[bytes]:
    match = pattern.fullmatch(line)
    if match is None:
        raise BadRequest(400, "malformed HTTP request")
    return match
