"""Requests for the feed of events, and the pauses between them."""

from collections.abc import Iterable
from typing import Final

from stillroom.client.requests import target_of
from stillroom.client.retries import Retries

_WAIT_S: Final = 25
"""Time in seconds that the server waits for an event. Proxies often end requests after 30 s."""

_PAGE: Final = 1000
_LEAST_S: Final = 1.0
"""Shortest time in seconds between two requests if there are no events."""


def wait_of(retries: Retries) -> int:
    """Return how many seconds the server may wait for an event: less than the client's timeout."""
    return int(min(_WAIT_S, retries.timeout_s / 2, retries.deadline_s / 2))


def pause_after(began: float, retries: Retries) -> float:
    """Return how many seconds to pause after an empty page, in case the server did not wait."""
    return max(0.0, began + _LEAST_S - retries.clock())


def events_target(after: str, types: Iterable[str], prefix: str, wait_s: int) -> str:
    """Return the path and query of the request for the events after a cursor."""
    query = {"after": after, "types": ",".join(types), "prefix": prefix, "wait": wait_s}
    sent = {name: value or None for name, value in query.items()}
    return target_of("/storage/events", {**sent, "limit": _PAGE})
