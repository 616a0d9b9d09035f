"""Every statement about what is to be deleted: marks, left intents, dead letters.

The same rules as in `repository.py`: each public method is one transaction, and locks are taken
in one order: marks, then resources, then intents. A claim holds a lease; what a dead sweeper
has claimed is another's when that is over.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.errors import DeadLetterNotFound
from stillroom.media.resource import (
    DELETED,
    EXPIRED,
    ORPHAN,
    RELOCATED,
    ClaimedIntents,
    ClaimedMarks,
    DeadLetter,
    DueMark,
    MediaResource,
    QueueNumbers,
    Settlement,
    new_id,
    now,
)
from stillroom.media.rows.engine import RowsEngine
from stillroom.media.rows.tables import dead_letters, deletions, intents, resources, scans
from stillroom.paths import StorageKey
from stillroom.storage.values import StoredImage

_EXPIRY: Final = "expiry"


class DeletionQueue:
    """What a sweeper needs of the rows."""

    def __init__(self, engine: RowsEngine) -> None:
        """Use `engine`; its maker closes it."""
        self._engine = engine

    # Marks -------------------------------------------------------------------------------

    async def claim_marks(self, claim: uuid.UUID, *, limit: int, lease: timedelta) -> ClaimedMarks:
        """Claim marks that are due; from here on they cannot be cancelled.

        The row of a deleted resource goes in the same transaction: before it equal bytes keep
        the resource, and after it they make another one.

        Args:
            claim: Of this call alone; `settle` wants it.
            limit: Most marks.
            lease: After this others may take them.
        """
        moment = now()
        due = (
            sa.select(deletions)
            .where(_is_due(moment))
            .order_by(deletions.c.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        async with self._engine.writing() as connection:
            rows = (await connection.execute(due)).all()
            copies = await _with_hashes(
                connection, [row.content_hash for row in rows if row.content_hash is not None]
            )
            if deleted := [row.resource_id for row in rows if row.resource_id is not None]:
                await self._remove(connection, deleted)
            needed = await _needed(connection, [row.storage_key for row in rows])
            copied = await _intended(
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

    async def _remove(self, connection: AsyncConnection, deleted: Sequence[uuid.UUID]) -> None:
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

    async def settle(self, claim: uuid.UUID, settlement: Settlement) -> None:
        """Say what became of claimed marks; what others have taken since is left alone."""
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
                await self._bury(connection, mark, ours, error)

    async def _release(
        self,
        connection: AsyncConnection,
        mark: DueMark,
        ours: sa.ColumnElement[bool],
        **values: object,
    ) -> None:
        values["lease_until"] = None
        if (
            not mark.storage_key.is_media
        ):  # there the row is gone, and the deletion cannot be cancelled
            values["claimed_by"] = None
        await connection.execute(
            sa.update(deletions).where(deletions.c.id == mark.id, ours).values(**values)
        )

    async def _bury(
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
        await connection.execute(
            sa.insert(dead_letters).values(
                id=mark.id,
                storage_key=mark.storage_key,
                save_id=mark.save_id,
                reason=mark.reason,
                content_hash=mark.content_hash,
                created_at=mark.created_at,
                failed_at=now(),
                attempts=mark.attempts,
                last_error=error,
            )
        )

    async def due(self, *, after: DueMark | None, limit: int) -> Sequence[DueMark]:
        """A page of what is due and unclaimed, the longest due first; nothing is taken."""
        asked = sa.select(deletions).where(_is_due(now()))
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

    # Orphans -----------------------------------------------------------------------------

    async def unknown(self, keys: Sequence[StorageKey]) -> Sequence[StorageKey]:
        """Those of the keys that nothing here remembers: no resource, intent, mark or letter."""
        async with self._engine.reading() as connection:
            known = await _known(connection, keys)
        return [key for key in keys if key not in known]

    async def mark_orphans(self, images: Sequence[StoredImage]) -> Sequence[StorageKey]:
        """Mark those of the images that nothing remembers yet; they are due at once.

        Returns:
            The keys of those that were marked.
        """
        async with self._engine.writing() as connection:
            known = await _known(connection, [image.key for image in images])
            marked = [image for image in images if image.key not in known]
            for image in marked:
                await self._mark(connection, image, ORPHAN, now())
        return [image.key for image in marked]

    # Expiry ------------------------------------------------------------------------------

    async def claim_scan(self, claim: uuid.UUID, *, lease: timedelta) -> str | None:
        """Take over the search for what has expired.

        Returns:
            The key behind which to go on, empty for the start; None if another process is at it, or
            it is not time yet.
        """
        moment = now()
        free = sa.or_(scans.c.lease_until.is_(None), scans.c.lease_until < moment)
        async with self._engine.writing() as connection:
            await connection.execute(
                self._insert(scans)
                .values(name=_EXPIRY, after="", next_at=moment)
                .on_conflict_do_nothing(index_elements=[scans.c.name])
            )
            taken = await connection.execute(
                sa.update(scans)
                .where(scans.c.name == _EXPIRY, scans.c.next_at <= moment, free)
                .values(claimed_by=claim, lease_until=moment + lease)
                .returning(scans.c.after)
            )
            after: str | None = taken.scalar_one_or_none()
        return after

    async def mark_expired(
        self,
        claim: uuid.UUID,
        images: Sequence[StoredImage],
        *,
        due_at: datetime,
        after: str,
        lease: timedelta,
    ) -> Sequence[StorageKey] | None:
        """Mark those of the images that no resource has in place, and say how far it has come.

        What was given up is left to people.

        Returns:
            The keys of those that were not marked before; None, and nothing is changed, if
            another process has taken the search over.
        """
        async with self._engine.writing() as connection:
            kept = await connection.execute(
                sa.update(scans)
                .where(scans.c.name == _EXPIRY, scans.c.claimed_by == claim)
                .values(after=after, lease_until=now() + lease)
            )
            if kept.rowcount == 0:
                return None
            keys = [image.key for image in images]
            needed = await _needed(connection, keys)
            given_up = await connection.execute(
                sa.select(dead_letters.c.storage_key, dead_letters.c.save_id).where(
                    dead_letters.c.storage_key.in_(keys)
                )
            )
            left_alone = {tuple(row) for row in given_up.all()}
            return [
                image.key
                for image in images
                if image.key not in needed
                and (image.key, image.save_id) not in left_alone
                and await self._mark(connection, image, EXPIRED, due_at)
            ]

    async def end_scan(self, claim: uuid.UUID, *, next_at: datetime | None) -> None:
        """Leave the search to others: from the start at `next_at`, or from here at once."""
        values: dict[str, object] = {"claimed_by": None, "lease_until": None}
        if next_at is not None:
            values |= {"after": "", "next_at": next_at}
        async with self._engine.writing() as connection:
            await connection.execute(
                sa.update(scans)
                .where(scans.c.name == _EXPIRY, scans.c.claimed_by == claim)
                .values(**values)
            )

    async def _mark(
        self, connection: AsyncConnection, image: StoredImage, reason: str, due_at: datetime
    ) -> bool:
        """Whether this very save was not marked before."""
        made = await connection.execute(
            self._insert(deletions)
            .values(
                id=new_id(),
                storage_key=image.key,
                save_id=image.save_id,
                reason=reason,
                created_at=now(),
                due_at=due_at,
            )
            .on_conflict_do_nothing(index_elements=[deletions.c.storage_key, deletions.c.save_id])
            .returning(deletions.c.id)
        )
        return made.one_or_none() is not None

    # Intents -----------------------------------------------------------------------------

    async def claim_intents(self, *, limit: int, lease: timedelta) -> ClaimedIntents:
        """Take intents whose makers are gone; from here on no ingest relies on their copies.

        An intent whose key a resource has is no more than a remnant, and is removed.
        """
        moment = now()
        left = (
            sa.select(intents.c.media_key)
            .where(intents.c.lease_until < moment)
            .order_by(intents.c.lease_until)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        async with self._engine.writing() as connection:
            keys = [row.media_key for row in (await connection.execute(left)).all()]
            needed = await _needed(connection, keys)
            if needed:
                await connection.execute(
                    sa.delete(intents).where(intents.c.media_key.in_(list(needed)))
                )
            taken = [key for key in keys if key not in needed]
            if taken:
                await connection.execute(
                    sa.update(intents)
                    .where(intents.c.media_key.in_(taken))
                    .values(sweeping=True, lease_until=moment + lease)
                )
        return ClaimedIntents(taken, [key for key in keys if key in needed], moment + lease)

    async def end_intents(self, keys: Sequence[StorageKey], *, lease_until: datetime) -> None:
        """Forget claimed intents whose copies are gone, unless others have taken them since."""
        async with self._engine.writing() as connection:
            await connection.execute(
                sa.delete(intents).where(
                    intents.c.media_key.in_(keys),
                    intents.c.sweeping,
                    intents.c.lease_until == lease_until,
                )
            )

    # Dead letters ------------------------------------------------------------------------

    async def dead_letters(self, *, after: uuid.UUID | None, limit: int) -> Sequence[DeadLetter]:
        """A page of what was given up, newest first."""
        asked = sa.select(dead_letters).order_by(dead_letters.c.id.desc()).limit(limit)
        if after is not None:
            asked = asked.where(dead_letters.c.id < after)
        async with self._engine.reading() as connection:
            rows = (await connection.execute(asked)).all()
        return [DeadLetter(**row._asdict()) for row in rows]

    async def retry(self, dead_letter_id: uuid.UUID) -> DeadLetter:
        """Make a mark of a dead letter again, due at once; all is checked again when it goes.

        Raises:
            DeadLetterNotFound: as its name says.
        """
        async with self._engine.writing() as connection:
            dead_letter = await self._take(connection, dead_letter_id)
            await connection.execute(
                self._insert(deletions)
                .values(
                    id=dead_letter.id,
                    storage_key=dead_letter.storage_key,
                    save_id=dead_letter.save_id,
                    reason=dead_letter.reason,
                    content_hash=dead_letter.content_hash,
                    created_at=dead_letter.created_at,
                    due_at=now(),
                )
                .on_conflict_do_nothing(
                    index_elements=[deletions.c.storage_key, deletions.c.save_id]
                )
            )
        return dead_letter

    async def drop(self, dead_letter_id: uuid.UUID) -> DeadLetter:
        """Forget a dead letter; the bytes stay.

        Raises:
            DeadLetterNotFound: as its name says.
        """
        async with self._engine.writing() as connection:
            return await self._take(connection, dead_letter_id)

    async def _take(self, connection: AsyncConnection, dead_letter_id: uuid.UUID) -> DeadLetter:
        taken = await connection.execute(
            sa.delete(dead_letters)
            .where(dead_letters.c.id == dead_letter_id)
            .returning(dead_letters)
        )
        row = taken.one_or_none()
        if row is None:
            raise DeadLetterNotFound
        return DeadLetter(**row._asdict())

    # Numbers -----------------------------------------------------------------------------

    async def metrics(self) -> QueueNumbers:
        """How much is waiting, as of now."""
        moment = now()
        due = deletions.c.due_at <= moment
        asked = sa.select(
            _count(deletions).scalar_subquery().label("marks"),
            _count(deletions).where(due).scalar_subquery().label("due"),
            sa.select(sa.func.min(deletions.c.due_at, type_=deletions.c.due_at.type))
            .where(due)
            .scalar_subquery()
            .label("oldest_due_at"),
            _count(intents).scalar_subquery().label("intents"),
            _count(dead_letters).scalar_subquery().label("dead_letters"),
        )
        async with self._engine.reading() as connection:
            row = (await connection.execute(asked)).one()
        waited = timedelta(0) if row.oldest_due_at is None else moment - row.oldest_due_at
        return QueueNumbers(
            marks=row.marks,
            due=row.due,
            oldest_due=waited,
            intents=row.intents,
            dead_letters=row.dead_letters,
        )

    def _insert(self, table: sa.Table) -> Any:  # noqa: ANN401  (one of two classes with the same methods)
        return sqlite.insert(table) if self._engine.is_sqlite else postgresql.insert(table)


def _is_due(moment: datetime) -> sa.ColumnElement[bool]:
    lease = deletions.c.lease_until
    return sa.and_(deletions.c.due_at <= moment, sa.or_(lease.is_(None), lease < moment))


def _count(table: sa.Table) -> sa.Select[int]:
    return sa.select(sa.func.count()).select_from(table)


async def _with_hashes(
    connection: AsyncConnection, hashes: Sequence[bytes]
) -> dict[bytes, MediaResource]:
    """The resources with these bytes, also those whose deletion is due."""
    if not hashes:
        return {}
    asked = sa.select(resources).where(resources.c.content_hash.in_(hashes))
    found = [MediaResource(**row._asdict()) for row in (await connection.execute(asked)).all()]
    return {resource.content_hash: resource for resource in found}


async def _needed(connection: AsyncConnection, keys: Sequence[StorageKey]) -> set[StorageKey]:
    """Those of the keys under which a resource has its bytes."""
    if not keys:
        return set()
    asked = sa.select(resources.c.storage_key).where(resources.c.storage_key.in_(keys))
    return set((await connection.execute(asked)).scalars())


async def _intended(connection: AsyncConnection, keys: Sequence[StorageKey]) -> set[StorageKey]:
    """Those of the keys to which a copy is under way."""
    if not keys:
        return set()
    asked = sa.select(intents.c.media_key).where(intents.c.media_key.in_(keys))
    return set((await connection.execute(asked)).scalars())


async def _known(connection: AsyncConnection, keys: Sequence[StorageKey]) -> set[StorageKey]:
    """Those of the keys that any table remembers."""
    if not keys:
        return set()
    columns = (
        resources.c.storage_key,
        intents.c.media_key,
        deletions.c.storage_key,
        dead_letters.c.storage_key,
    )
    asked = sa.union(*(sa.select(column).where(column.in_(keys)) for column in columns))
    return set((await connection.execute(asked)).scalars())


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
