"""WebP parser: size from the VP8, VP8L or VP8X chunk, colour profile from ICCP."""

from stillroom.file_parts import BrokenHeader
from stillroom.media.headers.color import icc_name
from stillroom.media.headers.header_bytes import HeaderBytes


def size(header: HeaderBytes) -> tuple[int, int]:
    """Return width and height; see https://developers.google.com/speed/webp/docs/riff_container."""
    kind = header.bytes_at(12, 4)
    if kind == b"VP8X":
        low_w, high_w, low_h, high_h = header.numbers("<HBHB", 24)
        return (high_w << 16 | low_w) + 1, (high_h << 16 | low_h) + 1
    if kind == b"VP8L" and header.bytes_at(20, 1) == b"\x2f":
        (bits,) = header.numbers("<I", 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and header.bytes_at(23, 3) == b"\x9d\x01\x2a":
        width, height = header.numbers("<HH", 26)
        return width & 0x3FFF, height & 0x3FFF
    raise BrokenHeader


def color_profile(header: HeaderBytes) -> str | None:
    """Return the colour profile's name from the ICCP chunk, or None."""
    at = 12
    while at + 8 <= header.size:
        kind = header.bytes_at(at, 4)
        (length,) = header.numbers("<I", at + 4)
        if kind == b"ICCP":
            return icc_name(header.bytes_at(at + 8, length))
        if kind != b"VP8X":  # a profile can only follow VP8X directly
            return None
        at += 8 + length + length % 2
    return None
