"""Pool of threads for bulk operations, and collection of their outcomes in input order."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Final, Generic, TypeVar

from stillroom.client.errors import FAILED, SomeFailed
from stillroom.client.values import OnProgress, Outcome, Progress
from stillroom.errors import BackendUnavailable, ConfigurationError, StorageFull, Unauthenticated

T = TypeVar("T")

_FAILS_ALL: Final = (Unauthenticated, StorageFull, BackendUnavailable, ConfigurationError)
"""Errors after which a bulk operation stops, because they are expected for all other images."""


class Gathered(Generic[T]):
    """Collector for the outcomes of a bulk operation, which may arrive in any order."""

    def __init__(self, each: Callable[[Outcome[T]], None] | None) -> None:
        self._each = each
        self._outcomes: dict[int, Sequence[Outcome[T]]] = {}
        self.stopped = False  # if True, the remaining images should not be attempted

    def add(self, number: int, outcomes: Sequence[Outcome[T]]) -> None:
        """Add the outcomes of one job. `number` is the position of the job in the input."""
        self._outcomes[number] = outcomes
        for outcome in outcomes:
            self.stopped |= isinstance(outcome.error, _FAILS_ALL)
            self.stopped |= getattr(outcome.error, "scope", None) is not None
            if self._each is not None:
                self._each(outcome)

    def results(self) -> list[T]:
        """Return the results of all images in input order, or raise `SomeFailed`."""
        jobs = (self._outcomes[number] for number in sorted(self._outcomes))
        outcomes = [outcome for job in jobs for outcome in job]
        if any(outcome.error is not None for outcome in outcomes):
            raise SomeFailed(outcomes, stopped=self.stopped)
        return [outcome.result for outcome in outcomes if outcome.result is not None]


def outcomes_of(path: str, run: Callable[[], T]) -> Sequence[Outcome[T]]:
    """Call `run` for one image. Return one outcome, with the result or a caught `FAILED` error."""
    try:
        return [Outcome(path, run())]
    except FAILED as error:
        return [Outcome(path, error=error)]


class _Interrupted(Exception):
    """Exception that stops a job after the calling thread was interrupted."""


class Workers:
    """Pool of threads that run the jobs of one bulk operation."""

    def __init__(self, concurrency: int, progress: OnProgress | None = None) -> None:
        self._concurrency = concurrency
        self._progress = progress
        self._stop = threading.Event()

    def progress(self, event: Progress) -> None:
        """Call the progress callback, or stop the job if the calling thread was interrupted."""
        if self._stop.is_set():
            raise _Interrupted
        if self._progress is not None:
            self._progress(event)

    def run(
        self,
        jobs: Iterable[Callable[[], Sequence[Outcome[T]]]],
        each: Callable[[Outcome[T]], None] | None = None,
    ) -> list[T]:
        """Run jobs concurrently and return their results in input order, or raise `SomeFailed`.

        The caller's thread reads jobs, at most `concurrency` in advance, and calls `each`.
        """
        gathered: Gathered[T] = Gathered(each)
        running: dict[Future[Sequence[Outcome[T]]], int] = {}
        numbered = enumerate(jobs)
        with ThreadPoolExecutor(self._concurrency, thread_name_prefix="stillroom") as pool:
            try:
                while True:
                    free = 0 if gathered.stopped else self._concurrency - len(running)
                    for number, job in islice(numbered, free):
                        running[pool.submit(job)] = number
                    if not running:
                        return gathered.results()
                    for done in wait(running, return_when=FIRST_COMPLETED).done:
                        gathered.add(running.pop(done), done.result())
            except BaseException:
                self._stop.set()
                raise
