"""ICO parser: width and height of the largest icon."""

from stillroom.file_parts import BrokenHeader
from stillroom.media.headers.header_bytes import HeaderBytes


def size(header: HeaderBytes) -> tuple[int, int]:
    """Return the size of the largest icon; see https://learn.microsoft.com/previous-versions/ms997538(v=msdn.10)."""
    (count,) = header.numbers("<H", 4)
    sides = [header.numbers("BB", 6 + 16 * index) for index in range(count)]
    if not sides:
        raise BrokenHeader
    width, height = max((width or 256, height or 256) for width, height in sides)
    return width, height
