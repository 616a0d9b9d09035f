"""Limits and timeouts of a connection, against large heads and slow clients (slowloris).

The settings are documented in docs/reference/settings.md.
"""

from dataclasses import dataclass
from typing import Final

BODY_WINDOW_S: Final = 30.0
"""Interval over which the rate of a body is measured, so that short pauses are allowed."""

LINGER_BYTES: Final = 1024**2
LINGER_S: Final = 2.0
"""Lingering close: the rest of a refused body is read and dropped for this time, so that the client
receives the response. After `LINGER_BYTES`, the rest is not read any more."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits and timeouts of connections.

    Attributes:
        head_bytes: Size of a request head. nginx: 32 KiB in four buffers.
        target_bytes: Size of the request target. The longest key, fully encoded, has 3 KiB.
        head_timeout_s: Timeout for the first byte of a connection, and for the rest of a head.
        body_bytes_per_s: Minimum rate of a body over `BODY_WINDOW_S`; slower ones get a 408.
        idle_timeout_s: Timeout between requests. It is longer than the 60 s of most proxies, so
            that proxies close idle connections and not the server.
        write_timeout_s: Timeout of a response of which the client reads nothing.
        connections: Connections per process. Further ones get a 503. Beyond twice as many, they
            are closed without a response, since each 503 uses a descriptor until it is read.
    """

    head_bytes: int = 32 * 1024
    header_fields: int = 100
    target_bytes: int = 8 * 1024
    head_timeout_s: float = 10.0
    body_bytes_per_s: int = 1024
    idle_timeout_s: int = 65
    write_timeout_s: float = 60.0
    connections: int = 4096
