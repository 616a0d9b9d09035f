"""Limits and time-outs of a connection, against large heads and slow clients (slowloris).

Each has a setting; see docs/reference/settings.md.
"""

from dataclasses import dataclass
from typing import Final

BODY_WINDOW_S: Final = 30.0
"""A body's rate is measured over this long, so that a short pause is allowed."""

LINGER_BYTES: Final = 1024**2
LINGER_S: Final = 2.0
"""Lingering close: how much of a refused body, and how long, is read and dropped, so that the
client sees the answer. What comes beyond the bytes waits unread until the time is over."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits and time-outs of one connection.

    Attributes:
        head_bytes: Of a request's head. nginx: 32 KiB in four buffers.
        header_fields: Number of them.
        target_bytes: Of the request target. The longest key, each byte escaped, is 3 KiB.
        head_timeout_s: For a connection's first byte, and for a head once it has begun.
        body_bytes_per_s: A body that is slower for `BODY_WINDOW_S` is refused with 408.
        idle_timeout_s: Between requests. Longer than the 60 s of most proxies, so that they
            close idle connections, not we.
        write_timeout_s: Without the client taking a single byte of its answer.
        connections: At once, in each process. More get a 503, and more than twice as many
            are closed without one: each 503 holds a descriptor until its client has gone.
    """

    head_bytes: int = 32 * 1024
    header_fields: int = 100
    target_bytes: int = 8 * 1024
    head_timeout_s: float = 10.0
    body_bytes_per_s: int = 1024
    idle_timeout_s: int = 65
    write_timeout_s: float = 60.0
    connections: int = 4096
