"""The bound on the work that one file may cause; all parsers of a file draw on one budget.

A bound on the size of a file is none on the work that it causes: two kilobytes can say that a text
is twice another one, thirty times over. So each parser counts what it does before it does it.
"""

import zlib
from typing import Final

MAX_LOOKS: Final = 400_000
"""A third of a second. A ComfyUI graph of 200 KB takes some 30,000."""

MAX_BYTES: Final = 16 * 1024**2
"""The server reads 1 MiB of a file, and parses it again when it has read more."""

MAX_CHARACTERS: Final = 8 * 1024**2
"""Text is decoded once, and parsed by several tools."""

_AT_ONCE: Final = (1_000, 384 * 1024, 32 * 1024)
"""Looks, bytes and characters that together take about a millisecond."""


class TooMuchWork(Exception):
    """A file takes more work than is allowed: what it says is not known."""


class WorkBudget:
    """Work that parsing one file may still cause.

    Attributes:
        looks: Steps: reads of a place in the file, values of JSON, lines, inputs of nodes.
        data: Bytes that are handed out, inflated or searched.
        characters: Characters of text that is decoded, parsed or put together.
    """

    def __init__(
        self, looks: int = MAX_LOOKS, data: int = MAX_BYTES, characters: int = MAX_CHARACTERS
    ) -> None:
        self.looks = looks
        self.data = data
        self.characters = characters

    def look(self, count: int = 1) -> None:
        """Spend so many steps.

        Raises:
            TooMuchWork: fewer are left. `hand_out` and `produce` raise it likewise.
        """
        self.looks -= count
        if self.looks < 0:
            raise TooMuchWork

    def hand_out(self, count: int) -> None:
        """Spend so many bytes."""
        self.data -= count
        if self.data < 0:
            raise TooMuchWork

    def produce(self, count: int) -> None:
        """Spend so many characters."""
        self.characters -= count
        if self.characters < 0:
            raise TooMuchWork

    def inflate(self, packed: bytes, most: int) -> tuple[bytes, bool]:
        """Return up to `most` inflated bytes, and whether they are all.

        Raises:
            TooMuchWork: as `look`.
            zlib.error: the bytes are not deflated.
        """
        self.hand_out(len(packed))
        inflater = zlib.decompressobj()
        found = inflater.decompress(packed, max(1, min(most, self.data + 1)))
        self.hand_out(len(found))
        return found, inflater.eof

    def part_at_once(self) -> "WorkBudget":
        """Take a part off that the event loop can spend without making others wait."""
        left = (self.looks, self.data, self.characters)
        part = WorkBudget(*map(min, left, _AT_ONCE))
        self.looks -= part.looks
        self.data -= part.data
        self.characters -= part.characters
        return part

    def put_back(self, part: "WorkBudget") -> None:
        """Add what is left of a part."""
        self.looks += max(0, part.looks)
        self.data += max(0, part.data)
        self.characters += max(0, part.characters)
