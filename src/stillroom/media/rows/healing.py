"""Rows of `media_healing`: of which resources something is to be computed, and when.

The order of locks: `statements.py`. No row of another table is locked beside one of these.
"""

import uuid
from collections.abc import Collection
from datetime import datetime, timedelta

import sqlalchemy as sa

from stillroom.generation.ai_mark import TYPES
from stillroom.media.resource import VIDEO, ClaimedHealing, HealingJob, now
from stillroom.media.rows.engine import RowsEngine
from stillroom.media.rows.statements import insert_into, resource_of, select_resources
from stillroom.media.rows.tables import Moment, healing, resources


class HealingRows:
    """What waits to be computed in one library."""

    def __init__(self, engine: RowsEngine) -> None:
        """Use `engine`; its maker closes it."""
        self._engine = engine

    async def ask(
        self,
        ids: Collection[uuid.UUID] | None,
        *,
        after: uuid.UUID | None = None,
        limit: int,
    ) -> list[uuid.UUID]:
        """Have a page of the resources computed of which something is missing.

        Args:
            ids: Of these only; None: of all.
            after: Only those behind this id.
            limit: Most of them.

        Returns:
            Their ids, in order.
        """
        lacking = sa.or_(
            resources.c.dominant_color.is_(None),
            sa.and_(resources.c.resource_type == VIDEO, resources.c.duration.is_(None)),
            sa.and_(resources.c.content_type.in_(TYPES), resources.c.ai_mark.is_(None)),
        )
        asked = (
            sa.select(resources.c.id, sa.literal(now(), Moment()), sa.literal(0), sa.true())
            .where(resources.c.deleted_at.is_(None), lacking)
            .order_by(resources.c.id)
            .limit(limit)
        )
        if ids is not None:
            asked = asked.where(resources.c.id.in_(ids))
        if after is not None:
            asked = asked.where(resources.c.id > after)
        columns = (healing.c.resource_id, healing.c.due_at, healing.c.attempts, healing.c.reread)
        async with self._engine.writing() as connection:
            insert = insert_into(connection, healing).from_select(columns, asked)
            made = await connection.execute(
                insert.on_conflict_do_update(
                    index_elements=[healing.c.resource_id],
                    set_={name: insert.excluded[name] for name in ("due_at", "attempts", "reread")},
                ).returning(healing.c.resource_id)
            )
            return sorted(made.scalars())

    async def claim(self, *, limit: int, lease: timedelta) -> ClaimedHealing:
        """Claim what is due; what has no resource any more is removed."""
        moment = now()
        due = healing.c.due_at <= moment
        asked = (
            sa.select(healing.c.resource_id)
            .where(due)
            .order_by(healing.c.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        if not await self._is_any(due):  # most often; a SQLite need not be locked to know
            return ClaimedHealing((), moment)
        until = moment + lease
        async with self._engine.writing() as connection:
            ids = list((await connection.execute(asked)).scalars())
            claimed = await connection.execute(
                sa.update(healing)
                .where(healing.c.resource_id.in_(ids))
                .values(due_at=until, attempts=healing.c.attempts + 1)
                .returning(healing.c.resource_id, healing.c.attempts, healing.c.reread)
            )
            rows = {row.resource_id: row for row in claimed}
            live = select_resources().where(
                resources.c.id.in_(ids), resources.c.deleted_at.is_(None)
            )
            found = [resource_of(row) for row in (await connection.execute(live)).all()]
            if gone := rows.keys() - {one.id for one in found}:
                await connection.execute(
                    sa.delete(healing).where(healing.c.resource_id.in_(list(gone)))
                )
        jobs = [HealingJob(one, rows[one.id].attempts, rows[one.id].reread) for one in found]
        return ClaimedHealing(jobs, until)

    async def end(
        self, job: HealingJob, *, lease_until: datetime, put_off: tuple[int, datetime] | None
    ) -> None:
        """End a claim, unless the row was claimed or asked for again since.

        Args:
            job: What was claimed.
            lease_until: As `claim` said it.
            put_off: Attempts so far, and when it is due again; None removes the row.
        """
        ours = healing.c.resource_id == job.resource.id, healing.c.due_at == lease_until
        ended: sa.Delete | sa.Update = sa.delete(healing).where(*ours)
        if put_off is not None:
            attempts, due_at = put_off
            ended = sa.update(healing).where(*ours).values(attempts=attempts, due_at=due_at)
        async with self._engine.writing() as connection:
            await connection.execute(ended)

    async def waiting(self) -> int:
        """How many resources are to be computed, now or later."""
        async with self._engine.reading() as connection:
            found = await connection.execute(sa.select(sa.func.count()).select_from(healing))
            return int(found.scalar_one())

    async def _is_any(self, condition: sa.ColumnElement[bool]) -> bool:
        async with self._engine.reading() as connection:
            found = await connection.execute(
                sa.select(healing.c.resource_id).where(condition).limit(1)
            )
            return found.first() is not None
