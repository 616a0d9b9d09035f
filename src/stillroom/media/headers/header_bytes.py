"""Buffer for the parts of a file that were read, with a limit on the bytes read per file."""

from typing import Final

from stillroom.formats.file_parts import FileParts, MoreNeeded
from stillroom.storage import content_type
from stillroom.storage.values import OpenedImage

PREFIX_BYTES: Final = 64 * 1024
_MAX_READ_BYTES: Final = 256 * 1024
_READ_BYTES: Final = 4 * 1024
_MAX_READS: Final = 16
_MAX_BYTES: Final = 1024**2
"""Maximum number of bytes to read from one file: its prefix and up to `_MAX_READS` other parts."""


class HeaderBytes(FileParts):
    """The parts of a file that have been read so far."""

    def __init__(self, size: int) -> None:
        super().__init__(size, _MAX_BYTES)

    @property
    def prefix(self) -> bytes:
        """The first bytes of the file, which contain the format signature."""
        return self._parts[0][1][: content_type.SNIFFED_BYTES]

    async def read_more(self, image: OpenedImage, start: int, length: int) -> None:
        """Read a part of the file into the buffer.

        Raises:
            MoreNeeded: the limit on bytes or parts per file is exceeded.
        """
        length = min(max(length, _READ_BYTES), self.size - start)
        if length > min(_MAX_READ_BYTES, _MAX_BYTES - self.held) or len(self._parts) > _MAX_READS:
            raise MoreNeeded(start, length)
        part = b"".join([chunk async for chunk in image.chunks(start, length)])
        self.add(start, part)
