"""Editor of the box `iloc` of an AVIF file, which contains the location of each item's bytes.

Source: ISO/IEC 14496-12, 8.11.3.
"""

from typing import Final

from stillroom.errors import UnsupportedMedia
from stillroom.formats.file_parts import LOOKS_OF_A_READ, BrokenHeader, FileParts
from stillroom.formats.isobmff import Location, LocationWidths, locations
from stillroom.formats.work_budget import WorkBudget

_MAX_PLACES: Final = 65_536
"""Maximum number of items plus extents. Extents may have 0 bytes, so a small box can have many."""

_LOOKS_OF_A_PLACE: Final = 6 * LOOKS_OF_A_READ


class ItemPlaces:
    """Locations of all items in a box `iloc`, which can be changed and encoded again."""

    def __init__(self, data: bytes, start: int, end: int) -> None:
        """Parse the content of an `iloc` box, from `start` to `end`."""
        parts = FileParts.whole(data, WorkBudget(_MAX_PLACES * _LOOKS_OF_A_PLACE))
        self._head = data[start : start + 6]
        self._widths = LocationWidths.of(parts, start)
        places = list(locations(parts, start, end, most=_MAX_PLACES))
        count = data[start + 6 : start + 6 + self._widths.number]
        if len(places) != int.from_bytes(count, "big"):
            raise BrokenHeader
        self._places = {place.number: place for place in places}

    @property
    def numbers(self) -> list[int]:
        """Numbers of all items."""
        return list(self._places)

    def extents(self, number: int) -> list[tuple[int, int]] | None:
        """Return the start and length of each extent of an item; None if it is in another file."""
        place = self._places.get(number)
        if place is None or not _is_in_file(place):
            return None
        return [(place.base + offset, length) for _, offset, length in place.extents]

    def add(self, number: int) -> None:
        """Add an item. Its location is set later with `place`."""
        self._places[number] = Location(number, 0, 0, 0, [(0, 0, 0)])

    def place(self, number: int, start: int, length: int) -> None:
        """Set the location of an item to a single extent."""
        base = start if self._widths.offset == 0 else 0
        self._places[number] = Location(number, 0, 0, base, [(0, start - base, length)])

    def shift(self, start: int, by: int) -> None:
        """Increase by `by` the offsets of all bytes at the offset `start` and after it.

        Raises:
            UnsupportedMedia: extents that share a base offset are both before and after `start`.
        """
        for place in filter(_is_in_file, self._places.values()):
            moved = [place.base + offset >= start for _, offset, _ in place.extents]
            if not any(moved):
                continue
            if self._widths.offset == 0 or place.base >= start:
                if not all(moved):
                    raise UnsupportedMedia("cannot add metadata: the AVIF has an unusual structure")
                place.base += by
            else:
                place.extents = [
                    (index, offset + by * is_moved, length)
                    for (index, offset, length), is_moved in zip(place.extents, moved, strict=True)
                ]

    def encode(self) -> bytes:
        """Return the encoded content. Raise `UnsupportedMedia` if a number does not fit into it."""
        widths = self._widths
        numbers = [(len(self._places), widths.number)]
        for place in self._places.values():
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
