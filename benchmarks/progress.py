"""A line that says what is measured now, and when all of it will be done."""

import sys
import time

import click


class Progress:
    """Compares what is done with what was planned; one line that changes, or one line a case."""

    def __init__(self, planned_s: float) -> None:
        self._planned_s = planned_s
        self._done_s = 0.0
        self._begun = time.monotonic()
        self._last = ""
        self._terminal = sys.stderr.isatty()

    def advance(self, label: str, planned_s: float = 0) -> None:
        """Say that something is done which was planned to take so long; or that it begins."""
        self._done_s += planned_s
        taken = time.monotonic() - self._begun
        slower = taken / self._done_s if self._done_s else 1
        left = slower * max(self._planned_s - self._done_s, 0)
        line = f"{taken:4.0f} s, {left:4.0f} s left: {label}"
        if self._terminal:
            click.echo(f"\r\x1b[K{line}", nl=False, err=True)
        elif label != self._last:
            click.echo(line, err=True)
        self._last = label

    def finish(self) -> float:
        """End the line; seconds since the begin."""
        if self._terminal:
            click.echo("\r\x1b[K", nl=False, err=True)
        return time.monotonic() - self._begun
