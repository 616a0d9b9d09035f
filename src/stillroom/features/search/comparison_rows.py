"""Database rows for the comparisons of storage and search index (ADR 0039)."""

import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa

from stillroom.features.database import leases
from stillroom.features.database.clock import now
from stillroom.features.database.engine import Rows
from stillroom.features.database.scans import insert_scan
from stillroom.features.database.statements import table_of
from stillroom.features.database.tables import scans
from stillroom.features.search.rows import allow
from stillroom.features.search.tables import STORAGE, other_storage, search_images
from stillroom.features.search.values import NEVER_NS, Indexed, KeyRange

# Name of the comparison after a server start, which finds changes that the index lost in a crash.
# `next_at` is the time at which the latest comparison began. `after` is the time in nanoseconds
# since which changes may be missing, or empty if the comparison has ended.
START: Final = "start"
_EPOCH: Final = datetime.fromtimestamp(0, UTC)


class ComparisonRows(Rows):
    """Image versions in the search index, and the progress of the comparison after a start."""

    async def in_ranges(self, *ranges: KeyRange) -> Mapping[str, Indexed]:
        """Return the versions of the indexed images in non-overlapping key ranges, by key."""
        key = search_images.c.storage_key
        async with self._engine.reading() as connection:
            bounds = table_of(connection, ["after", "last"], ranges)
            after: sa.ColumnElement[str] = bounds.c.after
            last: sa.ColumnElement[str] = bounds.c.last
            if not self._engine.is_sqlite:
                await allow(connection, by_age=True)  # the planner overestimates rows per range
                after, last = sa.collate(after, "C"), sa.collate(last, "C")
            statement = sa.select(key, search_images.c.save_id, search_images.c.etag).join_from(
                bounds, search_images, sa.and_(key > after, key <= last)
            )
            rows = (await connection.execute(statement)).all()
        return {row.storage_key: Indexed(row.save_id, row.etag) for row in rows}

    async def note_start(self, started: datetime, lost_ns: int = NEVER_NS) -> str:
        """Store and return the time (nanoseconds) since which the index may lack changes.

        This is the save time of the newest indexed image, or `lost_ns` if that is earlier. The time
        is not stored if a comparison has begun since `started`.
        """
        images = search_images.c
        latest = sa.select(images.saved_ns).where(images.id <= time.time_ns())
        rows = await self._read(latest.order_by(images.id.desc()).limit(1))
        since = str(min(rows[0].saved_ns if rows else 0, lost_ns))
        async with self._engine.writing() as connection:
            await insert_scan(connection, START, _EPOCH)
            await insert_scan(connection, STORAGE, _EPOCH, self._engine.storage_name)
            other = scans.c.name == STORAGE, scans.c.after != self._engine.storage_name
            await connection.execute(sa.update(scans).where(*other).values(after=""))
            await connection.execute(
                sa.update(scans).where(_needs_start(started), _is_later(since)).values(after=since)
            )
        return since

    async def needs_start(self, started: datetime) -> bool:
        """Return True if the comparison after the server start at `started` has not begun yet."""
        statement = sa.select(scans.c.name).where(_needs_start(started))
        return bool(await self._read(statement))

    async def claim_start(
        self, claim: uuid.UUID, *, started: datetime, since: str, lease: timedelta
    ) -> tuple[str, datetime] | None:
        """Claim the comparison of storage and index after a server start.

        Return None if another process has begun it. Otherwise return the time since which the index
        may lack changes (never later than `since`), and the `next_at` to pass to `ScanRows.end`.
        """
        async with self._engine.writing() as connection:
            row = sa.select(scans.c.name).where(scans.c.name == START).with_for_update()
            await connection.execute(row)
            moment = now()  # after the lock: another process may have begun while this one waited
            claimed = await connection.execute(
                sa.update(scans)
                .where(_needs_start(started), leases.is_free(scans))
                .values(
                    **leases.claimed(claim, lease),
                    next_at=moment,
                    after=sa.case((_is_later(since), since), else_=scans.c.after),
                )
                .returning(scans.c.after)
            )
            rows = claimed.all()
        return (rows[0].after, moment) if rows else None

    async def has_other_storage(self) -> bool:
        """Return True if the index may contain images of another storage."""
        return bool(await self._read(other_storage(self._engine.storage_name)))

    async def note_storage(self) -> None:
        """Store that the index contains only images of this storage."""
        row = sa.update(scans).where(scans.c.name == STORAGE)
        await self._execute(row.values(after=self._engine.storage_name))


def _is_later(since: str) -> sa.ColumnElement[bool]:
    after = scans.c.after  # times have 19 digits, or are "0"
    return sa.or_(after == "", after > since)


def _needs_start(started: datetime) -> sa.ColumnElement[bool]:
    began = scans.c.next_at  # ignored if it is in the future, because a clock was wrong
    return sa.and_(scans.c.name == START, sa.or_(began < started, began > now()))
