"""Is there an order in which these overlapping operations, one after the other, make sense?

The search of Wing and Gong ("Testing and verifying concurrent objects", 1993) for one
register: pick any operation that began before every remaining one ended, see whether its
answer fits the state, go on; remember what was tried.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

State = str | None
"""The ETag of the image that is there, or None."""

Step = Callable[[State], tuple[bool, State]]
"""Whether the answer fits a state, and the state afterwards."""


@dataclass(frozen=True)
class Operation:
    began: float
    ended: float
    name: str
    step: Step


def has_serial_order(operations: Sequence[Operation]) -> bool:
    history = sorted(operations, key=lambda operation: operation.began)
    tried: set[tuple[frozenset[int], State]] = set()
    ways: list[tuple[frozenset[int], State]] = [(frozenset(range(len(history))), None)]
    while ways:
        remaining, state = ways.pop()
        if not remaining:
            return True
        if (remaining, state) in tried:
            continue
        tried.add((remaining, state))
        first_end = min(history[index].ended for index in remaining)
        for index in sorted(remaining):
            if history[index].began > first_end:
                break
            fits, after = history[index].step(state)
            if fits:
                ways.append((remaining - {index}, after))
    return False


def saved(etag: str) -> Step:
    return lambda _: (True, etag)


def created(etag: str | None) -> Step:
    """A create-only save: 200 with this ETag, or 412 (None)."""
    if etag is None:
        return lambda state: (state is not None, state)
    return lambda state: (state is None, etag)


def replaced(known: str, etag: str | None) -> Step:
    """A save guarded by `known`: 200 with this ETag, or 412 (None)."""
    if etag is None:
        return lambda state: (state != known, state)
    return lambda state: (state == known, etag)


def deleted(*, found: bool) -> Step:
    return lambda state: ((state is not None) == found, None)


def read(etag: str | None) -> Step:
    """A GET or HEAD: 200 with this ETag, or 404 (None)."""
    return lambda state: (state == etag, state)


def listed(*, found: bool) -> Step:
    return lambda state: ((state is not None) == found, state)
