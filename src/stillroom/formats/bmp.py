"""BMP parser: width, height and colour profile from the bitmap header."""

from stillroom.formats.color import SRGB, icc_name
from stillroom.formats.file_parts import FileParts


def size(parts: FileParts) -> tuple[int, int]:
    """Return the width and height from the bitmap header.

    Source: https://learn.microsoft.com/windows/win32/gdi/bitmap-header-types.
    """
    (length,) = parts.numbers("<I", 14)
    if length == 12:
        width, height = parts.numbers("<HH", 18)
    else:
        width, height = parts.numbers("<ii", 18)
    return width, abs(height)  # negative if the rows are stored from top to bottom


def color_profile(parts: FileParts) -> str | None:
    """Return the name of the colour profile, or None. Headers before version 4 have none."""
    (length,) = parts.numbers("<I", 14)
    if length < 108:
        return None
    space = parts.bytes_at(70, 4)
    if space == b"BGRs":
        return SRGB
    if space == b"DEBM" and length >= 124:
        start, count = parts.numbers("<II", 126)
        return icc_name(parts.bytes_at(14 + start, count))
    return None
