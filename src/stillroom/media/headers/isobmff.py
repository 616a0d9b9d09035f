"""Boxes of the ISO base media file format, used by HEIC, AVIF, JPEG XL, MP4 and QuickTime."""

from stillroom.file_parts import BrokenHeader, FileParts, boxes


def find_box(header: FileParts, start: int, end: int, box_type: bytes) -> tuple[int, int]:
    """Return the content start and content end of the first box with the type `box_type`.

    Raises:
        BrokenHeader: there is no such box.
    """
    for kind, at, until in boxes(header, start, end):
        if kind == box_type:
            return at, until
    raise BrokenHeader
