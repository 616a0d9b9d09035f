"""Database rows of the trash. Each row has a pending deletion, which deletes the file.

A transaction locks rows of pending deletions before rows of the trash.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from stillroom.errors import BackendUnavailable
from stillroom.features.database import leases
from stillroom.features.database.clock import now
from stillroom.features.database.engine import Rows
from stillroom.features.database.statements import insert_into
from stillroom.features.library.resource import ERASED, TRASH
from stillroom.features.library.rows.tables import deletions
from stillroom.features.runs.manifest import MANIFEST_NAME
from stillroom.features.trash.tables import trash
from stillroom.paths import StorageKey


class TrashedFile(NamedTuple):
    """File in the trash: a row of the table `media_trash`, whose columns `tables.py` describes."""

    id: uuid.UUID
    trash_id: uuid.UUID
    path: str
    storage_key: StorageKey
    place: StorageKey
    save_id: str
    sha256: bytes | None
    size: int
    content_type: str
    deleted_at: datetime
    purge_at: datetime
    actor: str | None

    @property
    def is_of_run(self) -> bool:
        """True if the file belongs to a deleted run, as an image or as the manifest."""
        return self.path.endswith("/")

    @property
    def is_manifest(self) -> bool:
        """True for the manifest of a deleted run."""
        return self.storage_key.text.endswith(f"/{MANIFEST_NAME}")


_COLUMNS: Final = [trash.c[name] for name in TrashedFile._fields]
_IS_MANIFEST: Final = sa.type_coerce(trash.c.storage_key, sa.String).endswith(f"/{MANIFEST_NAME}")
_SHARED: Final = ("path", "content_type", "deleted_at", "purge_at", "actor", "place")
_ENTRIES: Final[sa.Select[Any]] = (
    sa.select(
        trash.c.trash_id,
        *(sa.func.min(trash.c[name], type_=trash.c[name].type).label(name) for name in _SHARED),
        sa.cast(sa.func.sum(trash.c.size), sa.BigInteger).label("size"),
        sa.func.count(sa.case((~_IS_MANIFEST, 1))).label("images"),
    )
    .group_by(trash.c.trash_id)
    .order_by(trash.c.trash_id.desc())
)


class TrashRows(Rows):
    """Database rows of the trash."""

    async def add(self, file: TrashedFile) -> StorageKey:
        """Insert a file's row and pending deletion, unless they exist. Return the trash key."""
        mark = {"id": file.id, "storage_key": file.place, "save_id": file.save_id, "reason": TRASH}
        mark |= {"created_at": file.deleted_at, "due_at": file.purge_at}
        mark |= {"content_hash": file.sha256}  # by which an erasure finds the file
        async with self._engine.writing() as connection:
            insert = insert_into(connection, deletions).values(mark)
            await connection.execute(insert.on_conflict_do_nothing())
            insert = insert_into(connection, trash).values(file._asdict())
            upsert = insert.on_conflict_do_update(
                index_elements=[trash.c.id], set_={"actor": insert.excluded.actor}
            )
            result = await connection.execute(upsert.returning(trash.c.place))
            place: StorageKey = result.scalar_one()
        return place

    async def cancel_others(self, file: TrashedFile) -> None:
        """Cancel the pending deletions that the image had before it was moved to the trash.

        If one of them is an erasure (docs/media.md), it is kept, and the file is due at once.
        """
        moved = deletions.c.storage_key == file.storage_key, deletions.c.save_id == file.save_id
        is_erased = sa.exists().where(*moved, deletions.c.reason == ERASED)
        others = *moved, deletions.c.reason != ERASED, leases.is_unclaimed(deletions)
        async with self._engine.writing() as connection:
            hasten = sa.update(deletions).where(deletions.c.id == file.id, is_erased)
            await connection.execute(hasten.values(due_at=now()))
            await connection.execute(sa.delete(deletions).where(*others))

    async def remove(self, files: Sequence[TrashedFile]) -> None:
        """Delete the rows of files that were deleted."""
        ids = [file.id for file in files]
        await self._execute(sa.delete(deletions).where(deletions.c.id.in_(ids)))

    async def page(
        self, before: uuid.UUID | None, limit: int, prefix: str
    ) -> Sequence[sa.Row[Any]]:
        """Return one row for each image or run that is older than the id `before`, newest first."""
        # LIKE would ignore case in SQLite.
        entries = _ENTRIES.where(sa.func.substr(trash.c.path, 1, len(prefix)) == prefix)
        if before is not None:
            entries = entries.where(trash.c.trash_id < before)
        return await self._read(entries.limit(limit))

    async def find(self, trash_id: uuid.UUID) -> Sequence[TrashedFile]:
        """Return the files with a trash id: one image, or all files of a run."""
        files = sa.select(*_COLUMNS).where(trash.c.trash_id == trash_id)
        return [TrashedFile(**row._asdict()) for row in await self._read(files)]

    async def find_oldest(self, after: uuid.UUID | None) -> Sequence[TrashedFile]:
        """Return the files of the oldest image or run, or of the oldest after the id `after`."""
        oldest = sa.select(trash.c.trash_id).order_by(trash.c.trash_id).limit(1)
        if after is not None:
            oldest = oldest.where(trash.c.trash_id > after)
        ids = await self._read(oldest)
        return await self.find(ids[0].trash_id) if ids else ()

    async def claim(self, claim: uuid.UUID, files: Sequence[TrashedFile], lease: timedelta) -> None:
        """Claim all files of an image or run, or raise `BackendUnavailable` if one is claimed."""
        ids = sa.select(trash.c.id).where(trash.c.trash_id == files[0].trash_id)
        free = sa.update(deletions).where(deletions.c.id.in_(ids), leases.is_free(deletions))
        async with self._engine.writing() as connection:
            claimed = await connection.execute(free.values(leases.claimed(claim, lease)))
            if claimed.rowcount != len(files):
                raise BackendUnavailable("it is being restored or deleted already: try again later")

    async def release(self, claim: uuid.UUID) -> None:
        """Release the claim on files that are still in the trash."""
        await self._execute(leases.release(deletions, claim))
