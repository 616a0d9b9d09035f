"""Delivery of events to one endpoint of webhooks, by the one process that has claimed it.

Each step reads the failed deliveries that are due and the next events of the feed, sends them, and
records the results in one transaction. After a crash between requests and transaction, another
process repeats the requests with the same ids.
"""

import contextlib
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from stillroom.errors import BackendUnavailable
from stillroom.features.database.clock import now
from stillroom.features.events.batch import Batch, Outcome
from stillroom.features.events.delivery import Sender
from stillroom.features.events.webhook_file import Endpoint
from stillroom.features.events.webhook_values import (
    ENABLED,
    LEASE,
    PAUSING_FAILURES,
    Delivery,
    EndpointState,
    Settlement,
)
from stillroom.store.json_posts import MAX_AT_ONCE, TIMEOUT_S

if TYPE_CHECKING:  # a normal import would load the database driver at every start
    from stillroom.features.events.rows import EventRows
    from stillroom.features.events.webhook_rows import WebhookRows

_LAST_BEGIN_S: Final = LEASE.total_seconds() - 2 * TIMEOUT_S  # attempts end before the lease
_RENEW_S: Final = 10.0  # age of a claim that is renewed although nothing was delivered
_BATCH: Final = 100
_POLL_S: Final = 0.5

log = logging.getLogger("stillroom.events")


@dataclass(slots=True)
class EndpointDelivery:
    """Delivery to one endpoint. `run` can be called once.

    Attributes:
        sender: HTTP client for the endpoint. It is closed at the end.
        claim: Id with which this process claims the endpoint.
        digest: SHA-256 of `webhooks.toml`, in which the endpoint is configured.
        count: Called with the name of the endpoint and the result of each attempt.
    """

    endpoint: Endpoint
    rows: "WebhookRows"
    feed: "EventRows"
    sender: Sender
    claim: uuid.UUID
    digest: str
    now: Callable[[], datetime] = now
    count: Callable[[str, str], None] = lambda _name, _result: None
    _is_stopping: Callable[[], bool] = lambda: False
    _position: int = 0
    _stored_position: int = 0
    _renewed: float = 0.0

    async def run(
        self, stops_within: Callable[[float], Awaitable[bool]], is_stopping: Callable[[], bool]
    ) -> None:
        """Claim the endpoint, and deliver to it until `is_stopping` returns True.

        Return early when another process has claimed the endpoint. `stops_within` waits
        for a number of seconds, and returns whether to stop. Raises `BackendUnavailable` if the
        database does not respond; the claim then expires.
        """
        self._is_stopping, self._renewed = is_stopping, time.monotonic()
        if not await self.rows.claim(self.endpoint, self.claim):
            return
        try:
            while not is_stopping():
                state = await self.rows.state(self.claim)
                if state is None:
                    log.warning("another process delivers to the webhook %r", self.endpoint.name)
                    return
                if not await self._step(state) and await stops_within(_POLL_S):
                    break
        finally:
            await self.sender.close()
            with contextlib.suppress(BackendUnavailable):  # the claim expires
                await self.rows.release(self.claim)

    async def _step(self, state: EndpointState) -> bool:
        """Deliver one batch. Return whether more deliveries may be due."""
        if state.position != self._stored_position:  # moved by an operator or by the retention
            self._position = self._stored_position = state.position
        if state.gone_digest not in (None, self.digest):
            return await self._settle(Settlement(self._position, state=ENABLED))
        if state.gone_digest is not None or state.must_wait(self.now()):
            return await self._renew()
        batch = await self._next_batch(state)
        if state.is_paused:
            if not batch.queues:
                return await self._settle(Settlement(self._position, state=ENABLED))
            batch = batch.probe(self._position)
        elif not batch.deliveries:
            self._position = batch.position
            return await self._renew()
        try:
            await batch.run(self._send, may_begin=self._may_begin)
        finally:
            # After a cancellation, the results so far are recorded.
            settlement = batch.settlement(self.now(), digest=self.digest)
            is_recorded = await self._settle(settlement)
        self._log(settlement, was_paused=state.is_paused)
        return is_recorded and not (state.is_paused and settlement.state["failures"])

    async def _next_batch(self, state: EndpointState) -> Batch:
        """Read failed deliveries that are due, and new events.

        If the endpoint is paused, the first failed delivery of each path is due. Otherwise,
        no new events are read if failed deliveries with many different paths fill the batch.
        """
        name, blocked = self.endpoint.name, set[str]()
        due = await self.rows.due(name, None if state.is_paused else self.now(), limit=_BATCH)
        is_full = len(due) == _BATCH and len({delivery.path for delivery in due}) >= MAX_AT_ONCE
        if is_full and not state.is_paused:
            return Batch(state, due, blocked, self._position)
        page = await self.feed.read(
            self._position, _BATCH, types=self.endpoint.types, prefix=self.endpoint.prefix
        )
        if new := [Delivery.of(event) for event in page.events]:
            blocked = await self.rows.blocked(name, {delivery.path for delivery in new})
        return Batch(state, [*due, *new], blocked, page.through)

    async def _send(self, delivery: Delivery) -> Outcome:
        event, name = delivery.event, self.endpoint.name
        attempt = await self.sender.send(event)
        self.count(name, attempt.result)
        if not attempt.is_delivered:
            message = "the webhook %r did not accept the event %s (%s, attempt %d): %s"
            number = delivery.attempts + 1
            log.info(message, name, event["id"], event["type"], number, attempt.detail)
        return attempt, self.now()

    def _may_begin(self) -> bool:
        return not self._is_stopping() and time.monotonic() - self._renewed < _LAST_BEGIN_S

    async def _settle(self, settlement: Settlement) -> bool:
        """Record results and renew the claim. Return False if the claim or position has changed."""
        began, name = time.monotonic(), self.endpoint.name
        is_done = await self.rows.settle(name, self.claim, settlement, after=self._stored_position)
        if is_done:
            self._position = self._stored_position = settlement.position
            self._renewed = began
        return is_done

    async def _renew(self) -> bool:
        """Renew the claim and store the position at intervals. Return False: no delivery is due."""
        if time.monotonic() - self._renewed > _RENEW_S:
            await self._settle(Settlement(self._position))
        return False

    def _log(self, settlement: Settlement, *, was_paused: bool) -> None:
        state: dict[str, Any] = settlement.state
        name, is_paused = self.endpoint.name, state["failures"] >= PAUSING_FAILURES
        if "gone_digest" in state:
            message = "the webhook %r responded 410 and gets no events until webhooks.toml changes"
            log.warning(message, name)
        elif was_paused and not is_paused:
            log.warning("the webhook %r accepts events again", name)
        elif is_paused and not was_paused:
            log.warning("the webhook %r is paused and probed: %s", name, state["last_error"])
        for dead in settlement.dead:
            message = "the webhook %r did not accept the event %s, which is now a dead letter: %s"
            log.error(message, name, dead.event["id"], dead.last_error)
