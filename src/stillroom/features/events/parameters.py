"""Query parameters of the feed."""

import re
from dataclasses import dataclass
from typing import Annotated, Final

from stillroom.features.events.cursor import check_cursor
from stillroom.features.events.event import TYPES
from stillroom.store.http.parameters import (
    DEFAULT_LIMIT,
    EVERY_PATH,
    Parameter,
    Prefix,
    page_size,
)

MAX_LIMIT: Final = 1000
MAX_WAIT_S: Final = 50

_SECONDS: Final = re.compile(r"[0-9]{1,4}(\.[0-9]{1,3})?", re.ASCII)


def _parse_types(text: str) -> tuple[str, ...]:
    types = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if unknown := [name for name in types if name not in TYPES]:
        raise ValueError(f"there is no type {unknown[0][:64]!r} (existing: {', '.join(TYPES)})")
    return types


def _parse_wait(text: str) -> float:
    if not _SECONDS.fullmatch(text) or float(text) > MAX_WAIT_S:
        raise ValueError(f"must be a number of seconds, 0 to {MAX_WAIT_S}")
    return float(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedParameters:
    """Query parameters of `GET /storage/events`. Without types, events of all types are sent."""

    after: Annotated[
        str,
        Parameter(
            check_cursor,
            {"type": "string", "default": ""},
            "Only events after this cursor. Without it, the feed starts at the oldest event that "
            "is kept. `latest` returns the cursor of the end of the feed, and no events.",
        ),
    ] = ""
    types: Annotated[
        tuple[str, ...],
        Parameter(
            _parse_types,
            {"type": "string", "default": ""},
            "Only events of these types, separated by commas.",
        ),
    ] = ()
    prefix: Prefix = EVERY_PATH
    limit: Annotated[int, page_size("Events", MAX_LIMIT)] = DEFAULT_LIMIT
    wait: Annotated[
        float,
        Parameter(
            _parse_wait,
            {"type": "number", "minimum": 0, "maximum": MAX_WAIT_S, "default": 0},
            "Seconds to wait for an event if there is none yet.",
        ),
    ] = 0.0
