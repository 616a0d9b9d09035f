"""Functions that write XMP into an AVIF file, as an item whose bytes are at the end of the file.

The new item makes the `meta` box longer, so the offsets in the `iloc` box are increased. Animations
and boxes without a length would need more changes, and are rejected.
Sources: ISO/IEC 14496-12 (8.11: meta, iinf, iloc, iref); ISO/IEC 23008-12, annex A.
"""

import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from stillroom.errors import UnsupportedMedia
from stillroom.formats.file_parts import LOOKS_OF_A_READ, BrokenHeader, FileParts
from stillroom.formats.isobmff import MAX_ITEMS, Location, LocationWidths, boxes, locations
from stillroom.formats.work_budget import WorkBudget
from stillroom.generation.carriers import heif

_MAX_PLACES: Final = 65_536  # limit of items and extents; a small box can have many empty extents
_LOOKS_OF_A_PLACE: Final = 6 * LOOKS_OF_A_READ
_NO_ID: Final = 0xFFFF
_MAX_BOXES: Final = 256


class _Box(NamedTuple):
    kind: bytes
    start: int
    inner: int  # start of the content
    end: int


def with_packet(data: bytes, change: Callable[[bytes | None], bytes]) -> bytes:
    """Replace the XMP packet of an AVIF file; see `Writer`."""
    top = _boxes(data, 0, len(data))
    meta = _only(top, b"meta")
    is_open = data.startswith(bytes(4), top[-1].start)  # the file's last box has no length
    if is_open or any(box.kind == b"moov" for box in top):
        raise UnsupportedMedia(
            "cannot add XMP metadata: the AVIF is animated or has an unusual structure"
        )
    inner = _boxes(data, meta.inner + 4, meta.end)
    locations = _only(inner, b"iloc")
    places = _ItemPlaces(data, locations.inner, locations.end)
    information = _only(inner, b"iinf")
    items = heif.item_types(FileParts.whole(data), information.inner, information.end)
    number, packet = _find_packet(data, items, places)
    body, kept_to, last = change(packet), len(data), top[-1]
    alone = [(last.inner, last.end - last.inner)]
    if number is not None and last.kind == b"mdat" and places.extents(number) == alone:
        kept_to = last.start  # drop the packet that an earlier call wrote
    boxes_of_meta: dict[bytes, bytes] = {}
    if number is None:
        number = 1 + max([0, *places.all, *items])
        if number >= _NO_ID or len(items) >= MAX_ITEMS:
            raise UnsupportedMedia("cannot add XMP: the AVIF has no free item number")
        boxes_of_meta = _announce_item(data, inner, number)
        places.place(number, 0, 0)
    grown = len(_rebuild(data, meta, inner, boxes_of_meta, places)) - (meta.end - meta.start)
    places.shift(meta.end, grown)
    places.place(number, kept_to + grown + 8, len(body))
    rebuilt = _rebuild(data, meta, inner, boxes_of_meta, places)
    return data[: meta.start] + rebuilt + data[meta.end : kept_to] + _build_box(b"mdat", body)


def _find_packet(
    data: bytes, items: dict[int, bytes | None], places: "_ItemPlaces"
) -> tuple[int | None, bytes | None]:
    number = next((number for number, kind in items.items() if kind == heif.XMP_TYPE), None)
    if number is None:
        return None, None
    extents = places.extents(number)
    # Overlapping extents could add up to many times the size of the file.
    ends = [at + length for at, length in extents or ()]
    size = sum(length for _, length in extents or ())
    if extents is None or max(size, *ends, 0) > len(data):
        raise UnsupportedMedia(
            "cannot replace the XMP metadata: the AVIF stores it in an unusual way"
        )
    return number, b"".join(data[at : at + length] for at, length in extents)


def _announce_item(data: bytes, inner: list[_Box], number: int) -> dict[bytes, bytes]:
    information = _only(inner, b"iinf")
    head = data[information.inner : information.end]
    form = ">H" if head[0] == 0 else ">I"
    (count,) = struct.unpack_from(form, head, 4)
    entry = struct.pack(">IHH4s", 2 << 24, number, 0, b"mime") + b"\0" + heif.XMP_TYPE + b"\0"
    counted = head[:4] + struct.pack(form, count + 1) + head[4 + struct.calcsize(form) :]
    primary = _only(inner, b"pitm").inner
    (image,) = struct.unpack_from(">I" if data[primary] else ">H", data, primary + 4)
    references = next((data[box.inner : box.end] for box in inner if box.kind == b"iref"), bytes(4))
    form = ">HHH" if references[0] == 0 else ">IHI"
    if form == ">HHH" and image > _NO_ID:
        raise BrokenHeader
    references += _build_box(b"cdsc", struct.pack(form, number, 1, image))
    return {
        b"iinf": _build_box(b"iinf", counted + _build_box(b"infe", entry)),
        b"iref": _build_box(b"iref", references),
    }


def _rebuild(
    data: bytes, meta: _Box, inner: list[_Box], changed: dict[bytes, bytes], places: "_ItemPlaces"
) -> bytes:
    changed = {**changed, b"iloc": _build_box(b"iloc", places.encode())}
    kept = [changed.pop(box.kind, data[box.start : box.end]) for box in inner]
    content = data[meta.inner : meta.inner + 4] + b"".join([*kept, *changed.values()])
    return _build_box(b"meta", content)


def _boxes(data: bytes, start: int, end: int) -> list[_Box]:
    listed, at = [], start
    for kind, inner, until in boxes(FileParts.whole(data[:end]), start, end):
        listed.append(_Box(kind, at, inner, until))
        at = until
        if len(listed) > _MAX_BOXES:
            raise BrokenHeader
    if at != end:
        raise BrokenHeader
    return listed


def _only(boxes_: list[_Box], kind: bytes) -> _Box:
    named = [box for box in boxes_ if box.kind == kind]
    if len(named) == 1:
        return named[0]
    raise BrokenHeader


def _build_box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


class _ItemPlaces:
    """Locations of all items in an `iloc` box, which can be changed and encoded again."""

    def __init__(self, data: bytes, start: int, end: int) -> None:
        parts = FileParts.whole(data, WorkBudget(_MAX_PLACES * _LOOKS_OF_A_PLACE))
        self._head = data[start : start + 6]
        self._widths = LocationWidths.of(parts, start)
        places = list(locations(parts, start, end, most=_MAX_PLACES))
        count = data[start + 6 : start + 6 + self._widths.number]
        if len(places) != int.from_bytes(count, "big"):
            raise BrokenHeader
        self.all = {place.number: place for place in places}

    def extents(self, number: int) -> list[tuple[int, int]] | None:
        """Return (start, length) of each extent of an item, or None if the file lacks the item."""
        place = self.all.get(number)
        if place and _is_in_file(place):
            return [(place.base + offset, length) for _, offset, length in place.extents]
        return None

    def place(self, number: int, start: int, length: int) -> None:
        base = start if self._widths.offset == 0 else 0
        self.all[number] = Location(number, 0, 0, base, [(0, start - base, length)])

    def shift(self, start: int, by: int) -> None:
        """Add `by` to the offset of each extent at or after the offset `start`."""
        for place in filter(_is_in_file, self.all.values()):
            if place.base >= start:
                place.base += by
            else:
                place.extents = [
                    (index, offset + by * (place.base + offset >= start), length)
                    for index, offset, length in place.extents
                ]

    def encode(self) -> bytes:
        """Return the content of the box. Raise `UnsupportedMedia` if a number does not fit."""
        widths = self._widths
        numbers = [(len(self.all), widths.number)]
        for place in self.all.values():
            numbers += [(place.number, widths.number), (place.method, widths.method)]
            numbers += [(place.source, 2), (place.base, widths.base), (len(place.extents), 2)]
            for extent in place.extents:
                numbers += zip(extent, (widths.index, widths.offset, widths.length), strict=True)
        try:
            return self._head + b"".join(value.to_bytes(width, "big") for value, width in numbers)
        except OverflowError:
            raise UnsupportedMedia("cannot add metadata: the AVIF's item table is full") from None


def _is_in_file(place: Location) -> bool:
    return place.method & 15 == 0 and place.source == 0
