"""Thread pool for bulk operations, with outcomes in input order."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from stillroom.client.many import FAILED, Gathered
from stillroom.client.values import OnProgress, Outcome, Progress

T = TypeVar("T")


def outcomes_of(path: str, run: Callable[[], T]) -> Sequence[Outcome[T]]:
    """Run a job for one image and return its outcome. Exceptions in `FAILED` become outcomes."""
    try:
        return [Outcome(path, run())]
    except FAILED as error:
        return [Outcome(path, error=error)]


class _Interrupted(Exception):
    """The calling thread was interrupted during a bulk operation."""


class Workers:
    """Threads of one bulk operation."""

    def __init__(self, concurrency: int, progress: OnProgress | None = None) -> None:
        """Configure the number of jobs to run at the same time, and a callback."""
        self._concurrency = concurrency
        self._progress = progress
        self._stop = threading.Event()

    def progress(self, event: Progress) -> None:
        """Report progress of a job, or abort the job if the caller was interrupted."""
        if self._stop.is_set():
            raise _Interrupted
        if self._progress is not None:
            self._progress(event)

    def run(
        self,
        jobs: Iterable[Callable[[], Sequence[Outcome[T]]]],
        each: Callable[[Outcome[T]], None] | None = None,
    ) -> list[T]:
        """Run jobs concurrently. A failed job does not stop the others.

        Args:
            jobs: Jobs to run. At most `concurrency` are read in advance, in the caller's thread.
            each: Called with each outcome as it arrives, in the caller's thread.

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
                    while not gathered.stopped and len(running) < self._concurrency:
                        job = next(numbered, None)
                        if job is None:
                            break
                        running[pool.submit(job[1])] = job[0]
                    if not running:
                        return gathered.results()
                    for done in wait(running, return_when=FIRST_COMPLETED).done:
                        gathered.add(running.pop(done), done.result())
            except BaseException:
                self._stop.set()
                raise
