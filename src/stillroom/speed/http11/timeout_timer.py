"""Timer that checks the timeouts of all connections once a second and flushes the metrics.

Separate timers for each connection would be set and cancelled with every request. A common timer is
cheaper, and its resolution suffices for timeouts of seconds.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Final, Protocol

from stillroom.store.telemetry import metrics

log = logging.getLogger("stillroom.server")

TICK_S: Final = 1.0


class HasTimeouts(Protocol):
    """Object with timeouts, such as a connection."""

    def check_timeouts(self, now: float) -> None: ...  # noqa: D102  (see `Connection`)


class TimeoutTimer:
    """Timer that runs once a second while there are connections."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connections: Iterable[HasTimeouts]) -> None:
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
