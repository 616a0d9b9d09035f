"""Table `media_scans`: progress of the background scans through all images.

`statements.py` documents the lock order.
"""

import contextlib
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.features.database import leases
from stillroom.features.database.engine import Rows
from stillroom.features.database.tables import failed_deletions, scans, search_images
from stillroom.features.library.resource import RULE, now
from stillroom.features.library.rows.marks import mark_saves
from stillroom.features.library.rows.statements import among, insert_into, keys_with_resource
from stillroom.paths import StorageKey
from stillroom.store.values import StoredImage

# Names of scans:
EXPIRY: Final = "expiry"  # finds expired images
INDEX: Final = "index"  # finds images that are missing in the search index
REBUILD: Final = "rebuild"  # reads every image again, because an operator rebuilds the search index

START: Final = "start"
"""Name of the scan after a start, which finds changes that the index lost in a crash.

`next_at` is the time at which the latest scan began. `after` is the time in nanoseconds since which
changes may be missing, or empty if the scan has ended.
"""

_EPOCH: Final = datetime.fromtimestamp(0, UTC)


class ScanRows(Rows):
    """Database rows of one library's scans. Each scan has a row with its name."""

    async def run(
        self,
        name: str,
        pages: Callable[[uuid.UUID, str], AsyncGenerator[float, None]],
        stops_within: Callable[[float], Awaitable[bool]],
        *,
        lease: timedelta,
        every: timedelta,
        is_bounded: bool = False,
    ) -> bool:
        """Run or resume a scan if it is due and no other process has claimed it, else return False.

        Args:
            name: Name of the scan.
            pages: Generator, called with the claim and the key after which to resume. After each
                page, it records its position and yields the pause in seconds. It returns early if
                the claim is lost.
            stops_within: Waits for a number of seconds, and returns whether to stop.
            lease: Duration of the claim.
            every: Interval from the end of a scan to the next.
            is_bounded: Also begin if the recorded start time is later than in `every`, because
                the rules or the clock have changed.
        """
        claim = uuid.uuid4()
        after = await self._claim(claim, name, lease, every if is_bounded else None)
        if after is None:
            return False
        async with contextlib.aclosing(pages(claim, after)) as pauses:
            async for pause_s in pauses:
                if await stops_within(pause_s):
                    await self.end(claim, next_at=None)
                    return True
        await self.end(claim, next_at=now() + every)
        return True

    async def _claim(
        self, claim: uuid.UUID, name: str, lease: timedelta, bound: timedelta | None
    ) -> str | None:
        moment = now()
        is_time = scans.c.next_at <= moment
        if bound is not None:
            is_time = sa.or_(is_time, scans.c.next_at > moment + bound)
        async with self._engine.writing() as connection:
            await _insert(connection, name, moment)
            result = await connection.execute(
                sa.update(scans)
                .where(scans.c.name == name, is_time, leases.is_free(scans))
                .values(leases.claimed(claim, lease))
                .returning(scans.c.after)
            )
            after: str | None = result.scalar_one_or_none()
        return after

    async def note_start(self, started: datetime) -> str:
        """Record the time since which changes may be missing in the search index.

        Return the save time of the newest indexed image, to be passed to `claim_start` as `since`.
        """
        images = search_images.c
        latest = sa.select(images.saved_ns).where(images.id <= time.time_ns())
        rows = await self._read(latest.order_by(images.id.desc()).limit(1))
        since = str(rows[0].saved_ns if rows else 0)
        async with self._engine.writing() as connection:
            await _insert(connection, START, _EPOCH)
            await connection.execute(
                sa.update(scans)
                .where(_needs_start(started), scans.c.after == "")
                .values(after=since)
            )
        return since

    async def needs_start(self, started: datetime) -> bool:
        """Return True if no `START` scan (see `claim_start`) has begun since `started`."""
        statement = sa.select(scans.c.name).where(_needs_start(started))
        return bool(await self._read(statement))

    async def claim_start(
        self, claim: uuid.UUID, *, started: datetime, since: str, lease: timedelta
    ) -> tuple[str, datetime] | None:
        """Claim the `START` scan, which compares storage and index after a server has started.

        Return None if another process has claimed it. Otherwise return the time since which changes
        may be missing in the index (`since` or earlier), and the `next_at` to pass to `end`.
        """
        moment = now()
        rows = await self._execute(
            sa.update(scans)
            .where(_needs_start(started), leases.is_free(scans))
            .values(
                **leases.claimed(claim, lease),
                next_at=moment,
                after=sa.case((scans.c.after == "", since), else_=scans.c.after),
            )
            .returning(scans.c.after)
        )
        return (rows[0].after, moment) if rows else None

    async def mark_expired(
        self,
        claim: uuid.UUID,
        images: Sequence[StoredImage],
        *,
        due_at: datetime,
        after: str,
        lease: timedelta,
    ) -> Sequence[StorageKey] | None:
        """Mark a page of expired images for deletion, and record the scan's position.

        Images that belong to a resource, and images with a failed deletion, are skipped. Return the
        keys of newly marked images; or None, without any change, if another process has claimed the
        scan.
        """
        async with self._engine.writing() as connection:
            if not await leases.renew(connection, scans, claim, lease, after=after):
                return None
            markable = await _filter_markable(connection, images)
            marked = await mark_saves(connection, markable, RULE, due_at)
        return [image.key for image in markable if image.key in marked]

    async def filter_markable(self, images: Sequence[StoredImage]) -> Sequence[StoredImage]:
        """Return the images that `mark_expired` would not skip."""
        async with self._engine.reading() as connection:
            return await _filter_markable(connection, images)

    async def keep(self, claim: uuid.UUID, *, after: str, lease: timedelta) -> bool:
        """Record a scan's position, and renew its lease. Return False if the claim is lost."""
        async with self._engine.writing() as connection:
            return await leases.renew(connection, scans, claim, lease, after=after)

    async def end(self, claim: uuid.UUID, *, next_at: datetime | None) -> None:
        """Release the claim on a scan, so that the next scan is due at `next_at`.

        If `next_at` is None, the interrupted scan can be resumed at once.
        """
        values = {} if next_at is None else {"after": "", "next_at": next_at}
        async with self._engine.writing() as connection:
            await leases.release(connection, scans, claim, **values)

    async def restart(self, name: str, *, at: datetime) -> None:
        """Restart a scan from the beginning at a given time, unless it is claimed."""
        await self._execute(
            sa.update(scans)
            .where(scans.c.name == name, leases.is_unclaimed(scans))
            .values(after="", next_at=at)
        )


async def _insert(connection: AsyncConnection, name: str, next_at: datetime) -> None:
    new = insert_into(connection, scans).values(name=name, after="", next_at=next_at)
    await connection.execute(new.on_conflict_do_nothing(index_elements=[scans.c.name]))


def _needs_start(started: datetime) -> sa.ColumnElement[bool]:
    began = scans.c.next_at  # ignored if it is in the future, because a clock was wrong
    return sa.and_(scans.c.name == START, sa.or_(began < started, began > now()))


async def _filter_markable(
    connection: AsyncConnection, images: Sequence[StoredImage]
) -> Sequence[StoredImage]:
    if not images:
        return []
    keys = [image.key for image in images]
    keys_in_use = await keys_with_resource(connection, keys)
    letters = await connection.execute(
        sa.select(failed_deletions.c.storage_key, failed_deletions.c.save_id).where(
            failed_deletions.c.storage_key.in_(among(connection, keys))
        )
    )
    dead_saves = {tuple(row) for row in letters.all()}
    return [
        image
        for image in images
        if image.key not in keys_in_use and (image.key, image.save_id) not in dead_saves
    ]
