"""File descriptor limit (ulimit -n), and how many connections a process can hold with it."""

import resource
from typing import Final

from stillroom.server.http11.bounds import Bounds
from stillroom.settings import Settings

_RESERVED: Final = 256
"""For all else: images that are kept open (64), decoders, folders that inotify watches, a bucket's
connections (64), a database's, files on their way in. Of a small limit half, at most."""

_PER_CONNECTION: Final = 4
"""A slow download holds its connection, a second descriptor of it, and its image; and beside each
connection there may be another that gets a 503, since there are too many."""


def raise_descriptor_limit() -> int:
    """Raise the soft limit (usually 1,024) to the hard limit, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def descriptors_for(connections: int) -> int:
    """The descriptor limit that so many connections need."""
    return _RESERVED + _PER_CONNECTION * connections


def bounds_of(settings: Settings, *, descriptors: int) -> Bounds:
    """The bounds of the settings, with fewer connections if the descriptors do not suffice."""
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
