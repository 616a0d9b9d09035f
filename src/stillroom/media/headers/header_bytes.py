"""The bytes of a header that were read so far, and a bound on what one image may make us read."""

import struct
from typing import Final

from stillroom.storage import content_type
from stillroom.storage.values import OpenedImage

PREFIX_BYTES: Final = 64 * 1024
_READ_BYTES: Final = 4 * 1024
_MAX_READ_BYTES: Final = 256 * 1024
_MAX_READS: Final = 16
"""What one image may make us read: 64 KiB, and 16 times at most 256 KiB more."""


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
        self._reads = 0

    @property
    def prefix(self) -> bytes:
        """What the signature is looked for in."""
        return self._parts[0][1][: content_type.SNIFFED_BYTES]

    def bytes_at(self, start: int, length: int) -> bytes:
        """Those bytes of the file.

        Raises:
            BrokenHeader: the file is shorter.
            MoreNeeded: they were not read yet.
        """
        if start + length > self.size:
            raise BrokenHeader
        for at, part in self._parts:
            if at <= start and start + length <= at + len(part):
                return part[start - at : start - at + length]
        raise MoreNeeded(start, length)

    def numbers(self, form: str, start: int) -> tuple[int, ...]:
        """Whole numbers in the form of `struct`."""
        return struct.unpack(form, self.bytes_at(start, struct.calcsize(form)))

    async def read_more(self, image: OpenedImage, start: int, length: int) -> None:
        """Read a part.

        Raises:
            MoreNeeded: this image has made us read enough.
        """
        if length > _MAX_READ_BYTES or self._reads > _MAX_READS:
            raise MoreNeeded(start, length)
        self._reads += 1
        length = min(max(length, _READ_BYTES), self.size - start)
        part = b"".join([chunk async for chunk in image.chunks(start, length)])
        self._parts.append((start, part))
