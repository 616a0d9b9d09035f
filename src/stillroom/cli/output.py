"""Output of commands: records, formatted numbers and times, and progress on standard error."""

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, ClassVar, Final

import click

from stillroom.cli.exits import FAILED

_ESCAPED: Final = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), *range(0xD800, 0xE000))}
"""Escapes for control characters and surrogates, which `json.dumps` does not escape."""

_BAR_WIDTH: Final = 24

NOTHING_DELETED: Final = "nothing was deleted"


def echo_record(known: object, line: str = "", *, as_json: bool) -> None:
    """Print a value as JSON if `as_json` is True. Otherwise, print `line` or a mapping's values."""
    if isinstance(known, Mapping) and not line:
        line = "  ".join(map(str, known.values()))
    erase_line()
    click.echo(json_text(known) if as_json else line)


def json_text(known: object) -> str:
    """Format a value, which may contain dataclasses and times, as one line of JSON.

    Control characters are escaped, because a terminal would execute them.
    """

    def convert(value: Any) -> object:  # noqa: ANN401  (a type that JSON does not have)
        return asdict(value) if hasattr(value, "__dataclass_fields__") else value.isoformat()

    text = json.dumps(known, ensure_ascii=False, allow_nan=False, default=convert)
    return text.translate(_ESCAPED)


def erase_line() -> None:
    """Erase the progress on a terminal, if there is any, so that other output can be printed."""
    if StatusLine.is_drawn:
        click.echo("\r\x1b[K", err=True, nl=False)
        StatusLine.is_drawn = False


def echo_result(result: str, path: str, *, as_json: bool, **facts: object) -> None:
    """Print a line such as `uploaded cats/1.png`, or JSON. `target` is the new path of a copy."""
    to = f" to {facts['target']}" if "target" in facts else ""
    echo_record({"path": path, "result": result, **facts}, f"{result} {path}{to}", as_json=as_json)


def confirm_deletion(things: str, manner: str = "") -> None:
    """Ask whether to delete `things`. Exit if the user declines, or if there is no terminal."""
    if not sys.stdin.isatty():
        raise click.UsageError(f"{things} would be deleted{manner}: add --yes to confirm")
    if not click.confirm(f"Delete {things}{manner}?"):
        click.echo(NOTHING_DELETED, err=True)
        sys.exit(FAILED)


def counted(number: int, noun: str) -> str:
    """Format a number and a noun in singular or plural: `1 image`, `1,000 images`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size_text(size: float) -> str:
    """Format a number of bytes in decimal units: 980 B, 25.6 kB, 1.3 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:  # noqa: PLR2004  (a thousand, as in kB)
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def time_text(at: datetime) -> str:
    """Format a time in UTC, with seconds: `2026-11-24T15:00:00Z`."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


class StatusLine:
    """Progress on standard error: one redrawn line on a terminal, otherwise periodic lines."""

    is_drawn: ClassVar[bool] = False  # whether a terminal shows a line that must be erased

    def __init__(self, every_s: float) -> None:
        """Set the shortest time in seconds between two lines. On a terminal, it is always 0.2 s."""
        self.is_terminal = sys.stderr.isatty()
        self._every_s = 0.2 if self.is_terminal else every_s
        self._line = "\r{}\x1b[K" if self.is_terminal else "{}\n"
        self.shown_at = time.monotonic()  # when `is_due` last returned True

    def is_due(self) -> bool:
        """Return whether another line is due. If so, restart the waiting time."""
        now = time.monotonic()
        if now - self.shown_at < self._every_s:
            return False
        self.shown_at = now
        return True

    def show(self, text: str) -> None:
        """Print a text as a new line or, on a terminal, over the previous one."""
        click.echo(self._line.format(text), err=True, nl=False)
        StatusLine.is_drawn = self.is_terminal

    def update(self, text: str) -> None:
        """Print a text if another line is due."""
        if self.is_due():
            self.show(text)


def bar(share: float, text: str, left_s: float | None) -> str:
    """Format a progress bar. `share` is from 0 to 1. `left_s` is None if unknown."""
    share = min(1.0, share)
    left = "…" if left_s is None else f"{left_s:.0f} s left"
    return f"{'█' * round(share * _BAR_WIDTH):<{_BAR_WIDTH}} {share:4.0%} {text} {left}"
