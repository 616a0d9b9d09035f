"""The work that parsing a file causes, counted from outside of the parsers: not in seconds.

Lines that Python runs are what a parser does in loops of its own; memory is what it keeps. Both are
the same on every machine.
"""

import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any, Final

from stillroom.features.library.headers.probe import PARSERS
from stillroom.formats.file_parts import BrokenHeader, FileParts, MoreNeeded
from stillroom.formats.work_budget import (
    MAX_BYTES,
    MAX_CHARACTERS,
    MAX_LOOKS,
    TooMuchWork,
    WorkBudget,
)
from stillroom.generation.reading import find, find_mark
from stillroom.store import content_type

LINES_PER_LOOK: Final = 16
"""At most, in what all parsers do together; each look stands for a few lines."""

LINES_BESIDE: Final = 10_000
"""What they do without a look, for a bounded number of things."""

MOST_MEMORY: Final = 100 * 1024**2


class Unbounded(BaseException):
    """More lines were run than anything may; no parser catches it."""


@dataclass(frozen=True)
class Effort:
    lines: int
    looks: int
    exceeded: bool

    @property
    def is_bounded(self) -> bool:
        return self.lines <= LINES_BESIDE + LINES_PER_LOOK * self.looks


def effort_of(
    parse: Callable[[FileParts], object],
    parts: FileParts,
    reached: set[tuple[CodeType, int]] | None = None,
) -> Effort:
    """Parse, and count; what parsers may raise is no error. `reached` gets the lines that were run.

    Raises:
        Unbounded: it does not end.
    """
    lines, allowed = 0, parts.budget.looks
    most = LINES_BESIDE + LINES_PER_LOOK * allowed

    def count(frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal lines
        if event == "line":
            lines += 1
            if reached is not None:
                reached.add((frame.f_code, frame.f_lineno))
            if lines > most:
                raise Unbounded
        return count

    exceeded, before = False, sys.gettrace()
    sys.settrace(count)
    try:
        parse(parts)
    except TooMuchWork:
        exceeded = True
    except (BrokenHeader, MoreNeeded):
        pass
    finally:
        sys.settrace(before)
    return Effort(lines, allowed - parts.budget.looks, exceeded)


def memory_of(act: Callable[[], object]) -> int:
    """Return the most memory that a call needs at a time, in bytes."""
    was_tracing = tracemalloc.is_tracing()
    if not was_tracing:
        tracemalloc.start()
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    try:
        act()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        if not was_tracing:
            tracemalloc.stop()


def parses_of(data: bytes) -> dict[str, tuple[Callable[[Any], object], FileParts]]:
    """All that a server parses of a file: facts, mark, and header."""
    found: dict[str, tuple[Callable[[Any], object], FileParts]] = {
        "facts": (find, FileParts.whole(data)),
        "mark": (find_mark, FileParts.whole(data)),
    }
    parser = PARSERS.get(content_type.by_content(data[: content_type.SNIFFED_BYTES]))
    if parser is not None:

        def all_of_it(header: FileParts) -> None:
            for one in (parser.size, parser.color_profile, parser.duration):
                try:
                    one(header)
                except (BrokenHeader, MoreNeeded):
                    continue

        found["header"] = (all_of_it, FileParts.whole(data))
    return found


def some_of_it(share: int = 10) -> WorkBudget:
    """A part of what one file may cause: its work is counted as that of the whole is."""
    return WorkBudget(MAX_LOOKS // share, MAX_BYTES // share, MAX_CHARACTERS // share)
