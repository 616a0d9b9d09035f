"""Servers forked from a process that has imported their modules.

The imports are more than half of the CPU time of a start, and hundreds of tests start a server.
"""

import atexit
import contextlib
import ctypes
import json
import os
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
        self._waitpid_lock = threading.Lock()
        self._child_created = True


def fork_server(
    command: Sequence[str], log: Path, environment: Mapping[str, str]
) -> "subprocess.Popen[bytes] | None":
    """Fork a server. Return None if a new interpreter is needed, because of its variables."""
    ours = _read_at_start(_OURS)
    if ours != _read_at_start(environment) or any(name.startswith("COVERAGE") for name in ours):
        return None
    order = [list(command), str(log), dict(environment), str(Path.cwd())]
    with _asking, _adopting():
        return ForkedServer(command, int(_preloaded_server().ask(json.dumps(order))))


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
