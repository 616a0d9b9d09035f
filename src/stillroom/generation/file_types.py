"""Table of the file formats in which metadata can be read, and to which XMP can be written."""

from collections.abc import Callable
from typing import Final, NamedTuple

from stillroom.formats.file_parts import FileParts
from stillroom.formats.jpeg import SIGNATURE as JPEG
from stillroom.formats.png import SIGNATURE as PNG
from stillroom.formats.webp import is_webp
from stillroom.generation.carriers import heif, jpeg, png, webp
from stillroom.generation.carriers.entries import Entries
from stillroom.generation.writing import into_avif

Reader = Callable[[FileParts, Entries], None]
"""Function that adds metadata of a file to `Entries`. Raises `BrokenHeader` if it is malformed."""

Writer = Callable[[bytes, Callable[[bytes | None], bytes]], bytes]
"""Function that returns a copy of a file with a new XMP packet.

The second argument is called with the old packet (None if there is none), and returns the new one.
Raises `BrokenHeader` for a malformed file, and `UnsupportedMedia` for an unusual one."""


class FileType(NamedTuple):
    """File format. `matches` returns whether the first bytes of a file have this format."""

    matches: Callable[[bytes], bool]
    readers: tuple[Reader, ...]
    writer: Writer | None = None


_FILE_TYPES: Final = (
    FileType(lambda start: start.startswith(PNG), (png.read, png.read_tail), png.with_packet),
    FileType(lambda start: start.startswith(JPEG), (jpeg.read,), jpeg.with_packet),
    FileType(is_webp, (webp.read,), webp.with_packet),
    FileType(lambda start: start.startswith(heif.JXL_SIGNATURE), (heif.read_jxl,)),
    FileType(heif.is_heif, (heif.read,), into_avif.with_packet),
    FileType(lambda _: True, ()),
)


def file_type_of(start: bytes) -> FileType:
    """Return the format of a file that begins with `start`. An unknown format has no readers."""
    return next(file_type for file_type in _FILE_TYPES if file_type.matches(start))
