"""Table `media_failures`: dead letters (failed jobs), which an operator can retry or drop.

A feature with another kind of dead letter adds a function to `TransactionHooks.retries`.
"""

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.errors import DeadLetterNotFound
from stillroom.features.database.engine import Rows
from stillroom.features.library.resource import DELETION, DeadLetter
from stillroom.features.library.rows.marks import restore_mark
from stillroom.features.library.rows.tables import dead_letters


class DeadLetterRows(Rows):
    """Database access to dead letters: jobs that have failed permanently."""

    @property
    def _retries(self) -> Mapping[str, Callable[[AsyncConnection, DeadLetter], Awaitable[None]]]:
        # Functions that make the job of a dead letter due now, by the kind of the letter.
        return {DELETION: restore_mark, **self._engine.hooks.retries}

    @property
    def _is_known(self) -> sa.ColumnElement[bool]:
        # Newer versions of Stillroom may have added other kinds.
        return dead_letters.c.kind.in_([*self._retries])

    async def page(self, *, after: uuid.UUID | None, limit: int) -> Sequence[DeadLetter]:
        """Return a page of dead letters, newest first."""
        statement = sa.select(dead_letters).where(self._is_known)
        statement = statement.order_by(dead_letters.c.id.desc()).limit(limit)
        if after is not None:
            statement = statement.where(dead_letters.c.id < after)
        return [DeadLetter(**row._asdict()) for row in await self._read(statement)]

    async def retry(self, dead_letter_id: uuid.UUID) -> DeadLetter:
        """Replace a dead letter with a job that is due now, or raise `DeadLetterNotFound`."""
        async with self._engine.writing() as connection:
            dead_letter = await self._remove(connection, dead_letter_id)
            await self._retries[dead_letter.kind](connection, dead_letter)
        return dead_letter

    async def drop(self, dead_letter_id: uuid.UUID) -> DeadLetter:
        """Delete a dead letter without retrying its job, or raise `DeadLetterNotFound`."""
        async with self._engine.writing() as connection:
            return await self._remove(connection, dead_letter_id)

    async def _remove(self, connection: AsyncConnection, dead_letter_id: uuid.UUID) -> DeadLetter:
        this = dead_letters.c.id == dead_letter_id, self._is_known
        removed = await connection.execute(
            sa.delete(dead_letters).where(*this).returning(dead_letters)
        )
        row = removed.one_or_none()
        if row is None:
            raise DeadLetterNotFound
        return DeadLetter(**row._asdict())
