"""DNS lookups of one host, in threads of their own.

An event loop runs only few lookups at the same time (uvloop runs two), and cannot cancel them. A
name server that hangs would delay the connections to buckets and to other hosts.
"""

import asyncio
import socket
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

from stillroom.store.connections import Addresses

_FRESH_S: Final = 2.0  # seconds after the start of a lookup for which its result is reused


@dataclass(slots=True)
class AddressLookup:
    """Lookups of the addresses of one host. There is never more than one at the same time."""

    _found: Future[Addresses] | None = None
    _began: float = 0.0

    async def addresses(self, host: str, port: int) -> Addresses:
        """Return the addresses, the preferred one first. Raise `OSError` if there is none."""
        if self._found is None or (
            self._found.done() and time.monotonic() - self._began > _FRESH_S
        ):
            self._found, self._began = Future(), time.monotonic()
            self._found.set_running_or_notify_cancel()  # a caller that gives up cannot cancel it
            # A daemon thread, so that the process can end while the lookup hangs.
            threading.Thread(target=_look_up, args=(host, port, self._found), daemon=True).start()
        return await asyncio.wrap_future(self._found)


def _look_up(host: str, port: int, found: Future[Addresses]) -> None:
    try:
        rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except Exception as error:  # noqa: BLE001  (the callers raise it)
        found.set_exception(error)
    else:
        found.set_result(rows)
