"""Rows of `media_scans`: position and claim of each scan through all images.

The order of locks is in `statements.py`.
"""

import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.media.resource import RULE, now
from stillroom.media.rows.engine import RowsEngine
from stillroom.media.rows.marks import mark_saves
from stillroom.media.rows.statements import among, insert_into, keys_with_resource
from stillroom.media.rows.tables import dead_letters, scans, search_images
from stillroom.paths import StorageKey
from stillroom.storage.values import StoredImage

EXPIRY: Final = "expiry"
"""Scan for expired compute results."""

INDEX: Final = "index"
"""Scan for images that the search index lacks."""

REBUILD: Final = "rebuild"
"""Rebuild of the search index by an operator: every image is read again."""

START: Final = "start"
"""Scan after a start, for changes that the index lost in the crash before it.

`next_at` is when the latest scan began. `after` is the time in nanoseconds since which changes may
be missing; empty when the scan is over.
"""

_EPOCH: Final = datetime.fromtimestamp(0, UTC)


class ScanRows:
    """Scans of one library, by name."""

    def __init__(self, engine: RowsEngine) -> None:
        self._engine = engine

    async def claim(
        self,
        claim: uuid.UUID,
        *,
        lease: timedelta,
        name: str = EXPIRY,
        every: timedelta | None = None,
    ) -> str | None:
        """Claim a scan with a new id.

        `every` is the interval of the scan: if the scan is due later than this from now, because of
        other rules or another clock, it is due now.

        Returns:
            The key after which to resume (empty for the start), or None if the scan is not due or
            another process has claimed it.
        """
        moment = now()
        free = sa.or_(scans.c.lease_until.is_(None), scans.c.lease_until < moment)
        is_time = scans.c.next_at <= moment
        if every is not None:
            is_time = sa.or_(is_time, scans.c.next_at > moment + every)
        async with self._engine.writing() as connection:
            await connection.execute(
                insert_into(connection, scans)
                .values(name=name, after="", next_at=moment)
                .on_conflict_do_nothing(index_elements=[scans.c.name])
            )
            result = await connection.execute(
                sa.update(scans)
                .where(scans.c.name == name, is_time, free)
                .values(claimed_by=claim, lease_until=moment + lease)
                .returning(scans.c.after)
            )
            after: str | None = result.scalar_one_or_none()
        return after

    async def note_start(self, started: datetime) -> str:
        """Record since when changes may be missing, before this process writes to the index.

        Returns:
            The time of the latest save in the index, which is `since` of `claim_start`.
        """
        since = str(await self._latest_save())
        async with self._engine.writing() as connection:
            await connection.execute(
                insert_into(connection, scans)
                .values(name=START, after="", next_at=_EPOCH)
                .on_conflict_do_nothing(index_elements=[scans.c.name])
            )
            await connection.execute(
                sa.update(scans)
                .where(_needs_start(started), scans.c.after == "")
                .values(after=since)
            )
        return since

    async def needs_start(self, started: datetime) -> bool:
        """Return whether no `START` scan has begun since this process started."""
        statement = sa.select(scans.c.name).where(_needs_start(started))
        async with self._engine.reading() as connection:
            return (await connection.execute(statement)).first() is not None

    async def claim_start(
        self, claim: uuid.UUID, *, started: datetime, since: str, lease: timedelta
    ) -> tuple[str, datetime] | None:
        """Claim the `START` scan.

        Returns:
            The time since which changes may be missing (at most `since`), and `next_at` for
            `end`; None if another process has claimed the scan.
        """
        moment = now()
        free = sa.or_(scans.c.lease_until.is_(None), scans.c.lease_until < moment)
        async with self._engine.writing() as connection:
            result = await connection.execute(
                sa.update(scans)
                .where(_needs_start(started), free)
                .values(
                    claimed_by=claim,
                    lease_until=moment + lease,
                    next_at=moment,
                    after=sa.case((scans.c.after == "", since), else_=scans.c.after),
                )
                .returning(scans.c.after)
            )
            after: str | None = result.scalar_one_or_none()
        return None if after is None else (after, moment)

    async def _latest_save(self) -> int:
        """Return the save time of the newest indexed image in nanoseconds, or 0."""
        images = search_images.c
        statement = sa.select(images.saved_ns).where(images.id <= time.time_ns())
        async with self._engine.reading() as connection:
            latest = await connection.execute(statement.order_by(images.id.desc()).limit(1))
            return latest.scalar_one_or_none() or 0

    async def mark_expired(
        self,
        claim: uuid.UUID,
        images: Sequence[StoredImage],
        *,
        due_at: datetime,
        after: str,
        lease: timedelta,
    ) -> Sequence[StorageKey] | None:
        """Mark a page of expired images, and record the position of the scan.

        Images that a resource uses in place are not marked, nor those with a dead letter.

        Returns:
            The keys that were not marked before; None, with nothing changed, if another process
            has claimed the scan since.
        """
        async with self._engine.writing() as connection:
            if not await _keep(connection, EXPIRY, claim, after=after, lease=lease):
                return None
            markable = await _filter_markable(connection, images)
            marked = await mark_saves(connection, markable, RULE, due_at)
        return [image.key for image in markable if image.key in marked]

    async def filter_markable(self, images: Sequence[StoredImage]) -> Sequence[StoredImage]:
        """Return the images that `mark_expired` would mark, or has marked."""
        async with self._engine.reading() as connection:
            return await _filter_markable(connection, images)

    async def keep(self, name: str, claim: uuid.UUID, *, after: str, lease: timedelta) -> bool:
        """Record a scan's position and renew its lease; False if another process claimed it."""
        async with self._engine.writing() as connection:
            return await _keep(connection, name, claim, after=after, lease=lease)

    async def end(self, claim: uuid.UUID, *, next_at: datetime | None, name: str = EXPIRY) -> None:
        """Release the claim. Restart the scan at `next_at`, or (None) resume it at once."""
        values: dict[str, object] = {"claimed_by": None, "lease_until": None}
        if next_at is not None:
            values |= {"after": "", "next_at": next_at}
        async with self._engine.writing() as connection:
            await connection.execute(
                sa.update(scans)
                .where(scans.c.name == name, scans.c.claimed_by == claim)
                .values(**values)
            )

    async def restart(self, name: str, *, at: datetime) -> None:
        """Restart a scan from the beginning at a given time, unless it is claimed."""
        async with self._engine.writing() as connection:
            await connection.execute(
                sa.update(scans)
                .where(scans.c.name == name, scans.c.claimed_by.is_(None))
                .values(after="", next_at=at)
            )


def _needs_start(started: datetime) -> sa.ColumnElement[bool]:
    """Build the condition that no `START` scan began since `started`."""
    began = scans.c.next_at  # ignored if it is in the future: a clock was wrong
    return sa.and_(scans.c.name == START, sa.or_(began < started, began > now()))


async def _filter_markable(
    connection: AsyncConnection, images: Sequence[StoredImage]
) -> Sequence[StoredImage]:
    if not images:
        return []
    keys = [image.key for image in images]
    keys_in_use = await keys_with_resource(connection, keys)
    letters = await connection.execute(
        sa.select(dead_letters.c.storage_key, dead_letters.c.save_id).where(
            dead_letters.c.storage_key.in_(among(connection, keys))
        )
    )
    dead_saves = {tuple(row) for row in letters.all()}
    return [
        image
        for image in images
        if image.key not in keys_in_use and (image.key, image.save_id) not in dead_saves
    ]


async def _keep(
    connection: AsyncConnection, name: str, claim: uuid.UUID, *, after: str, lease: timedelta
) -> bool:
    result = await connection.execute(
        sa.update(scans)
        .where(scans.c.name == name, scans.c.claimed_by == claim)
        .values(after=after, lease_until=now() + lease)
    )
    return result.rowcount > 0
