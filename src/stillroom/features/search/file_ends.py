"""First and last bytes of an upload, kept in memory for the search index."""

from collections import deque
from collections.abc import Callable
from typing import Final

from stillroom.formats.file_parts import FileParts
from stillroom.store.values import StoredImage

HEAD_BYTES: Final = 64 * 1024
TAIL_BYTES: Final = 256 * 1024  # both ends contain nearly all of an image's metadata
_MAX_PIECES: Final = 512  # chunks per end, since a small chunk has a memory overhead


class UploadEnds:
    """Observer of an upload (`SaveWatcher`). Passes the file's first and last bytes to `saved`."""

    __slots__ = ("_dropped", "_head", "_saved", "_size", "_tail")

    def __init__(self, saved: Callable[[StoredImage, FileParts], None]) -> None:
        self._saved = saved
        self._head: list[bytes] = []
        self._tail: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0  # bytes before those in `_tail`

    def passed(self, chunk: bytes) -> None:
        """Keep a chunk of the upload if it belongs to the first or last bytes so far."""
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
        """Pass the image, and the first and last bytes (or all) of its file, to the callback."""
        first, *others = self._tail or (b"",)
        excess = max(0, self._size - self._dropped - TAIL_BYTES)
        tail = b"".join([first[excess:], *others])
        head = b"" if len(tail) == self._size else b"".join(self._head)[:HEAD_BYTES]
        ends = FileParts(self._size, len(head) + len(tail))
        if head:
            ends.add(0, head)
        ends.add(self._size - len(tail), tail)
        self._saved(image, ends)
