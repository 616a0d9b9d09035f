"""State that all connections in a process share: limits, timer and request handlers."""

import asyncio
import logging
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stillroom.speed.http11.bounds import Bounds
from stillroom.speed.http11.exchange import Address, Begin, FastPath
from stillroom.speed.http11.timeout_timer import HasTimeouts, TimeoutTimer

log = logging.getLogger("stillroom.server")


@dataclass(slots=True)
class Service:
    """State that all connections in a process share.

    Attributes:
        tasks: Tasks of running requests, for which a shutdown waits.
        fast_path: Handler of simple requests; None if the fast path is disabled.
    """

    loop: asyncio.AbstractEventLoop
    bounds: Bounds
    connections: set[HasTimeouts]
    tasks: set[asyncio.Task[None]]
    begin: Begin
    fast_path: FastPath | None = None
    timer: TimeoutTimer = field(init=False)
    _waiting: deque[Callable[[], None]] = field(init=False, default_factory=deque)

    def __post_init__(self) -> None:
        self.timer = TimeoutTimer(self.loop, self.connections)

    def run_in_turn(self, work: Callable[[], None]) -> None:
        """Queue `work`. Each iteration of the event loop runs one item from the queue."""
        self._waiting.append(work)
        if len(self._waiting) == 1:
            self.loop.call_soon(self._run_next)

    def _run_next(self) -> None:
        work = self._waiting.popleft()
        if self._waiting:
            self.loop.call_soon(self._run_next)
        work()


def log_failure(error: Exception, request_id: str) -> None:
    """Log an unexpected error without its message, which may contain the signature of a URL."""
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    facts = {"error": type(error).__name__, "file": frame.f_code.co_filename, "line": line}
    log.error(
        "a request failed: %(error)s in %(file)s, line %(line)d",
        {**facts, "request_id": request_id},
    )


def address_of(name: Any) -> Address | None:  # noqa: ANN401  (of a socket: IPv4, or longer IPv6)
    """Return the host and port from a socket's name, or None if the name is empty."""
    return (str(name[0]), int(name[1])) if name else None
