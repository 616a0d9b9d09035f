"""Delivery of events to one endpoint, by the one process that has claimed it.

Each step reads the failed deliveries that are due and the next events of the feed, sends them, and
records the results in one transaction. After a crash between the requests and the transaction,
another process repeats them with the same ids.
"""

import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from stillroom.errors import BackendUnavailable
from stillroom.features.database.clock import now
from stillroom.features.events.batch import Batch
from stillroom.features.events.delivery import TIMEOUT_S, Attempt, Sender
from stillroom.features.events.webhook_file import Endpoint
from stillroom.features.events.webhook_values import (
    ENABLED,
    Delivery,
    EndpointState,
    Settlement,
    probe_pause,
)

if TYPE_CHECKING:  # a normal import would load the database driver at every start
    import uuid

    from stillroom.features.events.rows import EventRows
    from stillroom.features.events.webhook_rows import WebhookRows

LEASE: Final = timedelta(seconds=45)
"""Duration of a claim. After a crash, another process waits for its end."""

_LAST_BEGIN_S: Final = LEASE.total_seconds() - TIMEOUT_S - 5
"""Seconds of a lease in which attempts may begin, so that they end before the lease does."""

_BATCH: Final = 100
_POLL_S: Final = 1.0
_BUSY_POLL_S: Final = 0.25
_BUSY_FOR_S: Final = 2.0
"""Pauses in seconds if nothing is due. They are shorter after a delivery, while more may follow."""

_STORE_S: Final = 5.0
"""Seconds after which a position is stored although only events of other types were read."""

_MAX_WAITING: Final = 10_000
"""Number of failed and waiting deliveries from which on no further events are read."""

_EXPIRE_S: Final = 60.0

log = logging.getLogger("stillroom.events")


class EndpointDelivery:
    """Delivery to one endpoint. `run` can be called once."""

    def __init__(
        self,
        endpoint: Endpoint,
        rows: "WebhookRows",
        feed: "EventRows",
        sender: Sender,
        *,
        claim: "uuid.UUID",
        digest: str,
        retention: timedelta,
        now: Callable[[], datetime] = now,
        count: Callable[[str, str], None] = lambda _name, _result: None,
    ) -> None:
        """Prepare the delivery.

        Args:
            endpoint: Endpoint that gets the events.
            rows: Rows of the endpoints.
            feed: Rows of the events.
            sender: HTTP client for the endpoint. It is closed at the end.
            claim: Id for the claims of this process.
            digest: Digest of the file in which the endpoint is configured.
            retention: Age at which events are lost that were not delivered.
            now: Function that returns the current time.
            count: Called with the name of the endpoint and the result of each attempt.
        """
        self.endpoint = endpoint
        self._rows, self._feed, self._sender = rows, feed, sender
        self._digest, self._retention = digest, retention
        self._now, self._count = now, count
        self._is_stopping: Callable[[], bool] = lambda: False
        self._claim = claim
        self._position = self._stored_position = 0
        self._renewed = 0.0
        self._delivered = -_BUSY_FOR_S
        self._expired: float | None = None

    async def run(
        self, stops_within: Callable[[float], Awaitable[bool]], is_stopping: Callable[[], bool]
    ) -> None:
        """Claim the endpoint, and deliver to it until `is_stopping` returns True.

        Return at once if another process has claimed it, or if the claim is lost. `stops_within`
        waits for a number of seconds, and returns whether to stop.

        Raises:
            BackendUnavailable: the database does not respond. The claim then expires, unless this
                process renews it.
        """
        self._is_stopping, began = is_stopping, time.monotonic()
        state = await self._rows.claim(self.endpoint, self._claim, lease=LEASE)
        if state is None:
            return
        self._renewed, self._position, self._stored_position = began, state.position, state.position
        try:
            while not is_stopping():
                state = await self._rows.state(self.endpoint.name, self._claim)
                if state is None:
                    log.warning("another process delivers to the webhook %r", self.endpoint.name)
                    return
                if not await self._step(state) and await stops_within(self._pause_s):
                    break
        finally:
            await self._sender.close()
            with contextlib.suppress(BackendUnavailable):  # the claim expires
                await self._rows.release(self.endpoint.name, self._claim)

    @property
    def _pause_s(self) -> float:
        is_busy = time.monotonic() - self._delivered < _BUSY_FOR_S
        return _BUSY_POLL_S if is_busy else _POLL_S

    async def _step(self, state: EndpointState) -> bool:
        """Deliver what is due. Return whether more may be due."""
        if state.replay_after is not None:
            await self._rows.apply_replay(self.endpoint.name, self._claim, after=state.replay_after)
            self._position = self._stored_position = state.replay_after
            log.info("the webhook %r gets earlier events again", self.endpoint.name)
            return True
        self._position = max(self._position, state.position)
        await self._expire()
        if state.gone_digest is not None and state.gone_digest != self._digest:
            return await self._settle(Settlement(self._position, state=ENABLED))
        if state.gone_digest is not None or (state.wait_until or self._now()) > self._now():
            return await self._keep_claim()
        if state.paused_at is not None:
            return await self._probe(state)
        batch = await self._batch(state)
        if not batch.deliveries:
            self._position = batch.through
            return await self._keep_claim()
        try:
            await batch.run(self._send, now=self._now, may_begin=self._may_begin)
        finally:
            # After a cancellation, the results so far are recorded.
            settlement = batch.settlement(self._now(), digest=self._digest)
            is_ours = await self._settle(settlement)
        self._log(settlement)
        self._delivered = time.monotonic()
        return is_ours

    async def _batch(self, state: EndpointState) -> Batch:
        name, endpoint = self.endpoint.name, self.endpoint
        due: Sequence[Delivery] = ()
        waiting = await self._rows.waiting(name)
        if waiting:
            due = await self._rows.due(name, self._now(), limit=_BATCH)
        if waiting >= _MAX_WAITING or len(due) == _BATCH:
            return Batch(state, due, (), self._position, self._position)
        page = await self._feed.read(
            self._position, _BATCH - len(due), types=endpoint.types, prefix=endpoint.prefix
        )
        new = [Delivery.of(event) for event in page.events]
        blocked: set[str] = set()
        if waiting:
            blocked = await self._rows.blocked(name, {delivery.path for delivery in new})
        return Batch(state, [*due, *new], blocked, self._position, page.through)

    async def _probe(self, state: EndpointState) -> bool:
        """Try the failed delivery that was not tried for the longest time, and a later event.

        These attempts do not count. With the later event, which is another one each time, events
        that always fail cannot keep the endpoint paused.
        """
        name, endpoint = self.endpoint.name, self.endpoint
        oldest = await self._rows.longest_untried(name)
        page = await self._feed.read(
            self._position, _BATCH, types=endpoint.types, prefix=endpoint.prefix
        )
        first: dict[str, Delivery] = {}
        for event in page.events:
            delivery = Delivery.of(event)
            first.setdefault(delivery.path, delivery)
        blocked = await self._rows.blocked(name, first.keys())
        later = [delivery for path, delivery in first.items() if path not in blocked]
        probes = [] if oldest is None else [oldest]
        if later:
            probes.append(later[state.probes % len(later)])
        batch = Batch(replace(state, failures=0), probes, (), self._position, page.through)
        if probes:
            await batch.run(self._send, now=self._now, may_begin=self._may_begin)
        attempts = {position: attempt for position, (attempt, _) in batch.results.items()}
        is_back = not probes or any(attempt.is_delivered for attempt in attempts.values())
        settlement = self._settlement_of_probe(state, probes, attempts, is_back=is_back)
        is_ours = await self._settle(settlement)
        if is_back and is_ours:
            await self._rows.retry_outage(name, self._claim, since=state.succeeded_at)
            log.warning("the webhook %r accepts events again", name)
        return is_ours and is_back

    def _settlement_of_probe(
        self,
        state: EndpointState,
        probes: Sequence[Delivery],
        attempts: dict[int, Attempt],
        *,
        is_back: bool,
    ) -> Settlement:
        moment, settlement = self._now(), Settlement(self._position)
        pause = probe_pause(state.probes + 1)
        for delivery in probes:
            attempt = attempts.get(delivery.position)
            if attempt is None:  # the batch was stopped
                continue
            if delivery.is_new:  # it is delivered again, in its turn and with the same id
                pass
            elif attempt.is_delivered:
                settlement.delivered.append(delivery.position)
            else:
                detail = attempt.detail
                settlement.kept.append(replace(delivery, attempted_at=moment, last_error=detail))
            pause = max(pause, attempt.retry_after or pause)
            if attempt.result == "gone":
                settlement.state["gone_digest"] = self._digest
        if is_back:
            settlement.state |= {**ENABLED, "succeeded_at": moment}
        else:
            settlement.state |= {"probes": state.probes + 1, "wait_until": moment + pause}
        return settlement

    async def _send(self, delivery: Delivery) -> Attempt:
        attempt = await self._sender.send(delivery.event)
        self._count(self.endpoint.name, attempt.result)
        if not attempt.is_delivered:
            log.info(
                "the webhook %r did not accept the event %s (%s, attempt %d): %s",
                self.endpoint.name,
                delivery.event["id"],
                delivery.event["type"],
                delivery.attempts + 1,
                attempt.detail,
            )
        return attempt

    def _may_begin(self) -> bool:
        return not self._is_stopping() and time.monotonic() - self._renewed < _LAST_BEGIN_S

    async def _settle(self, settlement: Settlement) -> bool:
        began = time.monotonic()
        name = self.endpoint.name
        is_ours = await self._rows.settle(name, self._claim, settlement, lease=LEASE)
        if is_ours:
            self._position = self._stored_position = settlement.position
            self._renewed = began
        return is_ours

    async def _keep_claim(self) -> bool:
        """Renew the claim and store the position, if it is time. Return False: nothing is due."""
        age_s = time.monotonic() - self._renewed
        has_moved = self._position != self._stored_position and age_s > _STORE_S
        if has_moved or age_s > LEASE.total_seconds() / 3:
            await self._settle(Settlement(self._position))
        return False

    async def _expire(self) -> None:
        """Delete failed deliveries that are too old, once per minute."""
        if self._expired is not None and time.monotonic() - self._expired < _EXPIRE_S:
            return
        name, before = self.endpoint.name, self._now() - self._retention
        lost = await self._rows.expire(name, self._claim, before=before)
        if lost:
            message = "%d events are lost: the webhook %r did not accept them within %s"
            log.error(message, lost, name, self._retention)
        self._expired = time.monotonic()

    def _log(self, settlement: Settlement) -> None:
        name, state = self.endpoint.name, settlement.state
        if "paused_at" in state:
            log.warning("the webhook %r is paused and probed: %s", name, state["last_error"])
        if "gone_digest" in state:
            log.warning(
                "the webhook %r responded 410 and gets no more events, until webhooks.toml changes",
                name,
            )
        for dead in settlement.dead:
            message = "the webhook %r did not accept the event %s, which is now a dead letter: %s"
            log.error(message, name, dead.event["id"], dead.last_error)
