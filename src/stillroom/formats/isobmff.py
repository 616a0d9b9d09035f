"""Parser of the boxes in HEIC, AVIF, JPEG XL, MP4 and QuickTime files (ISO/IEC 14496-12, 4.2)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

from stillroom.formats.file_parts import BrokenHeader, CutOff, FileParts

MAX_ITEMS: Final = 4096  # maximum number of items whose locations are read
_MAX_EXTENTS: Final = 64


def boxes(parts: FileParts, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type, content start and content end of each box from `start` to `end`.

    Raises `CutOff` if a box exceeds the file, or `BrokenHeader` if its length is impossible.
    """
    while start + 8 <= end:
        fields = parts.bytes_at(start, 8)
        length, kind, head = int.from_bytes(fields[:4], "big"), fields[4:], 8
        if length == 1:  # a long box
            (length,) = parts.numbers(">Q", start + 8)
            head = 16
        elif length == 0:
            length = end - start
        if length < head:
            raise BrokenHeader
        if start + length > end:
            raise CutOff if start + length > parts.size else BrokenHeader
        yield kind, start + head, start + length
        start += length


def inner_boxes(
    parts: FileParts, start: int, end: int, *required: bytes
) -> dict[bytes, tuple[int, int]]:
    """Return the content range by box type. Raises `BrokenHeader` if a required box is missing."""
    inner = {kind: (at, until) for kind, at, until in boxes(parts, start, end)}
    if not inner.keys() >= set(required):
        raise BrokenHeader
    return inner


def find_box(parts: FileParts, start: int, end: int, *kinds: bytes) -> tuple[bytes, int, int]:
    """Return the first box with a type in `kinds`. Raises `BrokenHeader` if there is none."""
    for box in boxes(parts, start, end):
        if box[0] in kinds:
            return box
    raise BrokenHeader


@dataclass(frozen=True, slots=True)
class LocationWidths:
    """Widths in bytes of the numbers in an `iloc` box. Numbers of width 0 are not stored."""

    number: int
    method: int
    base: int
    index: int
    offset: int
    length: int

    @classmethod
    def of(cls, parts: FileParts, start: int) -> Self:
        """Return the widths from the `iloc` box whose content begins at `start`."""
        version, sizes = parts.numbers(">B3xH", start)
        offset, length, base, index = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15, sizes & 15
        number, method = (4 if version == 2 else 2), (2 if version in (1, 2) else 0)
        return cls(number, method, base, index if method else 0, offset, length)


@dataclass(slots=True)
class Location:
    """Location of the bytes of one item, such as a thumbnail or an EXIF block."""

    number: int
    method: int  # base of all offsets. 0: the start of the file, 1: the `idat` box
    source: int  # 0: this file
    base: int  # number that is added to the offset of each extent
    extents: list[tuple[int, int, int]]  # index, offset and length of each range of bytes


def locations(parts: FileParts, start: int, end: int, *, most: int = 0) -> Iterator[Location]:
    """Yield the locations of up to `MAX_ITEMS` items in an `iloc` box (ISO/IEC 14496-12, 8.11.3).

    An item has up to 64 extents. Up to `most` items and extents in total may exceed both limits.
    """
    widths, at = LocationWidths.of(parts, start), start + 6

    def take(width: int) -> int:
        nonlocal at
        if at + width > end:
            raise BrokenHeader
        at += width
        return int.from_bytes(parts.bytes_at(at - width, width), "big")

    items = take(widths.number)
    left = most - items
    for _ in range(min(items, max(MAX_ITEMS, most))):
        number = take(widths.number)
        method = take(widths.method) if widths.method else 0
        location = Location(number, method, take(2), take(widths.base), [])
        count = take(2)
        if count > max(_MAX_EXTENTS, left):
            raise BrokenHeader
        left -= count
        for _ in range(count):
            index = take(widths.index)
            location.extents.append((index, take(widths.offset), take(widths.length)))
        yield location
