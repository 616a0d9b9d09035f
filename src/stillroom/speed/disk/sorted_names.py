"""Compact sorted set of the names in a folder.

A million names of 20 letters use 70 MiB as `str`, but 21 MiB in encoded blocks of about a thousand
names. Names are sorted in short steps, each of which holds the GIL for a few milliseconds at most.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from stillroom.paths import is_listed

_BLOCK_NAMES: Final = 1024
_LARGEST_BLOCK: Final = 2 * _BLOCK_NAMES
_SAMPLED: Final = 64  # one in 64 names is sampled, to choose the first names of the blocks
_LOOSE_NAMES: Final = 65_536  # names that are decoded at once while they are divided into blocks
_OVERHEAD: Final = 256  # memory overhead of a block in bytes


class SortedNames:
    """Sorted set of names. The names of folders end with a slash. Not thread-safe."""

    def __init__(self) -> None:
        self.size = 0  # approximate memory use in bytes
        self._unsorted: list[bytes] = []
        self._sample: list[str] = []
        # Block n contains the names from _lows[n] up to, but not including, _lows[n + 1].
        self._lows: list[str] = [""]
        self._blocks: list[_Block] = [_Block()]

    def add(self, names: list[str]) -> None:
        """Add names in any order. Do not call this after `names_from` or `update`."""
        packed = _pack(names)
        self._unsorted.append(packed)
        self._sample += names[::_SAMPLED]
        self.size += len(packed)

    def sort(self) -> None:
        """Divide the added names into blocks. `names_from` and `update` call this."""
        if not self._unsorted:
            return
        sample, self._sample = sorted(self._sample), []
        every = _BLOCK_NAMES // _SAMPLED
        self._lows = lows = ["", *sample[every::every]]
        self._blocks = [_Block() for _ in lows]
        self.size += _OVERHEAD * len(lows)
        loose: list[list[str]] = [[] for _ in lows]
        waiting = 0
        while self._unsorted:
            names = _unpack(self._unsorted.pop())
            for name in names:
                loose[bisect_right(lows, name) - 1].append(name)
            waiting += len(names)
            if waiting >= _LOOSE_NAMES or not self._unsorted:
                waiting = 0
                for block, some_names in zip(self._blocks, loose, strict=True):
                    if some_names:
                        block.packs.append(_pack(some_names))
                        some_names.clear()

    def names_from(self, start: str, count: int) -> list[str]:
        """Return sorted names from `start` (inclusive) on: at least `count`, or all that remain."""
        self.sort()
        self._tidy(self._block_of(start))
        at = self._block_of(start)
        block_names = self._names_in(at)
        names = block_names[bisect_left(block_names, start) :]
        while len(names) < count and at + 1 < len(self._blocks):
            at += 1
            self._tidy(at)
            names += self._names_in(at)
        return names

    def update(self, changes: Mapping[str, bool]) -> None:
        """Add each name whose value is True, and remove each name whose value is False."""
        self.sort()
        # Begin at the end, so that splitting a block does not move those still to be changed.
        for at, group in groupby(sorted(changes, reverse=True), self._block_of):
            names = set(self._names_in(at))
            for name in group:
                if changes[name] and is_listed(name):
                    names.add(name)
                else:
                    names.discard(name)
            self._write(at, sorted(names))

    def _block_of(self, name: str) -> int:
        return bisect_right(self._lows, name) - 1

    def _names_in(self, at: int) -> list[str]:
        block = self._blocks[at]
        if block.is_tidy:
            return _unpack(block.packs[0])
        names = {name for pack in block.packs for name in _unpack(pack)}
        return sorted(name for name in names if is_listed(name))

    def _tidy(self, at: int) -> None:
        if not self._blocks[at].is_tidy:
            self._write(at, self._names_in(at))

    def _write(self, at: int, names: list[str]) -> None:
        step = _BLOCK_NAMES if len(names) > _LARGEST_BLOCK else max(len(names), 1)
        parts = [names[start : start + step] for start in range(0, max(len(names), 1), step)]
        blocks = [_Block([_pack(part)], is_tidy=True) for part in parts]
        self.size += sum(block.size for block in blocks) - self._blocks[at].size
        self._blocks[at : at + 1] = blocks
        self._lows[at + 1 : at + 1] = [part[0] for part in parts[1:]]


@dataclass(slots=True)
class _Block:
    packs: list[bytes] = field(default_factory=list)
    is_tidy: bool = False

    @property
    def size(self) -> int:
        return _OVERHEAD + sum(len(pack) for pack in self.packs)


def _pack(names: list[str]) -> bytes:
    return "\0".join(names).encode("utf-8", "surrogateescape")


def _unpack(packed: bytes) -> list[str]:
    return packed.decode("utf-8", "surrogateescape").split("\0") if packed else []
