"""JPEG parser: size from the start-of-frame segment, colour profile from APP2 segments."""

from stillroom.file_parts import BrokenHeader, jpeg_segments
from stillroom.media.headers.color import icc_name
from stillroom.media.headers.header_bytes import HeaderBytes


def size(header: HeaderBytes) -> tuple[int, int]:
    """Return the image's width and height (https://www.w3.org/Graphics/JPEG/itu-t81.pdf, B.2.2)."""
    for marker, start, _ in jpeg_segments(header):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = header.numbers(">HH", start + 1)
            return width, height
    raise BrokenHeader


def color_profile(header: HeaderBytes) -> str | None:
    """Return the profile's name (https://www.color.org/specification/ICC.1-2022-05.pdf, B.4)."""
    label = b"ICC_PROFILE\0"
    parts = {}
    for marker, start, length in jpeg_segments(header):
        if marker == 0xE2 and length > 14 and header.bytes_at(start, 12) == label:
            parts[header.numbers("B", start + 12)[0]] = header.bytes_at(start + 14, length - 14)
    return icc_name(b"".join(parts[number] for number in sorted(parts)))
