"""Limits and timeouts of a connection, against large request heads and slow clients (slowloris).

The settings are documented in docs/reference/settings.md.
"""

from dataclasses import dataclass
from typing import Final

BODY_WINDOW_S: Final = 30.0
"""Interval in seconds for measuring the rate of a request body. Shorter pauses are allowed."""

LINGER_BYTES: Final = 1024**2
LINGER_S: Final = 2.0
"""Maximum duration of a lingering close in seconds. The rest of a refused body, up to
`LINGER_BYTES`, is read and dropped, so that the client receives the response."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits and timeouts of connections.

    Attributes:
        head_bytes: Maximum size of a request head (in nginx: 32 KiB).
        target_bytes: Maximum size of a request target. The longest encoded key has 3 KiB.
        body_bytes_per_s: Minimum rate of a request body over `BODY_WINDOW_S`.
        idle_timeout_s: Timeout between requests. It is longer than the 60 s of most proxies, so
            that the proxy closes idle connections, not the server.
        connections: Maximum number of connections per process. Further connections get a 503. Above
            twice the maximum, they are closed without a response, since each 503 uses a descriptor.
    """

    head_bytes: int = 32 * 1024
    header_fields: int = 100
    target_bytes: int = 8 * 1024
    head_timeout_s: float = 10.0
    body_bytes_per_s: int = 1024
    idle_timeout_s: int = 65
    write_timeout_s: float = 60.0
    connections: int = 4096
