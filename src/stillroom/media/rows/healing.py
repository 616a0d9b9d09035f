"""Rows of `media_healing`: the queue of resources with facts to compute.

The order of locks is in `statements.py`. No other table's row is locked together with one of these.
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
    """Healing queue of one library."""

    def __init__(self, engine: RowsEngine) -> None:
        self._engine = engine

    async def ask(
        self,
        ids: Collection[uuid.UUID] | None,
        *,
        after: uuid.UUID | None = None,
        limit: int,
    ) -> list[uuid.UUID]:
        """Enqueue a page of the resources with missing facts, and return their ids, sorted.

        `ids` limits the resources (None: all), and `after` is the last id of the previous page.
        """
        lacking = sa.or_(
            resources.c.dominant_color.is_(None),
            sa.and_(resources.c.resource_type == VIDEO, resources.c.duration.is_(None)),
            sa.and_(resources.c.content_type.in_(TYPES), resources.c.ai_mark.is_(None)),
        )
        statement = (
            sa.select(resources.c.id, sa.literal(now(), Moment()), sa.literal(0), sa.true())
            .where(resources.c.deleted_at.is_(None), lacking)
            .order_by(resources.c.id)
            .limit(limit)
        )
        if ids is not None:
            statement = statement.where(resources.c.id.in_(ids))
        if after is not None:
            statement = statement.where(resources.c.id > after)
        columns = (healing.c.resource_id, healing.c.due_at, healing.c.attempts, healing.c.reread)
        async with self._engine.writing() as connection:
            insert = insert_into(connection, healing).from_select(columns, statement)
            result = await connection.execute(
                insert.on_conflict_do_update(
                    index_elements=[healing.c.resource_id],
                    set_={name: insert.excluded[name] for name in ("due_at", "attempts", "reread")},
                ).returning(healing.c.resource_id)
            )
            return sorted(result.scalars())

    async def claim(self, *, limit: int, lease: timedelta) -> ClaimedHealing:
        """Claim jobs that are due. Delete those whose resource no longer exists."""
        moment = now()
        due = healing.c.due_at <= moment
        statement = (
            sa.select(healing.c.resource_id)
            .where(due)
            .order_by(healing.c.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        if not await self._exists(due):  # the usual case, checked without locking SQLite
            return ClaimedHealing((), moment)
        until = moment + lease
        async with self._engine.writing() as connection:
            ids = list((await connection.execute(statement)).scalars())
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
            claimed_resources = [resource_of(row) for row in (await connection.execute(live)).all()]
            if gone := rows.keys() - {resource.id for resource in claimed_resources}:
                await connection.execute(
                    sa.delete(healing).where(healing.c.resource_id.in_(list(gone)))
                )
        jobs = [
            HealingJob(resource, rows[resource.id].attempts, rows[resource.id].reread)
            for resource in claimed_resources
        ]
        return ClaimedHealing(jobs, until)

    async def end(
        self, job: HealingJob, *, lease_until: datetime, put_off: tuple[int, datetime] | None
    ) -> None:
        """Delete a claimed row, unless it was claimed or enqueued again since.

        With `put_off`, set the number of attempts and the time of the next one instead.
        """
        ours = healing.c.resource_id == job.resource.id, healing.c.due_at == lease_until
        statement: sa.Delete | sa.Update = sa.delete(healing).where(*ours)
        if put_off is not None:
            attempts, due_at = put_off
            statement = sa.update(healing).where(*ours).values(attempts=attempts, due_at=due_at)
        async with self._engine.writing() as connection:
            await connection.execute(statement)

    async def waiting(self) -> int:
        """Count the jobs, due or not."""
        async with self._engine.reading() as connection:
            result = await connection.execute(sa.select(sa.func.count()).select_from(healing))
            return int(result.scalar_one())

    async def _exists(self, condition: sa.ColumnElement[bool]) -> bool:
        async with self._engine.reading() as connection:
            result = await connection.execute(
                sa.select(healing.c.resource_id).where(condition).limit(1)
            )
            return result.first() is not None
