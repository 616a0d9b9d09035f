"""Writing of XMP into a WebP file, as a chunk after the pixels with a flag in the VP8X chunk.

Source: https://developers.google.com/speed/webp/docs/riff_container.
"""

import struct
from collections.abc import Callable
from typing import Final

from stillroom.formats.file_parts import BrokenHeader, FileParts
from stillroom.formats.webp import chunks

_HAS_XMP: Final = 0x04
_HAS_ALPHA: Final = 0x10


def with_packet(data: bytes, change: Callable[[bytes | None], bytes]) -> bytes:
    """Replace the XMP packet with the result of `change`. Raise `BrokenHeader` if malformed."""
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise BrokenHeader
    originals = list(chunks(FileParts.whole(data[:end])))
    if not originals or any(start + length > end for _, start, length in originals):
        raise BrokenHeader
    packet, kept = None, []
    for kind, start, length in originals:
        if kind == b"XMP ":
            packet = packet or data[start : start + length]
        else:
            kept.append((kind, data[start : start + length]))
    kind, first = kept[0]
    if kind == b"VP8X" and len(first) == 10:
        kept[0] = (kind, bytes([first[0] | _HAS_XMP]) + first[1:])
    else:
        kept.insert(0, (b"VP8X", _build_vp8x(kind, first)))
    kept.append((b"XMP ", change(packet)))
    body = b"WEBP" + b"".join(_chunk(*chunk) for chunk in kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body + data[end + end % 2 :]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def _build_vp8x(kind: bytes, content: bytes) -> bytes:
    if kind == b"VP8 " and content[3:6] == b"\x9d\x01\x2a":
        bits = int.from_bytes(content[6:10], "little")
        flags, width, height = _HAS_XMP, bits & 0x3FFF, bits >> 16 & 0x3FFF
    elif kind == b"VP8L" and content[:1] == b"\x2f" and len(content) > 5:
        bits = int.from_bytes(content[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        flags = _HAS_XMP | (_HAS_ALPHA if bits >> 28 & 1 else 0)
    else:
        raise BrokenHeader
    if not width or not height:
        raise BrokenHeader
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return flags.to_bytes(4, "little") + sides
