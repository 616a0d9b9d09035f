"""Many jobs in a few threads, their outcomes in order."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from stillroom.client.many import FAILED, Gathered
from stillroom.client.values import Outcome

T = TypeVar("T")


def outcomes_of(path: str, run: Callable[[], T]) -> Sequence[Outcome[T]]:
    """Run one job; what fails it alone is its outcome."""
    try:
        return [Outcome(path, run())]
    except FAILED as error:
        return [Outcome(path, error=error)]


def run_many(
    jobs: Iterable[Callable[[], Sequence[Outcome[T]]]],
    concurrency: int,
    each: Callable[[Outcome[T]], None] | None,
    stop: threading.Event,
) -> list[T]:
    """Run jobs, some at a time; what fails one does not stop the others.

    Args:
        jobs: Only `concurrency` are taken in advance, in the caller's thread.
        concurrency: At a time.
        each: Called with each outcome as it comes, in the caller's thread.
        stop: Set when the caller is interrupted; jobs that look at it end sooner.

    Raises:
        SomeFailed: after all were tried, unless the next ones would have failed alike.
    """
    gathered: Gathered[T] = Gathered(each)
    running: dict[Future[Sequence[Outcome[T]]], int] = {}
    numbered = enumerate(jobs)
    with ThreadPoolExecutor(concurrency, thread_name_prefix="stillroom") as pool:
        try:
            while True:
                while not gathered.stopped and len(running) < concurrency:
                    job = next(numbered, None)
                    if job is None:
                        break
                    running[pool.submit(job[1])] = job[0]
                if not running:
                    return gathered.results()
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    gathered.add(running.pop(done), done.result())
        except BaseException:
            stop.set()
            raise
