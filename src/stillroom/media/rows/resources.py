"""Rows of `media_resources`: the images of the library. The order of locks: `statements.py`."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.errors import ResourceNotFound, ResourceProtected
from stillroom.media.resource import (
    DELETED,
    Change,
    Mark,
    MediaResource,
    ResourcePage,
    ResourceQuery,
    now,
)
from stillroom.media.rows.engine import RowsEngine
from stillroom.media.rows.full_text import bounds_of, matching
from stillroom.media.rows.intents import end_intent, require_intent
from stillroom.media.rows.library_words import reword
from stillroom.media.rows.marks import cancel_marks_at, write_mark
from stillroom.media.rows.statements import (
    await_healing,
    insert_into,
    is_indexed_in,
    keys_with_resource,
    resource_of,
    select_resources,
    values_of,
)
from stillroom.media.rows.tables import deletions, resources, search_images, tags
from stillroom.paths import StorageKey
from stillroom.storage.values import StoredImage


class ResourceRows:
    """Resources of one library."""

    def __init__(self, engine: RowsEngine) -> None:
        """Use `engine`; its maker closes it."""
        self._engine = engine

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
        return resource_of(row)

    async def find_by_hash(self, content_hash: bytes) -> MediaResource | None:
        """The resource with these bytes, also if its deletion is due."""
        wanted = select_resources().where(resources.c.content_hash == content_hash)
        async with self._engine.reading() as connection:
            row = (await connection.execute(wanted)).one_or_none()
        return None if row is None else resource_of(row)

    async def page(self, query: ResourceQuery) -> ResourcePage:
        """A page of the library, newest first; what is being deleted is not on it."""
        asked, identity = _live().limit(query.limit + 1), resources.c.id
        if query.tags:
            # The index of tags has what is wanted in the order of the page.
            first = tags.alias()
            asked = asked.join(first, first.c.resource_id == resources.c.id)
            asked, identity = asked.where(first.c.tag == query.tags[0]), first.c.resource_id
        asked = asked.order_by(identity.desc())
        wanted = [*matching(query.facts, is_sqlite=self._engine.is_sqlite)]
        if wanted := [*wanted, *bounds_of(query.facts)]:
            asked = asked.join(search_images, is_indexed_in(search_images)).where(*wanted)
        for tag in query.tags[1:]:
            asked = asked.where(_has(tag))
        for tag in query.without_tags:
            asked = asked.where(~_has(tag))
        if query.after is not None:
            asked = asked.where(identity < query.after)
        asked = asked.where(*_conditions(query))
        async with self._engine.reading() as connection:
            rows = (await connection.execute(asked)).all()
        return ResourcePage(
            [resource_of(row) for row in rows[: query.limit]], more=len(rows) > query.limit
        )

    async def in_order(self, *, after: uuid.UUID | None, limit: int) -> Sequence[MediaResource]:
        """A page of all resources, by id, also of those whose deletion is due."""
        asked = select_resources().order_by(resources.c.id).limit(limit)
        if after is not None:
            asked = asked.where(resources.c.id > after)
        async with self._engine.reading() as connection:
            rows = (await connection.execute(asked)).all()
        return [resource_of(row) for row in rows]

    async def recorded_in_place(self, images: Sequence[StoredImage]) -> set[StorageKey]:
        """The keys of those images under which a resource has its bytes."""
        async with self._engine.reading() as connection:
            return await keys_with_resource(connection, [image.key for image in images])

    async def add(
        self, resource: MediaResource, *, intent: StorageKey, source: Mark | None = None
    ) -> bool:
        """Make a resource, end the intent of its ingest, and mark the source, all or nothing.

        Args:
            resource: What was copied, or is recorded in place.
            intent: Its `media_key`.
            source: What is to be deleted some day, now that the library has a copy.

        Returns:
            False, and nothing is changed, if another resource has these bytes.

        Raises:
            IntentLost, MarkClaimed: as their names say; nothing is changed.
        """
        async with self._engine.writing() as connection:
            await cancel_marks_at(connection, resource.storage_key)
            await write_mark(connection, source)
            made = await connection.execute(
                insert_into(connection, resources)
                .values(values_of(resource))
                .on_conflict_do_nothing(index_elements=[resources.c.content_hash])
                .returning(resources.c.id)
            )
            if made.one_or_none() is None:
                await connection.rollback()
                return False
            await await_healing(connection, resource)
            await end_intent(connection, intent)
        return True

    async def keep(
        self,
        known: MediaResource,
        *,
        storage_key: StorageKey,
        save_id: str,
        source: Mark | None = None,
        skipped: StorageKey | None = None,
        in_place: StorageKey | None = None,
        revive: bool = True,
    ) -> MediaResource | None:
        """Keep a resource whose bytes were ingested again: a deletion that is due is cancelled.

        The intent of a copy that is relied on stays until its lease is over: another mover of
        this resource may still be copying, and its intent must be there even if the
        resource is deleted meanwhile.

        Args:
            known: The resource as it was read, its bytes found at `storage_key` since.
            storage_key: Where its bytes are from now on. If that is another place than before, and
                below `media/`, it needs the intent that was made for it.
            save_id: Of the save there.
            source: As in `add`.
            skipped: A key below `compute/` that is not to be deleted after all.
            in_place: The `media_key` of the intent of an ingest in place, which ends here.
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
                await cancel_marks_at(connection, key)
            await write_mark(connection, source)
            found = await connection.execute(
                select_resources().where(resources.c.id == known.id).with_for_update()
            )
            row = found.one_or_none()
            current = None if row is None else resource_of(row)
            if (
                current is None
                or current.storage_key not in (known.storage_key, storage_key)
                or (current.deleted_at is not None and not (revive and cancelled.rowcount))
            ):
                await connection.rollback()
                return None
            if storage_key.is_media and current.storage_key != storage_key:
                await require_intent(connection, storage_key)
            await connection.execute(
                sa.update(resources)
                .where(resources.c.id == known.id)
                .values(storage_key=storage_key, save_id=save_id, deleted_at=None)
            )
            if in_place is not None:
                await end_intent(connection, in_place)
            await connection.run_sync(reword, [known.storage_key, storage_key])
            changed = select_resources().where(resources.c.id == known.id)
            return resource_of((await connection.execute(changed)).one())

    async def change(
        self,
        resource_id: uuid.UUID,
        change: Change,
        *,
        only_unset: bool = False,
        check: Callable[[MediaResource], None] | None = None,
    ) -> MediaResource:
        """Set what a change names.

        Args:
            resource_id: Of the resource.
            change: The new values.
            only_unset: Leave alone what has a value. The statement that writes decides that, so
                that of several changes at once the first stands.
            check: Is shown the resource that is about to be changed, and raises if it must not be.

        Raises:
            ResourceNotFound: there is none, or its deletion is due.
            Exception: what `check` raises; nothing is changed then.
        """
        values = change.values
        if only_unset:
            values = {
                name: sa.func.coalesce(resources.c[name], sa.literal(value, resources.c[name].type))
                for name, value in values.items()
                if value is not None
            }
        if not values and check is None:
            return await self.find(resource_id)
        async with self._engine.writing() as connection:
            if check is not None:
                await _locked(connection, resource_id)
                await _check(connection, resource_id, check)
            if values:
                await connection.execute(
                    sa.update(resources)
                    .where(resources.c.id == resource_id, resources.c.deleted_at.is_(None))
                    .values(values)
                )
            changed = _live().where(resources.c.id == resource_id)
            row = (await connection.execute(changed)).one_or_none()
            if row is not None and not values.keys().isdisjoint(("alt_text", "caption")):
                await connection.run_sync(reword, [row.storage_key])
        if row is None:
            raise ResourceNotFound
        return resource_of(row)

    async def delete(
        self,
        resource_id: uuid.UUID,
        *,
        due_at: datetime,
        check: Callable[[MediaResource], None] | None = None,
    ) -> MediaResource:
        """Make a resource's deletion due; what was recorded in place only leaves the library.

        Args:
            resource_id: Of the resource.
            due_at: When its bytes may go.
            check: As of `change`.

        Raises:
            ResourceNotFound: there is none, or its deletion is due already.
            ResourceProtected: as its name says.
            Exception: what `check` raises; nothing is changed then.
        """
        while True:
            found = await self.find(resource_id)
            async with self._engine.writing() as connection:
                if found.storage_key.is_media:
                    mark = Mark(found.storage_key, found.save_id, DELETED, due_at, found.id)
                    await write_mark(connection, mark)
                current = await _locked(connection, resource_id)
                if check is not None:
                    await _check(connection, resource_id, check)
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
                    await connection.run_sync(reword, [current.storage_key])
                return current


async def _locked(connection: AsyncConnection, resource_id: uuid.UUID) -> MediaResource:
    found = await connection.execute(_live().where(resources.c.id == resource_id).with_for_update())
    row = found.one_or_none()
    if row is None:
        raise ResourceNotFound
    return resource_of(row)


async def _check(
    connection: AsyncConnection, resource_id: uuid.UUID, check: Callable[[MediaResource], None]
) -> None:
    """Show a locked resource, read again: PostgreSQL's view of its tags may be older."""
    asked = _live().where(resources.c.id == resource_id)
    check(resource_of((await connection.execute(asked)).one()))


def _live() -> sa.Select[Any]:
    return select_resources().where(resources.c.deleted_at.is_(None))


def _conditions(query: ResourceQuery) -> Iterator[sa.ColumnElement[bool]]:
    """What is asked for of the columns of a resource."""
    for column, value in (
        (resources.c.content_hash, query.content_hash),
        (resources.c.content_type, query.content_type),
        (resources.c.resource_type, query.resource_type),
    ):
        if value is not None:
            yield column == value
    if query.source_keys:
        yield resources.c.source_key.in_(query.source_keys)
    if query.created_from is not None:
        yield resources.c.created_at >= query.created_from
    if query.created_before is not None:
        yield resources.c.created_at < query.created_before


def _has(tag: str) -> sa.Exists:
    other = tags.alias()
    return sa.exists().where(other.c.resource_id == resources.c.id, other.c.tag == tag)
