"""Rows of webhooks, as operators, metrics and the retention of events use them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.features.database.clock import now
from stillroom.features.database.engine import Rows
from stillroom.features.database.statements import insert_into
from stillroom.features.events.tables import events
from stillroom.features.events.webhook_tables import endpoints, failures
from stillroom.features.events.webhook_values import EndpointMetrics, EndpointState
from stillroom.features.library.resource import DeadLetter

_REMOVED_AFTER: Final = timedelta(hours=1)
"""Time without a lease after which an endpoint has been removed from the file."""


class WebhookUpkeep(Rows):
    """Database rows of all endpoints, also of those that other processes have claimed."""

    async def replay(self, name: str, *, after: int) -> bool:
        """Request that an endpoint gets all events after a position. Return False if unknown."""
        rows = await self._execute(
            sa.update(endpoints)
            .where(endpoints.c.name == name)
            .values(replay_after=after)
            .returning(endpoints.c.name)
        )
        return bool(rows)

    async def forget(self, known: Collection[str], *, unseen_since: datetime) -> Sequence[str]:
        """Delete endpoints that are not in the file and got no event for a long time."""
        async with self._engine.writing() as connection:
            deleted = await connection.execute(
                sa.delete(endpoints)
                .where(endpoints.c.name.not_in(known), endpoints.c.seen_at < unseen_since)
                .returning(endpoints.c.name)
            )
            names = deleted.scalars().all()
            if names:
                await connection.execute(sa.delete(failures).where(failures.c.endpoint.in_(names)))
        return names

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
        state = [endpoints.c[field.name] for field in fields(EndpointState)]
        statement = (
            sa.select(*state, waiting.c.number, waiting.c.oldest, unread.label("unread"))
            .outerjoin_from(endpoints, waiting, waiting.c.endpoint == endpoints.c.name)
            .order_by(endpoints.c.name)
        )
        return [_metrics_of(row._asdict()) for row in await self._read(statement)]


def _metrics_of(values: dict[str, Any]) -> EndpointMetrics:
    number, oldest, unread = (values.pop(name) for name in ("number", "oldest", "unread"))
    times = [moment for moment in (oldest, unread) if moment is not None]
    return EndpointMetrics(EndpointState(**values), number or 0, min(times, default=None))


async def restore_delivery(connection: AsyncConnection, dead_letter: DeadLetter) -> None:
    """Make the event of a dead letter due again at its endpoint.

    Later events with its path may have been delivered in the meantime.
    """
    payload = dead_letter.payload
    insert = insert_into(connection, failures).values(
        endpoint=payload["endpoint"],
        position=payload["position"],
        path=payload["path"],
        event=payload["event"],
        # The retention begins again, so that an event that has waited long is not lost at once.
        occurred_at=now(),
        attempts=0,
        due_at=now(),
    )
    unique = [failures.c.endpoint, failures.c.position]
    await connection.execute(insert.on_conflict_do_nothing(index_elements=unique))


async def count_lost(connection: AsyncConnection, *, through: int) -> Mapping[str, int]:
    """Count the events up to a position that endpoints have not received, and skip them.

    The transaction that deletes these events calls this function first. Return the number of lost
    events by endpoint. Endpoints that are not in the file any more have lost nothing.
    """
    behind = sa.select(endpoints.c.name, endpoints.c.position, endpoints.c.filter).where(
        endpoints.c.position < through, endpoints.c.seen_at > now() - _REMOVED_AFTER
    )
    lost: dict[str, int] = {}
    for row in await connection.execute(behind):
        matching = [events.c.position > row.position, events.c.position <= through]
        matching.append(events.c.type.in_(row.filter["types"]))
        if prefix := row.filter["prefix"]:
            matching.append(events.c.path.startswith(prefix, autoescape=True))
        count = sa.select(sa.func.count()).select_from(events).where(*matching)
        lost[row.name] = (await connection.execute(count)).scalar_one()
        await connection.execute(
            sa.update(endpoints)
            .where(endpoints.c.name == row.name, endpoints.c.position < through)
            .values(position=through, lost=endpoints.c.lost + lost[row.name])
        )
    return {name: number for name, number in lost.items() if number}
