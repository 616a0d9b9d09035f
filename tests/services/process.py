"""Processes of services: one that is waited for, and one that is killed and started again."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from services.trust import TRUST
from waiting import until

_KILL: Final = ("weed",)
"""Programs that take up to 25 s to end on SIGTERM."""


def spawn(
    command: Sequence[str | Path],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    **how: Any,
) -> "subprocess.Popen[bytes]":
    """Start a command without input whose output is appended to a file."""
    with log.open("ab") as stream:
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, **how
        )


@contextlib.contextmanager
def started(
    command: Sequence[str | Path],
    log: Path,
    is_ready: Callable[[], bool],
    *,
    environment: Mapping[str, str] | None = None,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a service in the folder of its log; it is ready then, and ends afterwards."""
    process = spawn(command, log, environment=environment, cwd=log.parent)
    try:
        until(is_ready, despite=httpx.TransportError, by=process, said=log.read_text)
        yield process
    finally:
        if Path(command[0]).name in _KILL:
            process.kill()
        else:
            process.terminate()
        process.wait()


def answers(url: str, status: int = 200) -> Callable[[], bool]:
    return lambda: httpx.get(url, verify=TRUST).status_code == status


def program(name: str, package: str = "") -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    assert found, f"{name} is missing: apt-get install {package or name}"
    return found


@dataclass
class Process:
    """One command that is started as often as it has to be; its output goes to one file."""

    name: str
    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str] | None = None
    running: "subprocess.Popen[bytes] | None" = None

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def start(self) -> None:
        self.running = spawn(self.command, self.log, environment=self.environment, cwd=self.folder)

    def wait_until_well(self, url: str) -> None:
        until(answers(url), despite=httpx.TransportError, by=self.running, said=self.log.read_text)

    @property
    def is_running(self) -> bool:
        return self.running is not None and self.running.poll() is None

    def kill(self) -> None:
        """SIGKILL to it and its workers; returns when it is gone."""
        assert self.running is not None, self.name
        signal_all(with_children(self.running.pid), signal.SIGKILL)
        self.running.wait()

    def hanging(self) -> AbstractContextManager[None]:
        assert self.running is not None, self.name
        return paused(with_children(self.running.pid))


@contextlib.contextmanager
def paused(processes: Sequence[int]) -> Iterator[None]:
    """Stop processes (SIGSTOP): their connections are accepted, and nothing is ever answered."""
    signal_all(processes, signal.SIGSTOP)
    try:
        yield
    finally:
        signal_all(reversed(processes), signal.SIGCONT)


class LineProcess:
    """A program that answers each line of its input with a line."""

    def __init__(self, *command: str, environment: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().removesuffix("\n")

    def close(self) -> None:
        """End its input, and wait until it has ended well."""
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0


def with_children(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [pid, *map(int, children.split())]


def signal_all(processes: Iterable[int], number: int) -> None:
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
