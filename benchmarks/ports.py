"""Free ports outside of the range that the kernel hands to outgoing connections."""

import random
import socket

_SEAWEEDFS_ADDS = 10_000
"""It listens for gRPC on each of its ports plus this."""


def free_ports(count: int) -> list[int]:
    """Different ports below 22,768 that nobody listens on."""
    found: list[int] = []
    candidates = random.Random().sample(range(12_000, 22_700), 1000)  # noqa: S311  (no secret)
    while len(found) < count:
        port = candidates.pop()
        if all(_is_free(number) for number in (port, port + _SEAWEEDFS_ADDS)):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
