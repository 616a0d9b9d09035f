"""Limits and timeouts of a connection, against large request heads and slow clients (slowloris)."""

from dataclasses import dataclass
from typing import Final

BODY_WINDOW_S: Final = 30.0  # the speed of a body is measured over this time; it may pause

LINGER_BYTES: Final = 1024**2
LINGER_S: Final = 2.0
"""Maximum duration of a lingering close in seconds. The rest of a refused body, up to
`LINGER_BYTES`, is read and dropped, so that the client receives the response."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits and timeouts of connections.

    Connections above the maximum get a 503. Above twice the maximum, they are closed without a
    response, since each 503 uses a descriptor.
    """

    head_bytes: int = 32 * 1024  # maximum size of a request head (in nginx: 32 KiB)
    header_fields: int = 100
    target_bytes: int = 8 * 1024  # of a request target; the longest encoded key has 3 KiB
    head_timeout_s: float = 10.0
    body_bytes_per_s: int = 1024  # minimum rate of a request body over `BODY_WINDOW_S`
    idle_timeout_s: int = 65  # over the 60 s of most proxies, so that the proxy closes first
    write_timeout_s: float = 60.0
    connections: int = 4096
