"""JPEG metadata: EXIF and XMP in APP1 segments, C2PA manifests in APP11 segments, and comments.

Sources: https://www.w3.org/Graphics/JPEG/itu-t81.pdf (B.1.1), and for XMP
https://developer.adobe.com/xmp/docs/XMPSpecifications/ (part 3, 1.1.3).
"""

import struct
from collections.abc import Callable
from typing import Final

from stillroom.errors import UnsupportedMedia
from stillroom.formats.file_parts import FileParts
from stillroom.formats.jpeg import segments
from stillroom.generation.carriers import exif, xmp
from stillroom.generation.carriers.entries import C2PA_BYTES, Entries, is_manifest
from stillroom.generation.facts import decode_text

_XMP_LABEL: Final = b"http://ns.adobe.com/xap/1.0/\0"
_EXIF_LABEL: Final = b"Exif\0\0"
_APP0: Final = 0xE0
_APP1: Final = 0xE1
_APP11: Final = 0xEB
_COMMENT: Final = 0xFE
_JUMBF: Final = b"JP"
_MAX_CONTENT: Final = 0xFFFF - 2


class PacketTooLarge(UnsupportedMedia):
    """Exception for an XMP packet that is too large for a JPEG segment."""


def read(parts: FileParts, entries: Entries) -> None:
    """Add the metadata in the segments before the pixels to `entries`."""
    for marker, start, length in segments(parts):
        if marker == _APP11:
            head = parts.bytes_at(start, min(length, C2PA_BYTES))
            if head.startswith(_JUMBF) and is_manifest(head):
                entries.has_c2pa = True
            elif head.startswith(_JUMBF) and len(head) < C2PA_BYTES and not entries.has_c2pa:
                entries.mark_broken()  # may be the last segment of a long box
        if marker not in (_APP1, _COMMENT):
            continue
        content = entries.read(parts, (start, length))
        if length and not content:
            return
        if marker == _COMMENT:
            entries.add("jpeg:comment", decode_text(content.rstrip(b"\0")))
        elif content.startswith(_EXIF_LABEL):
            exif.read(content, entries)
        elif content.startswith(_XMP_LABEL):
            xmp.read(content[len(_XMP_LABEL) :], entries)


def with_packet(data: bytes, change: Callable[[bytes | None], bytes]) -> bytes:
    """Replace the XMP packet of a JPEG file; see `Writer`. May raise `PacketTooLarge`."""
    place, end, packet = 2, 2, None
    for marker, start, length in segments(FileParts.whole(data)):
        content = data[start : start + length]
        if marker == _APP1 and content.startswith(_XMP_LABEL):
            place, end = start - 4, start + length
            packet = content[len(_XMP_LABEL) :]
            break
        if start - 4 == end and (marker == _APP0 or content.startswith(_EXIF_LABEL)):
            place = end = start + length  # these two must come first
    content = _XMP_LABEL + change(packet)
    if len(content) > _MAX_CONTENT:
        raise PacketTooLarge("cannot add the AI mark: the JPEG has no room for more XMP")
    segment = struct.pack(">BBH", 0xFF, _APP1, len(content) + 2) + content
    return data[:place] + segment + data[end:]
