"""Worker process: its event loop, and the pipe to its supervisor (docs/adr/0038).

The event loop responds to pings of the supervisor, unless the loop hangs. On SIGQUIT, the worker
writes the stacks of all threads, even if a thread never releases the GIL.
"""

import asyncio
import contextlib
import faulthandler
import multiprocessing
import os
import signal
import socket
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvicorn
from uvicorn.supervisors.multiprocess import Process

from stillroom.server.allocator import freeze_startup_objects
from stillroom.store.shutdown import begin as begin_shutdown
from stillroom.store.telemetry import metrics

if TYPE_CHECKING:
    from types import FrameType

_PING_INTERVAL_S: Final = 0.5
_STACKS_TIMEOUT_S: Final = 5.0
_MAX_STACK_BYTES: Final = 256 * 1024
_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

_NOT_RUNNING: Final = frozenset("TtD")
"""Process states (proc_pid_stat(5)): stopped by a signal or debugger, or waiting for a disk."""


class WorkerServer(uvicorn.Server):
    """Uvicorn server that runs in a worker."""

    def __init__(self, config: uvicorn.Config, supervisor: Connection) -> None:
        super().__init__(config)
        self._supervisor = supervisor

    def handle_exit(self, sig: int, frame: "FrameType | None") -> None:
        """Start the shutdown. Further signals have no effect: only the supervisor kills workers."""
        del sig, frame
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the server, then respond to pings from the supervisor."""
        asyncio.get_running_loop().add_reader(self._supervisor.fileno(), self._respond)
        await super().startup(sockets)
        freeze_startup_objects()  # after the features have imported the database drivers

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut down the server, and flush the metrics."""
        begin_shutdown()
        await super().shutdown(sockets)
        metrics.flush()

    def _respond(self) -> None:
        try:
            self._supervisor.recv()
            self._supervisor.send(self.started)
        except (OSError, EOFError):  # the supervisor has ended
            asyncio.get_running_loop().remove_reader(self._supervisor.fileno())


class Worker(Process):
    """Worker process, controlled by the supervisor."""

    def __init__(
        self, config: uvicorn.Config, sockets: list[socket.socket], *, early_deaths: int
    ) -> None:
        super().__init__(config, sockets)
        self.silent_s = 0.0  # seconds without a response to a ping, while the worker was running
        self.has_started = False  # True if the worker has reported that it accepts requests
        self.started_at = time.monotonic()
        self.early_deaths = early_deaths  # consecutive crashes soon after a start
        self.restart_at: float | None = None  # time at which a replacement starts, after a crash
        self._stacks, self._stacks_end = multiprocessing.Pipe(duplex=False)
        self._is_ping_pending = False
        self._until_ping_s = 0.0
        # A single worker is forked, so that it shares the memory of all modules. Several workers
        # are spawned, since each must import the metrics library, which then selects its mode.
        if config.workers == 1:
            forked = multiprocessing.get_context("fork").Process(
                target=self.target, kwargs={"sockets": sockets}
            )
            self.process = forked  # type: ignore[assignment]  # declared as a spawned process

    def start(self) -> None:
        """Start the process. Stop signals are delayed until the process can handle them."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
        super().start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        """Run the server in the worker process."""
        for number in _STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)  # a forked worker has the supervisor's handler
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
        os.set_blocking(self._stacks_end.fileno(), False)
        faulthandler.register(signal.SIGQUIT, self._stacks_end.fileno(), all_threads=True)
        WorkerServer(self.config, self.child_conn).run(sockets)

    def listen(self, tick_s: float) -> None:
        """Receive the response to a ping, if any, and send the next ping when it is due.

        The caller must call this every `tick_s` seconds.
        """
        with contextlib.suppress(OSError, EOFError):
            if self._is_ping_pending and self.parent_conn.poll():
                self.has_started = self.parent_conn.recv()
                self._is_ping_pending, self.silent_s = False, 0.0
                self._until_ping_s = _PING_INTERVAL_S if self.has_started else 0.0
            elif self._is_ping_pending and self._is_running():
                self.silent_s += tick_s
            self._until_ping_s -= tick_s
            if not self._is_ping_pending and self._until_ping_s <= 0:
                self.parent_conn.send(b"ping")
                self._is_ping_pending = True

    def _is_running(self) -> bool:
        try:
            state = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        return state not in _NOT_RUNNING

    def read_stacks(self) -> str:
        """Return the stacks of all threads of the worker, or an empty string after a timeout."""
        assert self.process.pid is not None  # noqa: S101  (the process has been started)
        os.kill(self.process.pid, signal.SIGQUIT)
        stacks = b""
        wait_s = _STACKS_TIMEOUT_S
        while len(stacks) < _MAX_STACK_BYTES and self._stacks.poll(wait_s):
            stacks += os.read(self._stacks.fileno(), 64 * 1024)
            wait_s = 0.2  # the rest follows immediately
        return stacks.decode("utf-8", "replace")

    def terminate(self) -> None:
        """Ask the worker to shut down. Unlike in uvicorn, the pipes remain open for pings."""
        if self.process.exitcode is None and self.process.pid is not None:
            os.kill(self.process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Kill the process and close its pipes."""
        super().kill()
        self._stacks.close()
        self._stacks_end.close()
