"""State that all connections in a process share: limits, timer and request handlers."""

import asyncio
import logging
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from stillroom.speed.http11.bounds import Bounds
from stillroom.speed.http11.exchange import Address, Begin, FastPath
from stillroom.store.telemetry import metrics

if TYPE_CHECKING:
    from stillroom.speed.http11.connection import Connection

TICK_S: Final = 1.0  # interval of the timer, which is sufficient for timeouts of seconds

log = logging.getLogger("stillroom.server")


class TimeoutTimer:
    """Timer that checks the timeouts of all connections once a second and flushes the metrics.

    It runs while there are connections. A timer for each of them would slow down every request.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, connections: "Iterable[Connection]"
    ) -> None:
        self._loop = loop
        self._connections = connections
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._last_flush_worked = True

    def start(self) -> None:
        """Start the timer if it is not running."""
        if self._timer is None:
            self._due = self._loop.time() + TICK_S
            self._timer = self._loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._loop.time()
        connections = list(self._connections)
        late = now - self._due if connections else 0.0
        if connections:
            self.start()  # before anything that could fail and stop the timer
        self._flush_metrics(len(connections), late)
        for connection in connections:
            try:
                connection.check_timeouts(now)
            except Exception:  # an error in one connection must not stop the timer for the others
                log.exception(
                    "cannot check the timeouts of a connection: other connections are not affected"
                )

    def _flush_metrics(self, connections: int, late: float) -> None:
        try:
            metrics.set_gauges(connections=connections, loop_lag_seconds=max(0.0, late))
            metrics.flush()
        except Exception:
            if self._last_flush_worked:
                log.exception("cannot write the metrics, will retry every second")
            self._last_flush_worked = False
        else:
            self._last_flush_worked = True


@dataclass(slots=True)
class Service:
    """State that all connections in a process share."""

    loop: asyncio.AbstractEventLoop
    bounds: Bounds
    connections: "set[Connection]"
    tasks: set[asyncio.Task[None]]  # tasks of running requests, for which a shutdown waits
    begin: Begin
    fast_path: FastPath | None = None  # handler of simple requests; None if it is off
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
