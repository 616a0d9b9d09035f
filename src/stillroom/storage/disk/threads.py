"""Thread pool for blocking disk operations.

`asyncio.to_thread` and its kin cost 17 to 33 µs a job, several futures and locks; a save of
100 KB takes 300. This costs 4 to 25 (`docs/adr/0002` says what runs here and what does not).
With a `ThreadPoolExecutor` instead, a save of 100 KB took 1.18 times the processor time.
"""

import asyncio
import contextlib
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any, Final, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_STOP: Final = None


class _Job(Generic[T]):
    """A function to run in a thread, and the future that waits for it."""

    __slots__ = ("_context", "_error", "_loop", "_result", "_work", "ended", "waiting")

    def __init__(self, work: Callable[[], T]) -> None:
        self._loop = asyncio.get_running_loop()
        self._work = work
        self._context = contextvars.copy_context()  # a log line says for which request it is
        self._result: T
        self._error: BaseException | None = None
        self.ended = False
        self.waiting: asyncio.Future[None] = self._loop.create_future()

    def do(self) -> None:
        """In a thread."""
        try:
            self._result = self._context.run(self._work)
        except BaseException as error:  # noqa: BLE001  (it is raised where the job is waited for)
            self._error = error
        with contextlib.suppress(RuntimeError):  # the loop was closed: nothing waits any more
            self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self.ended = True
        if not self.waiting.done():
            self.waiting.set_result(None)

    def outcome(self) -> T:
        """What the work returned, or raised."""
        if self._error is not None:
            raise self._error
        return self._result


class DiskThreads:
    """A thread pool of bounded size; threads start when they are needed.

    Attributes:
        is_closed: Nothing may be asked of them any more.
    """

    def __init__(self, most: int) -> None:
        """Work in at most `most` threads at once."""
        self._most = most
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        self.is_closed = False
        self._lock = threading.Lock()

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread, to its end even if the caller is cancelled.

        It may hold descriptors that the caller closes next, and once an image is published
        it must also be synced.

        Raises:
            RuntimeError: the threads are closed.
        """
        job = _Job(work)
        self._put(job)
        try:
            await job.waiting
        except asyncio.CancelledError:
            while not job.ended:
                job.waiting = asyncio.get_running_loop().create_future()
                with contextlib.suppress(asyncio.CancelledError):  # cancel scopes cancel again
                    await job.waiting
            raise
        return job.outcome()

    def start(self, work: Callable[[], None]) -> None:
        """Run `work` in a thread without waiting for it; it raises nothing. From the loop only.

        Raises:
            RuntimeError: the threads are closed.
        """
        self._put(_Job(work))

    def _put(self, job: _Job[Any]) -> None:
        with self._lock:
            if self.is_closed:
                raise RuntimeError("the disk's threads are closed")
            self._jobs.put(job)
            if len(self._threads) >= self._most or self._idle.acquire(blocking=False):
                return
            # A storage that was not closed must not keep its process from ending.
            name = f"disk-{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not _STOP:
            job.do()
            del job  # an idle thread must not keep a large upload alive
            self._idle.release()

    def close(self) -> None:
        """Finish what was begun; blocks until then."""
        with self._lock:  # a job that was taken stands in front of every stop
            self.is_closed = True
            for _ in self._threads:
                self._jobs.put(_STOP)
        for thread in self._threads:
            thread.join()
