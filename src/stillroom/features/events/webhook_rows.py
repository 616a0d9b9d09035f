"""Database rows of webhooks: the position of each endpoint in the feed, and failed deliveries.

Only the process that has claimed an endpoint delivers to it, and records the results. Meanwhile, a
replay by an operator, or the deletion of old events, may move the position of the endpoint. The
process then discards its results, and continues at the new position.
"""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Final

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
_DELIVERY: Final = tuple(column for column in failures.c if column.name != "endpoint")
IN_DEAD_LETTER: Final = ("position", "path", "event")  # columns that a retry needs
_EARLIER: Final = failures.alias("earlier")
_IS_FIRST: Final = ~sa.exists().where(
    _EARLIER.c.endpoint == failures.c.endpoint,
    _EARLIER.c.path == failures.c.path,
    _EARLIER.c.position < failures.c.position,
)
"""SQL condition for the first failed delivery of a path. Later deliveries of the path normally wait
for this delivery, but may be due if this delivery is a dead letter that an operator has retried."""


class WebhookRows(Rows):
    """Database rows of all endpoints, and of their failed deliveries."""

    async def add(self, endpoint: Endpoint) -> None:
        """Insert the row of an endpoint, unless it exists. The endpoint gets all later events."""
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
        await self._execute(leases.release(endpoints, claim, seen_at=now()))

    async def due(self, name: str, at: datetime | None, *, limit: int) -> list[Delivery]:
        """Return deliveries due at a time, and later ones of the same paths, sorted by position.

        If `at` is None, return the first failed delivery of each path.
        """
        due_at, is_of_endpoint = failures.c.due_at, failures.c.endpoint == name
        condition = sa.and_(is_of_endpoint, due_at.is_not(None), _IS_FIRST)
        if at is not None:
            is_due = sa.or_(due_at <= at, due_at > at + LONGEST_PAUSE)
            paths = sa.select(failures.c.path).where(condition, is_due)
            condition = sa.and_(is_of_endpoint, failures.c.path.in_(paths))
        rows = sa.select(*_DELIVERY).where(condition).order_by(failures.c.position).limit(limit)
        return [Delivery(**row._asdict()) for row in await self._read(rows)]

    async def blocked(self, name: str, paths: Collection[str]) -> set[str]:
        """Return which of these paths have failed deliveries."""
        if not paths:
            return set()
        async with self._engine.reading() as connection:
            table = table_of(connection, ["path"], ([path] for path in paths))
            is_listed = failures.c.path.in_(sa.select(table.c.path))
            failed = sa.select(failures.c.path).where(failures.c.endpoint == name, is_listed)
            return set((await connection.execute(failed.distinct())).scalars())

    async def settle(self, name: str, claim: uuid.UUID, results: Settlement, *, after: int) -> bool:
        """Record the results of a batch that began at the position `after`, and renew the claim.

        Return False, without any change, if the claim is lost, or if the position was moved.
        """
        async with self._engine.writing() as connection:
            values = {**results.state, "position": results.position, "seen_at": now()}
            renewed = await connection.execute(
                sa.update(endpoints)
                .where(leases.is_ours(endpoints, claim), endpoints.c.position == after)
                .values(**values, **leases.claimed(claim, LEASE))
            )
            if not renewed.rowcount:
                return False
            if results.delivered or results.kept or results.dead:
                await _settle(connection, name, results)
        return True

    async def replay(self, name: str, *, after: int) -> bool:
        """Deliver all events after a position again. Return False if the endpoint has no row.

        Failed deliveries after this position are deleted, because the feed contains their events.
        """
        async with self._engine.writing() as connection:
            update = sa.update(endpoints).where(endpoints.c.name == name)
            moved = await connection.execute(update.values(**ENABLED, position=after))
            repeated = failures.c.endpoint == name, failures.c.position > after
            await connection.execute(sa.delete(failures).where(*repeated))
            await free_paths(connection, name)
        return moved.rowcount > 0

    async def metrics(self) -> Sequence[EndpointMetrics]:
        """Return the progress of all endpoints that have a row, sorted by name."""
        is_failure, position = failures.c.endpoint == endpoints.c.name, events.c.position
        number = sa.select(sa.func.count()).select_from(failures).where(is_failure)
        oldest = sa.select(sa.func.min(failures.c.occurred_at)).where(is_failure)
        unread = sa.select(events.c.occurred_at).where(position > endpoints.c.position)
        numbers = number, oldest, unread.order_by(position).limit(1)
        columns = *_STATE, *(query.correlate(endpoints).scalar_subquery() for query in numbers)
        rows = await self._read(sa.select(*columns).order_by(endpoints.c.name))
        metrics = []
        for *state, waiting, failed_at, unread_at in map(tuple, rows):
            first = min(filter(None, (failed_at, unread_at)), default=None)
            metrics.append(EndpointMetrics(EndpointState(*state), waiting, first))
        return metrics


def add_endpoints(connection: sa.Connection, new: Collection[Endpoint]) -> None:
    """Insert rows of endpoints that have none. These endpoints receive all later events."""
    if not new:
        return
    position = connection.execute(sa.select(event_feed.c.last_position)).scalar_one()
    common = {"position": position, "failures": 0, "lost": 0, "seen_at": now()}
    rows = [
        {"name": endpoint.name, "filter": _filter_of(endpoint), **common}
        # In this order, so that concurrent transactions do not wait for each other.
        for endpoint in sorted(new, key=lambda endpoint: endpoint.name)
    ]
    insert = insert_into(connection, endpoints).on_conflict_do_nothing(index_elements=["name"])
    connection.execute(insert, rows)


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
                index_elements=[*failures.primary_key],
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
                "payload": {"endpoint": name, **{c: getattr(dead, c) for c in IN_DEAD_LETTER}},
                "created_at": dead.occurred_at,
                "failed_at": now(),
                "attempts": dead.attempts,
                "last_error": dead.last_error,
            }
            for dead in settlement.dead
        ]
        await connection.execute(sa.insert(dead_letters), letters)
    await free_paths(connection, name)


async def free_paths(connection: AsyncConnection, name: str) -> None:
    """Make waiting deliveries to an endpoint due if they are now the first of their path."""
    # One index scan. With `_IS_FIRST`, the database would run a query for each waiting row.
    first = sa.select(sa.func.min(_EARLIER.c.position)).where(_EARLIER.c.endpoint == name)
    is_first = failures.c.position.in_(first.group_by(_EARLIER.c.path))
    waiting = failures.c.endpoint == name, failures.c.due_at.is_(None)
    await connection.execute(sa.update(failures).where(*waiting, is_first).values(due_at=now()))


def _filter_of(endpoint: Endpoint) -> dict[str, object]:
    return {"types": list(endpoint.types), "prefix": endpoint.prefix}
