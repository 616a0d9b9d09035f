"""Rows of events: how transactions add them, and how the feed reads them in order.

A position is the time of the transaction in microseconds, increased until it is higher than all
positions before it. Each transaction that adds events first locks the row of the feed, and keeps it
locked until the commit. Positions are therefore committed in ascending order, also by concurrent
transactions in PostgreSQL, and a reader that continues after a position never skips an event.

Because positions contain the time, they are not used again after a crash or a restored backup has
removed the newest rows. A reader can then continue with its cursor.
"""

import json
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.features.database.changes import Change
from stillroom.features.database.clock import now, to_nanoseconds
from stillroom.features.database.engine import Rows
from stillroom.features.database.statements import insert_into
from stillroom.features.events.event import RUN_TYPES, TYPES, Event
from stillroom.features.events.tables import event_feed, events

_ONE: Final = 1
_SCANNED: Final = 20_000
"""Maximum number of rows that one page examines, so that rare matches do not take seconds."""

_DROPPED_AT_ONCE: Final = 5000
_BEHIND_ALL: Final = "\U0010ffff"
_JSON: Final = json.JSONEncoder(separators=(",", ":"))

_FEED: Final = sa.select(
    event_feed.c.feed_id, event_feed.c.last_position, event_feed.c.dropped_position
)


@dataclass(frozen=True, slots=True)
class FeedState:
    """State of the feed.

    Attributes:
        feed_id: Random id of the feed, which is part of every cursor.
        last_position: Position of the newest event, or 0. Every later event has a higher one.
        dropped_position: Position of the newest event that the retention has removed, or 0.
    """

    feed_id: str
    last_position: int
    dropped_position: int


@dataclass(frozen=True, slots=True)
class EventPage:
    """Page of events, in the order of the feed.

    Attributes:
        through: Position up to which the page contains all events that match. The next page
            begins after it.
        state: State of the feed. `last_position` was read before the events, and
            `dropped_position` after them.
    """

    events: Sequence[Event]
    through: int
    state: FeedState

    @property
    def is_last(self) -> bool:
        """True if no later event existed when the page was read."""
        return self.through >= self.state.last_position


def add_events(connection: sa.Connection, changes: Sequence[Change]) -> None:
    """Add an event for each change. This is the last step of a transaction (see the module)."""
    if not changes:
        return
    moment, count = now(), len(changes)
    time_us = to_nanoseconds(moment) // 1000
    last, clock = event_feed.c.last_position, sa.literal(time_us, sa.BigInteger)
    update = (
        sa.update(event_feed)
        .values(last_position=sa.case((last > clock, last), else_=clock) + count)
        .returning(last)
    )
    end = connection.execute(update).scalar_one_or_none()
    if end is None:
        connection.execute(_insert_feed(connection))
        end = connection.execute(update).scalar_one()
    rows = [
        {
            "position": position,
            "type": change.type,
            "occurred_at": moment,
            "path": change.path,
            "resource_id": change.resource_id,
            "actor": change.actor,
            "reason": change.reason,
            "data": change.data,
            "found": change.found,
        }
        for position, change in enumerate(changes, end - count + 1)
    ]
    if connection.dialect.name == "sqlite":
        _insert_quickly(connection, rows)
    else:
        connection.execute(sa.insert(events), rows)


def _insert_quickly(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows with SQLite's own driver, because SQLAlchemy takes longer than the insert."""
    names, places = ", ".join(rows[0]), ", ".join("?" * len(rows[0]))
    statement = f"INSERT INTO {events.name} ({names}) VALUES ({places})"  # noqa: S608  (our names)
    stamp = rows[0]["occurred_at"].strftime("%Y-%m-%d %H:%M:%S.%f")
    for row in rows:
        resource_id: uuid.UUID | None = row["resource_id"]
        row["resource_id"] = resource_id and resource_id.hex
        row["occurred_at"], row["data"] = stamp, _JSON.encode(row["data"])
    connection.exec_driver_sql(statement, [tuple(row.values()) for row in rows])


def _insert_feed(connection: sa.Connection | AsyncConnection) -> Any:  # noqa: ANN401  (see `insert_into`)
    row = {"id": _ONE, "feed_id": secrets.token_hex(8), "last_position": 0, "dropped_position": 0}
    insert = insert_into(connection, event_feed).values(row)
    return insert.on_conflict_do_nothing(index_elements=[event_feed.c.id])


class EventRows(Rows):
    """Database rows of the events."""

    async def page(
        self,
        after: int,
        limit: int,
        *,
        types: Sequence[str] = TYPES,
        prefix: str = "",
    ) -> list[Event]:
        """Return up to `limit` events after a position, in order. See `read`.

        The list can be shorter, or empty, although more events follow: `read` says which.
        """
        return [*(await self.read(after, limit, types=types, prefix=prefix)).events]

    async def read(
        self,
        after: int | None,
        limit: int,
        *,
        types: Sequence[str] = TYPES,
        prefix: str = "",
    ) -> EventPage:
        """Return a page of up to `limit` events after a position. None is the oldest event.

        An event that is committed later always has a higher position than all these events.
        `prefix` is literal text that paths begin with. If it ends with a slash, events about a run
        in exactly this folder match, too.
        """
        first = await self.state()
        if after is None:
            after = first.dropped_position
        matching = [events.c.position > after]
        if set(types) != set(TYPES):
            matching.append(events.c.type.in_(types))
        if prefix:
            matching.append(_is_below(prefix))
        async with self._engine.reading() as connection:
            # Rows up to this position were committed before the state was read.
            end = first.last_position
            if len(matching) > 1:
                end = await _scan_end(connection, after, end)
            found = await connection.execute(
                sa.select(events)
                .where(*matching, events.c.position <= end)
                .order_by(events.c.position)
                .limit(limit)
            )
            rows = found.all()
            state = (await connection.execute(_FEED)).one()
        page = [_event_of(row, first.feed_id) for row in rows]
        through = page[-1].position if len(page) == limit else max(after, end)
        return EventPage(
            page, through, FeedState(first.feed_id, first.last_position, state.dropped_position)
        )

    async def state(self) -> FeedState:
        """Return the state of the feed."""
        rows = await self._read(_FEED)
        if not rows:
            async with self._engine.writing() as connection:
                await connection.execute(_insert_feed(connection))
            rows = await self._read(_FEED)
        return FeedState(**rows[0]._asdict())

    async def drop(self, age: timedelta) -> int:
        """Delete a batch of events that are older than `age`. Return their number."""
        oldest = sa.select(events.c.position, events.c.occurred_at).order_by(events.c.position)
        cutoff = now() - age
        dropped = 0
        first = await self._read(oldest.limit(1))
        if not first or first[0].occurred_at >= cutoff:
            return 0
        for row in await self._read(oldest.limit(_DROPPED_AT_ONCE)):
            if row.occurred_at >= cutoff:
                break
            dropped = row.position
        async with self._engine.writing() as connection:
            # A reader sees the new `dropped_position` if it misses one of the events.
            await connection.execute(
                sa.update(event_feed)
                .where(event_feed.c.dropped_position < dropped)
                .values(dropped_position=dropped)
            )
            deleted = await connection.execute(
                sa.delete(events).where(events.c.position <= dropped)
            )
        return deleted.rowcount

    async def oldest_after(self, position: int) -> datetime | None:
        """Return the time of the first event after a position, or None if there is none."""
        asked = sa.select(events.c.occurred_at).where(events.c.position > position)
        rows = await self._read(asked.order_by(events.c.position).limit(1))
        found: datetime | None = rows[0].occurred_at if rows else None
        return found


async def _scan_end(connection: AsyncConnection, after: int, last: int) -> int:
    """Return the position at which to stop: that of the last row to examine, or `last`."""
    position = events.c.position
    asked = sa.select(position).where(position > after).order_by(position)
    found = await connection.execute(asked.offset(_SCANNED - 1).limit(1))
    end: int | None = found.scalar_one_or_none()
    return last if end is None else min(end, last)


def _is_below(prefix: str) -> sa.ColumnElement[bool]:
    path = events.c.path
    below = sa.and_(path >= prefix, path < prefix + _BEHIND_ALL)
    if not prefix.endswith("/"):
        return below
    return sa.or_(below, sa.and_(path == prefix[:-1], events.c.type.in_(RUN_TYPES)))


def _event_of(row: sa.Row[Any], feed_id: str) -> Event:
    values = row._asdict()
    return Event(id=event_id(row.position, feed_id), **values)


def event_id(position: int, feed_id: str) -> uuid.UUID:
    """Return the id of the event at a position: a UUIDv8 (RFC 9562, 5.8) of position and feed."""
    high, low = position >> 12, position & 0xFFF
    tail = int(feed_id, 16) & ((1 << 62) - 1)
    return uuid.UUID(int=high << 80 | 0x8 << 76 | low << 64 | 0b10 << 62 | tail)
