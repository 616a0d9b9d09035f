"""Format, size and colour profile of an image from its header; no pixel is decoded.

Read from a prefix, and from the few places further on that the header points to. Pillow would
read WebP and AVIF whole, and hand them to decoders written in C; what stands here compares bytes.
Orientation (EXIF, `irot`) is not applied, and an EXIF colour space is not looked at.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from stillroom.errors import UnsupportedMedia
from stillroom.storage import content_type
from stillroom.storage.interface import OpenedImage

_PREFIX_BYTES: Final = 64 * 1024
_READ_BYTES: Final = 4 * 1024
_MOST_READ_BYTES: Final = 256 * 1024
_MOST_READS: Final = 16
"""What one image may make us read: 64 KiB, and 16 times at most 256 KiB more."""

_MOST_PROFILE_BYTES: Final = 1024**2
"""Profiles are some kilobytes; a few for printing have several hundred."""

_MOST_PIXELS_A_SIDE: Final = 2**31 - 1
_MOST_NAME: Final = 100

_SRGB: Final = "sRGB"
_CODED_SPACES: Final = {
    (1, 1): "Rec. 709",
    (1, 13): _SRGB,
    (9, 1): "Rec. 2020",
    (9, 14): "Rec. 2020",
    (9, 15): "Rec. 2020",
    (9, 16): "Rec. 2100 PQ",
    (9, 18): "Rec. 2100 HLG",
    (12, 13): "Display P3",
}
"""Primaries and transfer of https://www.itu.int/rec/T-REC-H.273, as cICP and nclx name them."""

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
    seen = _Seen(image.image.size)
    await seen.read_more(image, 0, _PREFIX_BYTES)
    kind = content_type.by_content(seen.prefix)
    if kind not in content_type.RASTER:
        raise UnsupportedMedia("not a raster image by its content")
    try:
        width, height = await _read(image, seen, _SIZE[kind])
    except (_BrokenError, _BeyondError):
        raise UnsupportedMedia(f"the header of this {kind} cannot be read") from None
    if not (0 < width <= _MOST_PIXELS_A_SIDE and 0 < height <= _MOST_PIXELS_A_SIDE):
        raise UnsupportedMedia(f"the header of this {kind} says {width} x {height} pixels")
    try:
        profile = await _read(image, seen, _PROFILE.get(kind, _no_profile))
    except (_BrokenError, _BeyondError):
        profile = None
    return Probed(kind, content_type.EXTENSION[kind], width, height, _printable(profile))


class _BrokenError(Exception):
    """The header is not of the form that its format has."""


class _BeyondError(Exception):
    """These bytes are needed too."""

    def __init__(self, start: int, length: int) -> None:
        super().__init__()
        self.start = start
        self.length = length


class _Seen:
    """The parts of a file that were read so far."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._parts: list[tuple[int, bytes]] = []
        self._reads = 0

    @property
    def prefix(self) -> bytes:
        return self._parts[0][1][: content_type.SNIFFED_BYTES]

    def bytes_at(self, start: int, length: int) -> bytes:
        """Those bytes of the file.

        Raises:
            _BrokenError: the file is shorter.
            _BeyondError: they were not read yet.
        """
        if start + length > self.size:
            raise _BrokenError
        for at, part in self._parts:
            if at <= start and start + length <= at + len(part):
                return part[start - at : start - at + length]
        raise _BeyondError(start, length)

    def numbers(self, form: str, start: int) -> tuple[int, ...]:
        """Whole numbers in the form of `struct`."""
        return struct.unpack(form, self.bytes_at(start, struct.calcsize(form)))

    async def read_more(self, image: OpenedImage, start: int, length: int) -> None:
        """Read a part.

        Raises:
            _BeyondError: this image has made us read enough.
        """
        if length > _MOST_READ_BYTES or self._reads > _MOST_READS:
            raise _BeyondError(start, length)
        self._reads += 1
        length = min(max(length, _READ_BYTES), self.size - start)
        part = b"".join([chunk async for chunk in image.chunks(start, length)])
        self._parts.append((start, part))


async def _read(image: OpenedImage, seen: _Seen, reader: Callable[[_Seen], Found]) -> Found:
    """What `reader` finds, reading on in the file for as long as it asks for more."""
    while True:
        try:
            return reader(seen)
        except _BeyondError as beyond:
            await seen.read_more(image, beyond.start, beyond.length)


# Size ------------------------------------------------------------------------------------


def _png_size(seen: _Seen) -> tuple[int, int]:
    """Source: https://www.w3.org/TR/png-3/#11IHDR."""
    if seen.bytes_at(12, 4) != b"IHDR":
        raise _BrokenError
    width, height = seen.numbers(">II", 16)
    return width, height


def _jpeg_size(seen: _Seen) -> tuple[int, int]:
    """Source: https://www.w3.org/Graphics/JPEG/itu-t81.pdf (B.2.2)."""
    for marker, start, _ in _jpeg_segments(seen):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = seen.numbers(">HH", start + 1)
            return width, height
    raise _BrokenError


def _gif_size(seen: _Seen) -> tuple[int, int]:
    """Source: https://www.w3.org/Graphics/GIF/spec-gif89a.txt."""
    width, height = seen.numbers("<HH", 6)
    return width, height


def _bmp_size(seen: _Seen) -> tuple[int, int]:
    """Source: https://learn.microsoft.com/windows/win32/gdi/bitmap-header-types."""
    (header,) = seen.numbers("<I", 14)
    if header == 12:
        width, height = seen.numbers("<HH", 18)
    else:
        width, height = seen.numbers("<ii", 18)
    return width, abs(height)  # negative: from the top down


def _ico_size(seen: _Seen) -> tuple[int, int]:
    """The largest one's; https://learn.microsoft.com/previous-versions/ms997538(v=msdn.10)."""
    (count,) = seen.numbers("<H", 4)
    sides = [seen.numbers("BB", 6 + 16 * index) for index in range(count)]
    if not sides:
        raise _BrokenError
    width, height = max((width or 256, height or 256) for width, height in sides)
    return width, height


def _tiff_size(seen: _Seen) -> tuple[int, int]:
    """Source: https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf."""
    entries = _tiff_entries(seen)
    order = _tiff_order(seen)
    sides = []
    for tag in (256, 257):
        kind, _, at = entries.get(tag, (0, 0, 0))
        if kind not in (3, 4):
            raise _BrokenError
        sides.append(seen.numbers(order + ("H" if kind == 3 else "I"), at)[0])
    return sides[0], sides[1]


def _webp_size(seen: _Seen) -> tuple[int, int]:
    """Source: https://developers.google.com/speed/webp/docs/riff_container."""
    kind = seen.bytes_at(12, 4)
    if kind == b"VP8X":
        low_w, high_w, low_h, high_h = seen.numbers("<HBHB", 24)
        return (high_w << 16 | low_w) + 1, (high_h << 16 | low_h) + 1
    if kind == b"VP8L" and seen.bytes_at(20, 1) == b"\x2f":
        (bits,) = seen.numbers("<I", 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and seen.bytes_at(23, 3) == b"\x9d\x01\x2a":
        width, height = seen.numbers("<HH", 26)
        return width & 0x3FFF, height & 0x3FFF
    raise _BrokenError


def _heif_size(seen: _Seen) -> tuple[int, int]:
    """The largest item's: what else is in the file are its tiles, its mask and its thumbnails.

    Encoders fill up to whole blocks, and `clap` says what of that is the image.
    Source: ISO/IEC 23008-12 (HEIF), 6.5.3 and 6.5.9; https://aomediacodec.github.io/av1-avif/.
    """
    sizes = []
    for kind, start, _ in _heif_properties(seen):
        if kind == b"ispe":
            width, height = seen.numbers(">II", start + 4)
            sizes.append((width, height))
    if not sizes:
        raise _BrokenError
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    for kind, start, _ in _heif_properties(seen):
        if kind == b"clap":
            across, across_by, down, down_by = seen.numbers(">IIII", start)
            if across <= width * across_by and down <= height * down_by and across_by and down_by:
                width, height = across // across_by, down // down_by
    return width, height


def _jxl_size(seen: _Seen) -> tuple[int, int]:
    """ISO/IEC 18181-1, SizeHeader; bits come from the lowest on."""
    start = 0
    if seen.bytes_at(0, 2) != b"\xff\x0a":
        start = _jxl_codestream(seen)
    if seen.bytes_at(start, 2) != b"\xff\x0a":
        raise _BrokenError
    head = seen.bytes_at(start + 2, min(9, seen.size - start - 2))  # 67 bits at most
    bits = int.from_bytes(head, "little")

    def take(count: int) -> int:
        nonlocal bits
        taken = bits & (1 << count) - 1
        bits >>= count
        return taken

    small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if small else take((9, 13, 18, 30)[take(2)]) + 1

    height = side()
    ratio = take(3)
    if ratio == 0:
        return side(), height
    across, down = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return height * across // down, height


_SIZE: Final[dict[str | None, Callable[[_Seen], tuple[int, int]]]] = {
    "image/avif": _heif_size,
    "image/bmp": _bmp_size,
    "image/gif": _gif_size,
    "image/heic": _heif_size,
    "image/jpeg": _jpeg_size,
    "image/jxl": _jxl_size,
    "image/png": _png_size,
    "image/tiff": _tiff_size,
    "image/webp": _webp_size,
    "image/x-icon": _ico_size,
}


# Colour profile --------------------------------------------------------------------------


def _png_profile(seen: _Seen) -> str | None:
    """In the order in which a reader must believe them: cICP, iCCP, sRGB."""
    found: dict[bytes, tuple[int, int]] = {}
    at = 8
    while (kind := seen.bytes_at(at + 4, 4)) not in (b"IDAT", b"IEND"):
        (length,) = seen.numbers(">I", at)
        found[kind] = (at + 8, length)
        at += length + 12
    if b"cICP" in found:
        primaries, transfer = seen.numbers("BB", found[b"cICP"][0])
        return _CODED_SPACES.get((primaries, transfer))
    if b"iCCP" in found:
        _, _, packed = seen.bytes_at(*found[b"iCCP"]).partition(b"\0")
        try:
            profile = zlib.decompressobj().decompress(packed[1:], _MOST_PROFILE_BYTES)
        except zlib.error:
            raise _BrokenError from None
        return _icc_name(profile)
    return _SRGB if b"sRGB" in found else None


def _jpeg_profile(seen: _Seen) -> str | None:
    """Source: https://www.color.org/specification/ICC.1-2022-05.pdf (B.4)."""
    label = b"ICC_PROFILE\0"
    parts = {}
    for marker, start, length in _jpeg_segments(seen):
        if marker == 0xE2 and length > 14 and seen.bytes_at(start, 12) == label:
            parts[seen.numbers("B", start + 12)[0]] = seen.bytes_at(start + 14, length - 14)
    return _icc_name(b"".join(parts[number] for number in sorted(parts)))


def _bmp_profile(seen: _Seen) -> str | None:
    (header,) = seen.numbers("<I", 14)
    if header < 108:
        return None
    space = seen.bytes_at(70, 4)
    if space == b"BGRs":
        return _SRGB
    if space == b"DEBM" and header >= 124:
        start, length = seen.numbers("<II", 126)
        return _icc_name(seen.bytes_at(14 + start, length))
    return None


def _tiff_profile(seen: _Seen) -> str | None:
    kind, count, at = _tiff_entries(seen).get(34675, (0, 0, 0))
    return _icc_name(seen.bytes_at(at, count)) if kind == 7 and count > 4 else None


def _webp_profile(seen: _Seen) -> str | None:
    at = 12
    while at + 8 <= seen.size:
        kind = seen.bytes_at(at, 4)
        (length,) = seen.numbers("<I", at + 4)
        if kind == b"ICCP":
            return _icc_name(seen.bytes_at(at + 8, length))
        if kind != b"VP8X":  # a profile stands directly behind it, or there is none
            return None
        at += 8 + length + length % 2
    return None


def _heif_profile(seen: _Seen) -> str | None:
    coded = None
    for kind, start, end in _heif_properties(seen):
        if kind == b"colr":
            form = seen.bytes_at(start, 4)
            if form in (b"prof", b"rICC"):
                return _icc_name(seen.bytes_at(start + 4, end - start - 4))
            if form == b"nclx":
                primaries, transfer = seen.numbers(">HH", start + 4)
                coded = coded or _CODED_SPACES.get((primaries, transfer))
    return coded


def _no_profile(_: _Seen) -> str | None:
    return None


_PROFILE: Final[dict[str | None, Callable[[_Seen], str | None]]] = {
    "image/avif": _heif_profile,
    "image/bmp": _bmp_profile,
    "image/heic": _heif_profile,
    "image/jpeg": _jpeg_profile,
    "image/png": _png_profile,
    "image/tiff": _tiff_profile,
    "image/webp": _webp_profile,
}


def _icc_name(profile: bytes) -> str | None:
    """The description in an ICC profile, of version 2 or 4 (ICC.1-2022-05, 7.3 and 9.2.41)."""
    try:
        if profile[36:40] != b"acsp":
            return None
        (count,) = struct.unpack_from(">I", profile, 128)
        for index in range(min(count, 100)):
            tag, start, length = struct.unpack_from(">4sII", profile, 132 + 12 * index)
            if tag == b"desc":
                return _icc_text(profile[start : start + length])
    except struct.error:
        pass
    return None


def _icc_text(entry: bytes) -> str | None:
    if entry[:4] == b"desc":
        (length,) = struct.unpack_from(">I", entry, 8)
        return entry[12 : 12 + length].partition(b"\0")[0].decode("latin-1")
    if entry[:4] == b"mluc":
        length, start = struct.unpack_from(">II", entry, 20)
        return entry[start : start + length].decode("utf-16-be", "replace")
    return None


def _printable(name: str | None) -> str | None:
    """A stranger's text, made fit to stand in a row, an answer and a log."""
    if name is None:
        return None
    clean = "".join(char for char in name if char.isprintable()).strip()
    return clean[:_MOST_NAME] or None


# Structures ------------------------------------------------------------------------------


def _jpeg_segments(seen: _Seen) -> Iterator[tuple[int, int, int]]:
    """Marker, start and length of each segment up to the first scan."""
    at = 2
    while True:
        sign, marker = seen.numbers("BB", at)
        if sign != 0xFF or marker == 0xD9:
            raise _BrokenError
        if marker == 0xFF:  # fill
            at += 1
            continue
        if marker == 0xDA:
            return
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
            continue
        (length,) = seen.numbers(">H", at + 2)
        if length < 2:
            raise _BrokenError
        yield marker, at + 4, length - 2
        at += 2 + length


def _tiff_order(seen: _Seen) -> str:
    return "<" if seen.bytes_at(0, 2) == b"II" else ">"


def _tiff_entries(seen: _Seen) -> dict[int, tuple[int, int, int]]:
    """Type, count, and place of the value, by tag, of the first page."""
    order = _tiff_order(seen)
    (start,) = seen.numbers(order + "I", 4)
    (count,) = seen.numbers(order + "H", start)
    entries = {}
    for index in range(count):
        at = start + 2 + 12 * index
        tag, kind, length = seen.numbers(order + "HHI", at)
        inline = length * {1: 1, 2: 1, 3: 2, 4: 4, 7: 1}.get(kind, 8) <= 4
        entries[tag] = (kind, length, at + 8 if inline else seen.numbers(order + "I", at + 8)[0])
    return entries


def _boxes(seen: _Seen, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of the content of each box (ISO/IEC 14496-12, 4.2)."""
    while start + 8 <= end:
        (length,) = seen.numbers(">I", start)
        kind = seen.bytes_at(start + 4, 4)
        head = 8
        if length == 1:
            (length,) = seen.numbers(">Q", start + 8)
            head = 16
        elif length == 0:
            length = end - start
        if length < head or start + length > end:
            raise _BrokenError
        yield kind, start + head, start + length
        start += length


def _jxl_codestream(seen: _Seen) -> int:
    """Where it begins in a container; `jxlp` has a number in front of it."""
    for kind, start, _ in _boxes(seen, 0, seen.size):
        if kind in (b"jxlc", b"jxlp"):
            return start + (4 if kind == b"jxlp" else 0)
    raise _BrokenError


def _heif_properties(seen: _Seen) -> Iterator[tuple[bytes, int, int]]:
    for kind, start, end in _boxes(seen, 0, seen.size):
        if kind == b"meta":
            for below, at, until in _boxes(seen, start + 4, end):
                if below == b"iprp":
                    for inner, first, last in _boxes(seen, at, until):
                        if inner == b"ipco":
                            yield from _boxes(seen, first, last)
            return
