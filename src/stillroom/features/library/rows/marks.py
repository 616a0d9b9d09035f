"""Functions that write or cancel pending deletions in the transactions of other modules.

The table is `media_deletions`. `statements.py` documents the lock order.
"""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.features.database import leases
from stillroom.features.database.clock import new_id, now
from stillroom.features.database.statements import insert_into, table_of
from stillroom.features.library.resource import (
    DELETION,
    RELOCATED,
    DeadLetter,
    DueMark,
    Mark,
    MarkClaimed,
)
from stillroom.features.library.rows.tables import dead_letters, deletions
from stillroom.paths import StorageKey
from stillroom.store.values import StoredImage


async def write_mark(
    connection: AsyncConnection, mark: Mark | None, *, erases: bool = False
) -> None:
    """Insert a pending deletion. If `erases`, use the resource's id as the id of the row.

    If this version of the image already has a pending deletion, the due time of that deletion is
    kept. If `mark.reason` is `RELOCATED`, the reason and hash of that deletion are replaced.
    """
    if mark is None:
        return
    if erases:
        this = deletions.c.storage_key == mark.storage_key, deletions.c.save_id == mark.save_id
        await connection.execute(sa.delete(deletions).where(*this, leases.is_free(deletions)))
    insert = insert_into(connection, deletions)
    values = {field.name: getattr(mark, field.name) for field in fields(Mark)}
    await connection.execute(
        insert.values(
            **values, id=mark.resource_id if erases else new_id(), created_at=now()
        ).on_conflict_do_update(
            index_elements=[deletions.c.storage_key, deletions.c.save_id],
            set_={name: insert.excluded[name] for name in ("reason", "content_hash")},
            where=insert.excluded.reason == RELOCATED,
        )
    )


async def mark_saves(
    connection: AsyncConnection, images: Sequence[StoredImage], reason: str, due_at: datetime
) -> set[StorageKey]:
    """Insert pending deletions. If an image already has one, the earlier due time is used.

    A deletion is not changed if its reason is `RELOCATED` (the source of an ingest), or if a
    sweeper has attempted or claimed it. Return the keys of images with a new or changed deletion.
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
    changed = await connection.execute(
        # Without WHERE, SQLite would parse ON CONFLICT as the ON of a join.
        insert.from_select([*marks], sa.select(*marks.values()).where(sa.true()))
        .on_conflict_do_update(
            index_elements=[deletions.c.storage_key, deletions.c.save_id],
            set_={"due_at": insert.excluded.due_at},
            where=sa.and_(
                insert.excluded.due_at < deletions.c.due_at,
                deletions.c.reason != RELOCATED,
                deletions.c.attempts == 0,
                leases.is_unclaimed(deletions),
            ),
        )
        .returning(deletions.c.storage_key)
    )
    return set(changed.scalars())


async def bury_mark(connection: AsyncConnection, mark: DueMark, error: str) -> None:
    """Insert a dead letter for a deletion that has failed permanently."""
    payload = {
        "storage_key": mark.storage_key.text,
        "save_id": mark.save_id,
        "reason": mark.reason,
        "content_hash": mark.content_hash and mark.content_hash.hex(),
        "source_key": mark.source_key and mark.source_key.text,
    }
    await connection.execute(
        sa.insert(dead_letters).values(
            id=mark.id,
            kind=DELETION,
            payload=payload,
            created_at=mark.created_at,
            failed_at=now(),
            attempts=mark.attempts,
            last_error=error,
        )
    )


async def restore_mark(connection: AsyncConnection, dead_letter: DeadLetter) -> None:
    """Replace the dead letter of a deletion with a pending deletion that is due now.

    Nothing is inserted if this version of the image already has a pending deletion.
    """
    payload, sha256 = dead_letter.payload, dead_letter.payload["content_hash"]
    source = payload.get("source_key")  # older versions did not store it
    insert = insert_into(connection, deletions).values(
        id=dead_letter.id,
        storage_key=StorageKey(payload["storage_key"]),
        save_id=payload["save_id"],
        reason=payload["reason"],
        content_hash=sha256 and bytes.fromhex(sha256),
        source_key=source and StorageKey(source),
        created_at=dead_letter.created_at,
        due_at=now(),
    )
    unique = [deletions.c.storage_key, deletions.c.save_id]
    await connection.execute(insert.on_conflict_do_nothing(index_elements=unique))


async def cancel_marks_at(connection: AsyncConnection, key: StorageKey) -> None:
    """Cancel the pending deletions of an image. Raise `MarkClaimed` if one has been claimed."""
    if key.is_media:
        return  # a pending deletion of a media key always belongs to its own resource
    await connection.execute(
        sa.delete(deletions).where(deletions.c.storage_key == key, leases.is_unclaimed(deletions))
    )
    claimed = await connection.execute(
        sa.select(deletions.c.id).where(deletions.c.storage_key == key)
    )
    if claimed.first() is not None:
        raise MarkClaimed
