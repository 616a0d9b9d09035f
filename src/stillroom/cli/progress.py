"""Options and progress display of commands that transfer many images."""

import functools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

import click

from stillroom.cli.exits import FAILED, hint_of
from stillroom.cli.options import CONCURRENCY, DRY_RUN, json_option
from stillroom.cli.output import StatusLine, echo_result, size_text
from stillroom.cli.selection import Filter, filter_options
from stillroom.client import Outcome, Progress, SomeFailed

_WIDTH: Final = 24


@dataclass(frozen=True, slots=True)
class TransferOptions:
    """Values of the options that all commands for transfers have.

    Attributes:
        concurrency: Number of images to transfer at the same time.
        dry_run: True to print what would be done, and do nothing.
        chosen: Filter for the names of images or files.
        as_json: True for output as JSON.
    """

    concurrency: int
    dry_run: bool
    chosen: Filter
    as_json: bool


def transfer_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options for transfers to a command, which gets their values as `options`."""

    @functools.wraps(command)
    def run(
        *,
        concurrency: int,
        dry_run: bool,
        include: tuple[str, ...],
        exclude: tuple[str, ...],
        as_json: bool,
        **others: object,
    ) -> None:
        options = TransferOptions(concurrency, dry_run, Filter(include, exclude), as_json)
        command(**others, options=options)

    results = json_option("One JSON object per line: path, result and size.")
    return CONCURRENCY(DRY_RUN(filter_options(results(run))))


class Transfer:
    """Progress display of a transfer of many images. Thread-safe.

    If the number of bytes is unknown (`total_bytes` is 0), progress is measured in images.

    Attributes:
        done: Number of images transferred.
        unchanged: Number of images that already had the same bytes at the target.
        failed: Number of images that could not be transferred.
    """

    def __init__(self, verb: str, count: int, total_bytes: int, *, as_json: bool = False) -> None:
        self._verb, self._count, self._total = verb, count, total_bytes
        self._as_json = as_json
        self._bar = StatusLine(0, 0.1)
        self._bar.shown_at = 0  # so that the bar appears at once
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._finished_bytes = self._skipped_bytes = 0
        self._under_way: dict[str, Progress] = {}
        self.done = self.unchanged = self.failed = 0

    @classmethod
    @contextmanager
    def shown(
        cls, verb: str, count: int, total_bytes: int, *, as_json: bool = False
    ) -> Iterator[Self]:
        """Context manager: display the progress of a transfer, and a summary at the end.

        If some images have failed, the process exits with an error status. Their errors were
        already printed.
        """
        transfer = cls(verb, count, total_bytes, as_json=as_json)
        try:
            yield transfer
        except SomeFailed as error:
            if error.stopped:
                raise
            sys.exit(FAILED)
        finally:
            transfer.close()

    def progress(self, told: Progress) -> None:
        """Update the display with the progress of one image."""
        with self._lock:
            self._under_way[told.path] = told
            self._draw()

    def finish(self, outcome: Outcome[Any], size: int, **facts: object) -> None:
        """Count and print the outcome for one image. The bytes of failed images are not counted."""
        with self._lock:
            self._under_way.pop(outcome.path, None)
            if outcome.error is not None:
                self.failed += 1
                self._total -= min(size, self._total)
                self._bar.erase()
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
        """Print a summary of the transfer."""
        with self._lock:
            self._bar.erase()
            parts = [f"{self.done} {self._verb}", f"{self.unchanged} unchanged"]
            parts += [f"{self.failed} failed"] if self.failed else []
            moved = self._moved - self._skipped_bytes
            parts.append(f"{size_text(moved)} in {time.monotonic() - self._began:.1f} s")
            click.echo(", ".join(parts), err=True)

    @property
    def _moved(self) -> int:
        return self._finished_bytes + sum(told.done for told in self._under_way.values())

    def _say(self, result: str, path: str, **facts: object) -> None:
        if self._as_json or not self._bar.is_terminal:
            self._bar.erase()
            echo_result(result, path, as_json=self._as_json, **facts)

    def _draw(self) -> None:
        if not self._bar.is_terminal or not self._bar.is_due():
            return
        moved, passed = self._moved, time.monotonic() - self._began
        finished = self.done + self.unchanged + self.failed
        share = min(1.0, moved / self._total if self._total else finished / self._count)
        rate = (moved - self._skipped_bytes) / passed if passed else 0
        left = f"{passed / share - passed:.0f} s left" if share else "…"
        self._bar.show(
            f"{'█' * round(share * _WIDTH):<{_WIDTH}} {share:4.0%} {finished}/{self._count} "
            f"{size_text(moved)} {size_text(rate)}/s {left}"
        )
