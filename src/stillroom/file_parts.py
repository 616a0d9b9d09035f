"""Partially read file, for parsers that request the bytes they need.

A parser is a pure function of `FileParts`. If bytes are missing, it raises `MoreNeeded`. The caller
then reads these bytes and runs the parser again. So the same parsers work for a disk and for a
bucket, where each read costs a request.
"""

import struct
from collections.abc import Iterator
from typing import Final

from stillroom.work_budget import WorkBudget

_WIDE: Final = 1
_LOOKS_OF_A_READ: Final = 3
_MAX_SEGMENTS: Final = 4096
"""Maximum number of JPEG segments. The following markers are from ITU-T T.81, B.1.1.3."""

_MARKS: Final = 0xFF
_END_OF_IMAGE: Final = 0xD9
_START_OF_SCAN: Final = 0xDA
_WITHOUT_CONTENT: Final = (0x01, *range(0xD0, 0xD9))
_LENGTH_BYTES: Final = 2


class BrokenHeader(Exception):
    """Error for a file header that is invalid in its format."""


class MoreNeeded(Exception):
    """Error if a parser needs bytes that were not read yet."""

    def __init__(self, start: int, length: int) -> None:
        super().__init__()
        self.start = start
        self.length = length


class FileParts:
    """The parts of a file that were read so far.

    Attributes:
        size: Size of the whole file in bytes.
        held: Number of bytes read so far.
        budget: Remaining work budget for parsing the file.
    """

    def __init__(self, size: int, most: int) -> None:
        """Create an empty object. Parsers should request at most `most` bytes in total."""
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
        """Declare that no more bytes will be read. Missing bytes then raise `BrokenHeader`."""
        self._has_all = True

    def allows(self, start: int, length: int) -> bool:
        """Return whether these bytes were read or may be requested."""
        may_request = not self._has_all and self.held + length <= self._most
        return may_request or self._find_part(start, length) is not None

    def bytes_at(self, start: int, length: int) -> bytes:
        """Return `length` bytes of the file from offset `start`.

        Raises:
            BrokenHeader: the file is too short, or no more bytes will be read.
            MoreNeeded: the bytes were not read yet.
            TooMuchWork: the work budget is exhausted.
        """
        self.budget.look(_LOOKS_OF_A_READ)
        if start < 0 or length < 0 or start + length > self.size:
            raise BrokenHeader
        match = self._find_part(start, length)
        if match is None:
            if self._has_all:
                raise BrokenHeader
            raise MoreNeeded(start, length)
        self.budget.hand_out(length)
        at, part = match
        return part[start - at : start - at + length]

    def numbers(self, form: str, start: int) -> tuple[int, ...]:
        """Return integers from offset `start`; `form` is a format for `struct`."""
        return struct.unpack(form, self.bytes_at(start, struct.calcsize(form)))

    def _find_part(self, start: int, length: int) -> tuple[int, bytes] | None:
        for at, part in self._parts:
            if at <= start and start + length <= at + len(part):
                return at, part
        return None


def boxes(parts: FileParts, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, content start and content end of each box (ISO/IEC 14496-12, 4.2)."""
    while start + 8 <= end:
        (length,) = parts.numbers(">I", start)
        kind = parts.bytes_at(start + 4, 4)
        head = 8
        if length == _WIDE:
            (length,) = parts.numbers(">Q", start + 8)
            head = 16
        elif length == 0:
            length = end - start
        if length < head or start + length > end:
            raise BrokenHeader
        yield kind, start + head, start + length
        start += length


def jpeg_segments(parts: FileParts) -> Iterator[tuple[int, int, int]]:
    """Yield marker, content start and content length of each JPEG segment before the first scan."""
    at = 2
    for _ in range(_MAX_SEGMENTS):
        sign, marker = parts.numbers("BB", at)
        if sign != _MARKS or marker == _END_OF_IMAGE:
            raise BrokenHeader
        if marker == _MARKS:  # fill byte
            at += 1
            continue
        if marker == _START_OF_SCAN:
            return
        if marker in _WITHOUT_CONTENT:
            at += 2
            continue
        (length,) = parts.numbers(">H", at + 2)
        if length < _LENGTH_BYTES:
            raise BrokenHeader
        yield marker, at + 4, length - _LENGTH_BYTES
        at += 2 + length
    raise BrokenHeader
