"""Format, size and colour profile of an image from its header; no pixel is decoded.

Read from a prefix, and from the few places further on that the header points to. Pillow would
read WebP and AVIF whole, and hand them to decoders written in C; what stands here compares bytes.
Orientation (EXIF, `irot`) is not applied, and an EXIF colour space is not looked at.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from stillroom.errors import UnsupportedMedia
from stillroom.media.headers.color import printable
from stillroom.media.headers.formats import PARSERS
from stillroom.media.headers.header_bytes import (
    PREFIX_BYTES,
    BrokenHeader,
    HeaderBytes,
    MoreNeeded,
)
from stillroom.storage import content_type
from stillroom.storage.values import OpenedImage

_MAX_PIXELS_A_SIDE: Final = 2**31 - 1

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Probed:
    """What a header says.

    Attributes:
        content_type: By the content.
        extension: Without a dot.
        width: Pixels, as stored.
        height: Pixels, as stored.
        color_profile: Its name; None where there is none.
    """

    content_type: str
    extension: str
    width: int
    height: int
    color_profile: str | None


async def probe(image: OpenedImage) -> Probed:
    """Read the header of an open image.

    Raises:
        UnsupportedMedia: not a raster image by its content, or its header makes no sense.
        BackendUnavailable: it cannot be read.
    """
    header = HeaderBytes(image.image.size)
    await header.read_more(image, 0, PREFIX_BYTES)
    kind = content_type.by_content(header.prefix)
    parser = PARSERS.get(kind)
    if kind is None or parser is None:
        raise UnsupportedMedia("not a raster image by its content")
    try:
        width, height = await _read(image, header, parser.size)
    except (BrokenHeader, MoreNeeded):
        raise UnsupportedMedia(f"the header of this {kind} cannot be read") from None
    if not (0 < width <= _MAX_PIXELS_A_SIDE and 0 < height <= _MAX_PIXELS_A_SIDE):
        raise UnsupportedMedia(f"the header of this {kind} says {width} x {height} pixels")
    try:
        profile = await _read(image, header, parser.color_profile)
    except (BrokenHeader, MoreNeeded):
        profile = None
    return Probed(kind, content_type.EXTENSION[kind], width, height, printable(profile))


async def _read(
    image: OpenedImage, header: HeaderBytes, reader: Callable[[HeaderBytes], Found]
) -> Found:
    """What `reader` finds, reading on in the file for as long as it asks for more."""
    while True:
        try:
            return reader(header)
        except MoreNeeded as more:
            await header.read_more(image, more.start, more.length)
