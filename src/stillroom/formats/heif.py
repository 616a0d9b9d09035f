"""HEIC and AVIF parser: width, height and colour profile."""

import math
from collections.abc import Iterator

from stillroom.formats.file_parts import BrokenHeader, FileParts
from stillroom.formats.isobmff import boxes
from stillroom.formats.pixels import CODED_SPACES, icc_name


def size(parts: FileParts) -> tuple[int, int]:
    """Return the width and height of the largest item. Others are tiles, masks or thumbnails.

    Encoders add pixels to fill whole blocks, and the `clap` property crops these pixels.
    Sources: ISO/IEC 23008-12 (HEIF), 6.5.3 and 6.5.9; https://aomediacodec.github.io/av1-avif/.
    """
    properties = list(_properties(parts))
    sizes = [parts.numbers(">II", start + 4) for kind, start, _ in properties if kind == b"ispe"]
    if not sizes:
        raise BrokenHeader
    width, height = max(sizes, key=math.prod)
    for kind, start, _ in properties:
        if kind == b"clap":
            across, across_by, down, down_by = parts.numbers(">IIII", start)
            if across <= width * across_by and down <= height * down_by and across_by and down_by:
                width, height = across // across_by, down // down_by
    return width, height


def color_profile(parts: FileParts) -> str | None:
    """Return the name of the ICC profile or, if there is none, of the coded colour space."""
    coded = None
    for kind, start, end in _properties(parts):
        if kind == b"colr":
            form = parts.bytes_at(start, 4)
            if form in (b"prof", b"rICC"):
                return icc_name(parts.bytes_at(start + 4, end - start - 4))
            if form == b"nclx":
                coded = coded or CODED_SPACES.get(parts.numbers(">HH", start + 4))
    return coded


def _properties(parts: FileParts) -> Iterator[tuple[bytes, int, int]]:
    for kind, start, end in boxes(parts, 0, parts.size):
        if kind == b"meta":
            for below, at, until in boxes(parts, start + 4, end):
                for inner, first, last in boxes(parts, at, until) if below == b"iprp" else ():
                    if inner == b"ipco":
                        yield from boxes(parts, first, last)
