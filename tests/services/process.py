"""A process that can be killed, started again, and stopped in its tracks."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


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


def signal_all(processes: Sequence[int], number: int) -> None:
    """Send a signal to all that are still there."""
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
