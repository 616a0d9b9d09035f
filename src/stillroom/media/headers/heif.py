"""HEIC and AVIF parser: width, height and colour profile from the item properties."""

from collections.abc import Iterator

from stillroom.file_parts import BrokenHeader, boxes
from stillroom.media.headers.color import CODED_SPACES, icc_name
from stillroom.media.headers.header_bytes import HeaderBytes


def size(header: HeaderBytes) -> tuple[int, int]:
    """Return width and height of the largest item; smaller items are tiles, masks or thumbnails.

    Encoders pad an image to whole blocks. The `clap` property crops this padding.
    Sources: ISO/IEC 23008-12 (HEIF), 6.5.3 and 6.5.9; https://aomediacodec.github.io/av1-avif/.
    """
    sizes = []
    for kind, start, _ in _properties(header):
        if kind == b"ispe":
            width, height = header.numbers(">II", start + 4)
            sizes.append((width, height))
    if not sizes:
        raise BrokenHeader
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    for kind, start, _ in _properties(header):
        if kind == b"clap":
            across, across_by, down, down_by = header.numbers(">IIII", start)
            if across <= width * across_by and down <= height * down_by and across_by and down_by:
                width, height = across // across_by, down // down_by
    return width, height


def color_profile(header: HeaderBytes) -> str | None:
    """Return the colour profile's name from `colr`. An ICC profile overrides a coded one."""
    coded = None
    for kind, start, end in _properties(header):
        if kind == b"colr":
            form = header.bytes_at(start, 4)
            if form in (b"prof", b"rICC"):
                return icc_name(header.bytes_at(start + 4, end - start - 4))
            if form == b"nclx":
                primaries, transfer = header.numbers(">HH", start + 4)
                coded = coded or CODED_SPACES.get((primaries, transfer))
    return coded


def _properties(header: HeaderBytes) -> Iterator[tuple[bytes, int, int]]:
    for kind, start, end in boxes(header, 0, header.size):
        if kind == b"meta":
            for below, at, until in boxes(header, start + 4, end):
                if below == b"iprp":
                    for inner, first, last in boxes(header, at, until):
                        if inner == b"ipco":
                            yield from boxes(header, first, last)
            return
