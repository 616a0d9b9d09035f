"""The box `iloc` of an AVIF, to be changed: where in the file each item's bytes are.

Source: ISO/IEC 14496-12, 8.11.3.
"""

import struct
from dataclasses import dataclass
from typing import Final, Self

from stillroom.errors import UnsupportedMedia
from stillroom.file_parts import BrokenHeader

_MAX_PLACES: Final = 65_536
"""Items and parts of them; a part whose numbers have no width takes no byte of the box."""


@dataclass(slots=True)
class _Place:
    """One item: how its places count (0: from the file's beginning), and what they are.

    Attributes:
        source: The file that it is in; 0 is this one.
        extents: Index, offset and length of each.
    """

    method: int
    source: int
    base: int
    extents: list[tuple[int, int, int]]

    @property
    def is_in_file(self) -> bool:
        return self.method & 15 == 0 and self.source == 0


class ItemPlaces:
    """All items, in their order, and the widths of their numbers in the box."""

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
        """Read the content of the box, which begins at `start`.

        Raises:
            BrokenHeader: it ends too early, or has more places than an image needs.
        """
        found = cls(data[start : start + 6])
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

        for _ in bounded(take(found._number)):
            number = take(found._number)
            method = take(2) if found._version in (1, 2) else 0
            place = _Place(method, take(2), take(found._base), [])
            for _ in bounded(take(2)):
                index = take(found._index)
                place.extents.append((index, take(found._offset), take(found._length)))
            found._places[number] = place
        return found

    @property
    def numbers(self) -> list[int]:
        """Of the items."""
        return list(self._places)

    def extents(self, number: int) -> list[tuple[int, int]] | None:
        """Start and length of the parts of an item; None where it is not in this file itself."""
        place = self._places.get(number)
        if place is None or not place.is_in_file:
            return None
        return [(place.base + offset, length) for _, offset, length in place.extents]

    def add(self, number: int) -> None:
        """One more item, whose place is not known yet."""
        self._places[number] = _Place(0, 0, 0, [(0, 0, 0)])

    def place(self, number: int, start: int, length: int) -> None:
        """Say where an item is, in one piece."""
        base = start if self._offset == 0 else 0
        self._places[number] = _Place(0, 0, base, [(0, start - base, length)])

    def shift(self, behind: int, by: int) -> None:
        """Move all that begins at `behind` or later.

        Raises:
            UnsupportedMedia: parts of one item that share a base are on both sides.
        """
        for place in self._places.values():
            moved = [place.base + offset >= behind for _, offset, _ in place.extents]
            if not place.is_in_file or not any(moved):
                continue
            if self._offset == 0 or place.base >= behind:
                if not all(moved):
                    raise UnsupportedMedia("the AVIF's parts cannot be moved")
                place.base += by
            else:
                place.extents = [
                    (index, offset + by * is_moved, length)
                    for (index, offset, length), is_moved in zip(place.extents, moved, strict=True)
                ]

    def encoded(self) -> bytes:
        """The content of the box.

        Raises:
            UnsupportedMedia: a number has become too large for its width.
        """
        pieces = [self._head, self._packed(len(self._places), self._number)]
        for number, place in self._places.items():
            pieces.append(self._packed(number, self._number))
            if self._version in (1, 2):
                pieces.append(self._packed(place.method, 2))
            pieces += [self._packed(place.source, 2), self._packed(place.base, self._base)]
            pieces.append(self._packed(len(place.extents), 2))
            for extent in place.extents:
                widths = (self._index, self._offset, self._length)
                pieces += map(self._packed, extent, widths)
        return b"".join(pieces)

    @staticmethod
    def _packed(value: int, width: int) -> bytes:
        try:
            return value.to_bytes(width, "big")
        except OverflowError:
            raise UnsupportedMedia("the AVIF has no room to say where facts would be") from None
