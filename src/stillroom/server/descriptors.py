"""File descriptor limit (ulimit -n), and how many connections it allows."""

import resource
from typing import Final

from stillroom.server.http11.bounds import Bounds
from stillroom.settings import Settings

_RESERVED: Final = 256
"""Descriptors that are not available for client connections.

They are reserved for open images (64), bucket connections (64), database connections and others. If
the limit is small, at most half of it is reserved.
"""

_PER_CONNECTION: Final = 4
"""Descriptors per connection. A slow download uses three: the socket, a duplicate of it, and the
image file. The fourth is for a connection above the limit, which gets a 503."""


def raise_descriptor_limit() -> int:
    """Raise the soft limit (usually 1,024) to the hard limit, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def descriptors_for(connections: int) -> int:
    """Return the file descriptor limit that this number of connections requires."""
    return _RESERVED + _PER_CONNECTION * connections


def bounds_of(settings: Settings, *, descriptors: int) -> Bounds:
    """Return the configured limits, with fewer connections if there are too few descriptors."""
    if descriptors < 0:  # RLIM_INFINITY
        connections = settings.max_connections
    else:
        available = max(descriptors - _RESERVED, descriptors // 2)
        connections = max(1, min(settings.max_connections, available // _PER_CONNECTION))
    return Bounds(
        head_bytes=settings.max_head_bytes,
        header_fields=settings.max_header_fields,
        target_bytes=settings.max_target_bytes,
        head_timeout_s=settings.head_timeout_seconds,
        body_bytes_per_s=settings.min_body_bytes_per_second,
        idle_timeout_s=settings.idle_timeout_seconds,
        write_timeout_s=settings.write_timeout_seconds,
        connections=connections,
    )
