"""TIFF parser (https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from stillroom.formats.file_parts import BrokenHeader, FileParts
from stillroom.formats.pixels import icc_name

_VALUE_BYTES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 7: 1}


@dataclass(frozen=True, slots=True)
class Entry:
    """Entry of a directory: tag, type and number of values, and offset of the value field."""

    tag: int
    kind: int
    count: int
    at: int

    def start(self, parts: FileParts, order: str) -> int:
        """Return the offset of the values. Values of up to four bytes are in the entry itself."""
        if self.count * _VALUE_BYTES.get(self.kind, 8) <= 4:
            return self.at
        return int(parts.numbers(order + "I", self.at)[0])


def byte_order(parts: FileParts) -> str:
    """Return the byte order of the file: `<` (little-endian) or `>`, as in `struct` formats."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(parts.bytes_at(0, 4))
    if order is None:
        raise BrokenHeader
    return order


def directory(parts: FileParts, order: str, start: int) -> Iterator[Entry]:
    """Yield the entries of the directory at the offset `start`. `order` is the `byte_order`."""
    for index in range(parts.numbers(order + "H", start)[0]):
        at = start + 2 + 12 * index
        tag, kind, count = parts.numbers(order + "HHI", at)
        yield Entry(tag, kind, count, at + 8)


def size(parts: FileParts) -> tuple[int, int]:
    """Return the width and height of the first page."""
    order, entries = _first_page(parts)
    sides = [entries[tag] for tag in (256, 257) if tag in entries and entries[tag].kind in (3, 4)]
    if len(sides) < 2:
        raise BrokenHeader
    forms = {3: order + "H", 4: order + "I"}
    (width,), (height,) = (parts.numbers(forms[s.kind], s.start(parts, order)) for s in sides)
    return width, height


def color_profile(parts: FileParts) -> str | None:
    """Return the name of the ICC profile in tag 34675 of the first page, or None."""
    order, entries = _first_page(parts)
    entry = entries.get(34675)
    if entry is None or entry.kind != 7 or entry.count <= 4:
        return None
    return icc_name(parts.bytes_at(entry.start(parts, order), entry.count))


def _first_page(parts: FileParts) -> tuple[str, dict[int, Entry]]:
    order = byte_order(parts)
    (start,) = parts.numbers(order + "I", 4)
    return order, {entry.tag: entry for entry in directory(parts, order, start)}
