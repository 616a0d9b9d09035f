"""Every statement about the media library's rows.

Each public method is one transaction. Those that change something take locks in one order (marks,
then resources, then intents), and a condition that must hold stands in the statement itself, so
that two processes cannot both believe it.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.errors import ResourceNotFound, ResourceProtected
from stillroom.media.resource import (
    DELETED,
    RELOCATED,
    UNCHANGED,
    Change,
    Intent,
    IntentLost,
    Mark,
    MarkClaimed,
    MediaResource,
    ResourcePage,
    ResourceQuery,
    new_id,
    now,
)
from stillroom.media.rows.deletions import DeletionQueue
from stillroom.media.rows.engine import RowsEngine
from stillroom.media.rows.tables import deletions, intents, resources
from stillroom.paths import StorageKey


class MediaRepository:
    """The rows of one library."""

    def __init__(self, engine: RowsEngine) -> None:
        """Use `engine`, and close it in the end."""
        self._engine = engine
        self.queue = DeletionQueue(engine)

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.close()

    # Reading -----------------------------------------------------------------------------

    async def check(self) -> None:
        """Return if the database answers.

        A SQLite is as well as the disk that it lies on, and a look at it would make two files.

        Raises:
            BackendUnavailable: it does not.
        """
        if self._engine.is_sqlite:
            return
        async with self._engine.reading() as connection:
            await connection.execute(sa.select(1))

    async def find(self, resource_id: uuid.UUID) -> MediaResource:
        """The resource with this id.

        Raises:
            ResourceNotFound: there is none, or its deletion is due.
        """
        found = resources.c.id == resource_id
        async with self._engine.reading() as connection:
            row = (await connection.execute(_live().where(found))).one_or_none()
        if row is None:
            raise ResourceNotFound
        return _resource(row)

    async def find_by_hash(self, content_hash: bytes) -> MediaResource | None:
        """The resource with these bytes, also if its deletion is due."""
        wanted = sa.select(resources).where(resources.c.content_hash == content_hash)
        async with self._engine.reading() as connection:
            row = (await connection.execute(wanted)).one_or_none()
        return None if row is None else _resource(row)

    async def page(self, query: ResourceQuery) -> ResourcePage:
        """A page of the library, newest first; what is being deleted is not on it."""
        asked = _live().order_by(resources.c.id.desc()).limit(query.limit + 1)
        for column, value in (
            (resources.c.content_hash, query.content_hash),
            (resources.c.content_type, query.content_type),
            (resources.c.resource_type, query.resource_type),
        ):
            if value is not None:
                asked = asked.where(column == value)
        if query.after is not None:
            asked = asked.where(resources.c.id < query.after)
        if query.created_from is not None:
            asked = asked.where(resources.c.created_at >= query.created_from)
        if query.created_before is not None:
            asked = asked.where(resources.c.created_at < query.created_before)
        async with self._engine.reading() as connection:
            rows = (await connection.execute(asked)).all()
        return ResourcePage(
            [_resource(row) for row in rows[: query.limit]], more=len(rows) > query.limit
        )

    async def in_order(self, *, after: uuid.UUID | None, limit: int) -> Sequence[MediaResource]:
        """A page of all resources, by id, also of those whose deletion is due."""
        asked = sa.select(resources).order_by(resources.c.id).limit(limit)
        if after is not None:
            asked = asked.where(resources.c.id > after)
        async with self._engine.reading() as connection:
            rows = (await connection.execute(asked)).all()
        return [_resource(row) for row in rows]

    # Ingest ------------------------------------------------------------------------------

    async def intend(self, intent: Intent) -> bool:
        """Remember a copy before it is made; the same one again only has a longer lease.

        Returns:
            False if the sweeper is clearing an earlier copy under this key away.
        """
        insert = self._insert(intents).values(
            media_key=intent.media_key,
            resource_id=intent.resource_id,
            source_key=intent.source_key,
            created_at=now(),
            lease_until=intent.lease_until,
        )
        upsert = insert.on_conflict_do_update(
            index_elements=[intents.c.media_key],
            set_={"lease_until": insert.excluded.lease_until},
            where=~intents.c.sweeping,
        ).returning(intents.c.media_key)
        async with self._engine.writing() as connection:
            return (await connection.execute(upsert)).one_or_none() is not None

    async def release(self, media_key: StorageKey) -> None:
        """Leave a copy to the sweeper, from now on."""
        async with self._engine.writing() as connection:
            await connection.execute(
                sa.update(intents)
                .where(intents.c.media_key == media_key, ~intents.c.sweeping)
                .values(lease_until=now())
            )

    async def forget(self, media_key: StorageKey) -> None:
        """Remove the intent of a copy that was certainly not made."""
        async with self._engine.writing() as connection:
            await connection.execute(
                sa.delete(intents).where(intents.c.media_key == media_key, ~intents.c.sweeping)
            )

    async def add(self, resource: MediaResource, *, source: Mark | None = None) -> bool:
        """Make a resource, end the intent of its copy, and mark the source, all or nothing.

        Args:
            resource: With a key below `media/` it needs the intent that was made for that key.
            source: What is to be deleted some day, now that the library has a copy.

        Returns:
            False, and nothing is changed, if another resource has these bytes.

        Raises:
            IntentLost, MarkClaimed: as their names say; nothing is changed.
        """
        async with self._engine.writing() as connection:
            await self._take_back_marks(connection, resource.storage_key)
            await self._mark(connection, source)
            made = await connection.execute(
                self._insert(resources)
                .values(_values(resource))
                .on_conflict_do_nothing(index_elements=[resources.c.content_hash])
                .returning(resources.c.id)
            )
            if made.one_or_none() is None:
                await connection.rollback()
                return False
            if resource.storage_key.is_media:
                await self._end_intent(connection, resource.storage_key)
        return True

    async def keep(
        self,
        known: MediaResource,
        *,
        storage_key: StorageKey,
        save_id: str,
        source: Mark | None = None,
        skipped: StorageKey | None = None,
        revive: bool = True,
    ) -> MediaResource | None:
        """Keep a resource whose bytes came once more: a deletion that is due is cancelled.

        The intent of a copy that is relied on stays until its lease is over: another mover of
        this resource may still be copying, and what it makes must be remembered even if the
        resource is deleted meanwhile.

        Args:
            known: The resource as it was read, its bytes found at `storage_key` since.
            storage_key: Where its bytes are from now on. If that is another place than before, and
                below `media/`, it needs the intent that was made for it.
            save_id: Of the save there.
            source: As in `add`.
            skipped: A key below `compute/` that is not to be deleted after all.
            revive: False: a resource whose deletion is due stays deleted.

        Returns:
            The resource as it is now; None, and nothing is changed, if it is gone or has
            moved meanwhile, or may not be revived: start again.

        Raises:
            IntentLost, MarkClaimed: as in `add`.
        """
        async with self._engine.writing() as connection:
            cancelled = await connection.execute(
                sa.delete(deletions).where(
                    deletions.c.resource_id == known.id, deletions.c.claimed_by.is_(None)
                )
            )
            for key in sorted({storage_key, skipped or storage_key}, key=lambda key: key.text):
                await self._take_back_marks(connection, key)
            await self._mark(connection, source)
            found = await connection.execute(
                sa.select(resources).where(resources.c.id == known.id).with_for_update()
            )
            row = found.one_or_none()
            current = None if row is None else _resource(row)
            if (
                current is None
                or current.storage_key not in (known.storage_key, storage_key)
                or (current.deleted_at is not None and not (revive and cancelled.rowcount))
            ):
                await connection.rollback()
                return None
            if storage_key.is_media and current.storage_key != storage_key:
                await self._rely_on_intent(connection, storage_key)
            changed = await connection.execute(
                sa.update(resources)
                .where(resources.c.id == known.id)
                .values(storage_key=storage_key, save_id=save_id, deleted_at=None)
                .returning(resources)
            )
            return _resource(changed.one())

    async def _end_intent(self, connection: AsyncConnection, media_key: StorageKey) -> None:
        ended = await connection.execute(
            sa.delete(intents).where(intents.c.media_key == media_key, ~intents.c.sweeping)
        )
        if ended.rowcount == 0:
            raise IntentLost

    async def _rely_on_intent(self, connection: AsyncConnection, media_key: StorageKey) -> None:
        found = await connection.execute(
            sa.select(intents.c.media_key)
            .where(intents.c.media_key == media_key, ~intents.c.sweeping)
            .with_for_update()
        )
        if found.one_or_none() is None:
            raise IntentLost

    async def _take_back_marks(self, connection: AsyncConnection, key: StorageKey) -> None:
        """What a resource is about to need where it lies is not to be deleted any more."""
        if key.is_media:
            return  # such a key is marked for its own resource only
        await connection.execute(
            sa.delete(deletions).where(
                deletions.c.storage_key == key, deletions.c.claimed_by.is_(None)
            )
        )
        claimed = await connection.execute(
            sa.select(deletions.c.id).where(deletions.c.storage_key == key)
        )
        if claimed.first() is not None:
            raise MarkClaimed

    async def _mark(self, connection: AsyncConnection, mark: Mark | None) -> None:
        """Remember a deletion; the same save is marked once, and stays due when it first was.

        A source that is relocated was perhaps marked for another reason, which relies on no copy.
        """
        if mark is None:
            return
        insert = self._insert(deletions)
        await connection.execute(
            insert.values(
                id=new_id(),
                storage_key=mark.storage_key,
                save_id=mark.save_id,
                reason=mark.reason,
                resource_id=mark.resource_id,
                content_hash=mark.content_hash,
                created_at=now(),
                due_at=mark.due_at,
            ).on_conflict_do_update(
                index_elements=[deletions.c.storage_key, deletions.c.save_id],
                set_={
                    "reason": insert.excluded.reason,
                    "content_hash": insert.excluded.content_hash,
                },
                where=insert.excluded.reason == RELOCATED,
            )
        )

    # Changing ----------------------------------------------------------------------------

    async def change(self, resource_id: uuid.UUID, change: Change) -> MediaResource:
        """Set what a change names.

        Raises:
            ResourceNotFound: there is none, or its deletion is due.
        """
        given = {"alt_text": change.alt_text, "caption": change.caption}
        given["protected"] = change.protected
        values = {name: value for name, value in given.items() if value is not UNCHANGED}
        if not values:
            return await self.find(resource_id)
        async with self._engine.writing() as connection:
            changed = await connection.execute(
                sa.update(resources)
                .where(resources.c.id == resource_id, resources.c.deleted_at.is_(None))
                .values(values)
                .returning(resources)
            )
            row = changed.one_or_none()
        if row is None:
            raise ResourceNotFound
        return _resource(row)

    async def delete(self, resource_id: uuid.UUID, *, due_at: datetime) -> MediaResource:
        """Make a resource's deletion due; what was recorded in place only leaves the library.

        Raises:
            ResourceNotFound: there is none, or its deletion is due already.
            ResourceProtected: as its name says.
        """
        while True:
            found = await self.find(resource_id)
            async with self._engine.writing() as connection:
                if found.storage_key.is_media:
                    mark = Mark(found.storage_key, found.save_id, DELETED, due_at, found.id)
                    await self._mark(connection, mark)
                current = await self._locked(connection, resource_id)
                if current.protected:
                    raise ResourceProtected
                this = resources.c.id == resource_id
                if (current.storage_key, current.save_id) != (found.storage_key, found.save_id):
                    await connection.rollback()  # moved meanwhile: that mark would be wrong
                    continue
                if current.storage_key.is_media:
                    await connection.execute(
                        sa.update(resources).where(this).values(deleted_at=now())
                    )
                else:
                    await connection.execute(sa.delete(resources).where(this))
                return current

    async def _locked(self, connection: AsyncConnection, resource_id: uuid.UUID) -> MediaResource:
        found = await connection.execute(
            _live().where(resources.c.id == resource_id).with_for_update()
        )
        row = found.one_or_none()
        if row is None:
            raise ResourceNotFound
        return _resource(row)

    def _insert(self, table: sa.Table) -> Any:  # noqa: ANN401  (one of two classes with the same methods)
        return sqlite.insert(table) if self._engine.is_sqlite else postgresql.insert(table)


def _live() -> sa.Select[Any]:
    return sa.select(resources).where(resources.c.deleted_at.is_(None))


def _values(resource: MediaResource) -> dict[str, object]:
    return {column.name: getattr(resource, column.name) for column in resources.columns}


def _resource(row: sa.Row[Any]) -> MediaResource:
    return MediaResource(**row._asdict())
