"""First and last bytes of an upload, kept in memory for the search index."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from stillroom.store.values import StoredImage

HEAD_BYTES: Final = 64 * 1024
TAIL_BYTES: Final = 256 * 1024
"""Bytes kept from each end of an upload. They contain nearly all of an image's metadata."""

_MAX_PIECES: Final = 512
"""Maximum number of chunks that are kept, since a small chunk has a memory overhead."""


@dataclass(frozen=True, slots=True)
class PassedBytes:
    """The first and last bytes of an upload. For a small file, both are the whole file."""

    size: int
    head: bytes
    tail: bytes

    @property
    def is_whole(self) -> bool:
        """Return whether `head`, the start of the upload, is the whole file."""
        return len(self.head) == self.size

    @property
    def kept_bytes(self) -> int:
        """Number of bytes that are in memory."""
        return self.size if self.is_whole else len(self.head) + len(self.tail)

    def at(self, start: int, length: int) -> bytes | None:
        """Return `length` bytes from offset `start`, or None if they were not kept."""
        if start + length <= len(self.head):
            return self.head[start : start + length]
        begin = start - (self.size - len(self.tail))
        return self.tail[begin : begin + length] if begin >= 0 else None


class UploadEnds:
    """`SaveWatcher` that keeps the ends of one upload, and passes them to `saved` at its end."""

    def __init__(self, saved: Callable[[StoredImage, PassedBytes], None]) -> None:
        self._saved = saved
        self._size = 0
        self._dropped = 0  # bytes before those in `_tail`
        self._head = b""  # complete as soon as the upload is longer than `TAIL_BYTES`
        self._tail: deque[bytes] = deque()

    def passed(self, chunk: bytes) -> None:
        """Keep the chunk if it belongs to the first or last bytes."""
        self._size = size = self._size + len(chunk)
        tail = self._tail
        tail.append(chunk)
        if size > TAIL_BYTES:
            if not self._head:
                self._head = _join_first(tail, HEAD_BYTES)
            while size - self._dropped - len(tail[0]) >= TAIL_BYTES:
                self._dropped += len(tail.popleft())
        if len(tail) > _MAX_PIECES:
            joined = b"".join(tail)[-TAIL_BYTES:]
            self._tail, self._dropped = deque([joined]), size - len(joined)

    def saved(self, image: StoredImage) -> None:
        """Pass on the saved image and the ends of its file."""
        first, *others = self._tail or (b"",)
        excess = max(0, self._size - self._dropped - TAIL_BYTES)
        tail = b"".join([first[excess:], *others])
        self._saved(image, PassedBytes(self._size, self._head or tail, tail))


def _join_first(pieces: Iterable[bytes], length: int) -> bytes:
    head: list[bytes] = []
    for piece in pieces:
        head.append(piece[:length])
        length -= len(head[-1])
        if not length:
            break
    return b"".join(head)
