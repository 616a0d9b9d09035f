"""ICO parser. Source: https://learn.microsoft.com/previous-versions/ms997538(v=msdn.10)."""

from stillroom.formats.file_parts import BrokenHeader, FileParts


def size(parts: FileParts) -> tuple[int, int]:
    """Return the width and height of the largest icon."""
    (count,) = parts.numbers("<H", 4)
    sides = [parts.numbers("BB", 6 + 16 * index) for index in range(count)]
    if not sides:
        raise BrokenHeader
    width, height = max((width or 256, height or 256) for width, height in sides)
    return width, height
