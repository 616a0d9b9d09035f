"""BMP parser: width, height and colour profile from the bitmap header."""

from stillroom.media.headers.color import SRGB, icc_name
from stillroom.media.headers.header_bytes import HeaderBytes


def size(header: HeaderBytes) -> tuple[int, int]:
    """Return width and height; see https://learn.microsoft.com/windows/win32/gdi/bitmap-header-types."""
    (length,) = header.numbers("<I", 14)
    if length == 12:
        width, height = header.numbers("<HH", 18)
    else:
        width, height = header.numbers("<ii", 18)
    return width, abs(height)  # negative if the rows are stored from top to bottom


def color_profile(header: HeaderBytes) -> str | None:
    """Return the colour profile's name from a version 4 or 5 header, or None."""
    (length,) = header.numbers("<I", 14)
    if length < 108:
        return None
    space = header.bytes_at(70, 4)
    if space == b"BGRs":
        return SRGB
    if space == b"DEBM" and length >= 124:
        start, count = header.numbers("<II", 126)
        return icc_name(header.bytes_at(14 + start, count))
    return None
