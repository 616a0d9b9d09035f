"""Functions to call when the server begins to shut down, before it waits for its requests."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Final

_callbacks: Final[list[Callable[[], None]]] = []


@contextlib.contextmanager
def calling(callback: Callable[[], None]) -> Iterator[None]:
    """Context manager: call `callback` if the shutdown begins inside the block."""
    _callbacks.append(callback)
    try:
        yield
    finally:
        _callbacks.remove(callback)


def begin() -> None:
    """Call all functions. The server calls this on its event loop."""
    for callback in [*_callbacks]:
        callback()
