"""Partially read file, for parsers that request the bytes they need.

A parser is a pure function of `FileParts`. If bytes are missing, it raises `MoreNeeded`. The caller
then reads these bytes and runs the parser again. The same parsers therefore work for a disk and for
a bucket, where each read costs a request.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

from stillroom.formats.work_budget import WorkBudget

LOOKS_OF_A_READ: Final = 3
_READ_AHEAD_BYTES: Final = 64 * 1024

T = TypeVar("T")


class BrokenHeader(Exception):
    """Error for a file header that is invalid in its format."""


class CutOff(BrokenHeader):
    """Error for a file that ends before a part that its header announces."""


class MoreNeeded(Exception):
    """Error if a parser needs bytes that were not read yet."""

    def __init__(self, start: int, length: int) -> None:
        super().__init__()
        self.start = start
        self.length = length


class FileParts:
    """Parts of a file that were read so far.

    Attributes:
        size: Size of the whole file in bytes.
        held: Number of bytes read so far.
        budget: Remaining work budget for parsing the file.
    """

    def __init__(self, size: int, most: int) -> None:
        """Create an object without bytes. Parsers should request at most `most` bytes in total."""
        self.size = size
        self.held = 0
        self._most = most
        self.budget = WorkBudget()
        self._has_all = False
        self._parts: list[tuple[int, bytes]] = []

    @classmethod
    def whole(cls, data: bytes) -> "FileParts":
        """Return an object for a file that is completely in memory."""
        parts = cls(len(data), len(data))
        parts.add(0, data)
        return parts

    def add(self, start: int, part: bytes) -> None:
        """Add bytes that were read from offset `start`."""
        self._parts.append((start, part))
        self.held += len(part)

    def end(self) -> None:
        """Record that no more bytes will be read. Missing bytes then raise `BrokenHeader`."""
        self._has_all = True

    def allows(self, start: int, length: int) -> bool:
        """Return whether these bytes were read or may be requested."""
        may_request = not self._has_all and self.held + length <= self._most
        return may_request or self._find_part(start, length) is not None

    def bytes_at(self, start: int, length: int) -> bytes:
        """Return `length` bytes of the file from offset `start`.

        Raises:
            CutOff: the file is too short.
            BrokenHeader: `start` or `length` is negative, or `end` was called before the bytes were
                read.
            MoreNeeded: the bytes were not read yet.
            TooMuchWork: the work budget is exhausted.
        """
        self.budget.look(LOOKS_OF_A_READ)
        if start < 0 or length < 0:
            raise BrokenHeader
        if start + length > self.size:
            raise CutOff
        match = self._find_part(start, length)
        if match is None:
            if self._has_all:
                raise BrokenHeader
            raise MoreNeeded(start, length)
        self.budget.hand_out(length)
        at, part = match
        return part[start - at : start - at + length]

    def read_ahead(self, start: int, needed: int) -> None:
        """Request 64 KiB from offset `start`, unless the first `needed` bytes were already read.

        Raises:
            MoreNeeded: the bytes were not read yet; see `bytes_at`.
        """
        left = self.size - start
        try:
            self.bytes_at(start, min(needed, left))
        except MoreNeeded:
            raise MoreNeeded(start, min(_READ_AHEAD_BYTES, left)) from None

    def numbers(self, form: str, start: int) -> tuple[int, ...]:
        """Return integers from offset `start`; `form` is a format for `struct`."""
        return struct.unpack(form, self.bytes_at(start, struct.calcsize(form)))

    def _find_part(self, start: int, length: int) -> tuple[int, bytes] | None:
        for at, part in self._parts:
            if at <= start and start + length <= at + len(part):
                return at, part
        return None


def at_most(count: int, items: Iterable[T]) -> Iterator[T]:
    """Yield up to `count` items. Raise `BrokenHeader` if another item is requested."""
    for number, item in enumerate(items, 1):
        yield item
        if number == count:
            raise BrokenHeader
