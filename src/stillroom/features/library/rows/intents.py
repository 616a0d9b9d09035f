"""Table `media_intents`: announcements of ingests in progress.

After a crash, the intents identify the copied files to delete. While an ingest records an image in
place, sweepers do not delete the image. `statements.py` documents the lock order.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.features.database.clock import now
from stillroom.features.database.engine import Rows
from stillroom.features.database.leases import is_free
from stillroom.features.database.statements import insert_into
from stillroom.features.library.resource import Intent, IntentLost
from stillroom.features.library.rows.statements import keys_with_resource
from stillroom.features.library.rows.tables import intents
from stillroom.paths import StorageKey


class IntentRows(Rows):
    """Database access to ingest intents: rows that announce ingests."""

    async def write(self, intent: Intent, *, lease: timedelta) -> bool:
        """Write an intent before the image is copied, or renew the lease of the intent.

        After the lease, a sweeper deletes the intent and the copy, because the ingest seems to have
        crashed. Return False if a sweeper is already deleting the copy.
        """
        async with self._engine.writing() as connection:
            insert = insert_into(connection, intents).values(
                media_key=intent.media_key,
                resource_id=intent.resource_id,
                source_key=intent.source_key,
                created_at=now(),
                lease_until=now() + lease,
            )
            upsert = insert.on_conflict_do_update(
                index_elements=[intents.c.media_key],
                set_={"lease_until": insert.excluded.lease_until},
                where=~intents.c.sweeping,
            ).returning(intents.c.media_key)
            return (await connection.execute(upsert)).one_or_none() is not None

    async def release(self, media_key: StorageKey) -> None:
        """End the lease of an intent now, so that a sweeper deletes the copy."""
        statement = sa.update(intents).where(_is_held(media_key)).values(lease_until=now())
        await self._execute(statement)

    async def remove(self, media_key: StorageKey) -> None:
        """Delete an intent. Call this only if the image has certainly not been copied."""
        await self._execute(sa.delete(intents).where(_is_held(media_key)))

    async def claim(
        self, until: datetime, *, limit: int
    ) -> tuple[Sequence[StorageKey], Sequence[StorageKey]]:
        """Claim intents whose lease has expired. Their ingests can then no longer use the copies.

        Return the keys of unused copies, and of copies in use, whose intents are deleted.
        """
        expired = (
            sa.select(intents.c.media_key)
            .where(is_free(intents))
            .order_by(intents.c.lease_until)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        async with self._engine.writing() as connection:
            keys = [row.media_key for row in (await connection.execute(expired)).all()]
            in_use = await keys_with_resource(connection, keys)
            if in_use:
                await connection.execute(
                    sa.delete(intents).where(intents.c.media_key.in_(list(in_use)))
                )
            claimed = [key for key in keys if key not in in_use]
            if claimed:
                await connection.execute(
                    sa.update(intents)
                    .where(intents.c.media_key.in_(claimed))
                    .values(sweeping=True, lease_until=until)
                )
        return claimed, [key for key in keys if key in in_use]

    async def end(self, keys: Sequence[StorageKey], *, until: datetime) -> None:
        """Delete claimed intents, after the copies with these keys were deleted.

        `until` identifies the claim. Intents that another sweeper has claimed are kept.
        """
        ours = intents.c.media_key.in_(keys), intents.c.sweeping, intents.c.lease_until == until
        await self._execute(sa.delete(intents).where(*ours))


async def end_intent(connection: AsyncConnection, media_key: StorageKey) -> None:
    """Delete the intent of a completed ingest. Raise `IntentLost` if a sweeper has claimed it."""
    result = await connection.execute(sa.delete(intents).where(_is_held(media_key)))
    if result.rowcount == 0:
        raise IntentLost


async def require_intent(connection: AsyncConnection, media_key: StorageKey) -> None:
    """Lock the intent of a copy, or raise `IntentLost` if a sweeper has claimed the intent."""
    statement = sa.select(intents.c.media_key).where(_is_held(media_key)).with_for_update()
    if (await connection.execute(statement)).one_or_none() is None:
        raise IntentLost


def _is_held(media_key: StorageKey) -> sa.ColumnElement[bool]:
    return sa.and_(intents.c.media_key == media_key, ~intents.c.sweeping)
