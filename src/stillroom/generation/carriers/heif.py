"""AVIF, HEIC and MP4: items of EXIF and XMP, found by the box `meta`; manifests and XMP in `uuid`.

Source: ISO/IEC 14496-12 (8.11: meta, iinf, iloc, idat); ISO/IEC 23008-12, annex A; for `uuid`
https://developer.adobe.com/xmp/docs/XMPSpecifications/ (part 3, 1.2.1) and `c2pa.py`.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from stillroom.file_parts import BrokenHeader, FileParts, boxes
from stillroom.generation.carriers import c2pa, exif, xmp
from stillroom.generation.carriers.entries import MAX_TEXT_BYTES, Entries, is_readable

XMP_TYPE: Final = b"application/rdf+xml"
_XMP_UUID: Final = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_UUID_BYTES: Final = 16
_HASHES: Final = b"merkle\0"
"""What else a box of C2PA's can be for: sums of a fragmented video."""

_MAX_BOXES: Final = 256
_MAX_ITEMS: Final = 4096
_MAX_EXTENTS: Final = 64
_IN_FILE, _IN_IDAT = 0, 1


@dataclass(frozen=True, slots=True)
class Item:
    """An item that has text in it: its number, its four letters, and its content type."""

    number: int
    kind: bytes
    content_type: bytes


def is_heif(start: bytes) -> bool:
    """Whether a file that begins so may be one."""
    return start[4:8] == b"ftyp"


def read(parts: FileParts, found: Entries) -> None:
    """What the items hold, and the boxes of other standards beside them."""
    for number, (kind, at, until) in enumerate(boxes(parts, 0, parts.size)):
        if number == _MAX_BOXES:
            raise BrokenHeader
        if kind == b"meta":
            _read_items(parts, at + 4, until, found)
        elif kind == b"uuid":
            _take_uuid(parts, at, until, found)
        elif kind == b"moof":
            return  # the first of very many; whatever describes the whole stands in front of it


def _take_uuid(parts: FileParts, start: int, end: int, found: Entries) -> None:
    """What is in a box whose type is a UUID."""
    head = parts.bytes_at(start, min(end - start, _UUID_BYTES + c2pa.HEAD_BYTES))
    kind, content = head[:_UUID_BYTES], head[_UUID_BYTES:]
    if kind == c2pa.BMFF_UUID:
        if not content.startswith(_HASHES, 4):
            found.take_manifest(content)
    elif kind == _XMP_UUID:
        at, length = start + _UUID_BYTES, end - start - _UUID_BYTES
        if is_readable(parts, at, length):
            xmp.read(parts.bytes_at(at, length), found)
        else:
            found.lose()


def _read_items(parts: FileParts, start: int, end: int, found: Entries) -> None:
    """What the items hold that a box `meta` describes."""
    information, places = box(parts, b"iinf", start, end), box(parts, b"iloc", start, end)
    if information is None or places is None:
        return
    wanted = {
        item.number: item
        for item in items(parts, *information)
        if item.kind == b"Exif" or item.content_type == XMP_TYPE
    }
    inner = box(parts, b"idat", start, end)
    for number, extents in locations(parts, *places, inner[0] if inner else 0):
        if number not in wanted:
            continue
        is_small = sum(length for _, length in extents) <= MAX_TEXT_BYTES
        if not is_small or not all(is_readable(parts, at, length) for at, length in extents):
            found.lose(with_mark=wanted[number].kind != b"Exif")
            continue
        content = b"".join(parts.bytes_at(at, length) for at, length in extents)
        if wanted[number].kind == b"Exif":
            exif.read(content[4 + int.from_bytes(content[:4], "big") :], found)
        else:
            xmp.read(content, found)


def box(parts: FileParts, kind: bytes, start: int, end: int) -> tuple[int, int] | None:
    """Start and end of the content of the first box of this kind."""
    for one, at, until in itertools.islice(boxes(parts, start, end), _MAX_BOXES):
        if one == kind:
            return at, until
    return None


def items(parts: FileParts, start: int, end: int) -> Iterator[Item]:
    """The items that `iinf` describes; those of other kinds than text are left out."""
    version = parts.numbers("B", start)[0]
    head = 6 if version == 0 else 8
    for kind, at, until in itertools.islice(boxes(parts, start + head, end), _MAX_ITEMS):
        form = parts.numbers("B", at)[0]
        if kind != b"infe" or form < 2:
            continue
        number = parts.numbers(">H" if form == 2 else ">I", at + 4)[0]
        place = at + (8 if form == 2 else 10)
        sort = parts.bytes_at(place, 4)
        if sort == b"Exif":
            yield Item(number, sort, b"")
        elif sort == b"mime":
            _name, _, rest = parts.bytes_at(place + 4, until - place - 4).partition(b"\0")
            yield Item(number, sort, rest.partition(b"\0")[0])


def locations(
    parts: FileParts, start: int, end: int, inner: int
) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Number and extents (start, length) of each item that `iloc` places.

    Args:
        parts: Of the file.
        start: Of the box's content.
        end: Of the same.
        inner: Where the content of `idat` begins.
    """
    version = parts.numbers("B", start)[0]
    sizes = parts.numbers(">H", start + 4)[0]
    of_offset, of_length, of_base = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    of_index = sizes & 15 if version in (1, 2) else 0
    reader = _Fields(parts, start + 6, end)
    for _ in range(min(reader.number(4 if version == 2 else 2), _MAX_ITEMS)):
        item = reader.number(4 if version == 2 else 2)
        method = reader.number(2) & 15 if version in (1, 2) else _IN_FILE
        reader.number(2)  # the file that it is in; 0 is this one
        base = reader.number(of_base) + (inner if method == _IN_IDAT else 0)
        count = reader.number(2)
        if count > _MAX_EXTENTS:
            raise BrokenHeader
        extents = []
        for _ in range(count):
            reader.number(of_index)
            offset, length = reader.number(of_offset), reader.number(of_length)
            extents.append((base + offset, length))
        if method in (_IN_FILE, _IN_IDAT):
            yield item, extents


class _Fields:
    """Numbers of several widths, one behind the other."""

    def __init__(self, parts: FileParts, at: int, end: int) -> None:
        self._parts = parts
        self._at = at
        self._end = end

    def number(self, width: int) -> int:
        """The next one, of `width` bytes; of none it is 0."""
        if self._at + width > self._end:
            raise BrokenHeader
        found = int.from_bytes(self._parts.bytes_at(self._at, width), "big")
        self._at += width
        return found
