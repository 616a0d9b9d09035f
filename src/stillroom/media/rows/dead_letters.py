"""Table `media_dead_letters`: failed deletions that an operator can retry or cancel."""

import uuid
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.errors import DeadLetterNotFound
from stillroom.media.resource import DeadLetter, DueMark, now
from stillroom.media.rows.engine import Rows
from stillroom.media.rows.statements import insert_into
from stillroom.media.rows.tables import dead_letters, deletions


class DeadLetterRows(Rows):
    """Database rows of one library's dead letters (deletions that have failed for good)."""

    async def page(self, *, after: uuid.UUID | None, limit: int) -> Sequence[DeadLetter]:
        """Return a page of dead letters, newest first."""
        statement = sa.select(dead_letters).order_by(dead_letters.c.id.desc()).limit(limit)
        if after is not None:
            statement = statement.where(dead_letters.c.id < after)
        rows = await self._read(statement)
        return [DeadLetter(**row._asdict()) for row in rows]

    async def retry(self, dead_letter_id: uuid.UUID) -> DeadLetter:
        """Replace a dead letter with a pending deletion that is due now.

        Raises:
            DeadLetterNotFound: there is no such dead letter.
        """
        async with self._engine.writing() as connection:
            dead_letter = await self._remove(connection, dead_letter_id)
            await connection.execute(
                insert_into(connection, deletions)
                .values(**_values_of(dead_letter), due_at=now())
                .on_conflict_do_nothing(
                    index_elements=[deletions.c.storage_key, deletions.c.save_id]
                )
            )
        return dead_letter

    async def drop(self, dead_letter_id: uuid.UUID) -> DeadLetter:
        """Delete a dead letter without deleting the image.

        Raises:
            DeadLetterNotFound: there is no such dead letter.
        """
        async with self._engine.writing() as connection:
            return await self._remove(connection, dead_letter_id)

    async def _remove(self, connection: AsyncConnection, dead_letter_id: uuid.UUID) -> DeadLetter:
        removed = await connection.execute(
            sa.delete(dead_letters)
            .where(dead_letters.c.id == dead_letter_id)
            .returning(dead_letters)
        )
        row = removed.one_or_none()
        if row is None:
            raise DeadLetterNotFound
        return DeadLetter(**row._asdict())


async def write_dead_letter(connection: AsyncConnection, mark: DueMark, error: str) -> None:
    """Insert a dead letter for a deletion that has failed for good."""
    await connection.execute(
        sa.insert(dead_letters).values(
            **_values_of(mark), failed_at=now(), attempts=mark.attempts, last_error=error
        )
    )


def _values_of(failed: DueMark | DeadLetter) -> dict[str, object]:
    names = ("id", "storage_key", "save_id", "reason", "content_hash", "created_at")
    return {name: getattr(failed, name) for name in names}
