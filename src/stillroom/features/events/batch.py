"""Delivery of a batch of events to one endpoint, and what is recorded about it afterwards.

Events with equal paths are sent one after the other, in order. After a failure, the later events
with the same path wait. If a batch stops early, the events that were skipped between attempted ones
are recorded as waiting, so that the position of the endpoint can move past all of them.
"""

import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from stillroom.concurrently import for_each_concurrently
from stillroom.features.events.delivery import MAX_AT_ONCE, Attempt
from stillroom.features.events.webhook_values import (
    LONGEST_RETRY,
    MAX_ATTEMPTS,
    PAUSING_FAILURES,
    Delivery,
    EndpointState,
    Settlement,
    probe_pause,
    retry_pause,
)

_LONGEST_S: Final = 10.0
"""Seconds after which a batch begins no more attempts, so that its results are recorded soon."""


@dataclass(slots=True)
class Batch:
    """Batch of deliveries to one endpoint.

    Attributes:
        deliveries: Failed deliveries that are due, and new events, in order.
        blocked: Paths of new events that must wait for failed deliveries.
        after: Position of the endpoint before the batch.
        through: Position of the endpoint if all new events are attempted, or have to wait.
        streak: Failures since the last success.
        is_cut: True if the batch stopped early, and skipped events that need not wait for others.
        results: Outcomes by position, each with the time of the response.
    """

    state: EndpointState
    deliveries: Sequence[Delivery]
    blocked: Collection[str]
    after: int
    through: int
    streak: int = 0
    is_cut: bool = True
    succeeded_at: datetime | None = None
    results: dict[int, tuple[Attempt, datetime]] = field(default_factory=dict)

    async def run(
        self,
        send: Callable[[Delivery], Awaitable[Attempt]],
        *,
        now: Callable[[], datetime],
        may_begin: Callable[[], bool],
    ) -> None:
        """Send the deliveries, until too many have failed or `may_begin` returns False."""
        ends = time.monotonic() + _LONGEST_S
        self.streak, is_cut = self.state.failures, False

        async def send_path(queue: Sequence[Delivery]) -> None:
            nonlocal is_cut
            for delivery in queue:
                if self._is_stopped or time.monotonic() > ends or not may_begin():
                    is_cut = True
                    return
                attempt = await send(delivery)
                moment = now()
                self.results[delivery.position] = attempt, moment
                if not attempt.is_delivered:
                    self.streak += attempt.result != "too_large"
                    return
                self.streak, self.succeeded_at = 0, moment

        queues: dict[str, list[Delivery]] = {}
        for delivery in self.deliveries:
            if not (delivery.is_new and delivery.path in self.blocked):
                queues.setdefault(delivery.path, []).append(delivery)
        await for_each_concurrently(send_path, queues.values(), limit=MAX_AT_ONCE)
        self.is_cut = is_cut

    @property
    def _is_stopped(self) -> bool:
        return self.streak >= PAUSING_FAILURES or any(
            attempt.result in ("gone", "throttled") for attempt, _ in self.results.values()
        )

    def settlement(self, at: datetime, *, digest: str) -> Settlement:
        """Return what to record after `run`. `digest` identifies the configuration."""
        settlement = Settlement(self._position())
        held = set(self.blocked)
        for delivery in self.deliveries:
            attempt, moment = self.results.get(delivery.position, (None, at))
            if attempt is None:
                if delivery.is_new and delivery.position <= settlement.position:
                    due_at = None if delivery.path in held else at
                    settlement.kept.append(replace(delivery, due_at=due_at))
                    held.add(delivery.path)
            elif attempt.is_delivered:
                if not delivery.is_new:
                    settlement.delivered.append(delivery.position)
            elif (failed := self._failed(delivery, attempt, moment)).due_at is None:
                settlement.dead.append(failed)
            else:
                settlement.kept.append(failed)
                held.add(delivery.path)
        settlement.state = self._state(at, digest)
        return settlement

    def _position(self) -> int:
        if not self.is_cut:
            return self.through
        new = (delivery.position for delivery in self.deliveries if delivery.is_new)
        return max((position for position in new if position in self.results), default=self.after)

    def _failed(self, delivery: Delivery, attempt: Attempt, moment: datetime) -> Delivery:
        """Return the delivery after a failed attempt. Without `due_at`, it is a dead letter."""
        attempts = delivery.attempts + (attempt.result in ("failed", "too_large"))
        failed_at = delivery.failed_at or moment
        due_at: datetime | None = moment + retry_pause(max(attempts, 1))
        is_over = attempts >= MAX_ATTEMPTS
        if attempt.result == "throttled" and attempt.retry_after is not None:
            due_at = moment + attempt.retry_after
            is_over = moment - failed_at > LONGEST_RETRY
        elif attempt.result == "gone":
            due_at, is_over = moment, False
        if is_over and not self._have_others_succeeded_since(delivery.attempted_at):
            attempts, is_over = min(attempts, MAX_ATTEMPTS - 1), False
        if is_over or attempt.result == "too_large":
            due_at = None
        return replace(
            delivery,
            attempts=attempts,
            failed_at=failed_at,
            attempted_at=moment,
            due_at=due_at,
            last_error=attempt.detail,
        )

    def _have_others_succeeded_since(self, moment: datetime | None) -> bool:
        times = [at for at in (self.succeeded_at, self.state.succeeded_at) if at is not None]
        return any(moment is None or at >= moment for at in times)

    def _state(self, at: datetime, digest: str) -> dict[str, object]:
        state: dict[str, object] = {"failures": self.streak}
        if self.succeeded_at is not None:
            state["succeeded_at"] = self.succeeded_at
        ends = [
            moment + attempt.retry_after
            for attempt, moment in self.results.values()
            if attempt.retry_after is not None
        ]
        for attempt, _ in self.results.values():
            if not attempt.is_delivered:
                state["last_error"] = attempt.detail
            if attempt.result == "gone":
                state["gone_digest"] = digest
        if self.streak >= PAUSING_FAILURES:
            state |= {"paused_at": at, "probes": 0}
            ends.append(at + probe_pause(0))
        if ends:
            state["wait_until"] = max(ends)
        return state
