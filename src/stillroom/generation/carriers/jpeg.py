"""JPEG: EXIF and XMP in APP1, manifests of C2PA in APP11, and comments.

Source: https://www.w3.org/Graphics/JPEG/itu-t81.pdf (B.1.1), and for XMP
https://developer.adobe.com/xmp/docs/XMPSpecifications/ (part 3, 1.1.3).
"""

from typing import Final

from stillroom.file_parts import FileParts, jpeg_segments
from stillroom.generation.carriers import c2pa, exif, xmp
from stillroom.generation.carriers.entries import Entries, is_readable
from stillroom.generation.texts import decoded

SIGNATURE: Final = b"\xff\xd8\xff"
XMP_LABEL: Final = b"http://ns.adobe.com/xap/1.0/\0"
EXIF_LABEL: Final = b"Exif\0\0"
APP1: Final = 0xE1
_APP11: Final = 0xEB
_COMMENT: Final = 0xFE
_JUMBF: Final = b"JP"


def read(parts: FileParts, found: Entries) -> None:
    """What stands in front of the first scan."""
    for marker, start, length in jpeg_segments(parts):
        if marker == _APP11:
            _take_jumbf(parts.bytes_at(start, min(length, c2pa.HEAD_BYTES)), found)
        if marker not in (APP1, _COMMENT):
            continue
        if not is_readable(parts, start, length):
            found.lose()
            return
        content = parts.bytes_at(start, length)
        if marker == _COMMENT:
            found.add("jpeg:comment", decoded(content.rstrip(b"\0")))
        elif content.startswith(EXIF_LABEL):
            exif.read(content, found)
        elif content.startswith(XMP_LABEL):
            xmp.read(content[len(XMP_LABEL) :], found)


def _take_jumbf(start: bytes, found: Entries) -> None:
    """A segment of JPEG XT: label, number of the box, of the segment in it, then the box."""
    if start.startswith(_JUMBF) and c2pa.is_manifest(start):
        found.has_c2pa = True
    elif start.startswith(_JUMBF) and len(start) < c2pa.HEAD_BYTES and not found.has_c2pa:
        found.lose()  # the last segment of a long box may be as short
