"""WebP reader: chunks EXIF, XMP and C2PA, which follow the pixels.

Source: https://developers.google.com/speed/webp/docs/riff_container.
"""

from collections.abc import Iterator
from typing import Final

from stillroom.file_parts import BrokenHeader, FileParts
from stillroom.generation.carriers import c2pa, exif, xmp
from stillroom.generation.carriers.entries import Entries, is_readable

_MAX_CHUNKS: Final = 4096
"""Maximum number of chunks that are read. An animation has one chunk per frame."""


def is_webp(start: bytes) -> bool:
    """Return whether a file with these first bytes is a WebP."""
    return start[:4] == b"RIFF" and start[8:12] == b"WEBP"


def read(parts: FileParts, entries: Entries) -> None:
    """Read the metadata chunks of the whole file into `entries`."""
    for kind, start, length in chunks(parts):
        if kind == b"C2PA":
            entries.add_manifest(parts.bytes_at(start, min(length, c2pa.HEAD_BYTES)))
        if kind not in (b"EXIF", b"XMP "):
            continue
        if not is_readable(parts, start, length):
            entries.mark_broken(with_mark=kind == b"XMP ")
        elif kind == b"EXIF":
            exif.read(parts.bytes_at(start, length), entries)
        else:
            xmp.read(parts.bytes_at(start, length), entries)


def chunks(parts: FileParts) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type of each chunk, and the start and length of its content."""
    at, end = 12, min(parts.size, 8 + parts.numbers("<I", 4)[0])
    for _ in range(_MAX_CHUNKS):
        if at + 8 > end:
            return
        kind = parts.bytes_at(at, 4)
        (length,) = parts.numbers("<I", at + 4)
        yield kind, at + 8, length
        at += 8 + length + length % 2
    raise BrokenHeader
