"""Limit for the work that parsing one file may cause. All parsers of a file share one budget.

A limit for the size of a file is not enough: in two kilobytes, a file can define thirty texts, each
of which contains the previous text twice. Each parser therefore subtracts work before doing it.
"""

import zlib
from dataclasses import dataclass
from typing import Final

MAX_LOOKS: Final = 400_000  # steps, a third of a second; a ComfyUI graph of 200 KB takes 30,000
MAX_BYTES: Final = 16 * 1024**2  # more than is read, since parsers start again after each read
MAX_CHARACTERS: Final = 8 * 1024**2  # several parsers process the same text
# Numbers of steps, bytes and characters that together take about a millisecond.
_AT_ONCE: Final = (1_000, 384 * 1024, 32 * 1024)


class TooMuchWork(Exception):
    """Exception for a file that exceeds the work budget."""


@dataclass(slots=True, eq=False)
class WorkBudget:
    """Remaining work for one file. If not enough is left, the methods raise `TooMuchWork`."""

    looks: int = MAX_LOOKS  # steps, such as reads, JSON values, lines or node inputs
    data: int = MAX_BYTES  # bytes to return, inflate or search
    characters: int = MAX_CHARACTERS  # characters to decode, parse or join

    def look(self, count: int = 1) -> None:
        """Subtract `count` steps from the budget."""
        self.looks -= count
        if self.looks < 0:
            raise TooMuchWork

    def hand_out(self, count: int) -> None:
        """Subtract `count` bytes from the budget."""
        self.data -= count
        if self.data < 0:
            raise TooMuchWork

    def produce(self, count: int) -> None:
        """Subtract `count` characters from the budget."""
        self.characters -= count
        if self.characters < 0:
            raise TooMuchWork

    def inflate(self, packed: bytes, most: int) -> tuple[bytes, bool]:
        """Return up to `most` inflated bytes, and True if these are all. May raise `zlib.error`."""
        self.hand_out(len(packed))
        inflater = zlib.decompressobj()
        data = inflater.decompress(packed, max(1, min(most, self.data + 1)))
        self.hand_out(len(data))
        return data, inflater.eof

    def part_at_once(self) -> "WorkBudget":
        """Split off a budget for about 1 ms of parsing, so that the event loop is not blocked."""
        part = WorkBudget(*map(min, (self.looks, self.data, self.characters), _AT_ONCE))
        self.looks -= part.looks
        self.data -= part.data
        self.characters -= part.characters
        return part

    def put_back(self, part: "WorkBudget") -> None:
        """Add the unused rest of a budget that `part_at_once` has split off."""
        self.looks += max(0, part.looks)
        self.data += max(0, part.data)
        self.characters += max(0, part.characters)
