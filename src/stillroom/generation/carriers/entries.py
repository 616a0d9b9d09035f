"""The texts that were found in one file, by name."""

import zlib
from typing import Final

from stillroom.file_parts import BrokenHeader, FileParts
from stillroom.generation.carriers import c2pa
from stillroom.work_budget import WorkBudget

MAX_TEXT_BYTES: Final = 1024**2
"""Of one text, inflated; the largest graphs of ComfyUI have some hundred kilobytes."""

_MAX_INFLATED_BYTES: Final = 2 * MAX_TEXT_BYTES
_MAX_TEXTS: Final = 256


def is_readable(parts: FileParts, start: int, length: int) -> bool:
    """Whether a text of the file is within the bounds."""
    return length <= MAX_TEXT_BYTES and parts.allows(start, length)


class Entries:
    """Texts by name: a PNG's keyword, or `exif:`, `xmp:` and `jpeg:` in front of the property.

    Attributes:
        texts: Of a name that is there twice, the first.
        broken: Whether something could not be read.
        has_c2pa: Whether there is a manifest of C2PA; nothing of it is verified.
        hides_mark: Whether what could not be read may have said that AI made the image.
        budget: Work that finding more may still cause.
    """

    def __init__(self, budget: WorkBudget) -> None:
        self.texts: dict[str, str] = {}
        self.broken = False
        self.has_c2pa = False
        self.hides_mark = False
        self.budget = budget
        self._inflated = 0

    def add(self, name: str, text: str) -> None:
        """One more text; empty ones, and those beyond the bound, are left out."""
        self.budget.produce(len(text))
        if text and len(self.texts) < _MAX_TEXTS:
            self.texts.setdefault(name, text)

    def lose(self, *, with_mark: bool = True) -> None:
        """Note that something could not be read, which may have been a mark."""
        self.broken = True
        self.hides_mark = self.hides_mark or with_mark

    def take_manifest(self, start: bytes) -> None:
        """Note what stands where C2PA has its manifests, by its first bytes."""
        if c2pa.is_manifest(start):
            self.has_c2pa = True
        else:
            self.lose()

    def inflate(self, packed: bytes) -> bytes:
        """What was deflated.

        Raises:
            BrokenHeader: it is not that, or more than a text has.
        """
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
