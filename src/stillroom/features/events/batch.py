"""Delivery of a batch of events to one endpoint of webhooks, and the results to record.

Events with equal paths are sent one after the other, in order. After a failure, later events with
the same path wait. If a batch stops early, its unsent events are recorded as failed deliveries that
are due. The position of the endpoint can then move past all events of the batch.

A paused endpoint gets batches with a single event (probes). A successful probe ends the pause. A
failed probe does not count as an attempt.
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
Outcome = tuple[Attempt, datetime]  # result of an attempt, and time of the response


@dataclass(slots=True)
class Batch:
    """Batch of deliveries to one endpoint.

    Attributes:
        deliveries: Failed deliveries that are due, and new events, in order.
        blocked: Paths of new events that must wait for failed deliveries.
        position: Position of the endpoint in the feed after the batch.
        results: Outcomes by the position of the event.
    """

    state: EndpointState
    deliveries: Sequence[Delivery]
    blocked: Collection[str]
    position: int
    results: dict[int, Outcome] = field(default_factory=dict)
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

    def probe(self, position: int) -> "Batch":
        """Return a batch with a single delivery, after which the endpoint's position is `position`.

        Each probe tries the next path, so that events that always fail cannot keep the endpoint
        paused. If a probe delivers a new event, the next batch sends it again, with the same id.
        """
        queues, failures = self.queues, self.state.failures
        return replace(self, deliveries=[queues[failures % len(queues)][0]], position=position)

    async def run(
        self, send: Callable[[Delivery], Awaitable[Outcome]], *, may_begin: Callable[[], bool]
    ) -> None:
        """Send the deliveries until too many have failed, or until `may_begin` returns False."""
        self._streak, self._succeeded_at = self.state.failures, self.state.succeeded_at

        async def send_path(queue: Sequence[Delivery]) -> None:
            for delivery in queue:
                if self._is_stopped or not may_begin():
                    return
                attempt, moment = self.results[delivery.position] = await send(delivery)
                if not attempt.is_delivered:
                    self._streak += self.state.is_paused or attempt.result != "too_large"
                    return
                self._streak, self._succeeded_at = 0, moment

        await for_each_concurrently(send_path, self.queues, limit=MAX_AT_ONCE)

    @property
    def _is_stopped(self) -> bool:
        if self._streak >= PAUSING_FAILURES and not self.state.is_paused:
            return True
        return any(attempt.result in _STOPPING for attempt, _ in self.results.values())

    def settlement(self, at: datetime, *, digest: str) -> Settlement:
        """Return the results to record after `run`. `digest` is the SHA-256 of `webhooks.toml`."""
        settlement = Settlement(self.position, state=self._state(at, digest))
        waiting_paths = set(self.blocked)
        for delivery in self.deliveries:
            attempt, moment = self.results.get(delivery.position, (None, at))
            if self.state.is_paused and not (attempt and attempt.is_delivered):
                continue
            if attempt is None:
                if delivery.is_new:
                    due_at = None if delivery.path in waiting_paths else at
                    settlement.kept.append(replace(delivery, due_at=due_at))
                    waiting_paths.add(delivery.path)
            elif attempt.is_delivered:
                if not delivery.is_new:
                    settlement.delivered.append(delivery.position)
            elif (failed := self._failed(delivery, attempt, moment)).due_at is None:
                settlement.dead.append(failed)
            else:
                settlement.kept.append(failed)
                waiting_paths.add(delivery.path)
        return settlement

    def _failed(self, delivery: Delivery, attempt: Attempt, moment: datetime) -> Delivery:
        """Return a delivery with new values after a failed attempt.

        After too many attempts, the delivery is a dead letter (`due_at` is None), but only if other
        deliveries have succeeded since the previous attempt.
        """
        attempts = delivery.attempts + (attempt.result not in _STOPPING)
        failed_at, last = delivery.failed_at or moment, self._succeeded_at
        due_at: datetime | None = moment + (attempt.retry_after or retry_pause(max(attempts, 1)))
        is_over = attempts >= MAX_ATTEMPTS
        if attempt.result in _STOPPING:
            is_over = attempt.result == "throttled" and moment - failed_at > LONGEST_RETRY
        others_failed = last is None or last < (delivery.attempted_at or last)
        if is_over and others_failed:
            attempts, is_over = min(attempts, MAX_ATTEMPTS - 1), False
        if is_over or attempt.result == "too_large":
            due_at = None
        failed = replace(delivery, attempts=attempts, failed_at=failed_at, attempted_at=moment)
        return replace(failed, due_at=due_at, last_error=attempt.detail)

    def _state(self, at: datetime, digest: str) -> dict[str, object]:
        state: dict[str, object] = {"failures": self._streak, "succeeded_at": self._succeeded_at}
        probes = max(0, self.state.failures + 1 - PAUSING_FAILURES)
        ends = [at + probe_pause(probes)] if self._streak >= PAUSING_FAILURES else []
        for attempt, moment in self.results.values():
            if not attempt.is_delivered:
                state["last_error"] = attempt.detail
            if attempt.retry_after is not None:
                ends.append(moment + attempt.retry_after)
            if attempt.result == "gone":
                state["gone_digest"] = digest
        return state | {"wait_until": max(ends, default=None)}
