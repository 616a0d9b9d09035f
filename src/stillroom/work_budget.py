"""Limit on the work that one file may cause. All parsers of a file share one budget.

A limit on the size of a file does not limit the work: in two kilobytes, a text can be defined as
twice another one, thirty times over. So each parser counts its work before doing it.
"""

import zlib
from typing import Final

MAX_LOOKS: Final = 400_000
"""A third of a second. A ComfyUI graph of 200 KB takes about 30,000."""

MAX_BYTES: Final = 16 * 1024**2
"""The server reads 1 MiB of a file, and parses it again after reading more."""

MAX_CHARACTERS: Final = 8 * 1024**2
"""Text is decoded once, and parsed by several tools."""

_AT_ONCE: Final = (1_000, 384 * 1024, 32 * 1024)
"""Steps, bytes and characters that together take about a millisecond."""


class TooMuchWork(Exception):
    """The file takes more work than is allowed, so its metadata stays unknown."""


class WorkBudget:
    """Work that parsing one file may still cause.

    Attributes:
        looks: Steps: reads of the file, values of JSON, lines, inputs of nodes.
        data: Bytes returned, inflated or searched.
        characters: Characters of text decoded, parsed or joined.
    """

    def __init__(
        self, looks: int = MAX_LOOKS, data: int = MAX_BYTES, characters: int = MAX_CHARACTERS
    ) -> None:
        self.looks = looks
        self.data = data
        self.characters = characters

    def look(self, count: int = 1) -> None:
        """Spend a number of steps.

        Raises:
            TooMuchWork: fewer are left. `hand_out` and `produce` raise it likewise.
        """
        self.looks -= count
        if self.looks < 0:
            raise TooMuchWork

    def hand_out(self, count: int) -> None:
        """Spend a number of bytes."""
        self.data -= count
        if self.data < 0:
            raise TooMuchWork

    def produce(self, count: int) -> None:
        """Spend a number of characters."""
        self.characters -= count
        if self.characters < 0:
            raise TooMuchWork

    def inflate(self, packed: bytes, most: int) -> tuple[bytes, bool]:
        """Return up to `most` inflated bytes, and whether these are all.

        Raises:
            TooMuchWork: the budget is spent.
            zlib.error: the bytes are not deflated.
        """
        self.hand_out(len(packed))
        inflater = zlib.decompressobj()
        data = inflater.decompress(packed, max(1, min(most, self.data + 1)))
        self.hand_out(len(data))
        return data, inflater.eof

    def part_at_once(self) -> "WorkBudget":
        """Split off a budget that the event loop can spend without delaying other tasks."""
        left = (self.looks, self.data, self.characters)
        part = WorkBudget(*map(min, left, _AT_ONCE))
        self.looks -= part.looks
        self.data -= part.data
        self.characters -= part.characters
        return part

    def put_back(self, part: "WorkBudget") -> None:
        """Add the rest of a budget that was split off."""
        self.looks += max(0, part.looks)
        self.data += max(0, part.data)
        self.characters += max(0, part.characters)
