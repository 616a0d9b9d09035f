"""State that all connections in a process share: settings, timer and request handlers."""

import asyncio
import logging
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from stillroom.speed.http11.exchange import Address, Begin, FastPath
from stillroom.speed.settings import SpeedSettings
from stillroom.store.telemetry import metrics

if TYPE_CHECKING:
    from stillroom.speed.http11.connection import Connection

TICK_S: Final = 1.0  # interval of the timer: timeouts are accurate to a second

log = logging.getLogger("stillroom.server")


@dataclass(slots=True, repr=False)
class TimeoutTimer:
    """Timer that checks the timeouts of all connections once a second and flushes the metrics.

    It runs while there are connections. One timer per connection would slow down every request.
    """

    loop: asyncio.AbstractEventLoop
    connections: "Iterable[Connection]"
    _timer: asyncio.TimerHandle | None = None
    _due: float = 0.0
    _last_flush_worked: bool = True

    def start(self) -> None:
        """Start the timer if it is not running."""
        if self._timer is None:
            self._due = self.loop.time() + TICK_S
            self._timer = self.loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self.loop.time()
        connections = list(self.connections)
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
    settings: SpeedSettings = field(repr=False)  # event loops log what a failed callback belongs to
    connections: "set[Connection]"
    tasks: set[asyncio.Task[None]]  # tasks of running requests, for which a shutdown waits
    begin: Begin
    fast_path: FastPath | None = None  # handler of simple requests; None if it is off
    timer: TimeoutTimer = field(init=False)
    _waiting: deque[Callable[[], None]] = field(init=False, default_factory=deque)

    def __post_init__(self) -> None:
        self.timer = TimeoutTimer(self.loop, self.connections)

    def run_in_turn(self, work: Callable[[], None]) -> None:
        """Queue a function. Each iteration of the event loop runs one function from the queue."""
        self._waiting.append(work)
        if len(self._waiting) == 1:
            self.loop.call_soon(self._run_next)

    def _run_next(self) -> None:
        work = self._waiting.popleft()
        if self._waiting:
            self.loop.call_soon(self._run_next)
        work()


def log_failure(error: Exception, request_id: str) -> None:
    """Log an error without its message, as the message may contain the signature of a URL."""
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    facts = {"error": type(error).__name__, "file": frame.f_code.co_filename, "line": line}
    log.error(
        "a request failed: %(error)s in %(file)s, line %(line)d",
        {**facts, "request_id": request_id},
    )


def address_of(name: Any) -> Address | None:  # noqa: ANN401  (of a socket: IPv4, or longer IPv6)
    """Return the host and port from the address of a socket, or None if it has no address."""
    return (str(name[0]), int(name[1])) if name else None
