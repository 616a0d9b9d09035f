"""The table of header parsers, by the type that a file's signature shows.

A new format takes a module with `size` and `color_profile`, a row here, and its signature in
`storage/content_type.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from stillroom.media.headers import bmp, gif, heif, ico, jpeg, jxl, png, tiff, webp
from stillroom.media.headers.header_bytes import HeaderBytes


def _no_profile(_: HeaderBytes) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class HeaderParser:
    """What reads the header of one format.

    Attributes:
        size: Width and height in pixels, as stored.
        color_profile: The profile's name; None where there is none.
    """

    size: Callable[[HeaderBytes], tuple[int, int]]
    color_profile: Callable[[HeaderBytes], str | None] = _no_profile


_HEIF: Final = HeaderParser(heif.size, heif.color_profile)

PARSERS: Final[Mapping[str | None, HeaderParser]] = {
    "image/avif": _HEIF,
    "image/bmp": HeaderParser(bmp.size, bmp.color_profile),
    "image/gif": HeaderParser(gif.size),
    "image/heic": _HEIF,
    "image/jpeg": HeaderParser(jpeg.size, jpeg.color_profile),
    "image/jxl": HeaderParser(jxl.size),
    "image/png": HeaderParser(png.size, png.color_profile),
    "image/tiff": HeaderParser(tiff.size, tiff.color_profile),
    "image/webp": HeaderParser(webp.size, webp.color_profile),
    "image/x-icon": HeaderParser(ico.size),
}
