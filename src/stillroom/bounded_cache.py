"""A cache bounded in size that evicts entries one by one (second chance, also called CLOCK)."""

from typing import Final, Generic, TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")

_VALUE: Final = 0
_SIZE: Final = 1
_USED: Final = 2


class BoundedCache(Generic[_K, _V]):
    """Keeps what is asked for again, within `max_size`.

    The oldest entry goes first, unless it was asked for since it was last looked at: then it
    is kept for another turn. A hit so costs one assignment, and a scan of things that are
    asked for once evicts nothing that is in use. Hit ratios beside LRU and S3-FIFO:
    docs/adr/0028-a-connection-of-our-own.md.
    """

    __slots__ = ("_entries", "_max_size", "_size")

    def __init__(self, max_size: int) -> None:
        """Begin empty.

        Args:
            max_size: Of all entries together, in the unit that `put` is told sizes in.
        """
        self._max_size = max_size
        self._size = 0
        self._entries: dict[_K, list[object]] = {}

    def get(self, key: _K) -> _V | None:
        """The value of a key; None: it was never put, or is evicted."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        entry[_USED] = True
        return entry[_VALUE]  # type: ignore[return-value]  # a list has one type for all its items

    def put(self, key: _K, value: _V, size: int = 1) -> None:
        """Add or replace a value, evicting others; one larger than the cache is not kept."""
        self.remove(key)
        if size > self._max_size:
            return
        while self._size + size > self._max_size:
            self._evict()
        self._entries[key] = [value, size, False]
        self._size += size

    def remove(self, key: _K) -> None:
        """Remove a key, if it is there."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size -= entry[_SIZE]  # type: ignore[operator]  # as in `get`

    def _evict(self) -> None:
        while True:
            key = next(iter(self._entries))
            entry = self._entries.pop(key)
            if not entry[_USED]:
                self._size -= entry[_SIZE]  # type: ignore[operator]  # as in `get`
                return
            entry[_USED] = False
            self._entries[key] = entry

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> int:
        """Of all entries together."""
        return self._size
