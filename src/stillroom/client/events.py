"""Feed of events: query parameters and pages."""

from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, urlencode

from stillroom.client.retries import Retries

_WAIT_S: Final = 25
"""Seconds for which the server waits for an event. Proxies often end requests after 30 or 60."""

_PAGE: Final = 1000


def wait_of(retries: Retries) -> int:
    """Return the seconds that the server may wait, well within the timeouts of the client."""
    return int(min(_WAIT_S, retries.timeout_s / 2, retries.deadline_s / 2))


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
