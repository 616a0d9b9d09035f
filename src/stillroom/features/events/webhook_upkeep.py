"""Changes of webhook rows when old events are deleted, and when a dead letter is retried."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.features.database.clock import now
from stillroom.features.database.statements import insert_into
from stillroom.features.events.tables import events, matching
from stillroom.features.events.webhook_rows import IN_DEAD_LETTER, free_paths
from stillroom.features.events.webhook_tables import endpoints, failures
from stillroom.features.library.resource import DeadLetter

_REMOVED_AFTER: Final = timedelta(hours=1)  # without a lease; the endpoint is not configured


async def restore_delivery(connection: AsyncConnection, dead_letter: DeadLetter) -> None:
    """Retry the delivery of an event that is a dead letter.

    Later events with the same path may already have been delivered.
    """
    insert = insert_into(connection, failures).values(
        **{name: dead_letter.payload[name] for name in ("endpoint", *IN_DEAD_LETTER)},
        # The retention begins again, so that an event that has waited long is not lost at once.
        occurred_at=now(),
        attempts=0,
        due_at=now(),
    )
    await connection.execute(insert.on_conflict_do_nothing(index_elements=[*failures.primary_key]))


async def lose_deliveries(
    connection: AsyncConnection, *, through: int, before: datetime
) -> Mapping[str, int]:
    """Give up the delivery of events that are about to be deleted. Return their number by endpoint.

    The transaction that deletes events calls this function first. The function moves each endpoint
    past the position `through`, and deletes all failed deliveries of events that occurred before
    `before`. The result has no endpoints that are no longer in `webhooks.toml`.
    """
    lost: dict[str, int] = {}
    used = await connection.execute(
        sa.select(endpoints.c.name, endpoints.c.position, endpoints.c.filter)
        .where(endpoints.c.seen_at > now() - _REMOVED_AFTER)
        .order_by(endpoints.c.name)
        .with_for_update()
    )
    for name, position, only in used.all():  # `only` has the types and the prefix
        unread = events.c.position.between(position + 1, through), *matching(**only)
        count = sa.select(sa.func.count()).select_from(events).where(*unread)
        number = (await connection.execute(count)).scalar_one()
        old = failures.c.endpoint == name, failures.c.occurred_at < before
        if failed := (await connection.execute(sa.delete(failures).where(*old))).rowcount:
            await free_paths(connection, name)
        if number + failed:
            lost[name] = number + failed
        await connection.execute(
            sa.update(endpoints)
            .where(endpoints.c.name == name)
            .values(position=max(position, through), lost=endpoints.c.lost + number + failed)
        )
    await connection.execute(sa.delete(failures).where(failures.c.occurred_at < before))
    return lost
