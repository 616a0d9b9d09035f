"""First and last bytes of an upload, kept in memory for the search index."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from stillroom.store.values import StoredImage

HEAD_BYTES: Final = 64 * 1024
TAIL_BYTES: Final = 256 * 1024  # both ends contain nearly all of an image's metadata
_MAX_PIECES: Final = 512  # chunks per end, since a small chunk has a memory overhead


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
    """`SaveWatcher` that keeps an upload's first and last bytes and then passes them to `saved`."""

    __slots__ = ("_dropped", "_head", "_saved", "_size", "_tail")

    def __init__(self, saved: Callable[[StoredImage, PassedBytes], None]) -> None:
        self._saved = saved
        self._head: list[bytes] = []
        self._tail: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0  # bytes before those in `_tail`

    def passed(self, chunk: bytes) -> None:
        """Keep the chunk if it belongs to the first or last bytes."""
        size, tail = self._size, self._tail
        if size < HEAD_BYTES:
            self._head.append(chunk)
            if len(self._head) > _MAX_PIECES:
                self._head = [b"".join(self._head)]
        tail.append(chunk)
        self._size = size = size + len(chunk)
        while size - self._dropped - len(tail[0]) >= TAIL_BYTES:
            self._dropped += len(tail.popleft())
        if len(tail) > _MAX_PIECES:
            joined = b"".join(tail)[-TAIL_BYTES:]
            self._tail, self._dropped = deque([joined]), size - len(joined)

    def saved(self, image: StoredImage) -> None:
        """Pass on the saved image together with the first and last bytes of its file."""
        first, *others = self._tail or (b"",)
        excess = max(0, self._size - self._dropped - TAIL_BYTES)
        tail = b"".join([first[excess:], *others])
        head = tail if len(tail) == self._size else b"".join(self._head)[:HEAD_BYTES]
        self._saved(image, PassedBytes(self._size, head, tail))
