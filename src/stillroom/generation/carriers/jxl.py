"""JPEG XL: the boxes `Exif`, `xml ` and `jumb` of a container; a codestream alone has no place.

A box `brob` holds one that is compressed by Brotli, which Python cannot inflate: it is left out.
Source: ISO/IEC 18181-2, annex A.
"""

from typing import Final

from stillroom.file_parts import BrokenHeader, FileParts, boxes
from stillroom.generation.carriers import c2pa, exif, xmp
from stillroom.generation.carriers.entries import Entries, is_readable

SIGNATURE: Final = b"\0\0\0\x0cJXL \r\n\x87\n"
_MAX_BOXES: Final = 1024


def read(parts: FileParts, found: Entries) -> None:
    """What stands in boxes of its own."""
    for number, (kind, start, end) in enumerate(boxes(parts, 0, parts.size)):
        if number == _MAX_BOXES:
            raise BrokenHeader
        if kind == b"jumb":
            here = parts.bytes_at(start, min(end - start, c2pa.HEAD_BYTES))
            found.has_c2pa = found.has_c2pa or c2pa.is_described(here)
        elif kind == b"brob":
            found.hides_mark = True
        if kind not in (b"Exif", b"xml "):
            continue
        if not is_readable(parts, start, end - start):
            found.lose(with_mark=kind == b"xml ")
            continue
        content = parts.bytes_at(start, end - start)
        if kind == b"Exif":
            exif.read(content[4 + int.from_bytes(content[:4], "big") :], found)
        else:
            xmp.read(content, found)
