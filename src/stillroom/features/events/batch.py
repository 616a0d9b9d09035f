"""Delivery of a batch of events to one endpoint, and what is recorded about it afterwards.

Events with equal paths are sent one after the other, in order. After a failure, the later events
with the same path wait. If a batch stops early, the events that were not attempted are recorded as
due, so that the position of the endpoint can move past all of them.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from stillroom.concurrently import for_each_concurrently
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
from stillroom.store.json_posts import MAX_AT_ONCE, Attempt

_STOPPING: Final = ("gone", "throttled")  # results after which the batch sends no more events


@dataclass(slots=True)
class Batch:
    """Batch of deliveries to one endpoint.

    Attributes:
        deliveries: Failed deliveries that are due, and new events, in order.
        blocked: Paths of new events that must wait for failed deliveries.
        position: Position of the endpoint after the batch.
        results: Outcomes by position, each with the time of the response.
    """

    state: EndpointState
    deliveries: Sequence[Delivery]
    blocked: Collection[str]
    position: int
    results: dict[int, tuple[Attempt, datetime]] = field(default_factory=dict)
    _streak: int = 0
    _succeeded_at: datetime | None = None

    @property
    def queues(self) -> Sequence[Sequence[Delivery]]:
        """Deliveries to send, grouped by path. Paths with the fewest failed attempts come first."""
        queues: dict[str, list[Delivery]] = {}
        for delivery in self.deliveries:
            if not (delivery.is_new and delivery.path in self.blocked):
                queues.setdefault(delivery.path, []).append(delivery)
        return sorted(queues.values(), key=lambda queue: queue[0].attempts)

    async def run(
        self,
        send: Callable[[Delivery], Awaitable[Attempt]],
        *,
        now: Callable[[], datetime],
        may_begin: Callable[[], bool],
    ) -> None:
        """Send the deliveries, until too many have failed or `may_begin` returns False."""
        self._streak, self._succeeded_at = self.state.failures, self.state.succeeded_at

        async def send_path(queue: Sequence[Delivery]) -> None:
            for delivery in queue:
                if self._is_stopped or not may_begin():
                    return
                attempt, moment = await send(delivery), now()
                self.results[delivery.position] = attempt, moment
                if not attempt.is_delivered:
                    self._streak += attempt.result != "too_large"
                    return
                self._streak, self._succeeded_at = 0, moment

        await for_each_concurrently(send_path, self.queues, limit=MAX_AT_ONCE)

    @property
    def _is_stopped(self) -> bool:
        return self._streak >= PAUSING_FAILURES or any(
            attempt.result in _STOPPING for attempt, _ in self.results.values()
        )

    def settlement(self, at: datetime, *, digest: str) -> Settlement:
        """Return what to record after `run`. `digest` identifies the configuration."""
        settlement = Settlement(self.position, state=self._state(at, digest))
        held = set(self.blocked)
        for delivery in self.deliveries:
            attempt, moment = self.results.get(delivery.position, (None, at))
            if attempt is None:
                if delivery.is_new:
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
        return settlement

    def _failed(self, delivery: Delivery, attempt: Attempt, moment: datetime) -> Delivery:
        """Return the delivery after a failed attempt. If `due_at` is None, it is a dead letter."""
        attempts = delivery.attempts + (attempt.result not in _STOPPING)
        failed_at = delivery.failed_at or moment
        due_at: datetime | None = moment + (attempt.retry_after or retry_pause(max(attempts, 1)))
        is_over = attempts >= MAX_ATTEMPTS
        if attempt.result in _STOPPING:
            is_over = attempt.result == "throttled" and moment - failed_at > LONGEST_RETRY
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
        at = self._succeeded_at
        return at is not None and (moment is None or at >= moment)

    def _state(self, at: datetime, digest: str) -> dict[str, object]:
        state: dict[str, object] = {"failures": self._streak, "succeeded_at": self._succeeded_at}
        ends = [at + probe_pause(0)] if self._streak >= PAUSING_FAILURES else []
        for attempt, moment in self.results.values():
            if not attempt.is_delivered:
                state["last_error"] = attempt.detail
            if attempt.retry_after is not None:
                ends.append(moment + attempt.retry_after)
            if attempt.result == "gone":
                state["gone_digest"] = digest
        return state | {"wait_until": max(ends)} if ends else state
