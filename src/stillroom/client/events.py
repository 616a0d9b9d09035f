"""Feed of events: query parameters and pages."""

from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, urlencode

from stillroom.client.retries import Retries

_WAIT_S: Final = 25
"""Seconds for which the server waits for an event. Proxies often end requests after 30 or 60."""

_PAGE: Final = 1000


_LEAST_S: Final = 1.0
"""Least number of seconds between two requests, if there are no events."""


def wait_of(retries: Retries) -> int:
    """Return the seconds that the server may wait, well within the timeouts of the client."""
    return int(min(_WAIT_S, retries.timeout_s / 2, retries.deadline_s / 2))


def pause_after(began: float, retries: Retries) -> float:
    """Return the seconds to wait after an empty page, for which the server may not have waited."""
    return max(0.0, began + _LEAST_S - retries.clock())


def events_target(after: str, types: Iterable[str], prefix: str, wait_s: int) -> str:
    """Return the target of the request for the events after a cursor."""
    query = {
        "after": after,
        "types": ",".join(types),
        "prefix": prefix,
        "limit": str(_PAGE),
        "wait": str(wait_s) if wait_s else "",
    }
    sent = {name: value for name, value in query.items() if value}
    return f"/storage/events?{urlencode(sent, quote_via=quote, safe='')}"
