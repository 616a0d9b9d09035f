"""JPEG: size from the start of frame, colour profile from APP2."""

from collections.abc import Iterator

from stillroom.file_parts import BrokenHeader
from stillroom.media.headers.color import icc_name
from stillroom.media.headers.header_bytes import HeaderBytes


def size(header: HeaderBytes) -> tuple[int, int]:
    """Width and height, after https://www.w3.org/Graphics/JPEG/itu-t81.pdf (B.2.2)."""
    for marker, start, _ in _segments(header):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = header.numbers(">HH", start + 1)
            return width, height
    raise BrokenHeader


def color_profile(header: HeaderBytes) -> str | None:
    """The profile's name, after https://www.color.org/specification/ICC.1-2022-05.pdf (B.4)."""
    label = b"ICC_PROFILE\0"
    parts = {}
    for marker, start, length in _segments(header):
        if marker == 0xE2 and length > 14 and header.bytes_at(start, 12) == label:
            parts[header.numbers("B", start + 12)[0]] = header.bytes_at(start + 14, length - 14)
    return icc_name(b"".join(parts[number] for number in sorted(parts)))


def _segments(header: HeaderBytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and length of each segment up to the first scan."""
    at = 2
    while True:
        sign, marker = header.numbers("BB", at)
        if sign != 0xFF or marker == 0xD9:
            raise BrokenHeader
        if marker == 0xFF:  # fill
            at += 1
            continue
        if marker == 0xDA:
            return
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
            continue
        (length,) = header.numbers(">H", at + 2)
        if length < 2:
            raise BrokenHeader
        yield marker, at + 4, length - 2
        at += 2 + length
