"""Thread pool for blocking disk operations.

Starting a job takes 4 to 25 µs here, but 17 to 33 µs with `asyncio.to_thread`. With a
`ThreadPoolExecutor`, a save of 100 KB (300 µs) needs 18% more CPU time. See docs/adr/0002.
"""

import asyncio
import contextlib
import contextvars
import functools
import queue
import threading
from collections.abc import Callable
from typing import Any, Final, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_STOP: Final = None


class _Job(Generic[T]):
    """A function that runs in a thread, and the future that its caller awaits."""

    __slots__ = ("_context", "_error", "_loop", "_result", "_work", "ended", "waiting")

    def __init__(self, work: Callable[[], T]) -> None:
        self._loop = asyncio.get_running_loop()
        self._work = work
        self._context = contextvars.copy_context()  # for the request id in log lines
        self._result: T
        self._error: BaseException | None = None
        self.ended = False
        self.waiting: asyncio.Future[None] = self._loop.create_future()

    def run(self) -> None:
        try:
            self._result = self._context.run(self._work)
        except BaseException as error:  # noqa: BLE001  (`result` raises it in the waiting task)
            self._error = error
        with contextlib.suppress(RuntimeError):  # the loop is closed, so there is no waiting caller
            self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self.ended = True
        if not self.waiting.done():
            self.waiting.set_result(None)

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._result


class DiskThreads:
    """A thread pool of limited size. Threads are started on demand."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        self.is_closed = False
        self._lock = threading.Lock()

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking function in a thread and return its result.

        A caller that is cancelled first waits until `work` has ended. Otherwise it could close
        descriptors that `work` uses, or an fsync could remain unfinished.
        """
        job = _Job(functools.partial(work, *args, **kwargs))
        self._put(job)
        try:
            await job.waiting
        except asyncio.CancelledError:
            while not job.ended:
                job.waiting = asyncio.get_running_loop().create_future()
                with contextlib.suppress(asyncio.CancelledError):  # AnyIO cancels repeatedly
                    await job.waiting
            raise
        return job.result()

    def start(self, work: Callable[[], None]) -> None:
        """Start to run `work`, which must not raise. Call this method on the event loop."""
        self._put(_Job(work))

    def _put(self, job: _Job[Any]) -> None:
        with self._lock:
            if self.is_closed:
                raise RuntimeError("the thread pool for disk operations is closed")
            self._jobs.put(job)
            if len(self._threads) >= self._most or self._idle.acquire(blocking=False):
                return
            # Daemon threads, so that a storage that was not closed does not keep the process alive.
            name = f"disk-{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not _STOP:
            job.run()
            del job  # an idle thread must not reference a large upload
            self._idle.release()

    def close(self) -> None:
        """Wait for all started jobs, then stop the threads."""
        with self._lock:  # all jobs are queued before the stop markers
            self.is_closed = True
            for _ in self._threads:
                self._jobs.put(_STOP)
        for thread in self._threads:
            thread.join()
