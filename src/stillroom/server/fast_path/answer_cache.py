"""The answer cache of the fast path: small responses kept in memory, large images kept open.

Opening, reading and closing a file takes two thirds of what a GET of 4 KB costs; whether a
file is still the same one can be asked for a fifth of it (`ImageStorage.is_current`).
"""

import asyncio
import os
import time
from dataclasses import dataclass
from typing import Final, NamedTuple

from stillroom.server.request_cycle import http_date
from stillroom.storage.values import LocalImage
from stillroom.telemetry import request_id
from stillroom.telemetry.request_id import GENERATED_BYTES

MAX_COPIED_BYTES: Final = 64 * 1024
"""Up to this an image is copied behind its head and sent in one call; beyond, sendfile copies it.
Alone a copy of 100 KB costs no more, but among 32 busy connections a quarter more than sendfile."""

_HEAD_END: Final = b"\r\n\r\n"
_ID_FIELD: Final = b"\r\nx-request-id: "

_MAX_BYTES: Final = 16 * 1024**2
"""Of small responses in one process."""

_MAX_OPEN: Final = 64
"""Large images open in one process."""

_MAX_OPEN_S: Final = 1.0
"""Short, since an image that is deleted or replaced takes its disk space while it is open."""


class Answer(NamedTuple):
    """What to send: `data` alone, or with a slice of an open image behind it.

    The caller closes the image.

    Attributes:
        data: The head, and a small body.
        start: Of the slice of `image`.
        length: Of the slice of `image`.
        body_bytes: How much of it all is body.
        id_offset: Where in `data` the request id is that was generated; 0: there is none.
    """

    operation: str
    status: int
    data: bytes | bytearray
    image: "SharedFile | None" = None
    start: int = 0
    length: int = 0
    body_bytes: int = 0
    id_offset: int = 0

    @property
    def generated_id(self) -> bytes:
        """The request id that was generated for it."""
        return bytes(self.data[self.id_offset : self.id_offset + GENERATED_BYTES])

    def with_request_id(self, client_id: bytes) -> "Answer":
        """The same, to a request that came with an id of its own."""
        if self.id_offset:
            start, end, field = self.id_offset, self.id_offset + GENERATED_BYTES, client_id
        else:
            start = end = self.data.index(_HEAD_END)
            field = _ID_FIELD + client_id
        data = b"".join((self.data[:start], field, self.data[end:]))
        return Answer(
            self.operation, self.status, data,
            self.image, self.start, self.length, self.body_bytes,
        )  # fmt: skip


def with_date(head: bytes, second: int) -> bytes:
    """A whole head, from one that ends where the value of its Date field begins."""
    return head + http_date(second) + _HEAD_END


class CachedResponse:
    """A whole response in memory. Its Date is updated once a second, its request id each time."""

    __slots__ = ("_answer", "_data", "_date_at", "_id", "_second")

    def __init__(
        self, operation: str, status: int, head: bytes, body: bytes | memoryview = b""
    ) -> None:
        """Cache a response; `head` ends where the value of its Date field begins."""
        self._date_at = len(head)
        id_offset = head.index(_ID_FIELD) + len(_ID_FIELD) if status >= 400 else 0
        self._id = slice(id_offset, id_offset + GENERATED_BYTES) if id_offset else None
        self._second = int(time.time())
        self._data = bytearray(with_date(head, self._second))
        self._data += body
        self._answer = Answer(
            operation, status, self._data, body_bytes=len(body), id_offset=id_offset
        )

    def at_second(self, second: int) -> Answer:
        """The answer as it is given in this second."""
        if self._id is not None:
            self._data[self._id] = request_id.generate_bytes()
        if second != self._second:
            date = http_date(second)
            self._data[self._date_at : self._date_at + len(date)] = date
            self._second = second
        return self._answer

    @property
    def size(self) -> int:
        """Bytes of head and body."""
        return len(self._answer.data)


class SharedFile:
    """An open image that several answers read at once, counting references.

    Attributes:
        is_in_page_cache: Whether the slice was in memory when it was sent a moment ago.
    """

    __slots__ = ("_file", "_users", "is_in_page_cache")

    def __init__(self, file: LocalImage) -> None:
        """Begin with one user, the caller."""
        self._file = file
        self._users = 1
        self.is_in_page_cache = False

    def share(self) -> "SharedFile":
        """The same file, for one more user, who closes it."""
        self._users += 1
        return self

    def fileno(self) -> int:
        """Its descriptor."""
        return self._file.fileno()

    def close(self) -> None:
        """Close it for one user; the file is closed with the last."""
        self._users -= 1
        if not self._users:
            self._file.close()


def read_from_page_cache(image: SharedFile, into: memoryview, start: int) -> bool:
    """Read without waiting for the disk (RWF_NOWAIT); whether `into` could be filled."""
    try:
        return os.preadv(image.fileno(), [into], start, os.RWF_NOWAIT) == len(into)
    except OSError:  # EAGAIN: not in the cache; EOPNOTSUPP: this filesystem cannot tell
        return False


@dataclass(slots=True, eq=False, kw_only=True)
class CacheEntry:
    """What is cached for one request, until it is evicted: a whole response, or an open image."""

    response: CachedResponse | None = None
    file: SharedFile | None = None


class AnswerCache:
    """Bounds what the entries of one process hold: bytes in memory, and open files."""

    def __init__(self) -> None:
        """Begin empty."""
        self._with_response: list[CacheEntry] = []
        self._bytes = 0
        self._with_file: list[CacheEntry] = []

    def add_response(self, entry: CacheEntry, response: CachedResponse) -> None:
        """Cache a small response; if there is no space for it, all others are evicted."""
        if self._bytes + response.size > _MAX_BYTES:
            self.clear_responses()
        entry.response = response
        self._with_response.append(entry)
        self._bytes += response.size

    def add_file(self, entry: CacheEntry, file: SharedFile) -> None:
        """Keep a large image open until `close_files`, unless too many are open."""
        if not self._with_file:
            asyncio.get_running_loop().call_later(_MAX_OPEN_S, self.close_files)
        if entry.file is None and len(self._with_file) < _MAX_OPEN:
            entry.file = file.share()
            self._with_file.append(entry)

    def clear_responses(self) -> None:
        """Evict all responses."""
        for entry in self._with_response:
            entry.response = None
        self._with_response.clear()
        self._bytes = 0

    def close_files(self) -> None:
        """Evict all open files; those that are being sent close with their last user."""
        for entry in self._with_file:
            if entry.file is not None:
                entry.file.close()
                entry.file = None
        self._with_file.clear()
