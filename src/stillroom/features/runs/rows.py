"""Database rows of published runs, and of unfinished deletions of runs.

A deletion that has a row is resumed after a crash. A transaction locks this row before any row in
the lock order of `features/library/rows/statements.py`.

The row of a published run shows that its event `run.published` was written. If a process crashes
before that, the client gets no response, and repeats the request.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.features.database import leases
from stillroom.features.database.changes import Change
from stillroom.features.database.engine import Rows
from stillroom.features.database.statements import insert_into, table_of
from stillroom.features.library.resource import DELETED, RunDeletion
from stillroom.features.library.rows.marks import mark_saves
from stillroom.features.library.rows.statements import keys_with_resource
from stillroom.features.runs.tables import run_deletions, run_publications
from stillroom.paths import ImagePath, KeyPrefix, StorageKey, folders_of, image_entry
from stillroom.store import causes
from stillroom.store.values import StoredImage

_COLUMNS: Final = tuple(run_deletions.c[field.name] for field in fields(RunDeletion))

_START: Final[dict[str, object]] = {"after": "", "marked": 0, "kept": 0, "newer": 0}


class RunRows(Rows):
    """Database rows of published runs, and of the deletions of runs."""

    async def begin(
        self,
        folder: str,
        claim: uuid.UUID,
        *,
        saved_until: datetime,
        lease: timedelta,
        trash_id: uuid.UUID | None = None,
    ) -> RunDeletion | None:
        """Insert and claim the deletion of a run, or return None if another process has claimed it.

        If the deletion already has a row, it restarts. Of the old and new `saved_until`, the later
        time is used. The old trash id is kept, but removed if `trash_id` is None.
        """
        start = _START | leases.claimed(claim, lease)
        async with self._engine.writing() as connection:
            insert = insert_into(connection, run_deletions)
            new, old = insert.excluded.saved_until, run_deletions.c.saved_until
            new_id, old_id = insert.excluded.trash_id, run_deletions.c.trash_id
            upserted = await connection.execute(
                insert.values(folder=folder, saved_until=saved_until, trash_id=trash_id, **start)
                .on_conflict_do_update(
                    index_elements=[run_deletions.c.folder],
                    set_={
                        **start,
                        "saved_until": sa.case((old > new, old), else_=new),
                        "trash_id": sa.case(
                            (new_id.is_(None), None), else_=sa.func.coalesce(old_id, new_id)
                        ),
                    },
                    where=leases.is_free(run_deletions),
                )
                .returning(*_COLUMNS)
            )
            row = upserted.one_or_none()
        return None if row is None else _deletion(row)

    async def claim(self, claim: uuid.UUID, *, lease: timedelta) -> RunDeletion | None:
        """Claim and return a deletion that no other process has claimed, or None if none exists."""
        free = sa.select(run_deletions.c.folder).where(leases.is_free(run_deletions))
        oldest = free.order_by(run_deletions.c.saved_until).limit(1)
        folder = oldest.with_for_update(skip_locked=True).scalar_subquery()
        update = sa.update(run_deletions).where(run_deletions.c.folder == folder)
        update = update.values(leases.claimed(claim, lease))
        claimed = await self._execute(update.returning(*_COLUMNS))
        return _deletion(claimed[0]) if claimed else None

    async def mark(
        self,
        claim: uuid.UUID,
        images: Sequence[StoredImage],
        *,
        newer: int,
        due_at: datetime,
        after: str,
        lease: timedelta,
        is_trashed: bool = False,
    ) -> bool:
        """Mark one page of a run's images for deletion, record the progress and renew the claim.

        `images` were saved at `saved_until` or earlier. `newer` is the number of images on the page
        that were saved later. With `is_trashed`, the images are in the trash, and only counted.
        Return False, without any change, if another process has claimed the deletion.
        """
        async with self._engine.writing() as connection:
            in_use = await keys_with_resource(connection, [image.key for image in images])
            marked = [image for image in images if image.key not in in_use]
            numbers = {"marked": len(marked), "kept": len(in_use), "newer": newer}
            sums = {name: run_deletions.c[name] + number for name, number in numbers.items()}
            values = {"after": after, **sums}
            is_ours = await leases.renew(connection, run_deletions, claim, lease, **values)
            if is_ours and not is_trashed:
                await mark_saves(connection, marked, DELETED, due_at)
        return is_ours

    async def end(self, claim: uuid.UUID) -> RunDeletion | None:
        """Delete and return the row of a finished deletion. Return None if the claim is lost."""
        delete = sa.delete(run_deletions).where(leases.is_ours(run_deletions, claim))
        async with self._engine.writing() as connection:
            row = (await connection.execute(delete.returning(*_COLUMNS))).one_or_none()
            if row is None:
                return None
            ended = _deletion(row)
            await connection.execute(
                sa.delete(run_publications).where(run_publications.c.folder == ended.folder)
            )
            folder = image_entry(ended.folder).rstrip("/")
            await self._report(connection, "run.deleted", folder, ended.marked)
        return ended

    async def release(self, claim: uuid.UUID) -> None:
        """Release the claim on a deletion, so that any process can claim it at once."""
        await self._execute(leases.release(run_deletions, claim))

    async def under_way(self) -> Sequence[RunDeletion]:
        """Return all unfinished deletions of runs."""
        statement = sa.select(*_COLUMNS).order_by(run_deletions.c.folder)
        return [_deletion(row) for row in await self._read(statement)]

    async def take(self, under_way: Sequence[RunDeletion]) -> None:
        """Insert unfinished deletions from another database. They start from the beginning."""
        async with self._engine.writing() as connection:
            for deletion in under_way:
                await connection.execute(
                    insert_into(connection, run_deletions)
                    .values(folder=deletion.folder, saved_until=deletion.saved_until, **_START)
                    .on_conflict_do_nothing(index_elements=[run_deletions.c.folder])
                )

    async def is_deleting(self, folders: Sequence[str]) -> bool:
        """Return whether a run in one of these folders (key prefixes) is being deleted."""
        statement = sa.select(run_deletions.c.folder).where(run_deletions.c.folder.in_(folders))
        return bool(await self._read(statement.limit(1)))

    async def note_publication(self, folder: ImagePath, save_id: str, count: int) -> None:
        """Write the event `run.published`, unless this version of the manifest already has one."""
        key = KeyPrefix.of_folder(folder).text
        known = sa.select(run_publications.c.save_id).where(run_publications.c.folder == key)
        if [row.save_id for row in await self._read(known)] == [save_id]:
            return
        async with self._engine.writing() as connection:
            insert = insert_into(connection, run_publications).values(folder=key, save_id=save_id)
            changed = await connection.execute(
                insert.on_conflict_do_update(
                    index_elements=[run_publications.c.folder],
                    set_={"save_id": insert.excluded.save_id},
                    where=run_publications.c.save_id != insert.excluded.save_id,
                ).returning(run_publications.c.folder)
            )
            if changed.one_or_none() is not None:
                await self._report(connection, "run.published", folder.text, count)

    async def _report(self, connection: AsyncConnection, kind: str, path: str, count: int) -> None:
        change = Change(kind, path, actor=causes.current.get().actor, data={"count": count})
        await self._engine.note_written(connection, change)


def _deletion(row: sa.Row[Any]) -> RunDeletion:
    return RunDeletion(**row._asdict())


def find_runs(connection: sa.Connection, keys: Iterable[StorageKey]) -> Mapping[StorageKey, str]:
    """Return the folders of published runs, by the keys of the images that they contain."""
    parents = {key: [f"{folder}/" for folder in folders_of(key.text)] for key in keys}
    rows = {(folder,) for folders in parents.values() for folder in folders}
    folders = sa.select(table_of(connection, ["folder"], rows).c.folder)
    query = sa.select(run_publications.c.folder).where(run_publications.c.folder.in_(folders))
    published = {*connection.execute(query).scalars()}
    runs = {key: published.intersection(folders) for key, folders in parents.items()}
    return {key: image_entry(min(run)).rstrip("/") for key, run in runs.items() if run}
