"""Servers forked from a process that has imported their modules.

The imports are more than half of the CPU time of a start, and hundreds of tests start a server.
"""

import atexit
import contextlib
import ctypes
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from services.process import LineProcess

_PR_SET_CHILD_SUBREAPER: Final = 36
"""https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html"""

_READ_AT_START: Final = ("PYTHON", "COVERAGE", "LD_", "MALLOC_", "LANG", "LC_", "TZ")
"""Beginnings of the variables that a process reads only when it starts."""

_OURS: Final = dict(os.environ)
"""The variables before any test has changed them."""

_asking = threading.Lock()


class ForkedServer(subprocess.Popen[bytes]):
    """Process that another process has forked, and that is a child of this one."""

    def __init__(self, command: Sequence[str], pid: int) -> None:
        """Take over a child, so that it can be waited for as if it had been started here."""
        self.args = command
        self.pid = pid
        self.returncode = None
        self.stdin = self.stdout = self.stderr = None
        self._polling = threading.Lock()

    def poll(self) -> int | None:
        """Return the status if the process has ended, else None."""
        with self._polling:
            if self.returncode is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the process has ended, and return its status."""
        if self.poll() is None:
            ending = os.pidfd_open(self.pid)  # readable when the process has ended
            try:
                poll = select.poll()
                poll.register(ending)
                if not poll.poll(None if timeout is None else timeout * 1000):
                    raise subprocess.TimeoutExpired(self.args, timeout or 0)
            finally:
                os.close(ending)
        status = self.poll()
        assert status is not None
        return status

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, sig)

    def __del__(self) -> None:
        """Leave the process alone: the test that started it ends it."""


def fork_server(
    command: Sequence[str], log: Path, environment: Mapping[str, str]
) -> "subprocess.Popen[bytes] | None":
    """Fork a server. Return None if a new interpreter is needed, because of its variables."""
    ours = _read_at_start(_OURS)
    if ours != _read_at_start(environment) or any(name.startswith("COVERAGE") for name in ours):
        return None
    order = [list(command), str(log), dict(environment), str(Path.cwd())]
    with _asking, _adopting():
        pid = int(_preloaded_server().ask(json.dumps(order)))
        assert pid, "no server was forked"
        return ForkedServer(command, pid)


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: environment[name] for name in environment if name.startswith(_READ_AT_START)}


@contextlib.contextmanager
def _adopting() -> Iterator[None]:
    """Let orphans below this process become its children, and not those of init."""
    prctl = ctypes.CDLL(None).prctl
    assert prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@cache
def _preloaded_server() -> LineProcess:
    program = Path(__file__).with_name("preloaded_server.py")
    process = LineProcess(sys.executable, str(program), environment=_OURS)
    atexit.register(process.close)
    return process
