"""Metadata read from a file: texts by name, and whether there is a C2PA manifest.

A C2PA manifest is a signed statement about the origin of an image. It is recognized, but not
verified. Sources: ISO/IEC 19566-5 (JUMBF, the container of manifests), and annex A of
https://spec.c2pa.org/specifications/specifications/2.2/specs/C2PA_Specification.html.
"""

import zlib
from dataclasses import dataclass, field
from typing import Final

from stillroom.formats.file_parts import BrokenHeader, FileParts
from stillroom.formats.work_budget import WorkBudget

_MAX_TEXT_BYTES: Final = 1024**2  # of a decompressed text; large ComfyUI graphs have several 100 KB
_MAX_INFLATED_BYTES: Final = 2 * _MAX_TEXT_BYTES
_MAX_TEXTS: Final = 256
C2PA_BYTES: Final = 96  # number of bytes of a box that are enough to recognize a C2PA manifest
_STORE: Final = bytes.fromhex("6332706100110010800000aa00389b71")  # JUMBF type of a manifest


@dataclass(slots=True, eq=False)
class Entries:
    """Metadata of a file. `texts` maps PNG keywords, or names like `exif:UserComment`, to texts."""

    budget: WorkBudget
    texts: dict[str, str] = field(default_factory=dict)
    broken: bool = False  # some metadata could not be read
    has_c2pa: bool = False
    hides_mark: bool = False  # metadata that could not be read may have contained an AI mark
    _inflated: int = 0

    def add(self, name: str, text: str) -> None:
        """Add a text unless it is empty, its name is in use, or there are too many texts."""
        self.budget.produce(len(text))
        if text and len(self.texts) < _MAX_TEXTS:
            self.texts.setdefault(name, text)

    def read(self, parts: FileParts, *extents: tuple[int, int], with_mark: bool = True) -> bytes:
        """Return the bytes of `extents`. If they are too long, return `b""` (see `mark_broken`)."""
        is_small = sum(length for _, length in extents) <= _MAX_TEXT_BYTES
        if is_small and all(parts.allows(*extent) for extent in extents):
            return b"".join(parts.bytes_at(*extent) for extent in extents)
        self.mark_broken(with_mark=with_mark)
        return b""

    def mark_broken(self, *, with_mark: bool = True) -> None:
        """Record that metadata is unreadable. If `with_mark`, it may have contained an AI mark."""
        self.broken = True
        self.hides_mark = self.hides_mark or with_mark

    def add_manifest(self, start: bytes) -> None:
        """Record a C2PA manifest if `start` is the beginning of one, else call `mark_broken`."""
        if is_manifest(start):
            self.has_c2pa = True
        else:
            self.mark_broken()

    def inflate(self, packed: bytes) -> bytes:
        """Decompress a text with zlib. Raises `BrokenHeader` if it is malformed or too large."""
        room = min(_MAX_TEXT_BYTES, _MAX_INFLATED_BYTES - self._inflated)
        if room <= 0:
            raise BrokenHeader
        try:
            text, is_whole = self.budget.inflate(packed, room + 1)
        except zlib.error as error:
            raise BrokenHeader from error
        self._inflated += len(text)
        if len(text) > room or not is_whole:
            raise BrokenHeader
        return text


def is_manifest(start: bytes) -> bool:
    """Return whether a box is a C2PA manifest, from its first `C2PA_BYTES` bytes."""
    at = start.find(b"jumb")
    return at >= 4 and is_c2pa(start[at + 4 :])


def is_c2pa(content: bytes) -> bool:
    """Return whether the content of a JUMBF box begins with the description of a manifest."""
    return content[4:8] == b"jumd" and content[8:24] == _STORE
