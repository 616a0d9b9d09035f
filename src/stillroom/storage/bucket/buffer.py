"""Memory buffer for one part of an upload."""

import mmap
from typing import Final

_HEAP_BYTES: Final = 1024**2
"""Maximum size of a buffer on the heap, which reuses memory: new pages cost 90 µs for 100 KB. All
such buffers together are bounded by the budget for small images."""


class PartBuffer:
    """A buffer for incoming bytes, of a fixed maximum size.

    A large buffer has memory pages of its own: only those written take memory, and all are
    released as soon as the buffer is unused. Buffers of this size that grow on the heap take up to
    twice their size (tests/r2/test_cdn.py).
    """

    def __init__(self, most: int) -> None:
        self._memory = bytearray(most) if most <= _HEAP_BYTES else mmap.mmap(-1, most)
        self._most = most
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def fill(self, data: memoryview) -> memoryview:
        """Append the beginning of `data`, as much as fits, and return the rest."""
        head = data[: self._most - self._size]
        self._memory[self._size : self._size + len(head)] = head
        self._size += len(head)
        return data[len(head) :]

    def contents(self) -> memoryview:
        """Return the bytes so far. The view is valid until the next call of `fill`."""
        return memoryview(self._memory)[: self._size]
