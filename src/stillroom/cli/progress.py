"""Progress display of `put` and `get`: a progress bar on a terminal, otherwise plain lines."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

import click

from stillroom.cli.exits import hint_of
from stillroom.client import Outcome, Progress

_REDRAWN_EVERY_S: Final = 0.1
_WIDTH: Final = 24


class Transfer:
    """Progress of many uploads or downloads. Thread-safe.

    If the number of bytes is unknown (`total_bytes` is 0), progress is measured in images.

    Attributes:
        done: Number of images transferred.
        unchanged: Number of images that already had the same bytes at the target.
        failed: Number of images that could not be transferred.
    """

    def __init__(self, verb: str, count: int, total_bytes: int, *, as_json: bool = False) -> None:
        self._verb, self._count, self._total = verb, count, total_bytes
        self._as_json = as_json
        self._bar = sys.stderr.isatty()
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._drawn = 0.0
        self._finished_bytes = self._skipped_bytes = 0
        self._under_way: dict[str, Progress] = {}
        self.done = self.unchanged = self.failed = 0

    @classmethod
    @contextmanager
    def shown(
        cls, verb: str, count: int, total_bytes: int, *, as_json: bool = False
    ) -> Iterator[Self]:
        """Show the progress of a transfer, and its summary at the end."""
        transfer = cls(verb, count, total_bytes, as_json=as_json)
        try:
            yield transfer
        finally:
            transfer.close()

    def progress(self, told: Progress) -> None:
        """Update the progress of one image."""
        with self._lock:
            self._under_way[told.path] = told
            self._draw()

    def finish(self, outcome: Outcome[Any], size: int, **facts: object) -> None:
        """Count and print the outcome for one image. Bytes of failed images are not counted."""
        with self._lock:
            self._under_way.pop(outcome.path, None)
            if outcome.error is not None:
                self.failed += 1
                self._total -= min(size, self._total)
                self._erase()
                click.echo(f"failed {outcome.error}{hint_of(outcome.error)}", err=True)
                if self._as_json:
                    self._say("failed", outcome.path, detail=str(outcome.error))
            elif getattr(outcome.result, "skipped", False):
                self.unchanged += 1
                self._skipped_bytes += size
                self._finished_bytes += size
                self._say("unchanged", outcome.path, size=size)
            else:
                self.done += 1
                self._finished_bytes += size
                self._say(self._verb, outcome.path, size=size, **facts)
            self._draw()

    def close(self) -> None:
        """Print the summary."""
        with self._lock:
            self._erase()
            parts = [f"{self.done} {self._verb}", f"{self.unchanged} unchanged"]
            parts += [f"{self.failed} failed"] if self.failed else []
            moved = self._moved - self._skipped_bytes
            parts.append(f"{size_text(moved)} in {time.monotonic() - self._began:.1f} s")
            click.echo(", ".join(parts), err=True)

    @property
    def _moved(self) -> int:
        return self._finished_bytes + sum(told.done for told in self._under_way.values())

    def _say(self, result: str, path: str, **facts: object) -> None:
        if self._as_json or not self._bar:
            self._erase()
            click.echo(result_line(result, path, as_json=self._as_json, **facts))

    def _draw(self) -> None:
        now = time.monotonic()
        if not self._bar or now - self._drawn < _REDRAWN_EVERY_S:
            return
        self._drawn = now
        moved, passed = self._moved, now - self._began
        finished = self.done + self.unchanged + self.failed
        share = moved / self._total if self._total else finished / self._count
        share = min(1.0, share)
        rate = (moved - self._skipped_bytes) / passed if passed else 0
        left = f"{passed / share - passed:.0f} s left" if share else "…"
        drawn = "█" * round(share * _WIDTH)
        line = (
            f"{drawn:<{_WIDTH}} {share:4.0%} {finished}/{self._count} "
            f"{size_text(moved)} {size_text(rate)}/s {left}"
        )
        click.echo(f"\r{line}\x1b[K", err=True, nl=False)

    def _erase(self) -> None:
        if self._bar:
            click.echo("\r\x1b[K", err=True, nl=False)


def result_line(result: str, path: str, *, as_json: bool, **facts: object) -> str:
    """Format the result for one image: `uploaded cats/1.png`, or a JSON object with all values.

    For a copied or moved image, `target` must be its new path.
    """
    if as_json:
        return json.dumps({"path": path, "result": result, **facts})
    return f"{result} {path} to {facts['target']}" if "target" in facts else f"{result} {path}"


def counted(number: int, noun: str) -> str:
    """Format a number with a noun in singular or plural: `1 image`, `1,000 images`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size_text(size: float) -> str:
    """Format a number of bytes in decimal units: 980 B, 25.6 kB, 1.3 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:  # noqa: PLR2004  (a thousand, as in kB)
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
