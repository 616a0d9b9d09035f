"""Texts found in one file, by name."""

import zlib
from typing import Final

from stillroom.file_parts import BrokenHeader, FileParts
from stillroom.generation.carriers import c2pa
from stillroom.work_budget import WorkBudget

MAX_TEXT_BYTES: Final = 1024**2
"""Bound on one inflated text; the largest ComfyUI graphs have some hundred kilobytes."""

_MAX_INFLATED_BYTES: Final = 2 * MAX_TEXT_BYTES
_MAX_TEXTS: Final = 256


def is_readable(parts: FileParts, start: int, length: int) -> bool:
    """Return whether a text of the file is within the bounds."""
    return length <= MAX_TEXT_BYTES and parts.allows(start, length)


class Entries:
    """Texts by name: a PNG keyword, or a property prefixed with `exif:`, `xmp:` or `jpeg:`.

    Attributes:
        texts: The first text of each name.
        broken: Whether something could not be read.
        has_c2pa: Whether there is a C2PA manifest; it is not verified.
        hides_mark: Whether an unreadable part may have contained an AI mark.
        budget: Work that further parsing may still cause.
    """

    def __init__(self, budget: WorkBudget) -> None:
        self.texts: dict[str, str] = {}
        self.broken = False
        self.has_c2pa = False
        self.hides_mark = False
        self.budget = budget
        self._inflated = 0

    def add(self, name: str, text: str) -> None:
        """Add a text; empty texts, and those beyond the maximum number, are ignored."""
        self.budget.produce(len(text))
        if text and len(self.texts) < _MAX_TEXTS:
            self.texts.setdefault(name, text)

    def mark_broken(self, *, with_mark: bool = True) -> None:
        """Record that something could not be read, which may have been an AI mark."""
        self.broken = True
        self.hides_mark = self.hides_mark or with_mark

    def add_manifest(self, start: bytes) -> None:
        """Record a C2PA manifest, recognized by the first bytes of its place."""
        if c2pa.is_manifest(start):
            self.has_c2pa = True
        else:
            self.mark_broken()

    def inflate(self, packed: bytes) -> bytes:
        """Inflate a text; raise `BrokenHeader` if it is not deflated data, or too large."""
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
