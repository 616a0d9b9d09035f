"""Supervisor of the worker processes: starts, health checks, restarts with backoff, shutdown.

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

_STABLE_AFTER_S: Final = 60.0
"""After so long a life, an end is no early death: the next worker starts without backoff."""

_START_TIMEOUT_S: Final = 30.0
"""On a busy machine the imports alone take longer than the health check of a worker that serves."""

_MAX_BACKOFF_S: Final = 30.0

_HINTS: Final = {
    signal.SIGBUS: " (the filesystem of a mapped file is full, or gone)",
    signal.SIGKILL: " (perhaps by the kernel, out of memory: see dmesg)",
}

log = logging.getLogger("stillroom.server")


@dataclass(slots=True)
class _WorkerSlot:
    """The start, early deaths and next start of one worker and its successors."""

    started: float = field(default_factory=time.monotonic)
    early_deaths: int = 0
    restart_at: float | None = None  # while there is no worker

    def is_starting(self) -> bool:
        """Whether a worker may not respond yet, because it has only begun."""
        return time.monotonic() - self.started < _START_TIMEOUT_S

    def backoff_s(self) -> float:
        """How long the next start waits, now that the worker has died: longer each time."""
        if time.monotonic() - self.started >= _STABLE_AFTER_S:
            self.early_deaths = 0
        self.early_deaths += 1
        return (
            0.0 if self.early_deaths == 1 else min(2.0 ** (self.early_deaths - 2), _MAX_BACKOFF_S)
        )


class Supervisor(Multiprocess):
    """Several processes. A second signal ends them without waiting for answers under way."""

    _has_notified_ready = False

    def __init__(self, config: Config, sockets: list[socket.socket]) -> None:
        """Start nothing yet."""
        super().__init__(config, sockets)
        self._slots: defaultdict[int, _WorkerSlot] = defaultdict(_WorkerSlot)

    def init_processes(self) -> None:
        """Start all workers."""
        super().init_processes()
        for index in range(len(self.processes)):
            self._slots[index] = _WorkerSlot()

    def keep_subprocess_alive(self) -> None:
        """Log which workers have died, and start others in their slots."""
        for index, worker in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            slot = self._slots[index]
            if slot.restart_at is None:
                if worker.is_alive(timeout=self.config.timeout_worker_healthcheck):
                    continue
                if worker.process.is_alive() and slot.is_starting():
                    continue
                self._reap(worker, slot)
            if slot.restart_at is not None and time.monotonic() >= slot.restart_at:
                self.processes[index] = Process(self.config, self.sockets)
                self.processes[index].start()
                slot.started, slot.restart_at = time.monotonic(), None
        if not self._has_notified_ready and all(worker.is_ready() for worker in self.processes):
            self._has_notified_ready = True
            notify(READY)

    def _reap(self, worker: Process, slot: _WorkerSlot) -> None:
        is_hung = worker.process.is_alive()
        worker.kill()
        worker.join()
        if self._has_failed_to_start(worker):
            return
        backoff_s = slot.backoff_s()
        slot.restart_at = time.monotonic() + backoff_s
        log.error(
            "worker %d %s; another is started %s",
            worker.pid,
            "stopped responding and was killed" if is_hung else how_it_ended(worker.exitcode),
            f"in {backoff_s:.0f} s" if backoff_s else "at once",
        )
        _clear_gauges_of(worker.pid)

    def _has_failed_to_start(self, worker: Process) -> bool:
        """Whether a worker could not start; then no other can, and it has logged why."""
        if worker.exitcode == STARTUP_FAILURE:
            self.should_exit.set()
        return self.should_exit.is_set()

    def terminate_all(self) -> None:
        """Graceful shutdown of all workers."""
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
                self._slots[index] = _WorkerSlot()
                _clear_gauges_of(old.pid)

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
    """An `exitcode` in words: by which signal a process was ended, or with which status."""
    if status is None or status >= 0:
        return f"ended with status {status}"
    try:
        number = signal.Signals(-status)
    except ValueError:  # a real-time signal
        return f"was ended by signal {-status}"
    return f"was ended by {number.name}{_HINTS.get(number, '')}"


def _clear_gauges_of(pid: int | None) -> None:
    """Drop the gauges of a worker that is gone (connections, in flight); its counters stay."""
    mark_process_dead(pid)  # type: ignore[no-untyped-call]  # the library types it not
