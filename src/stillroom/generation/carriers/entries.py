"""The texts that were found in one file, by name."""

import zlib
from typing import Final

from stillroom.file_parts import BrokenHeader

MAX_TEXT_BYTES: Final = 1024**2
"""Of one text, inflated; the largest graphs of ComfyUI have some hundred kilobytes."""

_MAX_INFLATED_BYTES: Final = 2 * MAX_TEXT_BYTES
_MAX_TEXTS: Final = 256


class Entries:
    """Texts by name: a PNG's keyword, or `exif:`, `xmp:` and `jpeg:` in front of the property.

    Attributes:
        texts: Of a name that is there twice, the first.
        broken: Whether something could not be read.
    """

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.broken = False
        self._inflated = 0

    def add(self, name: str, text: str) -> None:
        """One more text; empty ones, and those beyond the bound, are left out."""
        if text and len(self.texts) < _MAX_TEXTS:
            self.texts.setdefault(name, text)

    def inflate(self, packed: bytes) -> bytes:
        """What was deflated.

        Raises:
            BrokenHeader: it is not that, or more than a text has.
        """
        room = min(MAX_TEXT_BYTES, _MAX_INFLATED_BYTES - self._inflated)
        if room <= 0:
            raise BrokenHeader
        inflater = zlib.decompressobj()
        try:
            text = inflater.decompress(packed, room + 1)
        except zlib.error as error:
            raise BrokenHeader from error
        self._inflated += len(text)
        if len(text) > room or not inflater.eof:
            raise BrokenHeader
        return text
