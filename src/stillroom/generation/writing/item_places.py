"""Editable `iloc` box of an AVIF file, which contains the location of each item's bytes.

Source: ISO/IEC 14496-12, 8.11.3.
"""

import struct
from dataclasses import dataclass
from typing import Final, Self

from stillroom.errors import UnsupportedMedia
from stillroom.file_parts import BrokenHeader

_MAX_PLACES: Final = 65_536
"""Maximum number of items plus extents. Extents may have 0 bytes, so a small box can have many."""


@dataclass(slots=True)
class _Place:
    """Location of one item's bytes.

    Attributes:
        method: Construction method; 0 means that offsets start at the beginning of the file.
        source: Data reference; 0 means this file.
        base: Number that is added to the offset of each extent.
        extents: Index, offset and length of each extent (range of bytes).
    """

    method: int
    source: int
    base: int
    extents: list[tuple[int, int, int]]

    @property
    def is_in_file(self) -> bool:
        return self.method & 15 == 0 and self.source == 0


class ItemPlaces:
    """Locations of all items in the order of the box, and the widths of the numbers in it."""

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._version = head[0]
        (sizes,) = struct.unpack_from(">H", head, 4)
        self._offset, self._length, self._base = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
        self._index = sizes & 15 if self._version in (1, 2) else 0
        self._number = 4 if self._version == 2 else 2
        self._places: dict[int, _Place] = {}

    @classmethod
    def of(cls, data: bytes, start: int) -> Self:
        """Parse the content of an `iloc` box, which begins at `start`.

        Raises:
            BrokenHeader: the content ends too early, or has more locations than an image needs.
        """
        places = cls(data[start : start + 6])
        at, left = start + 6, _MAX_PLACES

        def take(width: int) -> int:
            nonlocal at
            if at + width > len(data):
                raise BrokenHeader
            at += width
            return int.from_bytes(data[at - width : at], "big")

        def bounded(count: int) -> range:
            nonlocal left
            left -= count
            if left < 0:
                raise BrokenHeader
            return range(count)

        for _ in bounded(take(places._number)):
            number = take(places._number)
            method = take(2) if places._version in (1, 2) else 0
            place = _Place(method, take(2), take(places._base), [])
            for _ in bounded(take(2)):
                index = take(places._index)
                place.extents.append((index, take(places._offset), take(places._length)))
            places._places[number] = place
        return places

    @property
    def numbers(self) -> list[int]:
        """Numbers of all items."""
        return list(self._places)

    def extents(self, number: int) -> list[tuple[int, int]] | None:
        """Return start and length of each of an item's extents; None if it is in another file."""
        place = self._places.get(number)
        if place is None or not place.is_in_file:
            return None
        return [(place.base + offset, length) for _, offset, length in place.extents]

    def add(self, number: int) -> None:
        """Add an item whose location is not known yet."""
        self._places[number] = _Place(0, 0, 0, [(0, 0, 0)])

    def place(self, number: int, start: int, length: int) -> None:
        """Set the location of an item as a single extent."""
        base = start if self._offset == 0 else 0
        self._places[number] = _Place(0, 0, base, [(0, start - base, length)])

    def shift(self, start: int, by: int) -> None:
        """Increase the offsets of all bytes from `start` on by `by`.

        Raises:
            UnsupportedMedia: extents that share a base are both before and after `start`.
        """
        for place in self._places.values():
            moved = [place.base + offset >= start for _, offset, _ in place.extents]
            if not place.is_in_file or not any(moved):
                continue
            if self._offset == 0 or place.base >= start:
                if not all(moved):
                    raise UnsupportedMedia("cannot move the parts of this AVIF")
                place.base += by
            else:
                place.extents = [
                    (index, offset + by * is_moved, length)
                    for (index, offset, length), is_moved in zip(place.extents, moved, strict=True)
                ]

    def encode(self) -> bytes:
        """Encode the content of the box. Raise `UnsupportedMedia` if a number does not fit."""
        pieces = [self._head, self._pack(len(self._places), self._number)]
        for number, place in self._places.items():
            pieces.append(self._pack(number, self._number))
            if self._version in (1, 2):
                pieces.append(self._pack(place.method, 2))
            pieces += [self._pack(place.source, 2), self._pack(place.base, self._base)]
            pieces.append(self._pack(len(place.extents), 2))
            for extent in place.extents:
                widths = (self._index, self._offset, self._length)
                pieces += map(self._pack, extent, widths)
        return b"".join(pieces)

    @staticmethod
    def _pack(value: int, width: int) -> bytes:
        try:
            return value.to_bytes(width, "big")
        except OverflowError:
            raise UnsupportedMedia("cannot add metadata: the AVIF's item table is full") from None
