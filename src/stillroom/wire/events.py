"""JSON responses about events: what has happened to images, runs and media resources."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

from stillroom.wire.shown import PATH_EXAMPLE, Shown

CURSOR_EXAMPLE: Final = "_6EgcYPev6cABmFjtRoaGA"


@dataclass(frozen=True, slots=True)
class Event:
    """Event of the feed; docs/events.md describes the types and their `data`.

    `timestamp` is timezone-aware. `found` is True if a later comparison has found the change.
    """

    id: Annotated[str, Shown("same in each webhook", ("evt_0066163b51a18a18bfa1207183debfa7",))]
    type: Annotated[str, Shown(examples=("image.saved",))]
    timestamp: Annotated[datetime, Shown(examples=("2026-11-28T10:00:00.123Z",))]
    data: Annotated[
        Mapping[str, Any], Shown("depends on the type", ({"path": PATH_EXAMPLE, "size": 1258291},))
    ]
    actor: Annotated[str | None, Shown("`sub` of the token; null if unknown", ("user-7",))]
    found: Annotated[bool, Shown("found later, by comparison", (False,))]
    cursor: Annotated[str, Shown("`after` for the events that follow", (CURSOR_EXAMPLE,))]
