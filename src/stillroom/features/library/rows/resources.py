"""Table `media_resources`: images and videos of the media library.

`statements.py` documents the lock order.
"""

import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.errors import ResourceNotFound, ResourceProtected
from stillroom.features.database.clock import now
from stillroom.features.database.engine import Rows
from stillroom.features.database.leases import is_unclaimed
from stillroom.features.database.statements import insert_into
from stillroom.features.library.resource import (
    DELETED,
    ERASED,
    Change,
    Intent,
    Mark,
    MediaResource,
    ResourcePage,
    ResourceQuery,
)
from stillroom.features.library.rows.changes import CHANGED, GONE, INGESTED, change_of
from stillroom.features.library.rows.intents import end_intent, require_intent
from stillroom.features.library.rows.marks import cancel_marks_at, write_mark
from stillroom.features.library.rows.statements import (
    await_healing,
    is_indexed_in,
    keys_with_resource,
    resource_of,
    select_resources,
    values_of,
)
from stillroom.features.library.rows.tables import deletions, resources, tags
from stillroom.features.search.full_text import bounds_of, matching
from stillroom.features.search.tables import search_images
from stillroom.features.search.values import BEHIND_ALL
from stillroom.paths import StorageKey
from stillroom.store.values import StoredImage


class ResourceRows(Rows):
    """Database access to the resources of the media library."""

    async def find(self, resource_id: uuid.UUID) -> MediaResource:
        """Return a resource. Raise `ResourceNotFound` if it does not exist or was deleted."""
        resource = await self._find(_live().where(resources.c.id == resource_id))
        if resource is None:
            raise ResourceNotFound
        return resource

    async def find_by_hash(self, content_hash: bytes) -> MediaResource | None:
        """Return the resource with this SHA-256, or None. Deleted resources are included."""
        return await self._find(select_resources().where(resources.c.content_hash == content_hash))

    async def _find(self, statement: sa.Select[Any]) -> MediaResource | None:
        rows = await self._read(statement)
        return resource_of(rows[0]) if rows else None

    async def page(self, query: ResourceQuery) -> ResourcePage:
        """Return a page of resources that were not deleted, newest first."""
        statement, identity = _live().limit(query.limit + 1), resources.c.id
        if query.tags:
            # The index on tags contains the matching resources in page order.
            first = tags.alias()
            statement = statement.join(first, first.c.resource_id == resources.c.id)
            statement, identity = statement.where(first.c.tag == query.tags[0]), first.c.resource_id
        statement = statement.order_by(identity.desc())
        statement = statement.where(
            *map(_has, query.tags[1:]), *(~_has(tag) for tag in query.without_tags)
        )
        if query.after is not None:
            statement = statement.where(identity < query.after)
        statement = statement.where(*_conditions(query, is_sqlite=self._engine.is_sqlite))
        async with self._engine.reading() as connection:
            terms = await self._engine.expand(connection, query.facts)
            facts = [*matching(terms, is_sqlite=self._engine.is_sqlite), *bounds_of(terms)]
            if facts:
                is_indexed = is_indexed_in(search_images)
                statement = statement.join(search_images, is_indexed).where(*facts)
            found = [resource_of(row) for row in (await connection.execute(statement)).all()]
        return ResourcePage(found[: query.limit], more=len(found) > query.limit)

    async def in_order(self, *, limit: int) -> AsyncIterator[Sequence[MediaResource]]:
        """Yield pages of all resources, sorted by id, including deleted resources."""
        async for rows in self._pages(select_resources(), resources.c.id, limit=limit):
            yield [resource_of(row) for row in rows]

    async def count(self) -> int:
        """Return the number of all resources, including deleted resources."""
        (row,) = await self._read(sa.select(sa.func.count(resources.c.id)))
        return int(row[0])

    async def recorded_in_place(self, images: Sequence[StoredImage]) -> set[StorageKey]:
        """Return the keys of those `images` that resources use as their files, without a copy."""
        async with self._engine.reading() as connection:
            return await keys_with_resource(connection, [image.key for image in images])

    async def add(
        self, resource: MediaResource, *, intent: StorageKey, source: Mark | None = None
    ) -> bool:
        """Insert a resource, delete its ingest intent, and schedule the deletion of the source.

        `source` is the pending deletion of the source image, or None if the library has no copy of
        the image. Return False, without any change, if another resource has the same bytes.

        Raises:
            IntentLost: a sweeper has claimed the intent. Nothing is changed.
            MarkClaimed: a sweeper is deleting the source image. Nothing is changed.
        """
        async with self._engine.writing() as connection:
            await cancel_marks_at(connection, resource.storage_key)
            await write_mark(connection, source)
            inserted = await connection.execute(
                insert_into(connection, resources)
                .values(values_of(resource))
                .on_conflict_do_nothing(index_elements=[resources.c.content_hash])
                .returning(resources.c.id)
            )
            if inserted.one_or_none() is None:
                await connection.rollback()
                return False
            await await_healing(connection, resource)
            await end_intent(connection, intent)
            await self._engine.note_written(connection, change_of(INGESTED, resource))
        return True

    async def keep(
        self,
        known: MediaResource,
        *,
        file: StoredImage | None = None,
        source: Mark | None = None,
        in_place: Intent | None = None,
        revive: bool = True,
    ) -> MediaResource | None:
        """Keep a resource whose bytes were ingested again, and cancel its pending deletion.

        The row that announced the copy (its intent) is kept until its lease expires: another ingest
        of the same bytes may still be copying, and needs it if this resource is deleted meanwhile.

        Args:
            known: The resource, read before its file was checked.
            file: New file of the resource; by default, the file of `known`. A new key below
                `media/` requires an intent.
            source: Pending deletion of the source if the library has a copy; else None.
            in_place: Intent of an ingest without a copy. This method deletes it, and cancels a
                pending deletion of the source.
            revive: If False, a deleted resource stays deleted.

        Return the current resource. If the resource no longer exists, has a new storage key or must
        not be revived, nothing is changed, and the result is None. The caller then restarts the
        ingest. Raises the same errors as `add`.
        """
        storage_key, save_id = known.storage_key, known.save_id
        if file is not None:
            storage_key, save_id = file.key, file.save_id
        used = {storage_key} if in_place is None else {storage_key, in_place.source_key}
        async with self._engine.writing() as connection:
            cancelled = await connection.execute(
                sa.delete(deletions).where(
                    deletions.c.resource_id == known.id, is_unclaimed(deletions)
                )
            )
            for key in sorted(used, key=lambda key: key.text):
                await cancel_marks_at(connection, key)
            await write_mark(connection, source)
            this = select_resources().where(resources.c.id == known.id)
            row = (await connection.execute(this.with_for_update())).one_or_none()
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
                await end_intent(connection, in_place.media_key)
            await self._engine.note_changed(connection, [known.storage_key, storage_key])
            kept = resource_of((await connection.execute(this)).one())
            if replace(current, save_id=save_id) != kept:  # a save of the same bytes is no change
                kind = CHANGED if current.deleted_at is None else INGESTED
                await self._engine.note_written(connection, change_of(kind, kept))
            return kept

    async def change(
        self,
        resource_id: uuid.UUID,
        change: Change,
        *,
        only_unset: bool = False,
        check: Callable[[MediaResource], None] | None = None,
    ) -> MediaResource:
        """Change fields of a resource; see `MediaResourceService.change`.

        With `only_unset`, the UPDATE checks that a field is null, also if changes are concurrent.
        """
        values = change
        if only_unset:
            values = {
                name: sa.func.coalesce(resources.c[name], sa.literal(value, resources.c[name].type))
                for name, value in change.items()
                if value is not None
            }
        if not values and check is None:
            return await self.find(resource_id)
        this = _live().where(resources.c.id == resource_id)
        async with self._engine.writing() as connection:
            before = changed = await lock_resource(connection, resource_id)
            if check is not None:
                check(before)
            if values:
                await connection.execute(
                    sa.update(resources)
                    .where(resources.c.id == resource_id, resources.c.deleted_at.is_(None))
                    .values(values)
                )
                changed = resource_of((await connection.execute(this)).one())
            if not values.keys().isdisjoint(("alt_text", "caption")):
                await self._engine.note_changed(connection, [changed.storage_key])
            if changed != before:
                await self._engine.note_written(connection, change_of(CHANGED, changed))
        return changed

    async def delete(
        self,
        resource_id: uuid.UUID,
        *,
        due_at: datetime,
        check: Callable[[MediaResource], None] | None = None,
        erases: bool = False,
    ) -> MediaResource:
        """Delete a resource, and schedule the deletion of its copy below `media/`, if it has one.

        With `erases`, also schedule the deletion of a file that was not copied. `check` is called
        with the resource before the deletion. Raises `ResourceNotFound`, `ResourceProtected` or the
        error of `check`. After an error, nothing is changed.
        """
        while True:
            known = await self.find(resource_id)
            async with self._engine.writing() as connection:
                if known.storage_key.is_media or erases:
                    reason = DELETED if known.storage_key.is_media else ERASED
                    sha256, source = known.content_hash if erases else None, known.source_key
                    mark = Mark(known.storage_key, known.save_id, reason, due_at, known.id)
                    mark = replace(mark, content_hash=sha256, source_key=source)
                    await write_mark(connection, mark, erases=erases)
                current = await lock_resource(connection, resource_id)
                if check is not None:
                    check(current)
                if current.protected:
                    raise ResourceProtected
                this = resources.c.id == resource_id
                if (current.storage_key, current.save_id) != (known.storage_key, known.save_id):
                    await connection.rollback()  # the file has moved, so the key is wrong
                    continue
                if current.storage_key.is_media:
                    await connection.execute(
                        sa.update(resources).where(this).values(deleted_at=now())
                    )
                else:
                    await connection.execute(sa.delete(resources).where(this))
                    await self._engine.note_changed(connection, [current.storage_key])
                    await self._engine.note_written(connection, change_of(GONE, current))
                return current


async def lock_resource(connection: AsyncConnection, resource_id: uuid.UUID) -> MediaResource:
    """Lock and return a resource. Raise `ResourceNotFound` if it does not exist or was deleted."""
    this = resources.c.id == resource_id, resources.c.deleted_at.is_(None)
    locked = await connection.execute(sa.select(resources.c.id).where(*this).with_for_update())
    if locked.one_or_none() is None:
        raise ResourceNotFound
    # A second statement, because the first statement may read tags from before the lock.
    return resource_of((await connection.execute(select_resources().where(*this))).one())


def _live() -> sa.Select[Any]:
    return select_resources().where(resources.c.deleted_at.is_(None))


def _conditions(query: ResourceQuery, *, is_sqlite: bool) -> Iterator[sa.ColumnElement[bool]]:
    for column, value in (
        (resources.c.content_hash, query.content_hash),
        (resources.c.content_type, query.content_type),
        (resources.c.resource_type, query.resource_type),
    ):
        if value is not None:
            yield column == value
    if query.source_keys:
        yield resources.c.source_key.in_(query.source_keys)
    if query.source_prefix is not None:
        prefix = query.source_prefix.text
        both = resources.c.source_key, resources.c.storage_key
        keys: list[sa.ColumnElement[str]] = [sa.type_coerce(key, sa.String) for key in both]
        if not is_sqlite:
            keys = [sa.collate(key, "C") for key in keys]  # the columns may not have byte order
        yield sa.or_(*(sa.and_(key >= prefix, key < prefix + BEHIND_ALL) for key in keys))
    if query.created_from is not None:
        yield resources.c.created_at >= query.created_from
    if query.created_before is not None:
        yield resources.c.created_at < query.created_before


def _has(tag: str) -> sa.Exists:
    other = tags.alias()
    return sa.exists().where(other.c.resource_id == resources.c.id, other.c.tag == tag)
