"""The bytes of a header that were read so far, and a bound on what one file may make us do."""

import struct
from typing import Final

from stillroom.storage import content_type
from stillroom.storage.values import OpenedImage

PREFIX_BYTES: Final = 64 * 1024
READ_AHEAD_BYTES: Final = 64 * 1024
MAX_READ_BYTES: Final = 256 * 1024
_READ_BYTES: Final = 4 * 1024
_MAX_READS: Final = 16
_MAX_BYTES: Final = 1024**2
"""What one file may make us read: the prefix, and 16 parts more, 1 MiB in all."""

_MAX_LOOKS: Final = 50_000
"""How often a parser may ask for bytes, also for those at hand: some 50 ms on the event loop. Files
that are not made to take time ask some hundred times."""


class BrokenHeader(Exception):
    """The header is not of the form that its format has."""


class MoreNeeded(Exception):
    """These bytes are needed too."""

    def __init__(self, start: int, length: int) -> None:
        super().__init__()
        self.start = start
        self.length = length


class HeaderBytes:
    """The parts of a file that were read so far.

    Attributes:
        size: Of the whole file, in bytes.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._parts: list[tuple[int, bytes]] = []
        self._left = _MAX_BYTES
        self._looks = 0

    @property
    def prefix(self) -> bytes:
        """What the signature is looked for in."""
        return self._parts[0][1][: content_type.SNIFFED_BYTES]

    def bytes_at(self, start: int, length: int) -> bytes:
        """Those bytes of the file.

        Raises:
            BrokenHeader: the file is shorter, or was asked about too often.
            MoreNeeded: they were not read yet.
        """
        self._looks += 1
        if start < 0 or start + length > self.size or self._looks > _MAX_LOOKS:
            raise BrokenHeader
        for at, part in self._parts:
            if at <= start and start + length <= at + len(part):
                return part[start - at : start - at + length]
        raise MoreNeeded(start, length)

    def numbers(self, form: str, start: int) -> tuple[int, ...]:
        """Whole numbers in the form of `struct`."""
        return struct.unpack(form, self.bytes_at(start, struct.calcsize(form)))

    def read_ahead(self, start: int, needed: int) -> None:
        """Unless the first `needed` bytes are at hand, have many read at once: one request for all.

        Raises:
            MoreNeeded: see `bytes_at`.
        """
        left = self.size - start
        try:
            self.bytes_at(start, min(needed, left))
        except MoreNeeded:
            raise MoreNeeded(start, min(READ_AHEAD_BYTES, left)) from None

    async def read_more(self, image: OpenedImage, start: int, length: int) -> None:
        """Read a part.

        Raises:
            MoreNeeded: this image has made us read enough.
        """
        length = min(max(length, _READ_BYTES), self.size - start)
        if length > min(MAX_READ_BYTES, self._left) or len(self._parts) > _MAX_READS:
            raise MoreNeeded(start, length)
        self._left -= length
        part = b"".join([chunk async for chunk in image.chunks(start, length)])
        self._parts.append((start, part))
