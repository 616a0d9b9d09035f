"""Values of webhook deliveries: the state of an endpoint, failed deliveries, and their schedule."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from stillroom.features.events.event import Event

RETRY_AFTER: Final = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    *(timedelta(hours=hours) for hours in (2, 5, 10, 14, 20, 24)),
)
"""Pauses after failed attempts, as Standard Webhooks 1.0.0 recommends."""

MAX_ATTEMPTS: Final = len(RETRY_AFTER) + 1  # then the event becomes a dead letter
LONGEST_RETRY: Final = sum(RETRY_AFTER, timedelta())  # 3 days, 3 hours and 35 minutes
LONGEST_PAUSE: Final = timedelta(hours=27)  # a longer pause means that the clock was set back
PAUSING_FAILURES: Final = 10  # failures in a row after which an endpoint is paused
_FIRST_PROBE: Final = timedelta(seconds=5)
_SLOWEST_PROBE: Final = timedelta(minutes=1)  # pauses between probes double up to this
_JITTER: Final = 0.1  # maximum share of additional time, so that servers do not send at once
LEASE: Final = timedelta(seconds=45)  # after a crash, other processes wait for its end
WEBHOOK: Final = "webhook"  # `DeadLetter.kind` of an event that could not be delivered
ENABLED: Final[dict[str, object]] = {"failures": 0, "wait_until": None, "gone_digest": None}
"""Column values of an endpoint that is neither paused nor disabled."""

_random = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class EndpointState:
    """Row of an endpoint. See `webhook_tables.py` for the meaning of the values."""

    name: str
    position: int
    failures: int = 0
    wait_until: datetime | None = None
    gone_digest: str | None = None
    succeeded_at: datetime | None = None
    last_error: str | None = None
    lost: int = 0

    @property
    def is_paused(self) -> bool:
        """Return whether the endpoint has failed so often that it is only probed."""
        return self.failures >= PAUSING_FAILURES

    def must_wait(self, moment: datetime) -> bool:
        """Return whether the pause of the endpoint has not ended."""
        return self.wait_until is not None and moment < self.wait_until < moment + LONGEST_PAUSE


@dataclass(frozen=True, slots=True)
class Delivery:
    """Event to deliver to an endpoint: a new event, or the row of a failed delivery.

    Attributes:
        path: Path of the event, or the id of its resource, or its storage key. Deliveries with
            equal paths are sent in order.
        event: Body of the webhook, without a signed URL.
        attempts: Number of attempts that count. Attempts at a paused endpoint do not count.
        failed_at: Time of the first failed attempt, or None.
        due_at: Time of the next attempt. None: an earlier event with this path comes first.
        is_new: True if the event has no row yet.
    """

    position: int
    path: str
    event: Mapping[str, Any]
    occurred_at: datetime
    attempts: int = 0
    failed_at: datetime | None = None
    attempted_at: datetime | None = None
    due_at: datetime | None = None
    last_error: str | None = None
    is_new: bool = False

    @classmethod
    def of(cls, event: Event) -> "Delivery":
        """Return the delivery of an event that has just been read from the feed."""
        path = event.path or str(event.resource_id or event.data.get("storage_key", ""))
        return cls(event.position, path, event.as_json(), event.occurred_at, is_new=True)


@dataclass(slots=True)
class Settlement:
    """Results of a batch of deliveries, which are recorded in one transaction.

    Attributes:
        position: New position of the endpoint.
        delivered: Positions of the events whose rows are deleted.
        kept: Deliveries to insert or update.
        dead: Deliveries that become dead letters.
        state: Other new values of the endpoint's row.
    """

    position: int
    delivered: list[int] = field(default_factory=list)
    kept: list[Delivery] = field(default_factory=list)
    dead: list[Delivery] = field(default_factory=list)
    state: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EndpointMetrics:
    """Progress of an endpoint.

    `waiting` is the number of failed deliveries, and of deliveries that wait for them. `oldest` is
    the time of the oldest event that was not delivered, or None.
    """

    state: EndpointState
    waiting: int
    oldest: datetime | None

    @property
    def without_work(self) -> "EndpointMetrics":
        """Metrics of an endpoint that was removed from the file: neither late nor paused."""
        state = EndpointState(self.state.name, self.state.position, lost=self.state.lost)
        return EndpointMetrics(state, waiting=0, oldest=None)

    def lag_s(self, moment: datetime) -> float:
        """Return the age in seconds of the oldest event that was not delivered, or 0."""
        return max(0.0, (moment - (self.oldest or moment)).total_seconds())


def retry_pause(attempts: int) -> timedelta:
    """Return the pause after a number of failed attempts, with jitter."""
    pause = RETRY_AFTER[min(attempts, len(RETRY_AFTER)) - 1]
    return pause * (1 + _random.uniform(0, _JITTER))


def probe_pause(probes: int) -> timedelta:
    """Return the pause before the next probe of a paused endpoint, with jitter."""
    pause = min(_FIRST_PROBE * (1 << min(probes, 10)), _SLOWEST_PROBE)
    return pause * (1 + _random.uniform(0, _JITTER))
