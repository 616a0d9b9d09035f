"""Transfer of database rows from one media library to another (`maintenance/row_transfer.py`).

Files are copied before their rows. `statements.py` documents the lock order.
"""

import dataclasses
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.features.database import leases
from stillroom.features.database.clock import new_id
from stillroom.features.database.engine import Rows
from stillroom.features.database.statements import insert_into
from stillroom.features.library.resource import DELETED, MediaResource
from stillroom.features.library.rows.statements import (
    await_healing,
    resource_of,
    select_resources,
    values_of,
)
from stillroom.features.library.rows.tables import (
    dead_letters,
    deletions,
    failed_deletions,
    resources,
)
from stillroom.features.library.rows.tags import change_tags
from stillroom.paths import StorageKey

QUEUES: Final = (deletions, failed_deletions)  # each row refers to one image version
Queue = sa.FromClause
QueueRow = Mapping[str, Any]  # pending deletion or dead letter: values by column name
Saves = set[tuple[StorageKey, str]]  # image versions: pairs of key and save id


class TransferOutcome(StrEnum):
    """Outcome of transferring one row."""

    NEW = "new"
    CHANGED = "changed"
    SAME = "same"
    OTHER = "other"  # unchanged, because another resource in the target has the same bytes
    SWEPT = "swept"  # unchanged, because a sweeper in the target has deleted the file, or soon will


@dataclass(frozen=True, slots=True)
class TransferredRow:
    """Result of a transfer. For `OTHER`, `other` is the id of the resource with the same bytes."""

    outcome: TransferOutcome
    other: uuid.UUID | None = None


class RowTransfer(Rows):
    """Database access to the rows of a library that is the source or target of a transfer."""

    async def take(
        self, incoming: Sequence[MediaResource], marked: Saves, *, dry_run: bool = False
    ) -> Sequence[TransferredRow]:
        """Insert resources from another library, or update resources that were transferred earlier.

        The caller has checked that the storage of this library contains the files of `incoming`.
        `marked` contains the file versions that had pending deletions before that check.
        """
        keys = sorted({resource.storage_key for resource in incoming}, key=lambda key: key.text)
        ids = [resource.id for resource in incoming]
        hashes = [resource.content_hash for resource in incoming]
        known = select_resources().where(
            sa.or_(resources.c.id.in_(ids), resources.c.content_hash.in_(hashes))
        )
        async with self._engine.reading() if dry_run else self._engine.writing() as connection:
            # A claimed deletion may delete its file at any moment. A pending deletion that no
            # longer exists may have deleted its file after the file was checked.
            unclaimed = leases.is_unclaimed(deletions)
            waiting = await _saves(connection, deletions, keys, unclaimed, locked=not dry_run)
            claimed = await _saves(connection, deletions, keys) - waiting
            swept = {key for key, _ in claimed | (marked - waiting)}
            rows = (await connection.execute(known)).all()
            by_id = {row.id: resource_of(row) for row in rows}
            by_hash = {row.content_hash: row.id for row in rows}
            transferred = [
                TransferredRow(TransferOutcome.SWEPT)
                if resource.storage_key in swept
                else _compare(resource, by_id.get(resource.id), by_hash.get(resource.content_hash))
                for resource in incoming
            ]
            if not dry_run:
                for resource, row in zip(incoming, transferred, strict=True):
                    await self._write(connection, resource, row.outcome)
                await self._engine.note_changed(connection, keys)
        return transferred

    async def _write(
        self, connection: AsyncConnection, resource: MediaResource, outcome: TransferOutcome
    ) -> None:
        values = values_of(resource)
        if outcome is TransferOutcome.NEW:
            # If a concurrent ingest has inserted the same bytes, the next transfer reports it.
            insert = insert_into(connection, resources).values(values).on_conflict_do_nothing()
            inserted = await connection.execute(insert.returning(resources.c.id))
            if inserted.one_or_none() is not None:
                await change_tags(connection, resource.id, lambda _: frozenset(resource.tags))
                await await_healing(connection, resource)
        elif outcome is TransferOutcome.CHANGED:
            for name in resource.COMPUTED:
                value = sa.literal(values[name], sa.String())
                values[name] = sa.func.coalesce(value, resources.c[name])
            await connection.execute(
                sa.update(resources).where(resources.c.id == resource.id).values(values)
            )
            await change_tags(connection, resource.id, lambda _: frozenset(resource.tags))

    async def remembered(self, queue: Queue, *, limit: int) -> AsyncIterator[Sequence[QueueRow]]:
        """Yield pages of pending deletions, or of dead letters of deletions, sorted by id."""
        async for rows in self._pages(sa.select(queue), queue.c.id, limit=limit):
            yield [row._asdict() for row in rows]

    async def saves(self, queue: Queue, keys: Sequence[StorageKey]) -> Saves:
        """Return those file versions at these keys whose deletion is pending or has failed."""
        async with self._engine.reading() as connection:
            return await _saves(connection, queue, keys)

    async def remember(self, queue: Queue, incoming: Sequence[QueueRow]) -> int:
        """Insert pending deletions or dead letters from another library. Return their number.

        If the deletion of a resource's file is inserted, the resource is deleted, too.
        """
        keys = [row["storage_key"] for row in incoming]
        table = deletions if queue is deletions else dead_letters
        async with self._engine.writing() as connection:
            known = await _saves(connection, queue, keys)
            fresh = [row for row in incoming if (row["storage_key"], row["save_id"]) not in known]
            deleted = {
                row["storage_key"]: row["created_at"]
                for row in fresh
                if row["reason"] == DELETED and row["storage_key"].is_media
            }
            owners: dict[StorageKey, uuid.UUID] = {}
            if queue is deletions:
                columns = (resources.c.storage_key, resources.c.id)
                owned = sa.select(*columns).where(resources.c.storage_key.in_([*deleted]))
                found = await connection.execute(owned.order_by(resources.c.id))
                owners = {row.storage_key: row.id for row in found.all()}
            for row in fresh:
                values = {name: row[name] for name in row if name in table.c} | {"id": new_id()}
                if queue is deletions:
                    values |= leases.RELEASED
                    values["resource_id"] = owners.get(row["storage_key"])
                else:
                    values["payload"] = {**row["payload"], "save_id": row["save_id"]}
                await connection.execute(
                    insert_into(connection, table).values(values).on_conflict_do_nothing()
                )
            for key, owner in owners.items():  # after the deletions, because of the lock order
                await connection.execute(
                    sa.update(resources)
                    .where(resources.c.id == owner)
                    .values(deleted_at=sa.func.coalesce(resources.c.deleted_at, deleted[key]))
                )
        return len(fresh)

    async def forget(self, queue: Queue, ids: Sequence[uuid.UUID]) -> int:
        """Delete transferred rows that no sweeper has claimed. Return the number of these rows."""
        statement = sa.delete(dead_letters).where(dead_letters.c.id.in_(ids))
        if queue is deletions:
            statement = sa.delete(deletions).where(
                deletions.c.id.in_(ids), leases.is_unclaimed(deletions)
            )
        async with self._engine.writing() as connection:
            return int((await connection.execute(statement)).rowcount)


def _compare(
    incoming: MediaResource, known: MediaResource | None, owner: uuid.UUID | None
) -> TransferredRow:
    if known is not None:
        # Keep metadata that was computed here but not yet in the source library.
        computed = {
            name: getattr(incoming, name) or getattr(known, name) for name in incoming.COMPUTED
        }
        # Generation metadata is in the search index of each library, and not transferred.
        incoming = dataclasses.replace(incoming, generation=known.generation, **computed)
        is_same = known == incoming
        return TransferredRow(TransferOutcome.SAME if is_same else TransferOutcome.CHANGED)
    if owner is not None:
        return TransferredRow(TransferOutcome.OTHER, owner)
    return TransferredRow(TransferOutcome.NEW)


async def _saves(
    connection: AsyncConnection,
    queue: Queue,
    keys: Sequence[StorageKey],
    *conditions: sa.ColumnElement[bool],
    locked: bool = False,
) -> Saves:
    columns = (queue.c.storage_key, queue.c.save_id)
    statement = sa.select(*columns).where(queue.c.storage_key.in_(keys), *conditions)
    if locked:
        statement = statement.order_by(*columns).with_for_update()
    return {(row.storage_key, row.save_id) for row in (await connection.execute(statement)).all()}
