"""Free ports outside of the range that the kernel hands to outgoing connections."""

import collections
import itertools
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

# Below 22,000, since SeaweedFS also takes each one plus 10,000.
_CANDIDATES = itertools.cycle(random.Random().sample(range(12_000, 22_000), 10_000))
_HELD: collections.deque[int] = collections.deque()
_MOST_HELD = 100


def free_ports(count: int) -> list[int]:
    """So many; each of them plus 10,000 is free, too.

    No other process of tests gets one of them until this one has asked for 100 more.
    """
    found: list[int] = []
    while len(found) < count:
        port = next(_CANDIDATES)
        if _hold(port) and all(_is_free(number) for number in (port, port + 10_000)):
            found.append(port)
    return found


def _hold(port: int) -> bool:
    """Take a name that one process can have: nothing else holds a port before its use."""
    with socket.socket(socket.AF_UNIX) as name:
        try:
            name.bind(f"\0stillroom-test-port-{port}")
        except OSError:
            return False
        _HELD.append(name.detach())
    if len(_HELD) > _MOST_HELD:
        os.close(_HELD.popleft())
    return True


def weed_sockets(port: int) -> Iterator[Path]:
    """Sockets in /tmp that a killed SeaweedFS on this port has left.

    The next SeaweedFS on the port removes them. It ends if they belong to another user.
    """
    return Path("/tmp").glob(f"seaweedfs-*-{port}.sock")


def _is_free(port: int) -> bool:
    if not all(os.access(path, os.W_OK) for path in weed_sockets(port)):
        return False
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
