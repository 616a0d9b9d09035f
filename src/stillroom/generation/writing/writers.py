"""Table of the functions that replace the XMP packet of a file, by file format."""

from collections.abc import Callable
from typing import Final

from stillroom.formats import jpeg, png
from stillroom.formats.webp import is_webp
from stillroom.generation.carriers.heif import is_heif
from stillroom.generation.writing import into_avif, into_jpeg, into_png, into_webp

Writer = Callable[[bytes, Callable[[bytes | None], bytes]], bytes]
"""Function that replaces the XMP packet in the bytes of a file, or adds one if there is none.

Its second argument computes the new packet from the old one, or from None. The function raises
`BrokenHeader` if the file is malformed, and `UnsupportedMedia` if its structure leaves no room."""

_WRITERS: Final[tuple[tuple[Callable[[bytes], bool], Writer], ...]] = (
    (lambda data: data.startswith(png.SIGNATURE), into_png.with_packet),
    (lambda data: data.startswith(jpeg.SIGNATURE), into_jpeg.with_packet),
    (is_webp, into_webp.with_packet),
    (is_heif, into_avif.with_packet),
)


def writer_of(data: bytes) -> Writer | None:
    """Return the function that replaces the XMP packet of an image; None if XMP is unsupported."""
    return next((writer for matches, writer in _WRITERS if matches(data)), None)
