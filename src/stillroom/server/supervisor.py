"""Supervisor that starts worker processes, and replaces those that crash or hang.

This module depends on internals of uvicorn's `Multiprocess` and `Process`. The pinned version in
requirements/ and tests/acceptance/test_starting.py protect against incompatible changes.
"""

import contextlib
import logging
import os
import signal
import socket
import time
from typing import Final

from prometheus_client.multiprocess import mark_process_dead
from uvicorn import Config
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from stillroom.server.worker import Worker

_TICK_S: Final = 0.1
_STABLE_AFTER_S: Final = 60.0  # after this uptime, a worker is replaced without a delay
_START_TIMEOUT_S: Final = 120.0  # imports on a busy machine can take longer than `hang_s`
_MAX_BACKOFF_S: Final = 30.0

_HINTS: Final = {
    signal.SIGBUS: " (the filesystem of a mapped file is full, or gone)",
    signal.SIGKILL: " (perhaps by the kernel, out of memory: see dmesg)",
}

log = logging.getLogger("stillroom.server")


class Supervisor(Multiprocess):
    """Supervisor of worker processes.

    The first stop signal shuts the workers down gracefully, and a second one kills them. A worker
    that does not respond for `hang_s` seconds is killed and replaced (0: never).
    """

    processes: list[Worker]  # type: ignore[assignment]  # a subclass of uvicorn's

    def __init__(self, config: Config, sockets: list[socket.socket], *, hang_s: float) -> None:
        super().__init__(config, sockets)
        self._hang_s = hang_s
        self._has_notified_ready = False

    def run(self) -> None:
        """Run the workers until a signal stops the server."""
        self.processes = [self._start_worker() for _ in range(self.processes_num)]
        while not self.should_exit.wait(_TICK_S):
            self.handle_signals()
            self.keep_subprocess_alive()
        self.terminate_all()
        self.join_all()

    def _start_worker(self, early_deaths: int = 0) -> Worker:
        worker = Worker(self.config, self.sockets, early_deaths=early_deaths)
        worker.start()
        return worker

    def keep_subprocess_alive(self) -> None:
        """Replace workers that have crashed or hang, and log each replacement."""
        for index, worker in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            if worker.restart_at is None:
                is_alive = worker.process.is_alive()
                starting_s = 0.0 if worker.has_started else _START_TIMEOUT_S
                if is_alive and not self._is_hung(worker, at_least_s=starting_s):
                    continue
                self._reap(worker, is_hung=is_alive)
            if worker.restart_at is not None and time.monotonic() >= worker.restart_at:
                self.processes[index] = self._start_worker(worker.early_deaths)
        if not self._has_notified_ready and all(worker.has_started for worker in self.processes):
            self._has_notified_ready = True
            _notify("READY=1")

    def _is_hung(self, worker: Worker, *, at_least_s: float = 0.0) -> bool:
        worker.listen(_TICK_S)
        return self._hang_s > 0 and worker.silent_s >= max(self._hang_s, at_least_s)

    def _reap(self, worker: Worker, *, is_hung: bool) -> None:
        how = self._kill_hung(worker) if is_hung else ""
        worker.kill()  # also closes the pipes of a worker that has ended
        worker.join()
        if worker.exitcode == STARTUP_FAILURE:
            self.should_exit.set()  # other workers would fail, too
        if self.should_exit.is_set():
            return
        backoff_s = _count_death(worker)
        worker.restart_at = time.monotonic() + backoff_s
        log.error(
            "worker %d %s; starting another one %s",
            worker.pid,
            how or _describe_exit(worker.exitcode),
            f"in {backoff_s:.0f} s" if backoff_s else "at once",
        )
        self._clear_gauges_of(worker)

    def _kill_hung(self, worker: Worker) -> str:
        """Log the stacks of all threads, kill the worker, and return a description for the log."""
        for line in worker.read_stacks().splitlines() or ["(it wrote no stacks)"]:
            log.error("worker %d hangs: %s", worker.pid, line)
        worker.kill()
        worker.join()
        return f"was killed: its event loop had not run for {worker.silent_s:.0f} s"

    def terminate_all(self) -> None:
        """Shut down all workers gracefully."""
        _notify("STOPPING=1")
        for listener in self.sockets:
            listener.close()  # otherwise the kernel would accept connections that no process serves
        super().terminate_all()

    def handle_hup(self) -> None:
        """Replace all workers. If there is only one, stop: a closed terminal also sends SIGHUP."""
        if self.config.workers == 1:
            self.should_exit.set()
        else:
            self.restart_all()

    # Ignore these signals, on which uvicorn would add or remove a worker.
    handle_ttin = handle_ttou = None  # type: ignore[assignment]  # uvicorn checks for None

    def restart_all(self) -> None:
        """Replace each worker as soon as its replacement is ready."""
        for index, old in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            new = self._start_worker()
            if not new.wait_until_ready(_START_TIMEOUT_S, self.should_exit):
                new.kill()
                new.join()
                log.error("worker %s keeps running, because its replacement did not start", old.pid)
                return
            old.terminate()
            old.join()
            old.kill()
            self.processes[index] = new
            self._clear_gauges_of(old)

    def join_all(self) -> None:
        """Wait until all workers have ended."""
        while alive := [worker for worker in self.processes if worker.process.is_alive()]:
            for worker in alive:
                if self.signal_queue:
                    worker.kill()
                elif self._is_hung(worker):
                    log.error("worker %d %s", worker.pid, self._kill_hung(worker))
            time.sleep(_TICK_S)
        super().join_all()

    def _clear_gauges_of(self, worker: Worker) -> None:
        """Delete a dead worker's gauges (connections, requests in flight). Counters are kept."""
        if self.config.workers > 1:
            mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]  # not typed


def _count_death(worker: Worker) -> float:
    """Count a worker's crash. Return the restart delay in seconds, which doubles each time."""
    was_stable = time.monotonic() - worker.started_at >= _STABLE_AFTER_S
    deaths = worker.early_deaths = 1 if was_stable else worker.early_deaths + 1
    return 0.0 if deaths == 1 else min(2.0 ** (deaths - 2), _MAX_BACKOFF_S)


def _describe_exit(status: int | None) -> str:
    if status is None or status >= 0:
        return f"ended with status {status}"
    try:
        number = signal.Signals(-status)
    except ValueError:  # a real-time signal
        return f"was ended by signal {-status}"
    return f"was ended by {number.name}{_HINTS.get(number, '')}"


def _notify(state: str) -> None:
    # https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
    ):
        sender.settimeout(1)
        sender.connect(address)
        sender.send(state.encode())
