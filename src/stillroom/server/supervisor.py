"""The process that starts the workers, and starts others where they end.

It leans on uvicorn's `Multiprocess` and its `Process`; the pin in requirements/ and
tests/acceptance/test_starting.py guard that.
"""

import logging
import signal
import socket
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.multiprocess import mark_process_dead
from uvicorn import Config
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from stillroom.server.notify import READY, STOPPING, notify

_JOIN_POLL_S: Final = 0.05

_SETTLED_S: Final = 60.0
"""A worker that has lived for so long died of something new."""

_STARTS_WITHIN_S: Final = 30.0
"""On a busy machine the imports alone take longer than the patience with a worker that serves."""

_LONGEST_WAIT_S: Final = 30.0

_HINTS: Final = {
    signal.SIGBUS: " (the filesystem of a mapped file is full, or gone)",
    signal.SIGKILL: " (perhaps by the kernel, out of memory: see dmesg)",
}

log = logging.getLogger("stillroom.server")


@dataclass(slots=True)
class _Place:
    """Where one worker after the other lives."""

    started: float = field(default_factory=time.monotonic)
    early_deaths: int = 0
    due: float | None = None  # when the next one is to be started, while there is none

    def is_starting(self) -> bool:
        """Whether a worker may still be silent because it has only begun."""
        return time.monotonic() - self.started < _STARTS_WITHIN_S

    def wait_s(self) -> float:
        """How long the next start waits for, now that the worker is dead: longer each time."""
        if time.monotonic() - self.started >= _SETTLED_S:
            self.early_deaths = 0
        self.early_deaths += 1
        return (
            0.0 if self.early_deaths == 1 else min(2.0 ** (self.early_deaths - 2), _LONGEST_WAIT_S)
        )


class Supervisor(Multiprocess):
    """Several processes. A second signal ends them without waiting for answers under way."""

    _said_ready = False

    def __init__(self, config: Config, sockets: list[socket.socket]) -> None:
        """Start nothing yet."""
        super().__init__(config, sockets)
        self._places: defaultdict[int, _Place] = defaultdict(_Place)

    def init_processes(self) -> None:
        """Start all workers."""
        super().init_processes()
        for index in range(len(self.processes)):
            self._places[index] = _Place()

    def keep_subprocess_alive(self) -> None:
        """Say which workers have died, and start others in their places."""
        for index, worker in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            place = self._places[index]
            if place.due is None:
                if worker.is_alive(timeout=self.config.timeout_worker_healthcheck):
                    continue
                if worker.process.is_alive() and place.is_starting():
                    continue
                self._bury(worker, place)
            if place.due is not None and time.monotonic() >= place.due:
                self.processes[index] = Process(self.config, self.sockets)
                self.processes[index].start()
                place.started, place.due = time.monotonic(), None
        if not self._said_ready and all(worker.is_ready() for worker in self.processes):
            self._said_ready = True
            notify(READY)

    def _bury(self, worker: Process, place: _Place) -> None:
        is_silent = worker.process.is_alive()
        worker.kill()
        worker.join()
        if self._has_failed(worker):
            return
        wait_s = place.wait_s()
        place.due = time.monotonic() + wait_s
        log.error(
            "worker %d %s; another is started %s",
            worker.pid,
            "answered no longer and was killed" if is_silent else how_it_ended(worker.exitcode),
            f"in {wait_s:.0f} s" if wait_s else "at once",
        )
        _forget(worker.pid)

    def _has_failed(self, worker: Process) -> bool:
        """Whether it could not start; then no other can, and it has said why."""
        if worker.exitcode == STARTUP_FAILURE:
            self.should_exit.set()
        return self.should_exit.is_set()

    def terminate_all(self) -> None:
        """Have all workers finish what they do."""
        notify(STOPPING)
        for listener in self.sockets:
            listener.close()  # else the kernel goes on accepting connections that no process serves
        super().terminate_all()

    def restart_all(self) -> None:
        """Replace all workers."""
        before = list(self.processes)
        super().restart_all()
        for index, (old, new) in enumerate(zip(before, self.processes, strict=True)):
            if new is not old:
                self._places[index] = _Place()
                _forget(old.pid)

    def join_all(self) -> None:
        """Wait for all workers to end."""
        while any(worker.process.is_alive() for worker in self.processes):
            if self.signal_queue:
                for worker in self.processes:
                    worker.kill()
                break
            time.sleep(_JOIN_POLL_S)  # signals wake it; the workers have no common event
        super().join_all()


def how_it_ended(status: int | None) -> str:
    """The end of a process, by its `exitcode`, in words: by which signal, or with which status."""
    if status is None or status >= 0:
        return f"ended with status {status}"
    try:
        number = signal.Signals(-status)
    except ValueError:  # a real-time signal
        return f"was ended by signal {-status}"
    return f"was ended by {number.name}{_HINTS.get(number, '')}"


def _forget(pid: int | None) -> None:
    """Forget what a worker that is gone had open and under way; what it has done stays."""
    mark_process_dead(pid)  # type: ignore[no-untyped-call]  # the library types it not
