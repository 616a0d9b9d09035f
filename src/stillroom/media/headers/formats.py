"""Table of header parsers by media type.

To add a format, write a module with `size` and `color_profile`, add a row to the table, and add
the file signature to `storage/content_type.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from stillroom.formats import bmp, gif, heif, ico, jpeg, jxl, mp4, png, tiff, webm, webp
from stillroom.media.headers.header_bytes import HeaderBytes


def _no_profile(_: HeaderBytes) -> str | None:
    return None


def _no_duration(_: HeaderBytes) -> float | None:
    return None


@dataclass(frozen=True, slots=True)
class HeaderParser:
    """Functions that parse the header of one file format.

    Attributes:
        size: Returns width and height in pixels: as stored for images, as displayed for videos.
        color_profile: Returns the colour profile's name, or None.
        duration: Returns the duration in seconds, or None if the file does not contain it.
    """

    size: Callable[[HeaderBytes], tuple[int, int]]
    color_profile: Callable[[HeaderBytes], str | None] = _no_profile
    duration: Callable[[HeaderBytes], float | None] = _no_duration


_HEIF: Final = HeaderParser(heif.size, heif.color_profile)
_MP4: Final = HeaderParser(mp4.size, duration=mp4.duration)

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
    "video/mp4": _MP4,
    "video/quicktime": _MP4,
    "video/webm": HeaderParser(webm.size, duration=webm.duration),
}
