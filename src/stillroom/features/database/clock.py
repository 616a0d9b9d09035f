"""Clock for deletions: a jump of the system clock never makes a deletion happen too early.

A process does not detect that the system clock was already wrong when it started.
"""

import logging
import secrets
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

_MAX_STEP_S: Final = 60.0  # time synchronization causes no larger jumps

log = logging.getLogger("stillroom.media")


class Clock:
    """System clock that detects jumps by comparison with the time since the system booted.

    After a jump, `earliest` and `latest` differ. Tests replace the functions `wall` and `steady`.
    """

    def __init__(
        self,
        wall: Callable[[], float] = lambda: time.time(),  # noqa: PLW0108  (tests replace it)
        steady: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._early = self._late = wall() - steady()
        self._lock = threading.Lock()
        self._warned = False

    def earliest(self) -> datetime:
        """Return a lower bound of the current UTC time, to decide whether a deletion is due."""
        return self._read()[0]

    def latest(self) -> datetime:
        """Return an upper bound of the current UTC time, to compute when a deletion is due."""
        return self._read()[1]

    def _read(self) -> tuple[datetime, datetime]:
        with self._lock:
            steady = self._steady()
            offset = self._wall() - steady
            if offset - self._early <= _MAX_STEP_S:
                self._early, self._warned = offset, False
            elif not self._warned:
                self._warned = True
                log.warning(
                    "the clock was set forward by %.0f s: images still expire according "
                    "to the old time; restart the server if the new time is correct",
                    offset - self._early,
                )
            if offset - self._late >= -_MAX_STEP_S:
                self._late = offset
            early, late = steady + self._early, steady + self._late
        return datetime.fromtimestamp(early, UTC), datetime.fromtimestamp(late, UTC)


CLOCK = Clock()  # clock of this process for deletions, which tests replace


def to_nanoseconds(moment: datetime) -> int:
    """Convert a datetime with a time zone to nanoseconds since the epoch, without rounding."""
    since = moment - datetime.fromtimestamp(0, moment.tzinfo)
    return since // timedelta(microseconds=1) * 1000


def new_id() -> uuid.UUID:
    """Create a UUIDv7 (RFC 9562, 5.7). Python itself provides this only since version 3.14."""
    milliseconds = time.time_ns() // 1_000_000
    high, low = secrets.randbits(12), secrets.randbits(62)
    return uuid.UUID(int=milliseconds << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)
