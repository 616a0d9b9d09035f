"""Processes of services: one that is waited for, and one that is killed and started again."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from services.trust import TRUST
from waiting import until

_KILL: Final = ("weed",)
"""Programs that take up to 25 s to end on SIGTERM."""


@contextlib.contextmanager
def started(
    command: Sequence[str | Path],
    log: Path,
    is_ready: Callable[[], bool],
    *,
    environment: Mapping[str, str] | None = None,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a service in the folder of its log; it is ready then, and ends afterwards."""
    with log.open("ab") as stream:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            cwd=log.parent,
        )
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
    """Return a condition: a GET of this URL has this status code."""
    return lambda: httpx.get(url, verify=TRUST).status_code == status


def program(name: str, package: str = "") -> str:
    """Return the path of an installed program."""
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
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )

    def check(self) -> None:
        """Fail with what it has said last, if it has ended by itself."""
        assert self.running is not None, self.name
        assert self.running.poll() is None, f"{self.name}: {self.log.read_text()[-2000:]}"

    def kill(self) -> None:
        """SIGKILL to it and its workers; returns when it is gone."""
        assert self.running is not None, self.name
        signal_all(with_children(self.running.pid), signal.SIGKILL)
        self.running.wait()

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """Its connections stay open and are accepted; nothing is ever answered."""
        assert self.running is not None, self.name
        processes = with_children(self.running.pid)
        signal_all(processes, signal.SIGSTOP)
        try:
            yield
        finally:
            signal_all(processes, signal.SIGCONT)


def with_children(pid: int) -> list[int]:
    """A process and those that it has started, such as the workers of a server."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [pid, *map(int, children.split())]


def signal_all(processes: Iterable[int], number: int) -> None:
    """Send a signal to all that are still there."""
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
