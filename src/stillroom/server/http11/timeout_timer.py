"""Time-outs of all connections of a process, by one timer a second; it also flushes the metrics.

A timer for every wait of every connection would be set and cancelled with every
request; checking all connections once a second costs less, and time-outs of seconds
need no finer timer.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Final, Protocol

from stillroom.telemetry import metrics

log = logging.getLogger("stillroom.server")

TICK_S: Final = 1.0


class HasTimeouts(Protocol):
    """A connection, as the timer sees it."""

    def check_timeouts(self, now: float) -> None:
        """End what is too slow; `now` is the loop's time."""
        ...


class TimeoutTimer:
    """Checks the time-outs of all connections once a second, while there are any."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connections: Iterable[HasTimeouts]) -> None:
        """Begin stopped; `connections` may change at any time."""
        self._loop = loop
        self._connections = connections
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._last_flush_worked = True

    def start(self) -> None:
        """Start the timer, if it does not run."""
        if self._timer is None:
            self._due = self._loop.time() + TICK_S
            self._timer = self._loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._loop.time()
        connections = list(self._connections)
        late = now - self._due if connections else 0.0
        if connections:
            self.start()  # first, so that nothing that fails below stops the timer
        self._flush_metrics(len(connections), late)
        for connection in connections:
            try:
                connection.check_timeouts(now)
            except Exception:  # one connection's fault must not stop the time-outs of all others
                log.exception("checking the time-outs of a connection failed")

    def _flush_metrics(self, connections: int, late: float) -> None:
        """Flush the metrics; an error is logged once, until it works again, and stops nothing."""
        try:
            metrics.report_loop(connections, late)
            metrics.flush()
        except Exception:
            if self._last_flush_worked:
                log.exception("flushing the metrics failed; it is tried again each second")
            self._last_flush_worked = False
        else:
            self._last_flush_worked = True
