"""TIFF parser: width, height and colour profile of the first page."""

from stillroom.file_parts import BrokenHeader
from stillroom.media.headers.color import icc_name
from stillroom.media.headers.header_bytes import HeaderBytes


def size(header: HeaderBytes) -> tuple[int, int]:
    """Return width and height; see https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf."""
    entries = _entries(header)
    order = _byte_order(header)
    sides = []
    for tag in (256, 257):
        kind, _, at = entries.get(tag, (0, 0, 0))
        if kind not in (3, 4):
            raise BrokenHeader
        sides.append(header.numbers(order + ("H" if kind == 3 else "I"), at)[0])
    return sides[0], sides[1]


def color_profile(header: HeaderBytes) -> str | None:
    """Return the colour profile's name from the ICC tag (34675), or None."""
    kind, count, at = _entries(header).get(34675, (0, 0, 0))
    return icc_name(header.bytes_at(at, count)) if kind == 7 and count > 4 else None


def _byte_order(header: HeaderBytes) -> str:
    return "<" if header.bytes_at(0, 2) == b"II" else ">"


def _entries(header: HeaderBytes) -> dict[int, tuple[int, int, int]]:
    """Return the value's type, count and file position for each tag of the first page."""
    order = _byte_order(header)
    (start,) = header.numbers(order + "I", 4)
    (count,) = header.numbers(order + "H", start)
    entries = {}
    for index in range(count):
        at = start + 2 + 12 * index
        tag, kind, length = header.numbers(order + "HHI", at)
        inline = length * {1: 1, 2: 1, 3: 2, 4: 4, 7: 1}.get(kind, 8) <= 4
        entries[tag] = (kind, length, at + 8 if inline else header.numbers(order + "I", at + 8)[0])
    return entries
