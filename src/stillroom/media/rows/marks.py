"""Writing and cancelling rows of `media_deletions`: marks, each of one save that is to be deleted.

For transactions of other modules; the order of locks: `statements.py`.
"""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.media.resource import RELOCATED, Mark, MarkClaimed, new_id, now
from stillroom.media.rows.statements import insert_into, table_of
from stillroom.media.rows.tables import deletions
from stillroom.paths import StorageKey
from stillroom.storage.values import StoredImage


async def write_mark(connection: AsyncConnection, mark: Mark | None) -> None:
    """Write a mark; the same save is marked once, and stays due when it first was.

    A source that is relocated was perhaps marked for another reason, which relies on no copy.
    """
    if mark is None:
        return
    insert = insert_into(connection, deletions)
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


async def mark_saves(
    connection: AsyncConnection, images: Sequence[StoredImage], reason: str, due_at: datetime
) -> set[StorageKey]:
    """Mark saves in one statement; of one that was marked before, the earlier end stands.

    Returns:
        The keys of those for which anything was changed. The mark of a relocated source keeps its
        grace, and one that is being tried its time.
    """
    if not images:
        return set()
    insert = insert_into(connection, deletions)
    saves = table_of(
        connection,
        ["id", "storage_key", "save_id"],
        (
            (new_id().hex, image.key.text, image.save_id)
            for image in sorted(images, key=lambda image: image.key)
        ),
    )
    marks = {
        deletions.c.id: sa.cast(saves.c.id, deletions.c.id.type),
        deletions.c.storage_key: saves.c.storage_key,
        deletions.c.save_id: saves.c.save_id,
        deletions.c.reason: sa.literal(reason),
        deletions.c.created_at: sa.literal(now(), deletions.c.created_at.type),
        deletions.c.due_at: sa.literal(due_at, deletions.c.due_at.type),
    }
    made = await connection.execute(
        # The condition is for SQLite, which takes ON CONFLICT for one of a join without it.
        insert.from_select([*marks], sa.select(*marks.values()).where(sa.true()))
        .on_conflict_do_update(
            index_elements=[deletions.c.storage_key, deletions.c.save_id],
            set_={"due_at": insert.excluded.due_at},
            where=sa.and_(
                insert.excluded.due_at < deletions.c.due_at,
                deletions.c.reason != RELOCATED,
                deletions.c.attempts == 0,
                deletions.c.claimed_by.is_(None),
            ),
        )
        .returning(deletions.c.storage_key)
    )
    return set(made.scalars())


async def cancel_marks_at(connection: AsyncConnection, key: StorageKey) -> None:
    """Cancel the deletion of what a resource is about to have in place.

    Raises:
        MarkClaimed: the sweeper is deleting it.
    """
    if key.is_media:
        return  # such a key is marked for its own resource only
    await connection.execute(
        sa.delete(deletions).where(deletions.c.storage_key == key, deletions.c.claimed_by.is_(None))
    )
    claimed = await connection.execute(
        sa.select(deletions.c.id).where(deletions.c.storage_key == key)
    )
    if claimed.first() is not None:
        raise MarkClaimed
