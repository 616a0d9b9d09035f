"""Bulk operations: gather the outcomes of many images."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, Generic, TypeVar

from stillroom.client.errors import SomeFailed
from stillroom.client.values import OnProgress, Outcome, Progress
from stillroom.errors import (
    BackendUnavailable,
    ConfigurationError,
    StillroomError,
    StorageFull,
    Unauthenticated,
)

T = TypeVar("T")

FAILED: Final = (StillroomError, OSError)
"""What fails one image and leaves the others alone; all else is a mistake of the caller's."""

_FAILS_ALL: Final = (Unauthenticated, StorageFull, BackendUnavailable, ConfigurationError)
"""After such an error the next image would fail alike, each at the end of its deadline."""


class Gathered(Generic[T]):
    """Outcomes as they come in, in any order.

    Attributes:
        stopped: Whether no more should be tried.
    """

    def __init__(self, each: Callable[[Outcome[T]], None] | None) -> None:
        self._each = each
        self._outcomes: dict[int, Sequence[Outcome[T]]] = {}
        self.stopped = False

    def add(self, number: int, outcomes: Sequence[Outcome[T]]) -> None:
        """Note what became of the job with this number."""
        self._outcomes[number] = outcomes
        for outcome in outcomes:
            self.stopped |= isinstance(outcome.error, _FAILS_ALL)
            if self._each is not None:
                self._each(outcome)

    def results(self) -> list[T]:
        """In the order of the numbers.

        Raises:
            SomeFailed: not all have one.
        """
        jobs = (self._outcomes[number] for number in sorted(self._outcomes))
        outcomes = [outcome for job in jobs for outcome in job]
        if any(outcome.error is not None for outcome in outcomes):
            raise SomeFailed(outcomes, stopped=self.stopped)
        return [outcome.result for outcome in outcomes if outcome.result is not None]


def batches(things: Iterable[T], size: int) -> Iterator[list[T]]:
    """All things, `size` at a time."""
    left = iter(things)
    while batch := list(islice(left, size)):
        yield batch


class _Stopped(Exception):
    """The caller that waits for many images was interrupted."""


def progress_unless(stop: threading.Event, progress: OnProgress | None, event: Progress) -> None:
    """Report progress; raise if the caller was interrupted, which ends the transfer."""
    if stop.is_set():
        raise _Stopped
    if progress is not None:
        progress(event)
