"""A library that other processes work on, and are killed at it."""

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from media.library import Library
from running import STILLROOM
from services.process import LineProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

LAUNCHER = Path(__file__).parent / "killed_at.py"


class Launcher:
    """Starts deeds of `killed_at.py`; `points` is how many the last one has passed."""

    def __init__(self, process: LineProcess) -> None:
        self._process = process
        self.points = -1

    def killed(self, number: int, deed: str, what: str = "") -> bool:
        """Whether there was such a point in a deed; else it has ended well."""
        self.points = int(self._process.ask(f"{number} {deed} {what}"))
        return self.points < 0


class Scene:
    def __init__(self, environment: dict[str, str], library: Library) -> None:
        self.environment = environment
        self.library = library

    @contextlib.contextmanager
    def launcher(self) -> "Iterator[Launcher]":
        environment = {**self.environment, "PYTHONPATH": str(LAUNCHER.parents[1])}
        process = LineProcess(sys.executable, str(LAUNCHER), environment=environment)
        with contextlib.closing(process):
            yield Launcher(process)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [STILLROOM, "media", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
