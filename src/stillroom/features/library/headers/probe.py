"""Header parser: reads format, size, duration and colour profile without decoding the pixels.

Only the start of the file and a few places named in the header are read. Pillow would read
WebP and AVIF files completely, and pass them to decoders written in C.

The orientation of an image (EXIF, `irot`) is not applied, and the EXIF colour space is ignored. The
rotation of a video is applied, so that width and height are the same as in browsers.
"""

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Final, Literal, TypeVar

from stillroom.errors import UnsupportedMedia
from stillroom.formats import gif, heif, jpeg, jxl, mp4, png, tiff, webm, webp, windows
from stillroom.formats.file_parts import BrokenHeader, FileParts
from stillroom.formats.pixels import printable
from stillroom.formats.work_budget import TooMuchWork
from stillroom.generation import reading
from stillroom.store import content_type
from stillroom.store.values import OpenedImage
from stillroom.wire.generation import AiMark, Generation

_MAX_PIXELS_A_SIDE: Final = 2**31 - 1
_MAX_DURATION_S: Final = 10**9  # thirty years; a longer duration is treated as unknown
ResourceType = Literal["image", "video"]


@dataclass(frozen=True, slots=True)
class HeaderParser:
    """Functions that parse the header of one file format.

    Attributes:
        size: Returns width and height in pixels. The size of a video is the displayed size.
        color_profile: Returns the colour profile's name, or None.
        duration: Returns the duration in seconds, or None if the file does not contain it.
    """

    size: Callable[[FileParts], tuple[int, int]]
    color_profile: Callable[[FileParts], str | None] = lambda _: None
    duration: Callable[[FileParts], float | None] = lambda _: None


_HEIF: Final = HeaderParser(heif.size, heif.color_profile)
_MP4: Final = HeaderParser(mp4.size, duration=mp4.duration)

PARSERS: Final[Mapping[str | None, HeaderParser]] = {
    "image/avif": _HEIF,
    "image/bmp": HeaderParser(windows.bmp_size, windows.bmp_color_profile),
    "image/gif": HeaderParser(gif.size),
    "image/heic": _HEIF,
    "image/jpeg": HeaderParser(jpeg.size, jpeg.color_profile),
    "image/jxl": HeaderParser(jxl.size),
    "image/png": HeaderParser(png.size, png.color_profile),
    "image/tiff": HeaderParser(tiff.size, tiff.color_profile),
    "image/webp": HeaderParser(webp.size, webp.color_profile),
    "image/x-icon": HeaderParser(windows.ico_size),
    "video/mp4": _MP4,
    "video/quicktime": _MP4,
    "video/webm": HeaderParser(webm.size, duration=webm.duration),
}
"""Header parsers by media type.

To add a format, write a module in `formats/` with `size` and `color_profile`, add a row here, and
add the file signature to `store/content_type.py`."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Probed:
    """Properties read from a file header. See `MediaResource` for their meaning."""

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
        """Values for the fields of `MediaResource` with the same names."""
        names = [field.name for field in fields(self) if field.name != "generation"]
        return {name: getattr(self, name) for name in names}


async def probe(image: OpenedImage) -> Probed:
    """Read the header and the metadata of an open image or video.

    Raises `UnsupportedMedia` if the file is no image or video, or its header is invalid, and
    `BackendUnavailable` if the file cannot be read. If the metadata takes too much work to parse,
    the AI mark and the generation metadata are unknown.
    """
    size, read = image.image.size, reading.reader_of(image.chunks)
    for is_brief in (False, True):
        with contextlib.suppress(TooMuchWork):
            return await reading.by_reading(size, read, partial(_parse, is_brief=is_brief))
    kind = image.image.content_type
    raise UnsupportedMedia(f"the header of this {kind} cannot be read")


def _parse(parts: FileParts, *, is_brief: bool) -> Probed:
    kind = content_type.by_content(parts.bytes_at(0, min(parts.size, content_type.SNIFFED_BYTES)))
    parser = PARSERS.get(kind)
    if kind is None or parser is None:
        raise UnsupportedMedia("the content is not a raster image or a video")
    try:
        width, height = parser.size(parts)
    except BrokenHeader:
        raise UnsupportedMedia(f"the header of this {kind} cannot be read") from None
    if not (0 < width <= _MAX_PIXELS_A_SIDE and 0 < height <= _MAX_PIXELS_A_SIDE):
        raise UnsupportedMedia(
            f"invalid size in the header of this {kind}: {width} x {height} pixels"
        )
    facts = reading.UNKNOWN if is_brief else reading.find(parts)
    duration = _parse_optional(parts, parser.duration)
    color_profile = _parse_optional(parts, parser.color_profile)
    return Probed(
        "video" if kind in content_type.VIDEO else "image",
        kind,
        content_type.EXTENSION[kind],
        width,
        height,
        printable(color_profile),
        _check_duration(duration),
        facts.ai_mark,
        facts.generation,
    )


def _parse_optional(parts: FileParts, parse: Callable[[FileParts], T | None]) -> T | None:
    with contextlib.suppress(BrokenHeader, TooMuchWork):
        return parse(parts)
    return None


def _check_duration(duration: float | None) -> float | None:
    if duration is None or not math.isfinite(duration) or not 0 < duration <= _MAX_DURATION_S:
        return None
    return round(duration, 6)
