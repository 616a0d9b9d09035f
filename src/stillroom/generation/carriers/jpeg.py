"""JPEG reader: EXIF and XMP in APP1 segments, C2PA manifests in APP11, and comments.

Source: https://www.w3.org/Graphics/JPEG/itu-t81.pdf (B.1.1), and for XMP
https://developer.adobe.com/xmp/docs/XMPSpecifications/ (part 3, 1.1.3).
"""

from typing import Final

from stillroom.formats.file_parts import FileParts
from stillroom.formats.jpeg import segments
from stillroom.generation.carriers import c2pa, exif, xmp
from stillroom.generation.carriers.entries import Entries
from stillroom.generation.texts import decode_text

XMP_LABEL: Final = b"http://ns.adobe.com/xap/1.0/\0"
EXIF_LABEL: Final = b"Exif\0\0"
APP1: Final = 0xE1
_APP11: Final = 0xEB
_COMMENT: Final = 0xFE
_JUMBF: Final = b"JP"


def read(parts: FileParts, entries: Entries) -> None:
    """Read the metadata in all segments before the first scan (the pixels) into `entries`."""
    for marker, start, length in segments(parts):
        if marker == _APP11:
            _read_jumbf(parts.bytes_at(start, min(length, c2pa.HEAD_BYTES)), entries)
        if marker not in (APP1, _COMMENT):
            continue
        content = entries.read(parts, start, length)
        if length and not content:
            return
        if marker == _COMMENT:
            entries.add("jpeg:comment", decode_text(content.rstrip(b"\0")))
        elif content.startswith(EXIF_LABEL):
            exif.read(content, entries)
        elif content.startswith(XMP_LABEL):
            xmp.read(content[len(XMP_LABEL) :], entries)


def _read_jumbf(start: bytes, entries: Entries) -> None:
    """Record a C2PA manifest if a JPEG XT segment, whose first bytes are `start`, contains one."""
    if start.startswith(_JUMBF) and c2pa.is_manifest(start):
        entries.has_c2pa = True
    elif start.startswith(_JUMBF) and len(start) < c2pa.HEAD_BYTES and not entries.has_c2pa:
        entries.mark_broken()  # may be the last segment of a long box
