"""Probe: format, size, duration and colour profile of a file from its header, without decoding.

It reads a prefix and the few positions that the header refers to. Pillow would read WebP and AVIF
files whole and pass them to decoders written in C, while these parsers only compare bytes.
The orientation of images (EXIF, `irot`) is not applied, and an EXIF colour space is ignored. The
rotation of a video is applied, so that width and height are the same as in browsers.
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
"""Maximum duration (thirty years). Longer ones are treated as unknown."""

ResourceType = Literal["image", "video"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Probed:
    """Facts read from a file header.

    Attributes:
        extension: File extension for the content, without a dot.
        width: Pixels, like `height`: as stored for images, as displayed (rotated) for videos.
        color_profile: Name of the profile; None if there is none, and for videos.
        duration: Seconds, to the microsecond; None for images, and if a video has no duration.
        ai_mark: AI mark in the file; None if it cannot be determined.
        generation: Generation facts in the file; None if there are none.
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
        UnsupportedMedia: the content is neither, or the header is invalid.
        BackendUnavailable: the file cannot be read.
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
    color_profile = printable(await _read_optional(image, header, parser.color_profile))
    duration = _check_duration(await _read_optional(image, header, parser.duration))
    facts = await _read_facts(image, header)
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


async def _read_facts(image: OpenedImage, header: HeaderBytes) -> reading.Found:
    with contextlib.suppress(TooMuchWork):
        return await _try_read_facts(image, header)
    return reading.UNKNOWN


async def _try_read_facts(image: OpenedImage, header: HeaderBytes) -> reading.Found:
    try:
        return await _read(image, header, reading.find)
    except (BrokenHeader, MoreNeeded):  # use what was read so far
        header.end()
        return await reading.run_parser(header, reading.find)


def _check_duration(duration: float | None) -> float | None:
    """Return the rounded duration; None if it is implausible, infinite or NaN."""
    if duration is None or not math.isfinite(duration) or not 0 < duration <= _MAX_DURATION_S:
        return None
    return round(duration, 6)


async def _read_optional(
    image: OpenedImage, header: HeaderBytes, reader: Callable[[HeaderBytes], T | None]
) -> T | None:
    """Return the result of `reader`; None if the header is invalid or exceeds the limits."""
    try:
        return await _read(image, header, reader)
    except (BrokenHeader, MoreNeeded, TooMuchWork):
        return None


async def _read(image: OpenedImage, header: HeaderBytes, reader: Callable[[HeaderBytes], T]) -> T:
    """Return the result of `reader`, reading further parts of the file when it needs them."""
    while True:
        try:
            return await reading.run_parser(header, reader)
        except MoreNeeded as more:
            await header.read_more(image, more.start, more.length)
