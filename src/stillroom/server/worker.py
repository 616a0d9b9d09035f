"""Worker process of the server: what runs in it, and what its supervisor can ask of it.

The event loop itself answers the supervisor's pings, so that silence means that the loop does not
run. On SIGQUIT the worker writes the stacks of all its threads, whatever it is doing: the handler
is in C and needs no lock of the interpreter. See docs/adr/0038.
"""

import asyncio
import contextlib
import faulthandler
import multiprocessing
import os
import signal
import socket
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvicorn
from uvicorn.supervisors.multiprocess import Process

from stillroom.telemetry import metrics

if TYPE_CHECKING:
    from types import FrameType

_PING_EVERY_S: Final = 0.5

_STACKS_WITHIN_S: Final = 5.0
_MAX_STACK_BYTES: Final = 256 * 1024

_STOPS: Final = (signal.SIGTERM, signal.SIGINT)

_NOT_RUNNING: Final = frozenset("TtD")
"""Stopped by a signal or by a debugger, or waiting for a disk: proc_pid_stat(5)."""


class WorkerServer(uvicorn.Server):
    """What runs in a worker.

    A signal begins the shutdown, and no second one hastens it: a terminal signals the worker and
    its supervisor alike, and the supervisor kills workers on its second signal.
    """

    def __init__(self, config: uvicorn.Config, supervisor: Connection) -> None:
        super().__init__(config)
        self._supervisor = supervisor

    def handle_exit(self, sig: int, frame: "FrameType | None") -> None:
        """Begin the shutdown."""
        del sig, frame
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer pings from now on, and start."""
        asyncio.get_running_loop().add_reader(self._supervisor.fileno(), self._answer)
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut down, and write what was counted last."""
        await super().shutdown(sockets)
        metrics.flush()

    def _answer(self) -> None:
        try:
            self._supervisor.recv()
            self._supervisor.send(self.started)
        except (OSError, EOFError):  # the supervisor is gone
            asyncio.get_running_loop().remove_reader(self._supervisor.fileno())


class Worker(Process):
    """A worker process, as its supervisor sees it.

    Attributes:
        silent_s: How long its event loop has not answered, in seconds in which both ran.
        has_started: It has answered that it serves.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        """Start nothing yet.

        A single worker is forked: it has all modules already, and shares their memory. Several are
        spawned, since the metrics that they share are set up when they are imported.
        """
        super().__init__(config, sockets)
        self.silent_s = 0.0
        self.has_started = False
        self._stacks, self._stacks_end = multiprocessing.Pipe(duplex=False)
        self._is_asked = False
        self._until_ping_s = 0.0
        if config.workers == 1:
            forked = multiprocessing.get_context("fork").Process(
                target=self.target, kwargs={"sockets": sockets}
            )
            self.process = forked  # type: ignore[assignment]  # as good as a spawned one

    def start(self) -> None:
        """Start it; a signal that stops it is not lost before it can handle one."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        super().start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve; runs in the worker."""
        for number in _STOPS:
            signal.signal(number, signal.SIG_DFL)  # not the supervisor's handler
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        os.set_blocking(self._stacks_end.fileno(), False)
        faulthandler.register(signal.SIGQUIT, self._stacks_end.fileno(), all_threads=True)
        WorkerServer(self.config, self.child_conn).run(sockets)

    def listen(self, tick_s: float) -> None:
        """Take an answer and ask again; `tick_s` have passed since the last call, or more."""
        with contextlib.suppress(OSError, EOFError):
            if self._is_asked and self.parent_conn.poll():
                self.has_started = self.parent_conn.recv()
                self._is_asked, self.silent_s = False, 0.0
                self._until_ping_s = _PING_EVERY_S if self.has_started else 0.0
            elif self._is_asked and self._is_running():
                self.silent_s += tick_s
            self._until_ping_s -= tick_s
            if not self._is_asked and self._until_ping_s <= 0:
                self.parent_conn.send(b"ping")
                self._is_asked = True

    def _is_running(self) -> bool:
        """Whether the kernel lets it run; what is stopped, or waits for a disk, is no hang."""
        try:
            state = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        return state not in _NOT_RUNNING

    def read_stacks(self) -> str:
        """Ask for the stacks of all threads, and wait for them a moment; empty: none came."""
        assert self.process.pid is not None  # noqa: S101  (it runs)
        os.kill(self.process.pid, signal.SIGQUIT)
        stacks = b""
        wait_s = _STACKS_WITHIN_S
        while len(stacks) < _MAX_STACK_BYTES and self._stacks.poll(wait_s):
            stacks += os.read(self._stacks.fileno(), 64 * 1024)
            wait_s = 0.2  # the rest follows at once
        return stacks.decode("utf-8", "replace")

    def terminate(self) -> None:
        """Begin its shutdown; its loop is still asked whether it runs."""
        if self.process.exitcode is None and self.process.pid is not None:
            os.kill(self.process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, and close the ways to it."""
        super().kill()
        self._stacks.close()
        self._stacks_end.close()
