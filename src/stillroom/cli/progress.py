"""Options and progress display of commands that transfer many images."""

import functools
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import click

from stillroom.cli.exits import code_of, hint_of
from stillroom.cli.options import CONCURRENCY, DRY_RUN, json_option
from stillroom.cli.output import StatusLine, bar, echo_result, erase_line, size_text
from stillroom.cli.selection import Filter, filter_options
from stillroom.client import Outcome, Progress, SomeFailed


@dataclass(frozen=True, slots=True)
class TransferOptions:
    """Values of the options that all transfer commands share."""

    concurrency: int
    dry_run: bool
    chosen: Filter
    as_json: bool


def transfer_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options for transfers to a function. Its argument `options` has their values."""

    @functools.wraps(command)
    def run(
        *, concurrency: int, dry_run: bool, chosen: Filter, as_json: bool, **others: object
    ) -> None:
        command(**others, options=TransferOptions(concurrency, dry_run, chosen, as_json))

    results = json_option("One JSON object per line: path, result and size.")
    return CONCURRENCY(DRY_RUN(filter_options(results(run))))


class Transfer:
    """Thread-safe progress of a transfer, in bytes, or in images if all sizes are 0 (unknown).

    `sizes` maps image paths to sizes. If it is empty, `number` is the number of images.
    """

    def __init__(
        self, verb: str, sizes: Mapping[str, int], *, as_json: bool, number: int = 0
    ) -> None:
        self._verb, self._sizes, self._total = verb, sizes, sum(sizes.values())
        self._as_json, self._number = as_json, number or len(sizes)
        self._bar = StatusLine(0)
        self._bar.shown_at = 0  # so that the bar appears at once
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._finished_bytes = self._skipped_bytes = 0
        self._under_way: dict[str, Progress] = {}
        self._counts = Counter[str]()

    def __enter__(self) -> Self:
        return self

    def progress(self, event: Progress) -> None:
        """Update the display with the progress of one image."""
        with self._lock:
            self._under_way[event.path] = event
            self._draw()

    def finish(self, outcome: Outcome[Any], size: int | None = None, **facts: object) -> None:
        """Count and print the outcome for one image. Pass the size if it was unknown before."""
        size = self._sizes[outcome.path] if size is None else size
        with self._lock:
            self._under_way.pop(outcome.path, None)
            result, facts = self._verb, {"size": size, **facts}
            if outcome.error is not None:
                result, facts = "failed", {"detail": str(outcome.error)}
                self._total -= min(size, self._total)
                erase_line()
                subject = "" if outcome.path in str(outcome.error) else f"{outcome.path}: "
                click.echo(f"failed {subject}{outcome.error}{hint_of(outcome.error)}", err=True)
            elif getattr(outcome.result, "skipped", False):
                result, facts = "unchanged", {"size": size}
                self._skipped_bytes += size
            self._counts[result] += 1
            self._finished_bytes += size if outcome.error is None else 0
            if self._as_json or (result != "failed" and not self._bar.is_terminal):
                echo_result(result, outcome.path, as_json=self._as_json, **facts)
            self._draw()

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        with self._lock:
            erase_line()
            parts = [f"{self._counts[result]} {result}" for result in (self._verb, "unchanged")]
            parts += [f"{self._counts['failed']} failed"] if self._counts["failed"] else []
            moved = self._moved - self._skipped_bytes
            parts.append(f"{size_text(moved)} in {time.monotonic() - self._began:.1f} s")
            click.echo(", ".join(parts), err=True)
        if isinstance(error, SomeFailed) and not error.stopped:
            sys.exit(code_of(error))

    @property
    def _moved(self) -> int:
        return self._finished_bytes + sum(event.done for event in self._under_way.values())

    def _draw(self) -> None:
        if not self._bar.is_terminal or not self._bar.is_due():
            return
        moved, passed = self._moved, time.monotonic() - self._began
        finished = self._counts.total()
        share = moved / self._total if self._total else finished / self._number
        rate = size_text((moved - self._skipped_bytes) / passed if passed else 0)
        text = f"{finished}/{self._number} {size_text(moved)} {rate}/s"
        left_s = max(passed / share - passed, 0) if share else None
        self._bar.show(bar(share, text, left_s))
