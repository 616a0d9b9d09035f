"""Free ports outside of the range that the kernel hands to outgoing connections."""

import itertools
import os
import random
import socket

# Below 22,700, since SeaweedFS also takes each one plus 10,000. Processes of tests that run beside
# each other have different ones, and each takes another one every time: between the look and its
# use nothing holds a port.
_PART = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 10
_CANDIDATES = itertools.cycle(
    random.Random().sample(range(12_000 + 1070 * _PART, 13_070 + 1070 * _PART), 1070)
)


def free_ports(count: int) -> list[int]:
    """So many; each of them plus 10,000 is free, too."""
    found: list[int] = []
    while len(found) < count:
        port = next(_CANDIDATES)
        if all(_is_free(number) for number in (port, port + 10_000)):
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
