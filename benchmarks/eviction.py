"""Hit ratios of the server's cache beside LRU and S3-FIFO: `python -m benchmarks.eviction`.

Requests as in the benchmark's rows, and with a scan in them, for caches of a tenth, a third and
two thirds of the images. S3-FIFO as in https://dl.acm.org/doi/10.1145/3600006.3613147, algorithm 1.
"""

import itertools
import random
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Final

import click

from stillroom.bounded_cache import BoundedCache

_IMAGES: Final = 6000
_REQUESTS: Final = 200_000


def clock(size: int) -> Callable[[int], bool]:
    """The cache that the server uses: second chance."""
    cache: BoundedCache[int, bool] = BoundedCache(size)

    def ask(key: int) -> bool:
        if cache.get(key):
            return True
        cache.put(key, value=True)
        return False

    return ask


def lru(size: int) -> Callable[[int], bool]:
    """The least recently used goes first."""
    kept: OrderedDict[int, None] = OrderedDict()

    def ask(key: int) -> bool:
        if key in kept:
            kept.move_to_end(key)
            return True
        kept[key] = None
        if len(kept) > size:
            kept.popitem(last=False)
        return False

    return ask


def s3_fifo(size: int) -> Callable[[int], bool]:
    """A small queue for what is new, a main one, and a memory of what left the small one."""
    small, main, ghost = deque[int](), deque[int](), OrderedDict[int, None]()
    asked: dict[int, int] = {}

    def evict() -> None:
        while len(small) >= max(1, size // 10):
            key = small.popleft()
            if asked[key] > 1:
                main.append(key)
                asked[key] = 0
                break
            del asked[key]
            ghost[key] = None
            if len(ghost) > size:
                ghost.popitem(last=False)
            return
        while main:
            key = main.popleft()
            if not asked[key]:
                del asked[key]
                return
            asked[key] -= 1
            main.append(key)

    def ask(key: int) -> bool:
        if key in asked:
            asked[key] = min(asked[key] + 1, 3)
            return True
        while len(asked) >= size:
            evict()
        asked[key] = 0
        (main if ghost.pop(key, 0) is None else small).append(key)
        return False

    return ask


def zipf(exponent: float) -> Iterator[int]:
    """Image numbers; 0 is asked for most, and all alike with an exponent of 0."""
    chance = random.Random(1)  # noqa: S311  (the same requests for each policy)
    total = [*itertools.accumulate(1 / (rank + 1) ** exponent for rank in range(_IMAGES))]
    return iter(chance.choices(range(_IMAGES), cum_weights=total, k=_REQUESTS))


def with_scans(requests: Iterator[int]) -> Iterator[int]:
    """The same, and once in 40,000 requests each image in turn, as a backup or a gallery asks."""
    for number, request in enumerate(requests):
        if number % 40_000 == 20_000:  # noqa: PLR2004  (as said)
            yield from range(_IMAGES)
        yield request


def main() -> None:
    """Print a table."""
    kinds: dict[str, Callable[[], Iterator[int]]] = {
        "uniform": lambda: zipf(0),
        "Zipf 0.9": lambda: zipf(0.9),
        "Zipf 0.9 with scans": lambda: with_scans(zipf(0.9)),
    }
    click.echo(f"{'requests':<20} {'kept':>5}  {'second chance':>13} {'LRU':>6} {'S3-FIFO':>8}")
    for kind, requests in kinds.items():
        for share in (0.1, 0.33, 0.67):
            ratios = []
            for policy in (clock, lru, s3_fifo):
                ask = policy(int(share * _IMAGES))
                hits = [ask(key) for key in requests()]
                ratios.append(sum(hits) / len(hits))
            click.echo(
                f"{kind:<20} {share:>5.0%}  {ratios[0]:>13.3f} {ratios[1]:>6.3f} {ratios[2]:>8.3f}"
            )


if __name__ == "__main__":
    main()
