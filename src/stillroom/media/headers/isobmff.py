"""Boxes of the ISO base media file format: HEIC, AVIF, JPEG XL, MP4 and QuickTime have them."""

from stillroom.file_parts import BrokenHeader, FileParts, boxes


def only_box(header: FileParts, start: int, end: int, wanted: bytes) -> tuple[int, int]:
    """Start and end of the content of the first box of this type.

    Raises:
        BrokenHeader: there is none.
    """
    for kind, at, until in boxes(header, start, end):
        if kind == wanted:
            return at, until
    raise BrokenHeader
