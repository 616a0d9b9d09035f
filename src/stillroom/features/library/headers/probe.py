"""Header parser: reads format, size, duration and colour profile without decoding the pixels.

The parser reads only the start of the file, and the few places to which the header refers. Pillow
would read WebP and AVIF files completely, and pass them to decoders written in C.

The orientation of an image (EXIF, `irot`) is not applied, and the EXIF colour space is ignored. The
rotation of a video is applied, so that width and height are the same as in browsers.
"""

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from stillroom.errors import UnsupportedMedia
from stillroom.formats import gif, heif, jpeg, jxl, mp4, png, tiff, webm, webp, windows
from stillroom.formats.file_parts import BrokenHeader, FileParts, MoreNeeded
from stillroom.formats.pixels import printable
from stillroom.formats.work_budget import TooMuchWork
from stillroom.generation import reading
from stillroom.store import content_type
from stillroom.store.values import OpenedImage
from stillroom.wire.generation import AiMark, Generation

_PREFIX_BYTES: Final = 64 * 1024
_MAX_READ_BYTES: Final = 256 * 1024
_READ_BYTES: Final = 4 * 1024
_MAX_READS: Final = 16
_MAX_BYTES: Final = 1024**2  # read from one file: its prefix and up to `_MAX_READS` other parts
_MAX_PIXELS_A_SIDE: Final = 2**31 - 1
_MAX_DURATION_S: Final = 10**9  # thirty years; a longer duration is treated as unknown
ResourceType = Literal["image", "video"]


@dataclass(frozen=True, slots=True)
class HeaderParser:
    """Functions that parse the header of one file format.

    Attributes:
        size: Returns width and height in pixels: as stored for images, as displayed for videos.
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
"""Table of header parsers by media type.

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
        """Properties that are recorded in the fields of `MediaResource` with the same names."""
        names = ("width", "height", "color_profile", "duration", "ai_mark")
        return {name: getattr(self, name) for name in names}


async def probe(image: OpenedImage) -> Probed:
    """Read the header of an open image or video.

    Raises `UnsupportedMedia` if the file is neither of these, or if its header is invalid, and
    `BackendUnavailable` if the file cannot be read.
    """
    header = _Header(image)
    prefix = await header.read_more(0, _PREFIX_BYTES)
    kind = content_type.by_content(prefix[: content_type.SNIFFED_BYTES])
    parser = PARSERS.get(kind)
    if kind is None or parser is None:
        raise UnsupportedMedia("the content is not a raster image or a video")
    try:
        width, height = await header.parse(parser.size)
    except (BrokenHeader, MoreNeeded, TooMuchWork):
        raise UnsupportedMedia(f"the header of this {kind} cannot be read") from None
    if not (0 < width <= _MAX_PIXELS_A_SIDE and 0 < height <= _MAX_PIXELS_A_SIDE):
        raise UnsupportedMedia(
            f"invalid size in the header of this {kind}: {width} x {height} pixels"
        )
    color_profile = printable(await header.parse_optional(parser.color_profile))
    duration = _check_duration(await header.parse_optional(parser.duration))
    facts = await header.parse_facts()
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


class _Header(FileParts):
    """Parts of an open file that have been read so far. Their number and size are limited."""

    def __init__(self, image: OpenedImage) -> None:
        super().__init__(image.image.size, _MAX_BYTES)
        self._image = image

    async def read_more(self, start: int, length: int) -> bytes:
        """Read and return a part of the file. Raise `MoreNeeded` if a limit would be exceeded."""
        length = min(max(length, _READ_BYTES), self.size - start)
        if length > min(_MAX_READ_BYTES, _MAX_BYTES - self.held) or len(self._parts) > _MAX_READS:
            raise MoreNeeded(start, length)
        part = b"".join([chunk async for chunk in self._image.chunks(start, length)])
        self.add(start, part)
        return part

    async def parse(self, parser: Callable[[FileParts], T]) -> T:
        """Return the result of `parser`. Read more of the file each time `parser` needs it."""
        while True:
            try:
                return await reading.run_parser(self, parser)
            except MoreNeeded as more:
                await self.read_more(more.start, more.length)

    async def parse_optional(self, parser: Callable[[FileParts], T | None]) -> T | None:
        try:
            return await self.parse(parser)
        except (BrokenHeader, MoreNeeded, TooMuchWork):
            return None

    async def parse_facts(self) -> reading.Found:
        with contextlib.suppress(TooMuchWork):
            try:
                return await self.parse(reading.find)
            except (BrokenHeader, MoreNeeded):  # use what was read so far
                self.end()
                return await reading.run_parser(self, reading.find)
        return reading.UNKNOWN


def _check_duration(duration: float | None) -> float | None:
    """Return the duration rounded to microseconds; None if it is implausible, infinite or NaN."""
    if duration is None or not math.isfinite(duration) or not 0 < duration <= _MAX_DURATION_S:
        return None
    return round(duration, 6)
