"""Header parser: reads format, size, duration and colour profile without decoding the pixels.

Only the start of the file and the few positions that the header refers to are read. Pillow would
read WebP and AVIF files completely, and pass them to decoders written in C.

The orientation of images (EXIF, `irot`) is not applied, and the EXIF colour space is ignored. The
rotation of a video is applied, so that width and height are the same as in browsers.
"""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from stillroom.errors import UnsupportedMedia
from stillroom.formats.color import printable
from stillroom.formats.file_parts import BrokenHeader, MoreNeeded
from stillroom.formats.work_budget import TooMuchWork
from stillroom.generation import reading
from stillroom.generation.ai_mark import AiMark
from stillroom.generation.facts import Generation
from stillroom.media.headers.formats import PARSERS
from stillroom.media.headers.header_bytes import PREFIX_BYTES, HeaderBytes
from stillroom.storage import content_type
from stillroom.storage.values import OpenedImage

_MAX_PIXELS_A_SIDE: Final = 2**31 - 1

_MAX_DURATION_S: Final = 10**9
"""Maximum duration in seconds (thirty years). Longer durations are treated as unknown."""

ResourceType = Literal["image", "video"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Probed:
    """Properties read from a file header.

    Attributes:
        extension: File extension for the content, without a dot.
        width: Width in pixels: as stored for images, as displayed (rotated) for videos.
        color_profile: Name of the colour profile; None if the file has no profile or is a video.
        duration: Seconds, to the microsecond; None for images and videos without a duration.
        ai_mark: Label in the file that says whether an AI made it; None if it is unknown.
        generation: Generation metadata (model, prompt and so on) in the file, or None.
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

    @property
    def properties(self) -> dict[str, Any]:
        """Properties that are recorded in the fields of `MediaResource` with the same names."""
        names = ("width", "height", "color_profile", "duration", "ai_mark")
        return {name: getattr(self, name) for name in names}


async def probe(image: OpenedImage) -> Probed:
    """Read the header of an open image or video.

    Raises:
        UnsupportedMedia: the file is neither an image nor a video, or its header is invalid.
        BackendUnavailable: the file cannot be read.
    """
    header = HeaderBytes(image.image.size)
    await header.read_more(image, 0, PREFIX_BYTES)
    kind = content_type.by_content(header.prefix)
    parser = PARSERS.get(kind)
    if kind is None or parser is None:
        raise UnsupportedMedia("the content is not a raster image or a video")
    try:
        width, height = await _read(image, header, parser.size)
    except (BrokenHeader, MoreNeeded, TooMuchWork):
        raise UnsupportedMedia(f"the header of this {kind} cannot be read") from None
    if not (0 < width <= _MAX_PIXELS_A_SIDE and 0 < height <= _MAX_PIXELS_A_SIDE):
        raise UnsupportedMedia(
            f"invalid size in the header of this {kind}: {width} x {height} pixels"
        )
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
        try:
            return await _read(image, header, reading.find)
        except (BrokenHeader, MoreNeeded):  # use what was read so far
            header.end()
            return await reading.run_parser(header, reading.find)
    return reading.UNKNOWN


def _check_duration(duration: float | None) -> float | None:
    """Return the duration rounded to microseconds; None if it is implausible, infinite or NaN."""
    if duration is None or not math.isfinite(duration) or not 0 < duration <= _MAX_DURATION_S:
        return None
    return round(duration, 6)


async def _read_optional(
    image: OpenedImage, header: HeaderBytes, reader: Callable[[HeaderBytes], T | None]
) -> T | None:
    try:
        return await _read(image, header, reader)
    except (BrokenHeader, MoreNeeded, TooMuchWork):
        return None


async def _read(image: OpenedImage, header: HeaderBytes, reader: Callable[[HeaderBytes], T]) -> T:
    """Return the result of `reader`. Read more of the file each time `reader` needs it."""
    while True:
        try:
            return await reading.run_parser(header, reader)
        except MoreNeeded as more:
            await header.read_more(image, more.start, more.length)
