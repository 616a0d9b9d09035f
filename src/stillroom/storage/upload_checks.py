"""What every save does with the bytes on their way, whatever the backend."""

import hashlib
from collections import deque
from dataclasses import dataclass
from typing import Final

from stillroom.errors import DigestMismatch, EmptyFile, TooLarge, UnsupportedMedia
from stillroom.storage import content_type
from stillroom.storage.values import SaveRules

HEAD_BYTES: Final = 64 * 1024
TAIL_BYTES: Final = 256 * 1024
"""Kept of an upload's ends: nearly all that an image says of itself stands there."""

_MAX_PIECES: Final = 512
"""Kept apart of each end: many small ones would take more memory than their bytes."""


@dataclass(frozen=True, slots=True)
class PassedBytes:
    """Both ends of a file that came in; of a small one both are all of it."""

    size: int
    head: bytes
    tail: bytes

    @property
    def is_whole(self) -> bool:
        """Whether these are all bytes of the file."""
        return len(self.head) == self.size

    @property
    def held(self) -> int:
        """How many bytes are kept."""
        return self.size if self.is_whole else len(self.head) + len(self.tail)

    def at(self, start: int, length: int) -> bytes | None:
        """Those bytes of the file, if they were kept."""
        if start + length <= len(self.head):
            return self.head[start : start + length]
        begin = start - (self.size - len(self.tail))
        return self.tail[begin : begin + length] if begin >= 0 else None


@dataclass(frozen=True, slots=True)
class Received:
    """The facts about a body that came in whole."""

    size: int
    sha256: bytes
    content_type: str


class UploadChecks:
    """Counts, sniffs and hashes one upload.

    `count` is quick and belongs where the bytes arrive; `digest` costs about
    0.7 ms a MiB and belongs where they are written, off the event loop.
    """

    def __init__(self, rules: SaveRules, kind: str | None = None) -> None:
        """Take in a file; `kind` is its type, where it comes from another store of ours."""
        self._kind = kind
        self._rules = rules
        self._hash = hashlib.sha256()
        self._start = b""
        self._head: list[bytes] = []
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self.size = 0

    def count(self, chunk: bytes) -> None:
        """Take note of a chunk.

        Raises:
            TooLarge: with this chunk the limit is passed.
            UnsupportedMedia: an image is required and the first bytes are not one.
        """
        self.size += len(chunk)
        if self.size > self._rules.max_bytes:
            raise TooLarge(f"the image is larger than {self._rules.max_bytes} bytes")
        if len(self._start) < content_type.SNIFFED_BYTES:
            self._start += chunk[: content_type.SNIFFED_BYTES - len(self._start)]
            if len(self._start) == content_type.SNIFFED_BYTES:
                self._require_image()

        if self.size - len(chunk) < HEAD_BYTES:
            self._head.append(chunk)
            if len(self._head) > _MAX_PIECES:
                self._head = [b"".join(self._head)]
        self._tail.append(chunk)
        self._tail_bytes += len(chunk)
        while self._tail_bytes - len(self._tail[0]) >= TAIL_BYTES:
            self._tail_bytes -= len(self._tail.popleft())
        if len(self._tail) > _MAX_PIECES:
            joined = b"".join(self._tail)[-TAIL_BYTES:]
            self._tail, self._tail_bytes = deque([joined]), len(joined)

    def passed(self) -> PassedBytes:
        """Both ends of what was counted."""
        first, *others = self._tail or (b"",)
        tail = b"".join([first[max(0, self._tail_bytes - TAIL_BYTES) :], *others])
        head = tail if len(tail) == self.size else b"".join(self._head)[:HEAD_BYTES]
        return PassedBytes(self.size, head, tail)

    @property
    def content_type(self) -> str:
        """What the bytes so far show; final from `SNIFFED_BYTES` on."""
        return self._kind or content_type.of(self._start)

    def digest(self, chunk: bytes | memoryview) -> None:
        """Hash a chunk; in the order in which they came."""
        self._hash.update(chunk)

    def finish(self, expected_sha256: bytes | None) -> Received:
        """The facts, once every chunk was counted and hashed.

        Raises:
            EmptyFile: there are no bytes. One that another store has may be moved.
            DigestMismatch: the client announced another hash.
            UnsupportedMedia: an image is required and this is not one.
        """
        if not self.size and self._kind is None:
            raise EmptyFile
        self._require_image()
        sha256 = self._hash.digest()
        if expected_sha256 is not None and sha256 != expected_sha256:
            raise DigestMismatch(
                f"the bytes that came have the SHA-256 {sha256.hex()}, "
                f"announced was {expected_sha256.hex()}"
            )
        return Received(self.size, sha256, self.content_type)

    def _require_image(self) -> None:
        if self._rules.require_image and not content_type.is_image(self._start):
            raise UnsupportedMedia("this server stores images only, and the file is not one")
