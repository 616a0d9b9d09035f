"""Limit on the work that one file may cause. All parsers of a file share one budget.

A limit on the size of a file does not limit the work: in two kilobytes, a file can define thirty
texts, each of which contains the previous one twice. So each parser counts its work in advance.
"""

import zlib
from typing import Final

MAX_LOOKS: Final = 400_000
"""Maximum number of steps (a third of a second). A ComfyUI graph of 200 KB takes about 30,000."""

MAX_BYTES: Final = 16 * 1024**2
"""Maximum number of bytes. The server parses a file again each time it has read more of it."""

MAX_CHARACTERS: Final = 8 * 1024**2
"""Maximum number of characters. Text is decoded once, but parsed by several parsers."""

_AT_ONCE: Final = (1_000, 384 * 1024, 32 * 1024)
"""Numbers of steps, bytes and characters that together take about a millisecond."""


class TooMuchWork(Exception):
    """Error if a file exceeds its work budget. Its metadata is then unknown."""


class WorkBudget:
    """Remaining work that may be spent on parsing one file.

    Attributes:
        looks: Number of steps, such as reads, JSON values, lines or node inputs.
        data: Number of bytes to return, inflate or search.
        characters: Number of characters to decode, parse or join.
    """

    def __init__(
        self, looks: int = MAX_LOOKS, data: int = MAX_BYTES, characters: int = MAX_CHARACTERS
    ) -> None:
        self.looks = looks
        self.data = data
        self.characters = characters

    def look(self, count: int = 1) -> None:
        """Spend a number of steps from the budget.

        Raises:
            TooMuchWork: too few steps are left. `hand_out` and `produce` raise it, too.
        """
        self.looks -= count
        if self.looks < 0:
            raise TooMuchWork

    def hand_out(self, count: int) -> None:
        """Spend a number of bytes from the budget."""
        self.data -= count
        if self.data < 0:
            raise TooMuchWork

    def produce(self, count: int) -> None:
        """Spend a number of characters from the budget."""
        self.characters -= count
        if self.characters < 0:
            raise TooMuchWork

    def inflate(self, packed: bytes, most: int) -> tuple[bytes, bool]:
        """Inflate `packed`. Return up to `most` bytes, and whether the data is complete.

        Raises:
            TooMuchWork: the budget is exhausted.
            zlib.error: the data is not valid deflate data.
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
        """Return the rest of a budget that `part_at_once` has split off."""
        self.looks += max(0, part.looks)
        self.data += max(0, part.data)
        self.characters += max(0, part.characters)
