"""One clock for all connections of a process.

A timer for every wait of every connection would be set and cancelled with every
request; looking at all connections once a second costs less, and a bound of seconds
needs no finer clock.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Final, Protocol

from stillroom.telemetry import metrics

log = logging.getLogger("stillroom.server")

TICK_S: Final = 1.0


class Watched(Protocol):
    """Something that may have waited too long."""

    def tick(self, now: float) -> None:
        """Look at the loop's clock, in seconds, and act if it is time."""
        ...


class Watch:
    """Ticks everything in a collection while there is anything in it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, watched: Iterable[Watched]) -> None:
        """Begin to watch; `watched` may change at any time."""
        self._loop = loop
        self._watched = watched
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._counts = True

    def start(self) -> None:
        """Tick from now on, if that has not begun."""
        if self._timer is None:
            self._due = self._loop.time() + TICK_S
            self._timer = self._loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._loop.time()
        watched = list(self._watched)
        late = now - self._due if watched else 0.0
        if watched:
            self.start()  # first, so that nothing that fails below stops the clock
        self._hand_on(len(watched), late)
        for connection in watched:
            try:
                connection.tick(now)
            except Exception:  # one connection's fault must not end the bounds of all others
                log.exception("a connection's clock failed")

    def _hand_on(self, connections: int, late: float) -> None:
        """Counting is worth no time-out: what fails is said once, until it works again."""
        try:
            metrics.report_loop(connections, late)
            metrics.flush()
        except Exception:
            if self._counts:
                log.exception("the metrics cannot be handed on; they are tried again each second")
            self._counts = False
        else:
            self._counts = True
