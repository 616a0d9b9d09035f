"""Output of commands: records, formatted numbers and times, and progress on standard error."""

import json
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import click

_CONTROLS: Final = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}
"""Escapes for the control characters that `json.dumps` does not escape."""

_BAR_WIDTH: Final = 24


def echo_record(known: Mapping[str, object], line: str = "", *, as_json: bool) -> None:
    """Print values as ASCII JSON or, without `as_json`, as `line` (default: values in columns)."""
    click.echo(json.dumps(known) if as_json else line or "  ".join(map(str, known.values())))


def json_text(known: object) -> str:
    """Format a value as one line of JSON, with times in ISO 8601."""
    return json.dumps(known, ensure_ascii=False, allow_nan=False, default=lambda at: at.isoformat())


def safe_json(known: object) -> str:
    """Format a value as `json_text` does, but with all control characters escaped."""
    return json_text(known).translate(_CONTROLS)


def erase_line() -> None:
    """Erase the progress on a terminal, so that other output can be printed."""
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)


def echo_result(result: str, path: str, *, as_json: bool, **facts: object) -> None:
    """Print a result such as `uploaded cats/1.png`, or JSON. `target` is the new path of a copy."""
    to = f" to {facts['target']}" if "target" in facts else ""
    known = {"path": path, "result": result, **facts}
    echo_record(known, f"{result} {path}{to}", as_json=as_json)


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

    def __init__(
        self, every_s: float, redrawn_every_s: float = 0.2, *, redrawn: str = "\r{}\x1b[K"
    ) -> None:
        """Set the shortest interval between lines and, for a terminal, the format of the line."""
        self.is_terminal = sys.stderr.isatty()
        self._every_s = redrawn_every_s if self.is_terminal else every_s
        self._line = redrawn if self.is_terminal else "{}\n"
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

    def update(self, text: str) -> None:
        """Print a text if another line is due."""
        if self.is_due():
            self.show(text)

    erase = staticmethod(erase_line)


def bar(share: float, text: str, left_s: float | None) -> str:
    """Format a progress bar. `share` is from 0 to 1; None for `left_s` means unknown."""
    share = min(1.0, share)
    left = "…" if left_s is None else f"{left_s:.0f} s left"
    return f"{'█' * round(share * _BAR_WIDTH):<{_BAR_WIDTH}} {share:4.0%} {text} {left}"
