"""Rows of webhooks: the position of each endpoint, and the deliveries that have failed.

Only the process that has claimed an endpoint delivers to it, and records the results. Meanwhile, an
operator who replays events, or the retention of events, may move the position of the endpoint. The
process then discards its results, and continues at the new position.
"""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.features.database import leases
from stillroom.features.database.clock import new_id, now
from stillroom.features.database.engine import Rows
from stillroom.features.database.statements import insert_into, table_of
from stillroom.features.events.tables import event_feed, events
from stillroom.features.events.webhook_file import Endpoint
from stillroom.features.events.webhook_tables import endpoints, failures
from stillroom.features.events.webhook_values import (
    ENABLED,
    LEASE,
    LONGEST_PAUSE,
    WEBHOOK,
    Delivery,
    EndpointMetrics,
    EndpointState,
    Settlement,
)
from stillroom.features.library.rows.tables import dead_letters

_STATE: Final = tuple(endpoints.c[field.name] for field in fields(EndpointState))
_DELIVERY: Final = tuple(
    failures.c[field.name] for field in fields(Delivery) if field.name != "is_new"
)
_EARLIER: Final = failures.alias("earlier")
_IS_FIRST: Final = ~sa.exists().where(
    _EARLIER.c.endpoint == failures.c.endpoint,
    _EARLIER.c.path == failures.c.path,
    _EARLIER.c.position < failures.c.position,
)
"""Condition for the first delivery for a path. A later one may have a `due_at`, too, if the first
one was a dead letter."""


class WebhookRows(Rows):
    """Database rows of all endpoints."""

    async def add(self, endpoint: Endpoint) -> None:
        """Insert an endpoint, unless it has a row. It receives all later events."""
        async with self._engine.writing() as connection:
            await connection.run_sync(add_endpoints, [endpoint])

    async def claim(self, endpoint: Endpoint, claim: uuid.UUID) -> bool:
        """Claim an endpoint, or renew the claim. Return False if another process has claimed it."""
        is_available = sa.or_(leases.is_free(endpoints), leases.is_ours(endpoints, claim))
        rows = await self._execute(
            sa.update(endpoints)
            .where(endpoints.c.name == endpoint.name, is_available)
            .values(**leases.claimed(claim, LEASE), filter=_filter_of(endpoint), seen_at=now())
            .returning(endpoints.c.name)
        )
        return bool(rows)

    async def state(self, claim: uuid.UUID) -> EndpointState | None:
        """Return the state of the claimed endpoint. Return None if the claim is lost."""
        rows = await self._read(sa.select(*_STATE).where(leases.is_ours(endpoints, claim)))
        return EndpointState(**rows[0]._asdict()) if rows else None

    async def release(self, claim: uuid.UUID) -> None:
        """Release the claim, so that any process can deliver to the endpoint at once."""
        async with self._engine.writing() as connection:
            await leases.release(connection, endpoints, claim, seen_at=now())

    async def due(self, name: str, at: datetime | None, *, limit: int) -> list[Delivery]:
        """Return failed deliveries that are due, and those that wait for them, in order.

        Without `at`, return the first failed delivery for each path.
        """
        due_at, is_of_endpoint = failures.c.due_at, failures.c.endpoint == name
        wanted = sa.and_(is_of_endpoint, due_at.is_not(None), _IS_FIRST)
        if at is not None:
            is_due = sa.or_(due_at <= at, due_at > at + LONGEST_PAUSE)
            paths = sa.select(failures.c.path).where(wanted, is_due)
            wanted = sa.and_(is_of_endpoint, failures.c.path.in_(paths))
        statement = sa.select(*_DELIVERY).where(wanted).order_by(failures.c.position).limit(limit)
        return [Delivery(**row._asdict()) for row in await self._read(statement)]

    async def blocked(self, name: str, paths: Collection[str]) -> set[str]:
        """Return the members of `paths` that have failed deliveries."""
        if not paths:
            return set()
        async with self._engine.reading() as connection:
            wanted = table_of(connection, ["path"], ([path] for path in paths))
            found = await connection.execute(
                sa.select(failures.c.path)
                .distinct()
                .where(failures.c.endpoint == name, failures.c.path.in_(sa.select(wanted.c.path)))
            )
            return set(found.scalars())

    async def settle(
        self, name: str, claim: uuid.UUID, settlement: Settlement, *, after: int
    ) -> bool:
        """Record the results of a batch that began at a position, and renew the claim.

        Return False, without any change, if another process has claimed the endpoint, or if its
        position has been moved.
        """
        async with self._engine.writing() as connection:
            values = {**settlement.state, "position": settlement.position, "seen_at": now()}
            renewed = await connection.execute(
                sa.update(endpoints)
                .where(leases.is_ours(endpoints, claim), endpoints.c.position == after)
                .values(**values, **leases.claimed(claim, LEASE))
            )
            if not renewed.rowcount:
                return False
            if settlement.delivered or settlement.kept or settlement.dead:
                await _settle(connection, name, settlement)
        return True

    async def replay(self, name: str, *, after: int) -> bool:
        """Repeat all events after a position for an endpoint. Return False for unknown endpoints.

        Failed deliveries after this position are deleted, because the feed contains their events.
        """
        async with self._engine.writing() as connection:
            this = sa.update(endpoints).where(endpoints.c.name == name)
            moved = await connection.execute(this.values(**ENABLED, position=after))
            repeated = failures.c.endpoint == name, failures.c.position > after
            await connection.execute(sa.delete(failures).where(*repeated))
            await free_paths(connection, name)
        return moved.rowcount > 0

    async def metrics(self) -> Sequence[EndpointMetrics]:
        """Return the progress of all endpoints that have a row, by name."""
        waiting = (
            sa.select(
                failures.c.endpoint,
                sa.func.count().label("number"),
                sa.func.min(failures.c.occurred_at).label("oldest"),
            )
            .group_by(failures.c.endpoint)
            .subquery()
        )
        unread = (
            sa.select(events.c.occurred_at)
            .where(events.c.position > endpoints.c.position)
            .order_by(events.c.position)
            .limit(1)
            .scalar_subquery()
        )
        statement = (
            sa.select(*_STATE, waiting.c.number, waiting.c.oldest, unread.label("unread"))
            .outerjoin_from(endpoints, waiting, waiting.c.endpoint == endpoints.c.name)
            .order_by(endpoints.c.name)
        )
        return [_metrics_of(row._asdict()) for row in await self._read(statement)]


def add_endpoints(connection: sa.Connection, new: Collection[Endpoint]) -> None:
    """Insert the endpoints that have no row yet. They receive all later events."""
    if not new:
        return
    position = connection.execute(sa.select(event_feed.c.last_position)).scalar_one()
    rows = [
        {
            "name": endpoint.name,
            "position": position,
            "filter": _filter_of(endpoint),
            "failures": 0,
            "lost": 0,
            "seen_at": now(),
        }
        # In this order, so that concurrent transactions do not wait for each other.
        for endpoint in sorted(new, key=lambda endpoint: endpoint.name)
    ]
    insert = insert_into(connection, endpoints).on_conflict_do_nothing(index_elements=["name"])
    connection.execute(insert, rows)


def _metrics_of(values: dict[str, Any]) -> EndpointMetrics:
    number, oldest, unread = (values.pop(name) for name in ("number", "oldest", "unread"))
    times = [moment for moment in (oldest, unread) if moment is not None]
    return EndpointMetrics(EndpointState(**values), number or 0, min(times, default=None))


async def _settle(connection: AsyncConnection, name: str, settlement: Settlement) -> None:
    removed = [*settlement.delivered, *(dead.position for dead in settlement.dead)]
    if removed:
        await connection.execute(
            sa.delete(failures).where(failures.c.endpoint == name, failures.c.position.in_(removed))
        )
    if settlement.kept:
        insert = insert_into(connection, failures)
        changing = ("attempts", "failed_at", "attempted_at", "due_at", "last_error")
        await connection.execute(
            insert.on_conflict_do_update(
                index_elements=[failures.c.endpoint, failures.c.position],
                set_={column: insert.excluded[column] for column in changing},
            ),
            [
                {"endpoint": name, **{c.name: getattr(delivery, c.name) for c in _DELIVERY}}
                for delivery in settlement.kept
            ],
        )
    if settlement.dead:
        letters = [
            {
                "id": new_id(),
                "kind": WEBHOOK,
                "payload": {
                    "endpoint": name,
                    "position": delivery.position,
                    "path": delivery.path,
                    "event": dict(delivery.event),
                },
                "created_at": delivery.occurred_at,
                "failed_at": now(),
                "attempts": delivery.attempts,
                "last_error": delivery.last_error,
            }
            for delivery in settlement.dead
        ]
        await connection.execute(sa.insert(dead_letters), letters)
    await free_paths(connection, name)


async def free_paths(connection: AsyncConnection, name: str) -> None:
    """Make the first waiting delivery of each path due, if no earlier delivery is left."""
    # One scan of an index. `_IS_FIRST` would be a query for each of many thousand waiting rows.
    first = sa.select(sa.func.min(_EARLIER.c.position)).where(_EARLIER.c.endpoint == name)
    is_first = failures.c.position.in_(first.group_by(_EARLIER.c.path))
    waiting = failures.c.endpoint == name, failures.c.due_at.is_(None)
    await connection.execute(sa.update(failures).where(*waiting, is_first).values(due_at=now()))


def _filter_of(endpoint: Endpoint) -> dict[str, object]:
    return {"types": list(endpoint.types), "prefix": endpoint.prefix}
