"""A library that other processes work on, and are killed at it."""

import contextlib
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from media.library import Library
from running import STILLROOM

if TYPE_CHECKING:
    from collections.abc import Iterator

LAUNCHER = Path(__file__).parent / "killed_at.py"


@dataclass
class Launcher:
    """Starts ingests and sweeps that are killed at one of their points."""

    process: "subprocess.Popen[str]"
    points: int = -1

    def killed(self, number: int, path: str) -> bool:
        """Whether there was such a point; else the ingest has ended well."""
        return self._killed(number, f"compute/{path}")

    def killed_in_place(self, number: int, path: str) -> bool:
        """The same for an ingest in place."""
        return self._killed(number, f"=compute/{path}")

    def killed_sweep(self, number: int) -> bool:
        """The same for a sweep."""
        return self._killed(number, "-")

    def killed_search(self, number: int) -> bool:
        """The same for a search for what has expired."""
        return self._killed(number, "~")

    def killed_round(self, number: int, folder: str) -> bool:
        """The same for a round of retention, by the rules of `killed_at.py`."""
        return self._killed(number, f"%{folder}")

    def killed_sweep_by_rules(self, number: int, folder: str) -> bool:
        """The same for a sweep that holds marks to these rules."""
        return self._killed(number, f"${folder}")

    def killed_publishing(self, number: int, folder: str) -> bool:
        """The same for the publishing of a run."""
        return self._killed(number, f"+{folder}")

    def killed_deleting(self, number: int, folder: str) -> bool:
        """The same for the deletion of a run."""
        return self._killed(number, f"!{folder}")

    def _killed(self, number: int, argument: str) -> bool:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{number} {argument}\n")
        self.process.stdin.flush()
        code, points = map(int, self.process.stdout.readline().split())
        assert code in (0, -signal.SIGKILL)
        self.points = points
        return code != 0


class Scene:
    """A library that other processes work on, and our own view of it."""

    def __init__(self, environment: dict[str, str], library: Library) -> None:
        self.environment = environment
        self.library = library

    @contextlib.contextmanager
    def launcher(self) -> "Iterator[Launcher]":
        with subprocess.Popen(
            [sys.executable, str(LAUNCHER)],
            env={**self.environment, "PYTHONPATH": str(LAUNCHER.parents[1])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            yield Launcher(process)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [STILLROOM, "media", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
