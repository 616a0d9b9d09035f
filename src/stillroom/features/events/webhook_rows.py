"""Rows of webhooks: the position of each endpoint, and the deliveries that have failed.

Only the process that has claimed an endpoint delivers to it, and only it changes the rows of the
endpoint. An operator who replays events, or retries a dead letter, adds to them. The process
notices that before the next batch.
"""

import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.features.database import leases
from stillroom.features.database.clock import new_id, now
from stillroom.features.database.engine import Rows
from stillroom.features.database.statements import insert_into, table_of
from stillroom.features.events.webhook_file import Endpoint
from stillroom.features.events.webhook_tables import endpoints, failures
from stillroom.features.events.webhook_values import (
    ENABLED,
    WEBHOOK,
    Delivery,
    EndpointState,
    Settlement,
)
from stillroom.features.library.rows.tables import dead_letters

_STATE: Final = tuple(endpoints.c[field.name] for field in fields(EndpointState))
_DELIVERY: Final = tuple(
    failures.c[field.name] for field in fields(Delivery) if field.name != "is_new"
)

_NEW: Final[dict[str, object]] = {"failures": 0, "probes": 0, "lost": 0}


class WebhookRows(Rows):
    """Database rows of all endpoints."""

    async def add(self, new: Iterable[Endpoint], *, position: int) -> None:
        """Insert endpoints that have no row. They receive the events after `position`."""
        rows = [
            {
                **_NEW,
                "name": endpoint.name,
                "position": position,
                "filter": _filter_of(endpoint),
                "seen_at": now(),
            }
            for endpoint in new
        ]
        if not rows:
            return
        async with self._engine.writing() as connection:
            insert = insert_into(connection, endpoints).values(rows)
            await connection.execute(insert.on_conflict_do_nothing(index_elements=["name"]))

    async def free(self, names: Collection[str], claim: uuid.UUID) -> set[str]:
        """Return the names of the endpoints that no other process has claimed."""
        statement = sa.select(endpoints.c.name).where(
            endpoints.c.name.in_(names), _is_available(claim)
        )
        return {row.name for row in await self._read(statement)}

    async def claim(
        self, endpoint: Endpoint, claim: uuid.UUID, *, lease: timedelta
    ) -> EndpointState | None:
        """Claim an endpoint. Return None if another process has claimed it.

        A claim of this process, which it could not release, is renewed.
        """
        rows = await self._execute(
            sa.update(endpoints)
            .where(endpoints.c.name == endpoint.name, _is_available(claim))
            .values(**leases.claimed(claim, lease), filter=_filter_of(endpoint), seen_at=now())
            .returning(*_STATE)
        )
        return EndpointState(**rows[0]._asdict()) if rows else None

    async def state(self, name: str, claim: uuid.UUID) -> EndpointState | None:
        """Return the state of a claimed endpoint. Return None if the claim is lost."""
        rows = await self._read(sa.select(*_STATE).where(_is_claimed(name, claim)))
        return EndpointState(**rows[0]._asdict()) if rows else None

    async def release(self, name: str, claim: uuid.UUID) -> None:
        """Release the claim, so that any process can deliver to the endpoint at once."""
        release = sa.update(endpoints).where(_is_claimed(name, claim))
        await self._execute(release.values(**leases.RELEASED, seen_at=now()))

    async def due(self, name: str, at: datetime, *, limit: int) -> Sequence[Delivery]:
        """Return failed deliveries that are due, and those that wait for them, in order."""
        paths = sa.select(failures.c.path).where(
            failures.c.endpoint == name, failures.c.due_at <= at
        )
        statement = sa.select(*_DELIVERY).where(
            failures.c.endpoint == name, failures.c.path.in_(paths)
        )
        statement = statement.order_by(failures.c.position).limit(limit)
        return [Delivery(**row._asdict()) for row in await self._read(statement)]

    async def longest_untried(self, name: str) -> Delivery | None:
        """Return the failed delivery whose last attempt was the longest time ago."""
        statement = (
            sa.select(*_DELIVERY)
            .where(failures.c.endpoint == name, failures.c.due_at.is_not(None))
            .order_by(failures.c.attempted_at.asc().nulls_first(), failures.c.position)
            .limit(1)
        )
        rows = await self._read(statement)
        return Delivery(**rows[0]._asdict()) if rows else None

    async def waiting(self, name: str) -> int:
        """Return the number of failed deliveries, and of those that wait for them."""
        count = sa.select(sa.func.count()).select_from(failures)
        (row,) = await self._read(count.where(failures.c.endpoint == name))
        return int(row[0])

    async def blocked(self, name: str, paths: Collection[str]) -> set[str]:
        """Return those of the paths for which there are failed deliveries."""
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
        self, name: str, claim: uuid.UUID, settlement: Settlement, *, lease: timedelta
    ) -> bool:
        """Record the results of a batch, and renew the claim.

        Return False, without any change, if another process has claimed the endpoint.
        """
        async with self._engine.writing() as connection:
            values = {**settlement.state, "position": settlement.position, "seen_at": now()}
            renewal = sa.update(endpoints).where(_is_claimed(name, claim))
            renewed = await connection.execute(
                renewal.values(**values, **leases.claimed(claim, lease))
            )
            if not renewed.rowcount:
                return False
            if settlement.changes_failures:
                await _settle(connection, name, settlement)
        return True

    async def apply_replay(self, name: str, claim: uuid.UUID, *, after: int) -> bool:
        """Let a claimed endpoint continue after an earlier position. False: the claim is lost.

        Failed deliveries after this position are deleted, because the feed contains their events.
        """
        async with self._engine.writing() as connection:
            changed = await connection.execute(
                sa.update(endpoints)
                .where(_is_claimed(name, claim))
                .values(**ENABLED, position=after, replay_after=None)
            )
            if changed.rowcount:
                await connection.execute(
                    sa.delete(failures).where(
                        failures.c.endpoint == name, failures.c.position > after
                    )
                )
                await _free_paths(connection, name)
        return changed.rowcount > 0

    async def retry_outage(self, name: str, claim: uuid.UUID, *, since: datetime | None) -> None:
        """Make deliveries due that were last attempted after `since`: the endpoint was down."""
        async with self._engine.writing() as connection:
            mine = sa.select(endpoints.c.name).where(_is_claimed(name, claim))
            attempts = failures.c.attempted_at >= since if since is not None else sa.true()
            await connection.execute(
                sa.update(failures)
                .where(
                    failures.c.endpoint == name,
                    failures.c.endpoint.in_(mine),
                    failures.c.due_at.is_not(None),
                    attempts,
                )
                .values(due_at=now())
            )

    async def expire(self, name: str, claim: uuid.UUID, *, before: datetime) -> int:
        """Delete failed deliveries of events older than `before`. Return and count how many."""
        async with self._engine.writing() as connection:
            old = failures.c.endpoint == name, failures.c.occurred_at < before
            mine = sa.select(endpoints.c.name).where(_is_claimed(name, claim))
            deleted = await connection.execute(
                sa.delete(failures).where(*old, failures.c.endpoint.in_(mine))
            )
            if deleted.rowcount:
                await _count_lost(connection, name, deleted.rowcount)
                await _free_paths(connection, name)
        return deleted.rowcount


def _is_available(claim: uuid.UUID) -> sa.ColumnElement[bool]:
    return sa.or_(leases.is_free(endpoints), leases.is_ours(endpoints, claim))


def _is_claimed(name: str, claim: uuid.UUID) -> sa.ColumnElement[bool]:
    return sa.and_(endpoints.c.name == name, leases.is_ours(endpoints, claim))


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
            [{"endpoint": name, **_values_of(delivery)} for delivery in settlement.kept],
        )
    if settlement.dead:
        letters = [_letter_of(name, delivery) for delivery in settlement.dead]
        await connection.execute(sa.insert(dead_letters), letters)
    await _free_paths(connection, name)


async def _free_paths(connection: AsyncConnection, name: str) -> None:
    """Make the first delivery for each path due, if it has waited for one that is gone."""
    earlier = failures.alias("earlier")
    is_blocked = sa.exists().where(
        earlier.c.endpoint == name,
        earlier.c.path == failures.c.path,
        earlier.c.position < failures.c.position,
    )
    await connection.execute(
        sa.update(failures)
        .where(failures.c.endpoint == name, failures.c.due_at.is_(None), ~is_blocked)
        .values(due_at=now())
    )


async def _count_lost(connection: AsyncConnection, name: str, number: int) -> None:
    await connection.execute(
        sa.update(endpoints).where(endpoints.c.name == name).values(lost=endpoints.c.lost + number)
    )


def _values_of(delivery: Delivery) -> dict[str, object]:
    return {column.name: getattr(delivery, column.name) for column in _DELIVERY}


def _letter_of(name: str, delivery: Delivery) -> dict[str, object]:
    return {
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


def _filter_of(endpoint: Endpoint) -> dict[str, object]:
    return {"types": list(endpoint.types), "prefix": endpoint.prefix}
