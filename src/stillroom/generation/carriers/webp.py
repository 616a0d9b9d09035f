"""WebP: the chunks EXIF, XMP and C2PA, which stand behind the pixels.

Source: https://developers.google.com/speed/webp/docs/riff_container.
"""

from collections.abc import Iterator
from typing import Final

from stillroom.file_parts import BrokenHeader, FileParts
from stillroom.generation.carriers import c2pa, exif, xmp
from stillroom.generation.carriers.entries import Entries, is_readable

_MAX_CHUNKS: Final = 4096
"""An animation has one for each frame."""


def is_webp(start: bytes) -> bool:
    """Whether a file that begins so is one."""
    return start[:4] == b"RIFF" and start[8:12] == b"WEBP"


def read(parts: FileParts, found: Entries) -> None:
    """What stands anywhere in the file."""
    for kind, start, length in chunks(parts):
        if kind == b"C2PA":
            found.take_manifest(parts.bytes_at(start, min(length, c2pa.HEAD_BYTES)))
        if kind not in (b"EXIF", b"XMP "):
            continue
        if not is_readable(parts, start, length):
            found.lose(with_mark=kind == b"XMP ")
        elif kind == b"EXIF":
            exif.read(parts.bytes_at(start, length), found)
        else:
            xmp.read(parts.bytes_at(start, length), found)


def chunks(parts: FileParts) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and length of the content of each chunk."""
    at, end = 12, min(parts.size, 8 + parts.numbers("<I", 4)[0])
    for _ in range(_MAX_CHUNKS):
        if at + 8 > end:
            return
        kind = parts.bytes_at(at, 4)
        (length,) = parts.numbers("<I", at + 4)
        yield kind, at + 8, length
        at += 8 + length + length % 2
    raise BrokenHeader
