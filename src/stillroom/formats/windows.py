"""BMP and ICO parsers: width, height and colour profile from the headers.

Sources: https://learn.microsoft.com/windows/win32/gdi/bitmap-header-types (BMP),
https://learn.microsoft.com/previous-versions/ms997538(v=msdn.10) (ICO).
"""

from stillroom.formats.file_parts import BrokenHeader, FileParts
from stillroom.formats.pixels import SRGB, icc_name


def bmp_size(parts: FileParts) -> tuple[int, int]:
    """Return the width and height from the bitmap header."""
    (length,) = parts.numbers("<I", 14)
    width, height = parts.numbers("<HH" if length == 12 else "<ii", 18)
    return width, abs(height)  # negative if the rows are stored from top to bottom


def bmp_color_profile(parts: FileParts) -> str | None:
    """Return the name of the colour profile, or None. Only headers from version 4 on have one."""
    (length,) = parts.numbers("<I", 14)
    space = parts.bytes_at(70, 4) if length >= 108 else b""
    if space == b"DEBM" and length >= 124:
        start, count = parts.numbers("<II", 126)
        return icc_name(parts.bytes_at(14 + start, count))
    return SRGB if space == b"BGRs" else None


def ico_size(parts: FileParts) -> tuple[int, int]:
    """Return the width and height of the largest icon."""
    (count,) = parts.numbers("<H", 4)
    sides = (parts.numbers("BB", 6 + 16 * index) for index in range(count))
    if not count:
        raise BrokenHeader
    return max((width or 256, height or 256) for width, height in sides)
