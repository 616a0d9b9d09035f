"""Pool of threads for bulk operations, which returns the outcomes in input order."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

from stillroom.client.many import FAILED, Gathered
from stillroom.client.values import OnProgress, Outcome, Progress

T = TypeVar("T")


def outcomes_of(path: str, run: Callable[[], T]) -> Sequence[Outcome[T]]:
    """Run the job of one image and return the outcome. Exceptions in `FAILED` become outcomes."""
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
        """Run jobs concurrently and return their results in input order.

        The caller's thread reads jobs, at most `concurrency` in advance, and calls `each`.

        Raises:
            SomeFailed: Some jobs failed. Raised after all jobs were attempted, or earlier if the
                remaining jobs would fail for the same reason.
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
