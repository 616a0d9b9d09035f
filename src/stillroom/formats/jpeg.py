"""JPEG parser (https://www.w3.org/Graphics/JPEG/itu-t81.pdf, B.1.1.3 and B.2.2)."""

from collections.abc import Iterator
from typing import Final

from stillroom.formats.file_parts import BrokenHeader, FileParts
from stillroom.formats.pixels import icc_name

SIGNATURE: Final = b"\xff\xd8\xff"
START_OF_SCAN: Final = 0xDA
END_OF_IMAGE: Final = 0xD9
_MAX_SEGMENTS: Final = 4096
_MARKS: Final = 0xFF
_WITHOUT_CONTENT: Final = (0x01, *range(0xD0, 0xD9))
_LENGTH_BYTES: Final = 2


def segments(parts: FileParts) -> Iterator[tuple[int, int, int]]:
    """Yield the marker, content start and content length of each segment up to the first scan."""
    at = 2
    for _ in range(_MAX_SEGMENTS):
        sign, marker = parts.numbers("BB", at)
        if sign != _MARKS or marker == END_OF_IMAGE:
            raise BrokenHeader
        if marker == START_OF_SCAN:
            yield marker, at + 2, 0
            return
        if marker in (_MARKS, *_WITHOUT_CONTENT):
            at += 1 if marker == _MARKS else 2  # a fill byte, or a marker without content
            continue
        (length,) = parts.numbers(">H", at + 2)
        if length < _LENGTH_BYTES:
            raise BrokenHeader
        yield marker, at + 4, length - _LENGTH_BYTES
        at += 2 + length
    raise BrokenHeader


def size(parts: FileParts) -> tuple[int, int]:
    """Return the width and height from the start-of-frame segment."""
    for marker, start, _ in segments(parts):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = parts.numbers(">HH", start + 1)
            return width, height
    raise BrokenHeader


def color_profile(parts: FileParts) -> str | None:
    """Return the name of the colour profile in APP2 segments (ICC.1-2022-05: B.4), or None."""
    label = b"ICC_PROFILE\0"
    pieces = {}
    for marker, start, length in segments(parts):
        if marker == 0xE2 and length > 14 and parts.bytes_at(start, 12) == label:
            pieces[parts.numbers("B", start + 12)[0]] = parts.bytes_at(start + 14, length - 14)
    return icc_name(b"".join(pieces[number] for number in sorted(pieces)))
