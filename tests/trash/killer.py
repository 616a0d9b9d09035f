"""Requests whose server kills itself at a chosen point; see `killed_request.py`."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]


class Killer:
    """A process whose children kill themselves at the n-th point.

    Attributes:
        points: Number of points that the last child passed.
    """

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.points = 0

    def killed(self, number: int, method: str, url: str, **request: Any) -> bool:
        """Let a child send a request. False: it was done before it came to that point."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request |= {"method": method, "url": url}
        self._process.stdin.write(f"{json.dumps([number, request])}\n")
        self._process.stdin.flush()
        self.points = int(self._process.stdout.readline())
        return self.points < 0


@contextlib.contextmanager
def killing(variables: Mapping[str, str]) -> Iterator[Killer]:
    """Start a process with these settings."""
    path = f"{TESTS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    environment = {**os.environ, **variables, "PYTHONPATH": path}
    command = [sys.executable, "-m", "trash.killed_request"]
    pipe = subprocess.PIPE
    # `with` closes its input and waits for its end.
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        yield Killer(process)
