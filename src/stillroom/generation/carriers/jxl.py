"""JPEG XL reader for the boxes `Exif`, `xml ` (XMP) and `jumb` (C2PA).

A file that is not in the container format has no metadata. `brob` boxes are skipped, because Python
cannot decompress Brotli.
Source: ISO/IEC 18181-2, annex A.
"""

from typing import Final

from stillroom.formats.file_parts import FileParts, at_most
from stillroom.formats.isobmff import boxes
from stillroom.generation.carriers import c2pa, exif, xmp
from stillroom.generation.carriers.entries import Entries

SIGNATURE: Final = b"\0\0\0\x0cJXL \r\n\x87\n"
_MAX_BOXES: Final = 1024


def read(parts: FileParts, entries: Entries) -> None:
    """Read the metadata boxes of a file into `entries`."""
    for kind, start, end in at_most(_MAX_BOXES, boxes(parts, 0, parts.size)):
        if kind == b"jumb":
            head = parts.bytes_at(start, min(end - start, c2pa.HEAD_BYTES))
            entries.has_c2pa = entries.has_c2pa or c2pa.is_described(head)
        elif kind == b"brob":
            entries.hides_mark = True
        elif kind == b"Exif":
            exif.read_box(entries.read(parts, start, end - start, with_mark=False), entries)
        elif kind == b"xml ":
            xmp.read(entries.read(parts, start, end - start), entries)
