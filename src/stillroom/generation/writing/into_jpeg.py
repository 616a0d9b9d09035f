"""Functions that write XMP into a JPEG file, as a segment after the JFIF and EXIF segments.

Source: https://developer.adobe.com/xmp/docs/XMPSpecifications/ (part 3, 1.1.3).
"""

import struct
from collections.abc import Callable
from typing import Final

from stillroom.errors import UnsupportedMedia
from stillroom.formats.file_parts import FileParts
from stillroom.formats.jpeg import segments
from stillroom.generation.carriers.jpeg import APP1, EXIF_LABEL, XMP_LABEL

_APP0: Final = 0xE0
_MAX_CONTENT: Final = 0xFFFF - 2


class PacketTooLarge(UnsupportedMedia):
    """Exception for an XMP packet that is too large for a JPEG segment."""


def with_packet(data: bytes, change: Callable[[bytes | None], bytes]) -> bytes:
    """Return a JPEG file with its XMP packet replaced; see `Writer`.

    Raises:
        PacketTooLarge: the new packet does not fit into a segment.
    """
    place, end, packet = 2, 2, None
    for marker, start, length in segments(FileParts.whole(data)):
        content = data[start : start + length]
        if marker == APP1 and content.startswith(XMP_LABEL):
            place, end = start - 4, start + length
            packet = content[len(XMP_LABEL) :]
            break
        if start - 4 == end and (marker == _APP0 or content.startswith(EXIF_LABEL)):
            place = end = start + length  # these two must come first
    content = XMP_LABEL + change(packet)
    if len(content) > _MAX_CONTENT:
        raise PacketTooLarge("cannot add the AI mark: the JPEG has no room for more XMP")
    segment = struct.pack(">BBH", 0xFF, APP1, len(content) + 2) + content
    return data[:place] + segment + data[end:]
