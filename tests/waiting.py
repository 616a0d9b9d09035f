"""Waiting for what tells nobody that it has happened."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    import subprocess

T = TypeVar("T")
_PAUSE_S: Final = 0.02


def until(
    found: Callable[[], T | None],
    *,
    within_s: float = 120,
    despite: type[Exception] | tuple[type[Exception], ...] = (),
    by: "subprocess.Popen[bytes] | subprocess.Popen[str] | None" = None,
    as_long_as: Callable[[], bool] = lambda: True,
    said: Callable[[], object] = str,
) -> T:
    """Wait until `found` returns something true, and return that; fail if it does not in time.

    Args:
        found: Asked fifty times a second.
        within_s: Seconds; many, as ten things may happen at once on a machine of two cores.
        despite: Errors of `found` that mean "not yet".
        by: The process that brings it about: it fails at once if that has ended.
        as_long_as: Whether it can still come about, where that is not one process.
        said: What a failure shows, such as a log.
    """
    ends = time.monotonic() + within_s
    while True:
        try:
            if result := found():
                return result
        except despite:
            pass
        assert as_long_as(), said()
        assert by is None or by.poll() is None, said()
        assert time.monotonic() < ends, said()
        time.sleep(_PAUSE_S)


def until_equal(found: Callable[[], object], expected: object) -> None:
    """Wait until `found` returns what is expected; a failure shows both."""
    until(lambda: found() == expected, said=lambda: (found(), expected))
