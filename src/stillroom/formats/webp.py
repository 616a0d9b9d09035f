"""WebP parser (https://developers.google.com/speed/webp/docs/riff_container)."""

from collections.abc import Iterator
from typing import Final

from stillroom.formats.file_parts import BrokenHeader, FileParts
from stillroom.formats.pixels import icc_name

_MAX_CHUNKS: Final = 4096  # an animation has one chunk per frame


def is_webp(start: bytes) -> bool:
    """Return whether a file that begins with the bytes `start` is a WebP."""
    return start[:4] == b"RIFF" and start[8:12] == b"WEBP"


def chunks(parts: FileParts) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type, content start and content length of each chunk."""
    at, end = 12, min(parts.size, 8 + parts.numbers("<I", 4)[0])
    for _ in range(_MAX_CHUNKS):
        if at + 8 > end:
            return
        head = parts.bytes_at(at, 8)
        length = int.from_bytes(head[4:], "little")
        yield head[:4], at + 8, length
        at += 8 + length + length % 2
    raise BrokenHeader


def size(parts: FileParts) -> tuple[int, int]:
    """Return the width and height from the first chunk (VP8, VP8L or VP8X)."""
    kind = parts.bytes_at(12, 4)
    if kind == b"VP8X":
        low_w, high_w, low_h, high_h = parts.numbers("<HBHB", 24)
        return (high_w << 16 | low_w) + 1, (high_h << 16 | low_h) + 1
    if kind == b"VP8L" and parts.bytes_at(20, 1) == b"\x2f":
        (bits,) = parts.numbers("<I", 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and parts.bytes_at(23, 3) == b"\x9d\x01\x2a":
        width, height = parts.numbers("<HH", 26)
        return width & 0x3FFF, height & 0x3FFF
    raise BrokenHeader


def color_profile(parts: FileParts) -> str | None:
    """Return the name of the colour profile in the ICCP chunk, or None."""
    for kind, start, length in chunks(parts):
        if kind == b"ICCP":
            return icc_name(parts.bytes_at(start, length))
        if kind != b"VP8X":  # a profile can only follow VP8X directly
            break
    return None
