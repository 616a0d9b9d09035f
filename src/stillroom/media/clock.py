"""The time, where something goes when it has come: a clock that is set makes nothing go early.

Steps of the wall clock are told by comparing it with one that is never set. A process that starts
with a wrong clock has nothing to compare with, and believes it.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

_BELIEVED_S: Final = 60.0
"""Steps up to this are followed: time synchronisation makes them, and each mark has a minute."""

log = logging.getLogger("stillroom.media")


def _since_boot() -> float:
    """Seconds, those of a suspended machine included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Clock:
    """A wall clock, and what is believed of its steps."""

    def __init__(
        self,
        wall: Callable[[], float] = lambda: time.time(),  # noqa: PLW0108  (tests replace it)
        steady: Callable[[], float] = _since_boot,
    ) -> None:
        """Believe `wall` as it is now, and compare it with `steady`; both in seconds."""
        self._wall = wall
        self._steady = steady
        self._early = self._late = wall() - steady()
        self._lock = threading.Lock()
        self._warned = False

    def earliest(self) -> datetime:
        """What time it is at least: for what goes when its time has come."""
        return self._read()[0]

    def latest(self) -> datetime:
        """What time it is at most: for saying from when on something may go."""
        return self._read()[1]

    def _read(self) -> tuple[datetime, datetime]:
        with self._lock:
            steady = self._steady()
            offset = self._wall() - steady
            if offset - self._early <= _BELIEVED_S:
                self._early, self._warned = offset, False
            elif not self._warned:
                self._warned = True
                log.warning(
                    "the clock was set forward by %.0f s: nothing goes before the time that it "
                    "would have been; restart if the clock is right now",
                    offset - self._early,
                )
            if offset - self._late >= -_BELIEVED_S:
                self._late = offset
            return _utc(steady + self._early), _utc(steady + self._late)


CLOCK = Clock()
"""Of this process."""


def earliest() -> datetime:
    """What time it is at least, UTC; see `Clock`."""
    return CLOCK.earliest()


def latest() -> datetime:
    """What time it is at most, UTC; see `Clock`."""
    return CLOCK.latest()


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
