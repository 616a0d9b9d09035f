"""Rows of `media_deletions` as sweepers see them: marks that are due are claimed and settled.

A claim holds a lease: marks of a sweeper that crashed can be claimed again when it is over. The
order of locks: `statements.py`.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.media import clock
from stillroom.media.resource import (
    DELETED,
    IN_PLACE,
    ORPHAN,
    RELOCATED,
    ClaimedMarks,
    DueMark,
    MarkClaimed,
    MediaResource,
    Settlement,
    now,
)
from stillroom.media.rows.dead_letters import write_dead_letter
from stillroom.media.rows.engine import RowsEngine
from stillroom.media.rows.marks import mark_saves
from stillroom.media.rows.statements import (
    among,
    keys_with_intent,
    keys_with_resource,
    known_keys,
    resource_of,
    select_resources,
)
from stillroom.media.rows.tables import dead_letters, deletions, intents, resources
from stillroom.paths import StorageKey
from stillroom.storage.values import StoredImage


class DeletionRows:
    """Marks of one library."""

    def __init__(self, engine: RowsEngine) -> None:
        """Use `engine`; its maker closes it."""
        self._engine = engine

    async def claim(self, claim: uuid.UUID, *, limit: int, lease: timedelta) -> ClaimedMarks:
        """Claim marks that are due; from here on they cannot be cancelled.

        The row of a deleted resource goes in the same transaction: before it equal bytes keep
        the resource, and after it they make another one. Marks of an image that is being ingested
        in place are left out: see `require_unclaimed`.

        Args:
            claim: Of this call alone; `settle` wants it.
            limit: Most marks.
            lease: After this others may take them.
        """
        moment = now()
        due = (
            sa.select(deletions)
            .where(_is_due(), deletions.c.storage_key.not_in(_ingested_in_place()))
            .order_by(deletions.c.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        async with self._engine.writing() as connection:
            rows = (await connection.execute(due)).all()
            # Once more, now that the rows are locked: PostgreSQL has looked at the intents before.
            # And before the resources, since an ingest writes one when it removes its intent.
            ingested = await _find_ingested(connection)
            rows = [row for row in rows if row.storage_key not in ingested]
            copies = await _with_hashes(
                connection, [row.content_hash for row in rows if row.content_hash is not None]
            )
            if deleted := [row.resource_id for row in rows if row.resource_id is not None]:
                await _remove_resources(connection, deleted)
            needed = await keys_with_resource(connection, [row.storage_key for row in rows])
            copied = await keys_with_intent(
                connection, [row.storage_key for row in rows if row.reason == ORPHAN]
            )
            skipped = [row for row in rows if row.storage_key in needed | copied]
            taken = [row for row in rows if row.storage_key not in needed | copied]
            if skipped:
                await connection.execute(
                    sa.delete(deletions).where(deletions.c.id.in_([row.id for row in skipped]))
                )
            if taken:
                await connection.execute(
                    sa.update(deletions)
                    .where(deletions.c.id.in_([row.id for row in taken]))
                    .values(
                        claimed_by=claim,
                        lease_until=moment + lease,
                        attempts=deletions.c.attempts + 1,
                    )
                )
        return ClaimedMarks(
            [
                _due_mark(row, attempts=row.attempts + 1, copy=copies.get(row.content_hash))
                for row in taken
            ],
            [_due_mark(row, attempts=row.attempts) for row in skipped],
        )

    async def settle(self, claim: uuid.UUID, settlement: Settlement) -> None:
        """Record the outcome of claimed marks, unless they were claimed again since."""
        ours = deletions.c.claimed_by == claim
        async with self._engine.writing() as connection:
            if settlement.done:
                await connection.execute(
                    sa.delete(deletions).where(deletions.c.id.in_(settlement.done), ours)
                )
            for mark in settlement.left:
                await self._release(connection, mark, ours, attempts=mark.attempts - 1)
            for retry in settlement.retried:
                await self._release(
                    connection,
                    retry.mark,
                    ours,
                    attempts=retry.mark.attempts,
                    due_at=retry.due_at,
                    last_error=retry.error,
                )
            for mark, error in settlement.dead_lettered:
                await self._dead_letter(connection, mark, ours, error)

    async def _release(
        self,
        connection: AsyncConnection,
        mark: DueMark,
        ours: sa.ColumnElement[bool],
        **values: object,
    ) -> None:
        values["lease_until"] = None
        if not mark.storage_key.is_media:  # below it the row is gone: not to be cancelled
            values["claimed_by"] = None
        await connection.execute(
            sa.update(deletions).where(deletions.c.id == mark.id, ours).values(**values)
        )

    async def _dead_letter(
        self,
        connection: AsyncConnection,
        mark: DueMark,
        ours: sa.ColumnElement[bool],
        error: str,
    ) -> None:
        removed = await connection.execute(
            sa.delete(deletions).where(deletions.c.id == mark.id, ours)
        )
        if removed.rowcount == 0:
            return
        await write_dead_letter(connection, mark, error)

    async def require_unclaimed(self, key: StorageKey) -> None:
        """Return if no sweeper has claimed a mark of this key; wait for a claim that is being made.

        If an intent of an ingest in place was committed before, none can be claimed afterwards.

        Raises:
            MarkClaimed: a sweeper has; it deletes the image, or settles the mark otherwise.
        """
        async with self._engine.writing() as connection:
            found = await connection.execute(
                sa.select(deletions.c.claimed_by)
                .where(deletions.c.storage_key == key)
                .with_for_update(read=True)
            )
            if any(claimed is not None for claimed in found.scalars()):
                raise MarkClaimed

    async def due(self, *, after: DueMark | None, limit: int) -> Sequence[DueMark]:
        """A page of marks that are due and unclaimed, the longest due first; none is claimed."""
        asked = sa.select(deletions).where(_is_due())
        if after is not None:
            asked = asked.where(
                sa.tuple_(deletions.c.due_at, deletions.c.id)
                > sa.tuple_(
                    sa.literal(after.due_at, deletions.c.due_at.type),
                    sa.literal(after.id, deletions.c.id.type),
                )
            )
        asked = asked.order_by(deletions.c.due_at, deletions.c.id).limit(limit)
        async with self._engine.reading() as connection:
            rows = (await connection.execute(asked)).all()
        return [_due_mark(row, attempts=row.attempts) for row in rows]

    async def of_saves(self, images: Sequence[StoredImage]) -> Sequence[DueMark]:
        """The marks of these very saves, due or not."""
        saves = {(image.key, image.save_id) for image in images}
        async with self._engine.reading() as connection:
            given = among(connection, [image.key for image in images])
            asked = sa.select(deletions).where(deletions.c.storage_key.in_(given))
            rows = (await connection.execute(asked)).all()
        return [
            _due_mark(row, attempts=row.attempts)
            for row in rows
            if (row.storage_key, row.save_id) in saves
        ]

    async def mark_save(self, image: StoredImage, reason: str, due_at: datetime) -> None:
        """Mark one save."""
        async with self._engine.writing() as connection:
            await mark_saves(connection, [image], reason, due_at)

    async def count_deleted(self, images: Sequence[StoredImage]) -> int:
        """Count the images that are marked because they, or their run, were deleted."""
        async with self._engine.reading() as connection:
            given = among(connection, [image.key for image in images])
            asked = sa.select(deletions.c.storage_key, deletions.c.save_id).where(
                deletions.c.storage_key.in_(given), deletions.c.reason == DELETED
            )
            marked = {tuple(row) for row in (await connection.execute(asked)).all()}
        return sum((image.key, image.save_id) in marked for image in images)

    async def mark_orphans(self, images: Sequence[StoredImage]) -> Sequence[StorageKey]:
        """Mark those of the images that no row names; they are due at once.

        Returns:
            The keys of those that were marked.
        """
        async with self._engine.writing() as connection:
            known = await known_keys(connection, [image.key for image in images])
            marked = [image for image in images if image.key not in known]
            await mark_saves(connection, marked, ORPHAN, now())
        return [image.key for image in marked]


async def _remove_resources(connection: AsyncConnection, deleted: Sequence[uuid.UUID]) -> None:
    """Remove the rows of deleted resources; their sources now rely on no copy any more."""
    gone = resources.c.id.in_(deleted), resources.c.deleted_at.is_not(None)
    hashes = sa.select(resources.c.content_hash).where(*gone).scalar_subquery()
    for queue in (deletions, dead_letters):
        sources = (
            sa.select(queue.c.id)
            .where(queue.c.reason == RELOCATED, queue.c.content_hash.in_(hashes))
            # Never wait for a mark while holding others; one that is left out is checked.
            .with_for_update(skip_locked=True)
        )
        ids = (await connection.execute(sources)).scalars().all()
        if ids:
            await connection.execute(
                sa.update(queue).where(queue.c.id.in_(ids)).values(reason=DELETED)
            )
    await connection.execute(sa.delete(resources).where(*gone))


def _ingested_in_place() -> sa.Select[Any]:
    """Select the images that are being ingested in place."""
    return sa.select(intents.c.source_key).where(intents.c.resource_id == IN_PLACE)


async def _find_ingested(connection: AsyncConnection) -> set[StorageKey]:
    return set((await connection.execute(_ingested_in_place())).scalars())


def _is_due() -> sa.ColumnElement[bool]:
    lease = deletions.c.lease_until
    is_free = sa.or_(lease.is_(None), lease < now())
    return sa.and_(deletions.c.due_at <= clock.earliest(), is_free)


async def _with_hashes(
    connection: AsyncConnection, hashes: Sequence[bytes]
) -> dict[bytes, MediaResource]:
    """The resources with these bytes, also those whose deletion is due."""
    if not hashes:
        return {}
    asked = select_resources().where(resources.c.content_hash.in_(hashes))
    found = [resource_of(row) for row in (await connection.execute(asked)).all()]
    return {resource.content_hash: resource for resource in found}


def _due_mark(row: sa.Row[Any], *, attempts: int, copy: MediaResource | None = None) -> DueMark:
    return DueMark(
        id=row.id,
        storage_key=row.storage_key,
        save_id=row.save_id,
        reason=row.reason,
        created_at=row.created_at,
        due_at=row.due_at,
        attempts=attempts,
        content_hash=row.content_hash,
        copy=copy,
    )
