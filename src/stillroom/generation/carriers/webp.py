"""WebP reader for the chunks EXIF, XMP and C2PA, which follow the pixels.

Source: https://developers.google.com/speed/webp/docs/riff_container.
"""

from stillroom.formats.file_parts import FileParts
from stillroom.formats.webp import chunks
from stillroom.generation.carriers import c2pa, exif, xmp
from stillroom.generation.carriers.entries import Entries


def read(parts: FileParts, entries: Entries) -> None:
    """Read the metadata chunks of a file into `entries`."""
    for kind, start, length in chunks(parts):
        if kind == b"C2PA":
            entries.add_manifest(parts.bytes_at(start, min(length, c2pa.HEAD_BYTES)))
        elif kind == b"EXIF":
            exif.read(entries.read(parts, start, length, with_mark=False), entries)
        elif kind == b"XMP ":
            xmp.read(entries.read(parts, start, length), entries)
