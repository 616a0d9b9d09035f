"""Waiting for what tells nobody that it has happened."""

import asyncio
import inspect
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
    within_s: float = 300,
    despite: type[Exception] | tuple[type[Exception], ...] = (),
    by: "subprocess.Popen[bytes] | subprocess.Popen[str] | None" = None,
    as_long_as: Callable[[], bool] = lambda: True,
    said: Callable[[], object] = str,
) -> T:
    """Wait until `found` returns something true, and return that.

    A failure says what was waited for, for how long, and what `found` returned or raised last.

    Args:
        found: Called fifty times a second.
        within_s: Many seconds, as ten things may happen at once on a machine of two cores.
        despite: Errors of `found` that mean "not yet".
        by: The process that brings it about: a failure at once if that has ended.
        as_long_as: Return whether it can still come about, where that is not one process.
        said: What a failure also shows, such as a log.
    """
    wait = _Wait(found, within_s, said)
    while True:
        try:
            if result := found():
                return result
            wait.last = result
        except despite as error:
            wait.last = error
        assert as_long_as(), wait.failure("it cannot happen any more")
        assert by is None or by.poll() is None, wait.failure("the process has ended")
        assert not wait.is_over, wait.failure("too late")
        time.sleep(_PAUSE_S)


async def eventually(
    found: Callable[[], object],
    *,
    within_s: float = 300,
    said: Callable[[], object] = str,
) -> None:
    """Wait as `until` does, and let the event loop run; `found` may be a coroutine function."""
    wait = _Wait(found, within_s, said)
    while True:
        wait.last = found()
        if inspect.isawaitable(wait.last):
            wait.last = await wait.last
        if wait.last:
            return
        assert not wait.is_over, wait.failure("too late")
        await asyncio.sleep(_PAUSE_S)


def until_equal(found: Callable[[], object], expected: object) -> None:
    """Wait until `found` returns what is expected; a failure shows both."""
    until(lambda: found() == expected, said=lambda: (found(), expected))


class _Wait:
    """What is waited for, since when, and what it was last."""

    def __init__(
        self, condition: Callable[[], object], within_s: float, said: Callable[[], object]
    ) -> None:
        self._condition = condition
        self._said = said
        self._began = time.monotonic()
        self._ends = self._began + within_s
        self.last: object = None

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._ends

    def failure(self, why: str) -> str:
        waited_s = time.monotonic() - self._began
        source = _source_of(self._condition)
        return f"{why}: waited {waited_s:.1f} s for {source}\nlast: {self.last!r}\n{self._said()}"


def _source_of(condition: Callable[[], object]) -> str:
    """Return the code of a condition, on one line."""
    try:
        return " ".join(inspect.getsource(condition).split())
    except (OSError, TypeError):  # it is no function that stands in a file
        return repr(condition)
