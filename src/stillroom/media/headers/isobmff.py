"""Boxes of the ISO base media file format: HEIC, AVIF, JPEG XL, MP4 and QuickTime have them."""

from collections.abc import Iterator

from stillroom.media.headers.header_bytes import BrokenHeader, HeaderBytes


def boxes(header: HeaderBytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of the content of each box (ISO/IEC 14496-12, 4.2)."""
    while start + 8 <= end:
        (length,) = header.numbers(">I", start)
        kind = header.bytes_at(start + 4, 4)
        head = 8
        if length == 1:
            (length,) = header.numbers(">Q", start + 8)
            head = 16
        elif length == 0:
            length = end - start
        if length < head or start + length > end:
            raise BrokenHeader
        yield kind, start + head, start + length
        start += length


def only_box(header: HeaderBytes, start: int, end: int, wanted: bytes) -> tuple[int, int]:
    """Start and end of the content of the first box of this type.

    Raises:
        BrokenHeader: there is none.
    """
    for kind, at, until in boxes(header, start, end):
        if kind == wanted:
            return at, until
    raise BrokenHeader
