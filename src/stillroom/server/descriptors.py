"""How many connections a process can hold with the descriptors that it may have."""

import resource
from typing import Final

from stillroom.server.bounds import Bounds
from stillroom.settings import Settings

_RESERVED: Final = 256
"""For all else: images that are kept open (64), decoders, folders that are followed, a bucket's
connections (64), a database's, files on their way in. Of a small limit half, at most."""

_FOR_EACH: Final = 4
"""A slow download holds its connection, a second descriptor of it, and its image; and beside each
connection there may be another that is being told that there are too many."""


def raise_descriptor_limit() -> int:
    """Allow as many as may be had: the usual soft limit is 1,024. Returns how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def descriptors_for(connections: int) -> int:
    """The limit with which a process can hold so many connections."""
    return _RESERVED + _FOR_EACH * connections


def bounds_of(settings: Settings, *, descriptors: int) -> Bounds:
    """The bounds that were set, as far as a process with so many descriptors can keep them."""
    if descriptors < 0:  # RLIM_INFINITY
        connections = settings.max_connections
    else:
        room = max(descriptors - _RESERVED, descriptors // 2)
        connections = max(1, min(settings.max_connections, room // _FOR_EACH))
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
