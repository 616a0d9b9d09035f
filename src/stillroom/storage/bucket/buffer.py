"""Memory for one part of an upload."""

import mmap
from typing import Final

_HEAP_BYTES: Final = 1024**2
"""Up to this a buffer comes from the heap, where it finds memory that was in use before: new pages
cost 90 µs for 100 KB. All such buffers together are bounded by the budget for small images."""


class PartBuffer:
    """Bytes that come in, up to a size that is known from the start.

    A large one has pages of its own, straight from the system: only what was written takes
    room, and all of it is given back as soon as it is unused. In the heap, buffers
    of this size that grow piece by piece cost up to twice their size (tests/r2/test_cdn.py).
    """

    def __init__(self, most: int) -> None:
        self._memory = bytearray(most) if most <= _HEAP_BYTES else mmap.mmap(-1, most)
        self._most = most
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def take(self, data: memoryview) -> memoryview:
        """Take the beginning of `data`, as much as fits; gives back the rest."""
        taken = data[: self._most - self._size]
        self._memory[self._size : self._size + len(taken)] = taken
        self._size += len(taken)
        return data[len(taken) :]

    def contents(self) -> memoryview:
        """What came so far; it stays as it is only while nothing more is taken."""
        return memoryview(self._memory)[: self._size]
