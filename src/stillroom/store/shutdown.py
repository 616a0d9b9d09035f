"""Callbacks that run when a shutdown begins, before the server waits for its requests."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Final

_callbacks: Final[list[Callable[[], None]]] = []


@contextlib.contextmanager
def calling(callback: Callable[[], None]) -> Iterator[None]:
    """Context manager: call `callback` if the server begins to shut down during the block."""
    _callbacks.append(callback)
    try:
        yield
    finally:
        _callbacks.remove(callback)


def begin() -> None:
    """Run all callbacks. The server calls this function on its event loop."""
    for callback in [*_callbacks]:
        callback()


def has_uvicorn_begun() -> bool:
    """Return whether the uvicorn server of a host application has begun to shut down.

    Uvicorn runs the end of the application's lifespan only after all requests have ended.
    """
    # Its handler of SIGTERM is a method of the server.
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", False) is True
