"""Limit of file descriptors (ulimit -n), and the number of connections that it allows."""

import logging
import resource
from typing import Final

from stillroom.speed.settings import SpeedSettings

_RESERVED: Final = 256  # for open images (64), bucket connections (64), the database and others

_PER_CONNECTION: Final = 4
"""File descriptors per connection. A slow download uses three: the socket, a duplicate of it, and
the image file. The fourth is for a connection above the limit, which gets a 503."""

log = logging.getLogger("stillroom.server")


def raise_descriptor_limit() -> int:
    """Raise this process's soft limit (usually 1,024) to the hard limit, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def limit_connections(settings: SpeedSettings) -> SpeedSettings:
    """Return the settings, with a lower `max_connections` if there are too few descriptors."""
    connections, descriptors = settings.max_connections, raise_descriptor_limit()
    if descriptors >= 0:  # not RLIM_INFINITY
        available = max(descriptors - _RESERVED, descriptors // 2)  # reserve at most half
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
    return settings.model_copy(update={"max_connections": connections})
