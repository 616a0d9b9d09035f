"""File of which only some parts have been read. Parsers request the parts that they need.

A parser is a pure function of `FileParts`. If it needs bytes that have not been read, it raises
`MoreNeeded`. The caller reads these bytes, and calls the parser again.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

from stillroom.formats.work_budget import WorkBudget

LOOKS_OF_A_READ: Final = 3
_READ_AHEAD_BYTES: Final = 64 * 1024

T = TypeVar("T")


class BrokenHeader(Exception):
    """Exception for a file that does not conform to its format."""


class CutOff(BrokenHeader):
    """Exception for a file that is shorter than its header says."""


class MoreNeeded(Exception):
    """Exception of a parser that needs `length` more bytes, from the offset `start` of a file."""

    def __init__(self, start: int, length: int) -> None:
        super().__init__()
        self.start = start
        self.length = length


class FileParts:
    """Parts of a file that have been read so far. `budget` limits the work of its parsers."""

    def __init__(self, size: int, most: int, budget: WorkBudget | None = None) -> None:
        self.size = size  # of the whole file
        self.held = 0  # number of bytes that have been read
        self._most = most  # maximum number of bytes to read
        self.budget = budget or WorkBudget()
        self._has_all = False
        self._parts: list[tuple[int, bytes]] = []

    @classmethod
    def whole(cls, data: bytes, budget: WorkBudget | None = None) -> "FileParts":
        """Return the parts of a file that is completely in memory."""
        parts = cls(len(data), len(data), budget)
        parts.add(0, data)
        return parts

    def add(self, start: int, part: bytes) -> None:
        """Add a part of the file, which was read from the offset `start`."""
        self._parts.append((start, part))
        self.held += len(part)

    def end(self) -> None:
        """Forbid further requests: `bytes_at` then raises `BrokenHeader`, not `MoreNeeded`."""
        self._has_all = True

    def allows(self, start: int, length: int) -> bool:
        """Return whether `length` bytes from `start` have been read, or may still be requested."""
        may_request = not self._has_all and self.held + length <= self._most
        return may_request or self._find_part(start, length) is not None

    def bytes_at(self, start: int, length: int) -> bytes:
        """Return `length` bytes of the file from the offset `start`.

        Raises:
            CutOff: the file is too short.
            BrokenHeader: an argument is negative, or `end` was called before the bytes were read.
            MoreNeeded: the bytes have not been read yet.
            TooMuchWork: the parsers have spent the work budget.
        """
        self.budget.look(LOOKS_OF_A_READ)
        if start < 0 or length < 0:
            raise BrokenHeader
        if start + length > self.size:
            raise CutOff
        match = self._find_part(start, length)
        if match is None:
            raise BrokenHeader if self._has_all else MoreNeeded(start, length)
        self.budget.hand_out(length)
        at, part = match
        return part[start - at : start - at + length]

    def read_ahead(self, start: int, needed: int) -> None:
        """Request 64 KiB from `start`, unless the first `needed` of these have been read."""
        left = self.size - start
        try:
            self.bytes_at(start, min(needed, left))
        except MoreNeeded:
            raise MoreNeeded(start, min(_READ_AHEAD_BYTES, left)) from None

    def numbers(self, form: str, start: int) -> tuple[int, ...]:
        """Return the integers at the offset `start`. `form` is a format string of `struct`."""
        return struct.unpack(form, self.bytes_at(start, struct.calcsize(form)))

    def _find_part(self, start: int, length: int) -> tuple[int, bytes] | None:
        for at, part in self._parts:
            if at <= start and start + length <= at + len(part):
                return at, part
        return None


def at_most(count: int, items: Iterable[T]) -> Iterator[T]:
    """Yield up to `count` items, then raise `BrokenHeader`."""
    for number, item in enumerate(items, 1):
        yield item
        if number == count:
            raise BrokenHeader
