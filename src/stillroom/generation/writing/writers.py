"""Table of the functions that write an XMP packet, by file format."""

from collections.abc import Callable
from typing import Final

from stillroom.formats import jpeg, png
from stillroom.formats.webp import is_webp
from stillroom.generation.carriers.heif import is_heif
from stillroom.generation.writing import into_avif, into_jpeg, into_png, into_webp

Writer = Callable[[bytes, Callable[[bytes | None], bytes]], bytes]
"""Replaces the packet in the bytes of an image with the result of a function of the old packet."""

_WRITERS: Final[tuple[tuple[Callable[[bytes], bool], Writer], ...]] = (
    (lambda data: data.startswith(png.SIGNATURE), into_png.with_packet),
    (lambda data: data.startswith(jpeg.SIGNATURE), into_jpeg.with_packet),
    (is_webp, into_webp.with_packet),
    (is_heif, into_avif.with_packet),
)


def writer_of(data: bytes) -> Writer | None:
    """Return the function for the format of an image, or None if it cannot contain XMP."""
    return next((writer for matches, writer in _WRITERS if matches(data)), None)
