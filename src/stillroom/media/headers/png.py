"""PNG parser: size from the IHDR chunk, colour profile from cICP, iCCP or sRGB."""

import zlib
from typing import Final

from stillroom.file_parts import BrokenHeader
from stillroom.media.headers.color import CODED_SPACES, SRGB, icc_name
from stillroom.media.headers.header_bytes import HeaderBytes

_MAX_PROFILE_BYTES: Final = 1024**2
"""Maximum size of a colour profile in bytes. Most have a few kilobytes."""


def size(header: HeaderBytes) -> tuple[int, int]:
    """Return the image's width and height; see https://www.w3.org/TR/png-3/#11IHDR."""
    if header.bytes_at(12, 4) != b"IHDR":
        raise BrokenHeader
    width, height = header.numbers(">II", 16)
    return width, height


def color_profile(header: HeaderBytes) -> str | None:
    """Return the colour profile's name, or None. Precedence: cICP, iCCP, sRGB."""
    chunks: dict[bytes, tuple[int, int]] = {}
    at = 8
    while (kind := header.bytes_at(at + 4, 4)) not in (b"IDAT", b"IEND"):
        (length,) = header.numbers(">I", at)
        chunks[kind] = (at + 8, length)
        at += length + 12
    if b"cICP" in chunks:
        primaries, transfer = header.numbers("BB", chunks[b"cICP"][0])
        return CODED_SPACES.get((primaries, transfer))
    if b"iCCP" in chunks:
        _, _, packed = header.bytes_at(*chunks[b"iCCP"]).partition(b"\0")
        try:
            profile, _ = header.budget.inflate(packed[1:], _MAX_PROFILE_BYTES)
        except zlib.error:
            raise BrokenHeader from None
        return icc_name(profile)
    return SRGB if b"sRGB" in chunks else None
