"""Database rows of events: how transactions add them, and how the feed reads them in order.

Each event has a position in the feed: the time of its transaction in microseconds, or the last
position plus 1 if that is higher. A transaction that adds events first locks the row with the
state of the feed until the commit. Therefore, even concurrent transactions in PostgreSQL commit
positions in ascending order. A reader that continues after a position never skips an event.

Positions that a crash or a restored backup has removed are not used again, because they contain the
time. A reader can then continue with its cursor.
"""

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.features.database.changes import Change
from stillroom.features.database.clock import now, to_nanoseconds
from stillroom.features.database.engine import Rows
from stillroom.features.events.event import Event
from stillroom.features.events.tables import event_feed, events, matching
from stillroom.features.events.types import TYPES
from stillroom.features.events.webhook_upkeep import lose_deliveries

_OF_CHANGE: Final = [field.name for field in fields(Change)]
_SCANNED: Final = 20_000  # rows per page, so that a page with rare matches does not take seconds
_DROPPED_AT_ONCE: Final = 5000

log = logging.getLogger("stillroom.events")


class FeedState(NamedTuple):
    """State of the feed: the row of the table `event_feed`, whose columns `tables.py` describes."""

    feed_id: str
    last_position: int
    dropped_position: int


_FEED: Final = sa.select(*(event_feed.c[name] for name in FeedState._fields))


@dataclass(frozen=True, slots=True)
class EventPage:
    """Page of events, in the order of the feed.

    Attributes:
        through: Position after which the next page begins. The page contains all matching events
            between its beginning and this position.
        state: State of the feed. `last_position` was read before the events, and
            `dropped_position` after them.
    """

    events: Sequence[Event]
    through: int
    state: FeedState

    @property
    def is_last(self) -> bool:
        """True if the feed contained no later events when the page was read."""
        return self.through >= self.state.last_position


def add_events(connection: sa.Connection, changes: Sequence[Change]) -> None:
    """Insert an event for each change, as the last step of a transaction.

    The state of the feed is locked from here to the commit.
    """
    moment, count = now(), len(changes)
    time_us = to_nanoseconds(moment) // 1000
    last, clock = event_feed.c.last_position, sa.literal(time_us, sa.BigInteger)
    end = connection.execute(
        sa.update(event_feed)
        .values(last_position=sa.case((last > clock, last), else_=clock) + count)
        .returning(last)
    ).scalar_one()
    rows = [
        {
            "position": position,
            "occurred_at": moment,
            **{name: getattr(change, name) for name in _OF_CHANGE},
        }
        for position, change in enumerate(changes, end - count + 1)
    ]
    connection.execute(sa.insert(events), rows)


class EventRows(Rows):
    """Database rows of the events."""

    async def read(
        self, after: int | None, limit: int, *, types: Sequence[str] = TYPES, prefix: str = ""
    ) -> EventPage:
        """Return a page of up to `limit` events. If `after` is None, return the first page.

        Events that are committed later have higher positions than all events of the page. For
        `types` and `prefix`, see `matching` in `tables.py`.
        """
        first = await self.state()
        if after is None:
            after = first.dropped_position
        conditions = matching(types, prefix)
        async with self._engine.reading() as connection:
            # Rows up to this position were committed before the state was read.
            end = first.last_position
            if conditions:
                end = await _scan_end(connection, after, end)
            result = await connection.execute(
                sa.select(events)
                .where(events.c.position > after, events.c.position <= end, *conditions)
                .order_by(events.c.position)
                .limit(limit)
            )
            rows = result.all()
            state = (await connection.execute(_FEED)).one()
        page = [Event(id=event_id(row.position, first.feed_id), **row._asdict()) for row in rows]
        through = page[-1].position if len(page) == limit else max(after, end)
        return EventPage(page, through, first._replace(dropped_position=state.dropped_position))

    async def state(self) -> FeedState:
        """Return the state of the feed."""
        (row,) = await self._read(_FEED)
        return FeedState(**row._asdict())

    async def drop(self, age: timedelta) -> int:
        """Delete one batch of events that are older than `age`, and return their number."""
        cutoff, order = now() - age, events.c.position
        oldest = sa.select(order, events.c.occurred_at).order_by(order).limit(_DROPPED_AT_ONCE)
        batch = oldest.subquery()
        old = sa.select(sa.func.max(batch.c.position)).where(batch.c.occurred_at < cutoff)
        ((dropped,),) = await self._read(old)
        if dropped is None:
            return 0
        async with self._engine.writing() as connection:
            lost = await lose_deliveries(connection, through=dropped, before=cutoff)
            # In the same transaction, so that a reader that misses an event detects that.
            last = event_feed.c.dropped_position
            moved = sa.update(event_feed).where(last < dropped).values(dropped_position=dropped)
            await connection.execute(moved)
            deleted = await connection.execute(sa.delete(events).where(order <= dropped))
        for name, number in lost.items():
            message = "%d events are lost: the webhook %r did not accept them within %s"
            log.error(message, number, name, age)
        return deleted.rowcount


async def _scan_end(connection: AsyncConnection, after: int, last: int) -> int:
    """Return the position (at most `last`) of the last row to examine for one page of events."""
    position = events.c.position
    following = sa.select(position).where(position > after).order_by(position)
    nth = await connection.execute(following.offset(_SCANNED - 1).limit(1))
    end: int | None = nth.scalar_one_or_none()
    return last if end is None else min(end, last)


def event_id(position: int, feed_id: str) -> uuid.UUID:
    """Return the id of an event: a UUIDv8 (RFC 9562, 5.8) made from position and feed id."""
    high, low = position >> 12, position & 0xFFF
    tail = int(feed_id, 16) & ((1 << 62) - 1)
    return uuid.UUID(int=high << 80 | 0x8 << 76 | low << 64 | 0b10 << 62 | tail)
