"""Values of webhooks: state and metrics of an endpoint, deliveries, and pauses between attempts."""

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
_LONGEST_PROBE: Final = timedelta(minutes=1)  # pauses between probes double up to this
_JITTER: Final = 0.1  # maximum share of additional time, so that servers do not send at once
LEASE: Final = timedelta(seconds=45)  # after a crash, other processes wait until it ends
WEBHOOK: Final = "webhook"  # `DeadLetter.kind` of an event that could not be delivered
ENABLED: Final[dict[str, object]] = {"failures": 0, "wait_until": None, "gone_digest": None}
"""Column values of an endpoint that is neither paused nor disabled."""

_random = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class EndpointState:
    """State of an endpoint: columns of its row, which `webhook_tables.py` describes."""

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
        """True if the endpoint has failed so often that it gets only single events (probes)."""
        return self.failures >= PAUSING_FAILURES

    def must_wait(self, moment: datetime) -> bool:
        """Return whether deliveries to the endpoint must wait at this time."""
        return self.wait_until is not None and moment < self.wait_until < moment + LONGEST_PAUSE


@dataclass(frozen=True, slots=True)
class Delivery:
    """Event to deliver to an endpoint: a new event, or a row of the table `webhook_failures`.

    Attributes:
        path: Path of the event, or else the id of the event's resource, or else its storage key.
            Deliveries with equal paths are sent in order.
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
        """Create the delivery of an event that was read from the feed."""
        path = event.path or str(event.resource_id or event.data.get("storage_key", ""))
        return cls(event.position, path, event.as_json(), event.occurred_at, is_new=True)


@dataclass(slots=True)
class Settlement:
    """Results of a batch of deliveries, which one transaction records.

    Attributes:
        position: New position of the endpoint in the feed.
        delivered: Positions of delivered events that have rows. These rows are deleted.
        kept: Failed or waiting deliveries, whose rows are inserted or updated.
        dead: Deliveries that become dead letters.
        state: New values of other columns of the endpoint's row.
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
    waiting: int = 0
    oldest: datetime | None = None

    def lag_s(self, moment: datetime) -> float:
        """Return the age of the oldest undelivered event in seconds, or 0 if there is none."""
        return max(0.0, (moment - (self.oldest or moment)).total_seconds())


def retry_pause(attempts: int) -> timedelta:
    """Return the pause after a number of failed attempts. A random share is added (jitter)."""
    pause = RETRY_AFTER[min(attempts, len(RETRY_AFTER)) - 1]
    return pause * (1 + _random.uniform(0, _JITTER))


def probe_pause(probes: int) -> timedelta:
    """Return the pause after a number of failed probes. A random share is added (jitter)."""
    pause = min(_FIRST_PROBE * (1 << min(probes, 10)), _LONGEST_PROBE)
    return pause * (1 + _random.uniform(0, _JITTER))
