"""Checks of the uploaded bytes (size, type, hash), the same on every backend."""

import hashlib
from dataclasses import dataclass

from stillroom.errors import DigestMismatch, EmptyFile, TooLarge, UnsupportedMedia
from stillroom.store import content_type
from stillroom.store.sources import DescribedSource, ImageSource
from stillroom.store.values import SaveRules


@dataclass(frozen=True, slots=True)
class Received:
    """Size, SHA-256 and content type of a completely received upload."""

    size: int
    sha256: bytes
    content_type: str


class UploadChecks:
    """Checker of one upload, which counts and hashes its bytes and detects its content type.

    Call `count`, which is fast, on the event loop, and `digest` (0.7 ms per MiB) in the thread that
    writes the bytes. `modified_ns` is the save time that the source specifies, if any.
    """

    def __init__(self, rules: SaveRules, source: ImageSource | None = None) -> None:
        self._rules = rules
        self._kind: str | None = None
        self.modified_ns: int | None = None
        if isinstance(source, DescribedSource):
            self._rules = source.rules or rules
            self._kind, self.modified_ns = source.content_type, source.modified_ns
        self._hash = hashlib.sha256()
        self._start = b""
        self.size = 0

    def count(self, chunk: bytes) -> None:
        """Count a chunk. May raise `TooLarge` or, if rules require an image, `UnsupportedMedia`."""
        self.size += len(chunk)
        if self.size > self._rules.max_bytes:
            raise TooLarge(f"the image is larger than {self._rules.max_bytes} bytes")
        if len(self._start) < content_type.SNIFFED_BYTES:
            self._start += chunk[: content_type.SNIFFED_BYTES - len(self._start)]
            if len(self._start) == content_type.SNIFFED_BYTES:
                self._require_image()

    @property
    def content_type(self) -> str:
        """Content type detected so far; final after `SNIFFED_BYTES`."""
        return self._kind or content_type.detect(self._start)

    def digest(self, chunk: bytes | memoryview) -> None:
        """Hash a chunk. Chunks must be hashed in order."""
        self._hash.update(chunk)

    def finish(self, expected_sha256: bytes | None) -> Received:
        """Return the results after all chunks were counted and hashed.

        Raises `EmptyFile` (unless the source has a type), `DigestMismatch` or `UnsupportedMedia`.
        """
        if not self.size and self._kind is None:
            raise EmptyFile
        self._require_image()
        sha256 = self._hash.digest()
        if expected_sha256 is not None and sha256 != expected_sha256:
            raise DigestMismatch(
                f"the received bytes have the SHA-256 {sha256.hex()}, but "
                f"{expected_sha256.hex()} was announced"
            )
        return Received(self.size, sha256, self.content_type)

    def _require_image(self) -> None:
        if self._rules.require_image and not content_type.is_image(self._start):
            raise UnsupportedMedia("this server stores images only, and the file is not one")
