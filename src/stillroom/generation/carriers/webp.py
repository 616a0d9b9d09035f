"""WebP metadata (https://developers.google.com/speed/webp/docs/riff_container)."""

import struct
from collections.abc import Callable
from typing import Final

from stillroom.formats.file_parts import BrokenHeader, FileParts
from stillroom.formats.webp import chunks, size
from stillroom.generation.carriers import exif, xmp
from stillroom.generation.carriers.entries import C2PA_BYTES, Entries

_HAS_XMP: Final = 0x04
_HAS_ALPHA: Final = 0x10


def read(parts: FileParts, entries: Entries) -> None:
    """Add the metadata chunks of a WebP file to `entries`."""
    for kind, start, length in chunks(parts):
        if kind == b"C2PA":
            entries.add_manifest(parts.bytes_at(start, min(length, C2PA_BYTES)))
        elif kind == b"EXIF":
            exif.read(entries.read(parts, (start, length), with_mark=False), entries)
        elif kind == b"XMP ":
            xmp.read(entries.read(parts, (start, length)), entries)


def with_packet(data: bytes, change: Callable[[bytes | None], bytes]) -> bytes:
    """Replace the XMP packet of a WebP file, and set the file's XMP flag; see `Writer`."""
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
    width, height = size(FileParts.whole(bytes(12) + _chunk(kind, content[:10])))
    if not width or not height:
        raise BrokenHeader
    has_alpha = kind == b"VP8L" and content[4] & 0x10
    flags = _HAS_XMP | (_HAS_ALPHA if has_alpha else 0)
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return flags.to_bytes(4, "little") + sides
