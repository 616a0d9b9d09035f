"""Format, size, duration and colour profile of a file from its header; no pixel is decoded.

Read from a prefix, and from the few places further on that the header points to. Pillow would
read WebP and AVIF whole, and hand them to decoders written in C; what stands here compares bytes.
Orientation of images (EXIF, `irot`) is not applied, and an EXIF colour space is not looked at.
The rotation of a video is applied, as all players do: a browser says the same width and height.
"""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from stillroom.errors import UnsupportedMedia
from stillroom.file_parts import BrokenHeader, MoreNeeded
from stillroom.generation import reading
from stillroom.generation.ai_mark import AiMark
from stillroom.generation.facts import Generation
from stillroom.media.headers.color import printable
from stillroom.media.headers.formats import PARSERS
from stillroom.media.headers.header_bytes import PREFIX_BYTES, HeaderBytes
from stillroom.storage import content_type
from stillroom.storage.values import OpenedImage
from stillroom.work_budget import TooMuchWork

_MAX_PIXELS_A_SIDE: Final = 2**31 - 1

_MAX_DURATION_S: Final = 10**9
"""Thirty years; who says more says nothing."""

ResourceType = Literal["image", "video"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Probed:
    """What a header says.

    Attributes:
        resource_type: `image`, or `video`.
        content_type: By the content.
        extension: Without a dot.
        width: Pixels: of an image as stored, of a video as it is shown, with its rotation applied.
        height: The same.
        color_profile: Its name; None where there is none, and of videos.
        duration: Seconds, to the microsecond; None of images, and where a video does not say it.
        ai_mark: Whether the file says that AI made it; None where that cannot be told.
        generation: How the file says that it was made; None where it says nothing.
    """

    resource_type: ResourceType
    content_type: str
    extension: str
    width: int
    height: int
    color_profile: str | None
    duration: float | None
    ai_mark: AiMark | None
    generation: Generation | None


async def probe(image: OpenedImage) -> Probed:
    """Read the header of an open image or video.

    Raises:
        UnsupportedMedia: neither by its content, or its header makes no sense.
        BackendUnavailable: it cannot be read.
    """
    header = HeaderBytes(image.image.size)
    await header.read_more(image, 0, PREFIX_BYTES)
    kind = content_type.by_content(header.prefix)
    parser = PARSERS.get(kind)
    if kind is None or parser is None:
        raise UnsupportedMedia("not a raster image or a video by its content")
    try:
        width, height = await _read(image, header, parser.size)
    except (BrokenHeader, MoreNeeded, TooMuchWork):
        raise UnsupportedMedia(f"the header of this {kind} cannot be read") from None
    if not (0 < width <= _MAX_PIXELS_A_SIDE and 0 < height <= _MAX_PIXELS_A_SIDE):
        raise UnsupportedMedia(f"the header of this {kind} says {width} x {height} pixels")
    color_profile = printable(await _read_if_there(image, header, parser.color_profile))
    duration = _plausible(await _read_if_there(image, header, parser.duration))
    facts = await _facts_of(image, header)
    return Probed(
        "video" if kind in content_type.VIDEO else "image",
        kind,
        content_type.EXTENSION[kind],
        width,
        height,
        color_profile,
        duration,
        facts.ai_mark,
        facts.generation,
    )


async def _facts_of(image: OpenedImage, header: HeaderBytes) -> reading.Found:
    with contextlib.suppress(TooMuchWork):
        return await _facts_read(image, header)
    return reading.UNKNOWN


async def _facts_read(image: OpenedImage, header: HeaderBytes) -> reading.Found:
    try:
        return await _read(image, header, reading.find)
    except (BrokenHeader, MoreNeeded):  # enough was read
        header.end()
        return await reading.run_parser(header, reading.find)


def _plausible(duration: float | None) -> float | None:
    """A duration that can be; what a file says may be infinite, or no number."""
    if duration is None or not math.isfinite(duration) or not 0 < duration <= _MAX_DURATION_S:
        return None
    return round(duration, 6)


async def _read_if_there(
    image: OpenedImage, header: HeaderBytes, reader: Callable[[HeaderBytes], T | None]
) -> T | None:
    """What `reader` finds; None where that is broken, or out of reach."""
    try:
        return await _read(image, header, reader)
    except (BrokenHeader, MoreNeeded, TooMuchWork):
        return None


async def _read(image: OpenedImage, header: HeaderBytes, reader: Callable[[HeaderBytes], T]) -> T:
    """What `reader` finds, reading on in the file for as long as it asks for more."""
    while True:
        try:
            return await reading.run_parser(header, reader)
        except MoreNeeded as more:
            await header.read_more(image, more.start, more.length)
