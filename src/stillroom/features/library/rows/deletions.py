"""Table `media_deletions`: pending deletions, which sweepers (background jobs) execute.

A sweeper claims pending deletions for a limited time, the lease. If the sweeper crashes, another
sweeper can claim them after the lease has ended. `statements.py` documents the lock order.
"""

import uuid
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.features.database import clock, leases
from stillroom.features.database.clock import now
from stillroom.features.database.engine import Rows
from stillroom.features.database.statements import among
from stillroom.features.library.resource import (
    DELETED,
    ERASED,
    IN_PLACE,
    ORPHAN,
    RELOCATED,
    TRASH,
    DueMark,
    MarkClaimed,
    MediaResource,
    Settlement,
)
from stillroom.features.library.rows.changes import change_of_copy, change_of_failure
from stillroom.features.library.rows.marks import bury_mark, mark_saves
from stillroom.features.library.rows.statements import (
    keys_with_resource,
    known_in,
    known_keys,
    resource_of,
    select_resources,
)
from stillroom.features.library.rows.tables import (
    dead_letters,
    deletions,
    failed_deletions,
    intents,
    resources,
)
from stillroom.features.search.rows import SearchRows
from stillroom.features.search.values import Removed
from stillroom.paths import StorageKey
from stillroom.store.values import StoredImage

_COLUMNS: Final = [deletions.c[field.name] for field in fields(DueMark) if field.name != "copy"]
_INGESTED_IN_PLACE: Final = sa.select(intents.c.source_key).where(intents.c.resource_id == IN_PLACE)
_BEFORE_ALL: Final = datetime(2000, 1, 1, tzinfo=UTC)


class DeletionRows(Rows):
    """Database access to pending deletions."""

    async def claim(
        self, claim: uuid.UUID, *, limit: int, lease: timedelta, leaving: Collection[str] = ()
    ) -> tuple[Sequence[DueMark], Sequence[DueMark]]:
        """Claim due deletions, which can then no longer be cancelled. `claim` is the claim's id.

        Deletions are not claimed if their reason is in `leaving`, or if the image is being ingested
        without a copy (see `require_unclaimed`). Return the claimed deletions, and the deletions
        that were cancelled instead, because a resource uses the files.

        The same transaction deletes the rows of deleted resources. Until then, an ingest of
        identical bytes restores the deleted resource. Later ingests create a new resource.
        """
        async with self._engine.writing() as connection:
            marks = await _lock_due(connection, limit=limit, leaving=leaving)
            # Read resources after intents: an ingest deletes its intent and inserts its resource.
            copies = await _find_by_hashes(
                connection, [mark.content_hash for mark in marks if mark.content_hash is not None]
            )
            if deleted := [mark.resource_id for mark in marks if mark.resource_id is not None]:
                await _remove_resources(connection, deleted)
            in_use = await keys_with_resource(connection, [mark.storage_key for mark in marks])
            orphans = [mark.storage_key for mark in marks if mark.reason == ORPHAN]
            in_use |= await known_in(connection, orphans, intents.c.media_key)
            # Other resources at the key of an erased one have other bytes, which are kept.
            in_use -= {mark.storage_key for mark in marks if mark.reason == ERASED}
            skipped = [mark for mark in marks if mark.storage_key in in_use]
            claimed = [mark for mark in marks if mark.storage_key not in in_use]
            if skipped:
                await connection.execute(
                    sa.delete(deletions).where(deletions.c.id.in_([mark.id for mark in skipped]))
                )
            if claimed:
                await connection.execute(
                    sa.update(deletions)
                    .where(deletions.c.id.in_([mark.id for mark in claimed]))
                    .values(**leases.claimed(claim, lease), attempts=deletions.c.attempts + 1)
                )
        marks = [
            replace(mark, attempts=mark.attempts + 1, copy=copies.get(mark.content_hash))
            for mark in claimed
        ]
        return marks, skipped

    async def settle(self, claim: uuid.UUID, settlement: Settlement) -> None:
        """Store the outcomes of claimed deletions. Skip deletions that were claimed again."""
        ours = leases.is_ours(deletions, claim)
        changes = []
        async with self._engine.writing() as connection:
            settled: set[uuid.UUID] = set()
            if settlement.done:
                done = await connection.execute(
                    sa.delete(deletions)
                    .where(deletions.c.id.in_(settlement.done), ours)
                    .returning(deletions.c.id)
                )
                settled.update(done.scalars())
            for mark in settlement.left:
                await self._release(connection, mark, ours, attempts=mark.attempts - 1)
            for mark, error, due_at in settlement.retried:
                retry = {"attempts": mark.attempts, "due_at": due_at, "last_error": error}
                await self._release(connection, mark, ours, **retry)
            for mark, error in settlement.dead_lettered:
                removed = await connection.execute(
                    sa.delete(deletions).where(deletions.c.id == mark.id, ours)
                )
                if removed.rowcount:
                    await bury_mark(connection, mark, error)
                    changes.append(change_of_failure(mark, error))
            # The comparison of storage and index then does not report these deletions again.
            gone = [
                Removed(mark.storage_key, at_ns, mark.cause) for mark, at_ns in settlement.deleted
            ]
            if gone:
                await connection.run_sync(SearchRows(self._engine).remove, gone)
            bytes_gone = [
                mark.storage_key
                for mark, _ in settlement.deleted
                if mark.id in settled and (mark.storage_key.is_media or mark.reason == ERASED)
            ]
            await connection.run_sync(self._engine.note_stale, bytes_gone, by_library=True)
            copies = [change_of_copy(mark) for mark, _ in settlement.deleted if mark.id in settled]
            changes += [change for change in copies if change is not None]
            await self._engine.note_written(connection, *changes)

    async def _release(
        self,
        connection: AsyncConnection,
        mark: DueMark,
        ours: sa.ColumnElement[bool],
        **values: object,
    ) -> None:
        # The row of a resource with a media key is deleted, so its deletion cannot be cancelled.
        values |= leases.ENDED if mark.storage_key.is_media else leases.RELEASED
        await connection.execute(
            sa.update(deletions).where(deletions.c.id == mark.id, ours).values(**values)
        )

    async def require_unclaimed(self, key: StorageKey) -> None:
        """Raise `MarkClaimed` if a sweeper may be deleting the image at `key`.

        The method waits for transactions that are claiming the deletion. Later claims skip the
        image, because the caller has committed an ingest intent for it.
        """
        async with self._engine.writing() as connection:
            marks = await connection.execute(
                sa.select(leases.is_unclaimed(deletions))
                .where(deletions.c.storage_key == key)
                .with_for_update(read=True)
            )
            if not all(marks.scalars()):
                raise MarkClaimed

    async def hasten(self, resource_id: uuid.UUID) -> Sequence[DueMark]:
        """Make the pending deletions of a deleted resource and its sources due before all others.

        Return these deletions, including deletions of files in the trash with the same hash.
        """
        key, gone = deletions.c.storage_key, resources.c.deleted_at.is_not(None)
        # If the file was recorded in place, its deletion has the id of the resource.
        own = sa.or_(key.like(StorageKey(f"media/{resource_id}/%")), deletions.c.id == resource_id)
        hashes = (
            sa.select(resources.c.content_hash).where(resources.c.id == resource_id, gone),
            sa.select(deletions.c.content_hash).where(own),
        )
        async with self._engine.writing() as connection:
            known, marked = [await connection.scalar(sha256) for sha256 in hashes]
            sha256 = known or marked or b""
            # A new resource may have the bytes of one that is gone.
            reasons = [DELETED, ERASED, TRASH, *([RELOCATED] if known else [])]
            source = deletions.c.content_hash == sha256, deletions.c.reason.in_(reasons)
            these = sa.or_(own, sa.and_(*source))
            values = {
                "reason": sa.case(
                    (deletions.c.reason == TRASH, TRASH),
                    (key.like(StorageKey("media/%")), DELETED),
                    else_=ERASED,
                ),
                "attempts": 0,  # a repeated request must not use them up
                "content_hash": sha256 or None,
                "due_at": _BEFORE_ALL,
            }
            free = these, leases.is_free(deletions)
            await connection.execute(sa.update(deletions).where(*free).values(values))
            rows = (await connection.execute(sa.select(*_COLUMNS).where(these))).all()
        return [DueMark(**row._asdict()) for row in rows]

    async def has_any(self, ids: Collection[uuid.UUID]) -> bool:
        """Return whether at least one of these pending deletions exists."""
        return bool(await self._read(sa.select(deletions.c.id).where(deletions.c.id.in_(ids))))

    async def due(self, *, limit: int) -> AsyncIterator[Sequence[DueMark]]:
        """Yield pages of pending deletions that are due and not claimed, oldest first."""
        order = deletions.c.due_at, deletions.c.id
        statement = sa.select(*_COLUMNS).where(_is_due())
        async for rows in self._pages(statement, *order, limit=limit):
            yield [DueMark(**row._asdict()) for row in rows]

    async def of_saves(self, images: Sequence[StoredImage]) -> Sequence[DueMark]:
        """Return all pending deletions of these exact versions of images."""
        saves = {(image.key, image.save_id) for image in images}
        async with self._engine.reading() as connection:
            keys = among(connection, [image.key for image in images])
            statement = sa.select(*_COLUMNS).where(deletions.c.storage_key.in_(keys))
            rows = (await connection.execute(statement)).all()
        marks = [DueMark(**row._asdict()) for row in rows]
        return [mark for mark in marks if (mark.storage_key, mark.save_id) in saves]

    async def mark_save(self, image: StoredImage, reason: str, due_at: datetime) -> datetime:
        """Schedule the deletion of this version of an image. Return the due time.

        If a deletion with an earlier due time was already pending, that time is kept and returned.
        """
        this = deletions.c.storage_key == image.key, deletions.c.save_id == image.save_id
        async with self._engine.writing() as connection:
            if await mark_saves(connection, [image], reason, due_at):
                return due_at
            found = await connection.execute(sa.select(deletions.c.due_at).where(*this))
            return found.scalar() or due_at

    async def mark_orphans(self, images: Sequence[StoredImage]) -> Sequence[StorageKey]:
        """Schedule the immediate deletion of images to which no row refers. Return their keys."""
        async with self._engine.writing() as connection:
            known = await known_keys(connection, [image.key for image in images])
            marked = [image for image in images if image.key not in known]
            await mark_saves(connection, marked, ORPHAN, now())
        return [image.key for image in marked]


async def _lock_due(
    connection: AsyncConnection, *, limit: int, leaving: Collection[str]
) -> Sequence[DueMark]:
    due = (
        sa.select(*_COLUMNS)
        .where(_is_due(), deletions.c.storage_key.not_in(_INGESTED_IN_PLACE))
        .order_by(deletions.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    if leaving:
        due = due.where(deletions.c.reason.not_in(leaving))
    marks = [DueMark(**row._asdict()) for row in (await connection.execute(due)).all()]
    # Read the intents again: PostgreSQL had read them before it locked the rows.
    ingested = await _find_ingested(connection)
    return [mark for mark in marks if mark.storage_key not in ingested]


async def _find_ingested(connection: AsyncConnection) -> set[StorageKey]:
    return set((await connection.execute(_INGESTED_IN_PLACE)).scalars())


async def _remove_resources(connection: AsyncConnection, deleted: Sequence[uuid.UUID]) -> None:
    # With the reason `DELETED`, the sources are deleted without a copy in the library.
    gone = resources.c.id.in_(deleted), resources.c.deleted_at.is_not(None)
    found = await connection.execute(sa.select(resources.c.content_hash).where(*gone))
    hashes = found.scalars().all()
    marks = _sources(deletions, hashes)
    if rows := (await connection.execute(marks)).all():
        ids = [row.id for row in rows]
        await connection.execute(
            sa.update(deletions).where(deletions.c.id.in_(ids)).values(reason=DELETED)
        )
    letters = _sources(failed_deletions, [content_hash.hex() for content_hash in hashes])
    for row in (await connection.execute(letters)).all():
        await connection.execute(
            sa.update(dead_letters)
            .where(dead_letters.c.id == row.id)
            .values(payload={**row.payload, "reason": DELETED})
        )
    await connection.execute(sa.delete(resources).where(*gone))


def _sources(queue: sa.FromClause, hashes: Sequence[object]) -> sa.Select[Any]:
    relocated = queue.c.reason == RELOCATED, queue.c.content_hash.in_(hashes)
    # Do not wait for a locked row while holding locks; the sweeper checks skipped rows.
    return sa.select(queue).where(*relocated).with_for_update(skip_locked=True)


def _is_due() -> sa.ColumnElement[bool]:
    return sa.and_(deletions.c.due_at <= clock.CLOCK.earliest(), leases.is_free(deletions))


async def _find_by_hashes(
    connection: AsyncConnection, hashes: Sequence[bytes]
) -> dict[bytes | None, MediaResource]:
    if not hashes:
        return {}
    statement = select_resources().where(resources.c.content_hash.in_(hashes))
    rows = (await connection.execute(statement)).all()
    return {row.content_hash: resource_of(row) for row in rows}
