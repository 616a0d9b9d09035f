"""Moving rows of one library into another, after their bytes: see `maintenance/row_transfer.py`.

The order of locks: `statements.py`.
"""

import dataclasses
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.media.resource import DELETED, MediaResource, new_id
from stillroom.media.rows.engine import RowsEngine
from stillroom.media.rows.library_words import reword
from stillroom.media.rows.statements import (
    await_healing,
    insert_into,
    resource_of,
    select_resources,
    values_of,
)
from stillroom.media.rows.tables import dead_letters, deletions, resources
from stillroom.media.rows.tags import replace_tags
from stillroom.paths import StorageKey

QUEUES: Final = (deletions, dead_letters)
"""What names one save under one key: marks, and those that were given up."""

Queue = sa.Table

QueueRow = Mapping[str, Any]
"""A mark or a dead letter, by the names of its columns."""

Saves = set[tuple[StorageKey, str]]
"""Keys and save ids."""


class TransferOutcome(StrEnum):
    """What became of a row."""

    NEW = "new"
    CHANGED = "changed"
    SAME = "same"
    OTHER = "other"
    """Another resource here has its bytes; nothing was changed."""

    SWEPT = "swept"
    """A sweeper here is deleting the bytes under its key, or has since; nothing was changed."""


@dataclass(frozen=True, slots=True)
class TransferredRow:
    """What became of a resource, and which other one stands in its way."""

    taken: TransferOutcome
    other: uuid.UUID | None = None


class RowTransfer:
    """The rows of one library, of those that give and of those that take."""

    def __init__(self, engine: RowsEngine) -> None:
        """Use `engine`; its maker closes it."""
        self._engine = engine

    # Resources ---------------------------------------------------------------------------

    async def take(
        self, given: Sequence[MediaResource], marked: Saves, *, dry_run: bool = False
    ) -> Sequence[TransferredRow]:
        """Write another library's resources as they are there; what was changed of them follows.

        Args:
            given: Resources whose bytes were found here.
            marked: What was marked under their keys before their bytes were looked for.
            dry_run: Only say what would become of them.
        """
        keys = sorted({one.storage_key for one in given}, key=lambda key: key.text)
        ids, hashes = [one.id for one in given], [one.content_hash for one in given]
        known = select_resources().where(
            sa.or_(resources.c.id.in_(ids), resources.c.content_hash.in_(hashes))
        )
        async with self._engine.reading() if dry_run else self._engine.writing() as connection:
            # A claimed mark is one whose bytes may go at any moment; one that is there no more
            # was perhaps claimed, and its bytes deleted, after they had been found.
            waiting = await _unclaimed(connection, keys, locked=not dry_run)
            claimed = await _saves(connection, deletions, keys) - waiting
            swept = {key for key, _ in claimed | (marked - waiting)}
            rows = (await connection.execute(known)).all()
            by_id = {row.id: resource_of(row) for row in rows}
            by_hash = {row.content_hash: row.id for row in rows}
            found = [
                TransferredRow(TransferOutcome.SWEPT)
                if one.storage_key in swept
                else _compared(one, by_id.get(one.id), by_hash.get(one.content_hash))
                for one in given
            ]
            if not dry_run:
                for one, takeover in zip(given, found, strict=True):
                    await self._write(connection, one, takeover.taken)
                await connection.run_sync(reword, [one.storage_key for one in given])
        return found

    async def _write(
        self, connection: AsyncConnection, resource: MediaResource, taken: TransferOutcome
    ) -> None:
        values = values_of(resource)
        if taken is TransferOutcome.NEW:
            # A concurrent ingest of equal bytes may have won; the next pass says so.
            made = await connection.execute(
                insert_into(connection, resources)
                .values(values)
                .on_conflict_do_nothing()
                .returning(resources.c.id)
            )
            if made.one_or_none() is not None:
                await replace_tags(connection, resource.id, resource.tags)
                await await_healing(connection, resource)
        elif taken is TransferOutcome.CHANGED:
            color = sa.literal(resource.dominant_color, sa.String())
            values["dominant_color"] = sa.func.coalesce(color, resources.c.dominant_color)
            mark = sa.literal(resource.ai_mark, sa.String())
            values["ai_mark"] = sa.func.coalesce(mark, resources.c.ai_mark)
            await connection.execute(
                sa.update(resources).where(resources.c.id == resource.id).values(values)
            )
            await replace_tags(connection, resource.id, resource.tags)

    # Marks and dead letters --------------------------------------------------------------

    async def remembered(
        self, queue: sa.Table, *, after: uuid.UUID | None, limit: int
    ) -> Sequence[QueueRow]:
        """A page of marks, or of dead letters, by id."""
        asked = sa.select(queue).order_by(queue.c.id).limit(limit)
        if after is not None:
            asked = asked.where(queue.c.id > after)
        async with self._engine.reading() as connection:
            return [row._asdict() for row in (await connection.execute(asked)).all()]

    async def saves(self, queue: sa.Table, keys: Sequence[StorageKey]) -> Saves:
        """All saves under these keys that a queue names."""
        async with self._engine.reading() as connection:
            return await _saves(connection, queue, keys)

    async def remember(self, queue: sa.Table, given: Sequence[QueueRow]) -> int:
        """Write another library's marks, or letters, each with the save id of the copy here.

        The deletion of a resource is due here from then on, too.

        Returns:
            How many were not here before.
        """
        keys = [one["storage_key"] for one in given]
        async with self._engine.writing() as connection:
            known = await _saves(connection, queue, keys)
            fresh = [one for one in given if (one["storage_key"], one["save_id"]) not in known]
            deleted = {
                one["storage_key"]: one["created_at"]
                for one in fresh
                if one["reason"] == DELETED and one["storage_key"].is_media
            }
            owners = await _owners(connection, deleted) if queue is deletions else {}
            for one in fresh:
                values = {name: one[name] for name in one if name in queue.c} | {"id": new_id()}
                if queue is deletions:
                    values |= {"claimed_by": None, "lease_until": None}
                    values["resource_id"] = owners.get(one["storage_key"])
                await connection.execute(
                    insert_into(connection, queue).values(values).on_conflict_do_nothing()
                )
            for key, owner in owners.items():  # after the marks: locks are taken in one order
                await connection.execute(
                    sa.update(resources)
                    .where(resources.c.id == owner)
                    .values(deleted_at=sa.func.coalesce(resources.c.deleted_at, deleted[key]))
                )
        return len(fresh)

    async def forget(self, queue: sa.Table, ids: Sequence[uuid.UUID]) -> int:
        """Take marks, or letters, back; what a sweeper has claimed is left to it.

        Returns:
            How many were.
        """
        asked = sa.delete(queue).where(queue.c.id.in_(ids))
        if queue is deletions:
            asked = asked.where(deletions.c.claimed_by.is_(None))
        async with self._engine.writing() as connection:
            return int((await connection.execute(asked)).rowcount)


def _compared(
    given: MediaResource, known: MediaResource | None, owner: uuid.UUID | None
) -> TransferredRow:
    if known is not None:
        # A colour that was computed here does not wait for the one that is computed there.
        color = given.dominant_color or known.dominant_color
        mark = given.ai_mark or known.ai_mark
        given = dataclasses.replace(given, dominant_color=color, ai_mark=mark)
        return TransferredRow(TransferOutcome.SAME if known == given else TransferOutcome.CHANGED)
    if owner is not None:
        return TransferredRow(TransferOutcome.OTHER, owner)
    return TransferredRow(TransferOutcome.NEW)


async def _owners(
    connection: AsyncConnection, keys: Iterable[StorageKey]
) -> dict[StorageKey, uuid.UUID]:
    """Whose bytes lie under these keys, in the order of ids."""
    asked = (
        sa.select(resources.c.storage_key, resources.c.id)
        .where(resources.c.storage_key.in_(list(keys)))
        .order_by(resources.c.id)
    )
    return {row.storage_key: row.id for row in (await connection.execute(asked)).all()}


async def _unclaimed(
    connection: AsyncConnection, keys: Sequence[StorageKey], *, locked: bool
) -> Saves:
    """What is marked under these keys and nothing is deleting; nor can it begin to, if locked."""
    asked = (
        sa.select(deletions.c.storage_key, deletions.c.save_id)
        .where(deletions.c.storage_key.in_(keys), deletions.c.claimed_by.is_(None))
        .order_by(deletions.c.storage_key, deletions.c.save_id)
    )
    if locked:
        asked = asked.with_for_update()
    return {(row.storage_key, row.save_id) for row in (await connection.execute(asked)).all()}


async def _saves(connection: AsyncConnection, queue: sa.Table, keys: Sequence[StorageKey]) -> Saves:
    asked = sa.select(queue.c.storage_key, queue.c.save_id).where(queue.c.storage_key.in_(keys))
    return {(row.storage_key, row.save_id) for row in (await connection.execute(asked)).all()}
