"""Rows of `media_scans`: how far each scan through all images has come, and who claims it.

The order of locks: `statements.py`.
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
"""For expired compute results."""

INDEX: Final = "index"
"""For what the search index lacks."""

REBUILD: Final = "rebuild"
"""The same, on an operator's order: every image is read again."""

START: Final = "start"
"""The same after a start, for what the crash before it has left out. `next_at` is when the latest
one began. `after` is since when, in nanoseconds, changes may be missing; empty: it is over."""

_EPOCH: Final = datetime.fromtimestamp(0, UTC)


class ScanRows:
    """The scans of one library, by their names."""

    def __init__(self, engine: RowsEngine) -> None:
        """Use `engine`; its maker closes it."""
        self._engine = engine

    async def claim(
        self,
        claim: uuid.UUID,
        *,
        lease: timedelta,
        name: str = EXPIRY,
        every: timedelta | None = None,
    ) -> str | None:
        """Claim a scan.

        Args:
            claim: Of this call alone.
            lease: After this others may take it.
            name: Which one.
            every: How often it is to be done: one that is put off for longer, by other rules or
                another clock, is done now.

        Returns:
            The key after which to go on, empty for the start; None if another process has claimed
            it, or it is not time yet.
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
            taken = await connection.execute(
                sa.update(scans)
                .where(scans.c.name == name, is_time, free)
                .values(claimed_by=claim, lease_until=moment + lease)
                .returning(scans.c.after)
            )
            after: str | None = taken.scalar_one_or_none()
        return after

    async def note_start(self, started: datetime) -> str:
        """Note since when changes may be missing, before this process writes into the index.

        Args:
            started: When this process began.

        Returns:
            `after` for `claim_start`: the time of the latest save in the index.
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
        """Return whether no comparison has begun since this process did."""
        asked = sa.select(scans.c.name).where(_needs_start(started))
        async with self._engine.reading() as connection:
            return (await connection.execute(asked)).first() is not None

    async def claim_start(
        self, claim: uuid.UUID, *, started: datetime, since: str, lease: timedelta
    ) -> tuple[str, datetime] | None:
        """Claim the comparison after a start.

        Returns:
            Since when changes may be missing, at most `since`, and `next_at` for `end`; None:
            another process has claimed it.
        """
        moment = now()
        free = sa.or_(scans.c.lease_until.is_(None), scans.c.lease_until < moment)
        async with self._engine.writing() as connection:
            taken = await connection.execute(
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
            after: str | None = taken.scalar_one_or_none()
        return None if after is None else (after, moment)

    async def _latest_save(self) -> int:
        """When the newest image of the index was saved, in nanoseconds; 0: there is none."""
        images = search_images.c
        asked = sa.select(images.saved_ns).where(images.id <= time.time_ns())
        async with self._engine.reading() as connection:
            latest = await connection.execute(asked.order_by(images.id.desc()).limit(1))
            return latest.scalar_one_or_none() or 0

    async def mark_ended(
        self,
        claim: uuid.UUID,
        images: Sequence[StoredImage],
        *,
        due_at: datetime,
        after: str,
        lease: timedelta,
    ) -> Sequence[StorageKey] | None:
        """Mark a page of images that a rule has ended, and record how far the scan has come.

        Images that a resource has in place are not marked, nor those with a dead letter.

        Returns:
            The keys of those that were not marked before; None, and nothing is changed, if
            another process has claimed the scan since.
        """
        async with self._engine.writing() as connection:
            if not await _keep(connection, EXPIRY, claim, after=after, lease=lease):
                return None
            old = await _not_left_alone(connection, images)
            marked = await mark_saves(connection, old, RULE, due_at)
        return [image.key for image in old if image.key in marked]

    async def not_left_alone(self, images: Sequence[StoredImage]) -> Sequence[StoredImage]:
        """Those of some images that `mark_ended` would mark, or has marked; none is marked."""
        async with self._engine.reading() as connection:
            return await _not_left_alone(connection, images)

    async def keep(self, name: str, claim: uuid.UUID, *, after: str, lease: timedelta) -> bool:
        """Record how far a scan has come; False if another process has claimed it since."""
        async with self._engine.writing() as connection:
            return await _keep(connection, name, claim, after=after, lease=lease)

    async def end(self, claim: uuid.UUID, *, next_at: datetime | None, name: str = EXPIRY) -> None:
        """End the claim: the next scan starts at `next_at`, or goes on from here at once."""
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
        """Make the next scan begin from the start, at this time; one that is claimed goes on."""
        async with self._engine.writing() as connection:
            await connection.execute(
                sa.update(scans)
                .where(scans.c.name == name, scans.c.claimed_by.is_(None))
                .values(after="", next_at=at)
            )


def _needs_start(started: datetime) -> sa.ColumnElement[bool]:
    """Whether no comparison has begun since `started`; one of the future is a clock's mistake."""
    began = scans.c.next_at
    return sa.and_(scans.c.name == START, sa.or_(began < started, began > now()))


async def _not_left_alone(
    connection: AsyncConnection, images: Sequence[StoredImage]
) -> Sequence[StoredImage]:
    """Those of some images that no resource has in place, and that have no dead letter."""
    if not images:
        return []
    keys = [image.key for image in images]
    needed = await keys_with_resource(connection, keys)
    given_up = await connection.execute(
        sa.select(dead_letters.c.storage_key, dead_letters.c.save_id).where(
            dead_letters.c.storage_key.in_(among(connection, keys))
        )
    )
    left_alone = {tuple(row) for row in given_up.all()}
    return [
        image
        for image in images
        if image.key not in needed and (image.key, image.save_id) not in left_alone
    ]


async def _keep(
    connection: AsyncConnection, name: str, claim: uuid.UUID, *, after: str, lease: timedelta
) -> bool:
    kept = await connection.execute(
        sa.update(scans)
        .where(scans.c.name == name, scans.c.claimed_by == claim)
        .values(after=after, lease_until=now() + lease)
    )
    return kept.rowcount > 0
