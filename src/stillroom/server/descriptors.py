"""File descriptor limit (ulimit -n), and how many connections it allows."""

import logging
import resource
from typing import Final

from stillroom.speed.http11.bounds import Bounds
from stillroom.speed.settings import SpeedSettings

_RESERVED: Final = 256
"""Descriptors for open images (64), bucket connections (64), the database and others. At most half
of a small limit is reserved."""

_PER_CONNECTION: Final = 4
"""Descriptors per connection. A slow download uses three: the socket, a duplicate of it, and the
image file. The fourth is for a connection above the limit, which gets a 503."""

log = logging.getLogger("stillroom.server")


def raise_descriptor_limit() -> int:
    """Raise the soft limit (usually 1,024) to the hard limit, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def bounds_of(settings: SpeedSettings) -> Bounds:
    """Return the configured limits, with fewer connections if there are too few descriptors."""
    connections, descriptors = settings.max_connections, raise_descriptor_limit()
    if descriptors >= 0:  # not RLIM_INFINITY
        available = max(descriptors - _RESERVED, descriptors // 2)
        connections = max(1, min(connections, available // _PER_CONNECTION))
    if connections < settings.max_connections:
        log.warning(
            "%d descriptors are enough for only %d connections, but STILLROOM_MAX_CONNECTIONS=%d: "
            "raise the hard limit (LimitNOFILE= in systemd, ulimit -Hn) to %d, or lower that "
            "setting",
            descriptors,
            connections,
            settings.max_connections,
            _RESERVED + _PER_CONNECTION * settings.max_connections,
        )
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
