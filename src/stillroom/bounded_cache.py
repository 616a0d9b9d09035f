"""A cache bounded in size that evicts entries one by one (second chance, also called CLOCK)."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")


class CacheEntry(Generic[_V]):
    """A value in a `BoundedCache`, for a caller that need not look it up again.

    Attributes:
        value: None: it was evicted, removed or never kept.
        used: Set it with each use.
    """

    __slots__ = ("size", "used", "value")

    def __init__(self, value: _V | None, size: int) -> None:
        self.value = value
        self.size = size
        self.used = False


class BoundedCache(Generic[_K, _V]):
    """Keeps what is asked for again, within `max_size`.

    The oldest entry goes first, unless it was asked for since it was last looked at: then it
    is kept for another turn. A hit so costs one assignment, and a scan of things that are
    asked for once evicts nothing that is in use. Hit ratios beside LRU and S3-FIFO:
    docs/adr/0028-a-connection-of-our-own.md.
    """

    __slots__ = ("_entries", "_evicted", "_max_size", "_size")

    def __init__(self, max_size: int, evicted: Callable[[_V], None] | None = None) -> None:
        """Begin empty.

        Args:
            max_size: Of all entries together, in the unit that `put` is told sizes in.
            evicted: Called with each value that is evicted.
        """
        self._evicted = evicted
        self._max_size = max_size
        self._size = 0
        # A dict's first key is behind the places of all that were evicted: each look at it walks
        # over them (10 us in a full cache of 16,384).
        self._entries: OrderedDict[_K, CacheEntry[_V]] = OrderedDict()

    def get(self, key: _K) -> _V | None:
        """The value of a key; None: it was never put, or is evicted."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        entry.used = True
        return entry.value

    def put(self, key: _K, value: _V, size: int = 1) -> CacheEntry[_V]:
        """Add or replace a value, evicting others; one larger than the cache is not kept."""
        self.remove(key)
        if size > self._max_size:
            return CacheEntry(None, 0)
        while self._size + size > self._max_size:
            self._evict()
        entry = self._entries[key] = CacheEntry(value, size)
        self._size += size
        return entry

    def remove(self, key: _K) -> None:
        """Remove a key, if it is there."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size -= entry.size
            entry.value = None

    def _evict(self) -> None:
        while True:
            key, entry = self._entries.popitem(last=False)
            if not entry.used:
                self._size -= entry.size
                value, entry.value = entry.value, None
                if self._evicted is not None and value is not None:
                    self._evicted(value)
                return
            entry.used = False
            self._entries[key] = entry

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> int:
        """Of all entries together."""
        return self._size
