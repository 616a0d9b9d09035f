"""Texts that are embedded in one file, by name."""

import zlib
from typing import Final

from stillroom.formats.file_parts import BrokenHeader, FileParts
from stillroom.formats.work_budget import WorkBudget
from stillroom.generation.carriers import c2pa

MAX_TEXT_BYTES: Final = 1024**2
"""Maximum size of a decompressed text. Large ComfyUI graphs have several hundred kilobytes."""

_MAX_INFLATED_BYTES: Final = 2 * MAX_TEXT_BYTES
_MAX_TEXTS: Final = 256


def is_readable(parts: FileParts, start: int, length: int) -> bool:
    """Return whether a text of `length` bytes is small enough to be read."""
    return length <= MAX_TEXT_BYTES and parts.allows(start, length)


class Entries:
    """Texts embedded in a file, by PNG keyword or by property, such as `exif:UserComment`.

    Attributes:
        texts: Texts by name; the first one if several have the same name.
        broken: True if some metadata could not be read.
        has_c2pa: True if the file contains a C2PA manifest, which is not verified.
        hides_mark: True if unreadable metadata may have contained an AI mark.
        budget: Amount of work that further parsing may cause.
    """

    def __init__(self, budget: WorkBudget) -> None:
        self.texts: dict[str, str] = {}
        self.broken = False
        self.has_c2pa = False
        self.hides_mark = False
        self.budget = budget
        self._inflated = 0

    def add(self, name: str, text: str) -> None:
        """Add a text, unless it is empty or the maximum number of texts has been reached."""
        self.budget.produce(len(text))
        if text and len(self.texts) < _MAX_TEXTS:
            self.texts.setdefault(name, text)

    def mark_broken(self, *, with_mark: bool = True) -> None:
        """Record that metadata could not be read; `with_mark` if it may contain an AI mark."""
        self.broken = True
        self.hides_mark = self.hides_mark or with_mark

    def add_manifest(self, start: bytes) -> None:
        """Record a C2PA manifest if these first bytes of its box show that it is one."""
        if c2pa.is_manifest(start):
            self.has_c2pa = True
        else:
            self.mark_broken()

    def inflate(self, packed: bytes) -> bytes:
        """Decompress a text (zlib). Raise `BrokenHeader` if it is malformed or too large."""
        room = min(MAX_TEXT_BYTES, _MAX_INFLATED_BYTES - self._inflated)
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
