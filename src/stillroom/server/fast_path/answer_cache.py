"""What is kept of answers that are given again and again: small ones whole, large images open.

Opening, reading and closing a file takes two thirds of what a GET of 4 KB costs; whether a
file is still the same one can be asked for a fifth of it (`ImageStorage.is_current`).
"""

import asyncio
import os
import time
from typing import Final, NamedTuple, Protocol

from stillroom.server.answering import date_at
from stillroom.storage.values import LocalImage
from stillroom.telemetry import request_id
from stillroom.telemetry.request_id import MADE_BYTES

JOINED_BYTES: Final = 64 * 1024
"""Up to this an image is copied behind its head, in one call; beyond, the kernel copies it.
Alone a copy of 100 KB costs no more, but among 32 busy connections a quarter more than sendfile."""

_END: Final = b"\r\n\r\n"
_ID_FIELD: Final = b"\r\nx-request-id: "

_MAX_BYTES: Final = 16 * 1024**2
"""Of small images in one process."""

_MAX_OPEN: Final = 64
"""Large images open in one process."""

_HELD_S: Final = 1.0
"""An image that is deleted or replaced holds its room on the disk while it is open."""


class Answer(NamedTuple):
    """What to send: `sent` alone, or with a slice of an open image behind it.

    The image is for the caller to close.

    Attributes:
        body_bytes: How much of it is body.
        id_at: Where in `sent` the id is that was made for the request; 0: there is none.
    """

    operation: str
    status: int
    sent: bytes | bytearray
    image: "SharedFile | None" = None
    start: int = 0
    length: int = 0
    body_bytes: int = 0
    id_at: int = 0

    @property
    def made_id(self) -> bytes:
        """The id that was made for the request."""
        return bytes(self.sent[self.id_at : self.id_at + MADE_BYTES])

    def named(self, name: bytes) -> "Answer":
        """The same, to a request with an id of its own."""
        if self.id_at:
            at, behind = self.id_at, self.id_at + MADE_BYTES
        else:
            at = behind = self.sent.index(_END)
            name = _ID_FIELD + name
        sent = b"".join((self.sent[:at], name, self.sent[behind:]))
        return Answer(
            self.operation, self.status, sent,
            self.image, self.start, self.length, self.body_bytes,
        )  # fmt: skip


def dated(head: bytes, second: int) -> bytes:
    """A whole head, from one that ends where its date begins."""
    return head + date_at(second) + _END


class CachedResponse:
    """A whole answer. Its date is set right when the second has changed, an id each time."""

    __slots__ = ("_answer", "_date_at", "_id", "_second", "_sent")

    def __init__(
        self, operation: str, status: int, head: bytes, body: bytes | memoryview = b""
    ) -> None:
        """Keep an answer; `head` ends where its date begins."""
        self._date_at = len(head)
        id_at = head.index(_ID_FIELD) + len(_ID_FIELD) if status >= 400 else 0
        self._id = slice(id_at, id_at + MADE_BYTES) if id_at else None
        self._second = int(time.time())
        self._sent = bytearray(dated(head, self._second))
        self._sent += body
        self._answer = Answer(operation, status, self._sent, body_bytes=len(body), id_at=id_at)

    def at(self, second: int) -> Answer:
        """The answer as it is given in this second."""
        if self._id is not None:
            self._sent[self._id] = request_id.made_bytes()
        if second != self._second:
            date = date_at(second)
            self._sent[self._date_at : self._date_at + len(date)] = date
            self._second = second
        return self._answer

    @property
    def size(self) -> int:
        """Bytes of head and body."""
        return len(self._answer.sent)


class SharedFile:
    """An open image that several answers read at once; it closes with the last of them.

    Attributes:
        is_cached: Whether the slice was in memory when it was sent a moment ago.
    """

    __slots__ = ("_file", "_users", "is_cached")

    def __init__(self, file: LocalImage) -> None:
        """Hold a file with one user, the caller."""
        self._file = file
        self._users = 1
        self.is_cached = False

    def again(self) -> "SharedFile":
        """The same, for one more to close."""
        self._users += 1
        return self

    def fileno(self) -> int:
        """Its descriptor."""
        return self._file.fileno()

    def close(self) -> None:
        """Each of those who hold it closes it once."""
        self._users -= 1
        if not self._users:
            self._file.close()


def read_cached(image: SharedFile, into: memoryview, start: int) -> bool:
    """Fill `into` from what the page cache holds, without waiting; whether that was all of it."""
    try:
        return os.preadv(image.fileno(), [into], start, os.RWF_NOWAIT) == len(into)
    except OSError:  # EAGAIN: not in the cache; EOPNOTSUPP: this filesystem cannot tell
        return False


class Slot(Protocol):
    """Where something is kept; empty once its room is needed."""

    ready: CachedResponse | None
    held: SharedFile | None


class AnswerCache:
    """What one process keeps, within bounds."""

    def __init__(self) -> None:
        """Keep nothing yet."""
        self._whole: list[Slot] = []
        self._bytes = 0
        self._open: list[Slot] = []

    def keep_whole(self, slot: Slot, ready: CachedResponse) -> None:
        """Keep a small answer; where there is no room, all others are forgotten."""
        if self._bytes + ready.size > _MAX_BYTES:
            self.forget()
        slot.ready = ready
        self._whole.append(slot)
        self._bytes += ready.size

    def keep_open(self, slot: Slot, file: SharedFile) -> None:
        """Keep a large image open until `let_go`, if there is room."""
        if not self._open:
            asyncio.get_running_loop().call_later(_HELD_S, self.let_go)
        if slot.held is None and len(self._open) < _MAX_OPEN:
            slot.held = file.again()
            self._open.append(slot)

    def forget(self) -> None:
        """Keep nothing of what was kept whole."""
        for slot in self._whole:
            slot.ready = None
        self._whole.clear()
        self._bytes = 0

    def let_go(self) -> None:
        """Close what is open and not being sent."""
        for slot in self._open:
            if slot.held is not None:
                slot.held.close()
                slot.held = None
        self._open.clear()
