"""Table `media_healing`: queue of resources whose metadata is to be computed.

A transaction that locks a row in this table locks no rows in other tables.
"""

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa

from stillroom.features.database.clock import now
from stillroom.features.database.engine import Rows
from stillroom.features.database.statements import insert_into
from stillroom.features.database.tables import Moment
from stillroom.features.library.resource import VIDEO, HealingJob
from stillroom.features.library.rows.statements import resource_of, select_resources
from stillroom.features.library.rows.tables import healing, resources
from stillroom.generation.ai_mark import TYPES


class HealingRows(Rows):
    """Database access to healing jobs, which compute missing metadata of resources."""

    async def ask(
        self, ids: Collection[uuid.UUID] | None, *, after: uuid.UUID | None = None, limit: int
    ) -> list[uuid.UUID]:
        """Queue jobs for the next `limit` resources that lack metadata. Return their sorted ids.

        `ids` (None: all) are the resources to check. `after` is the last id of the previous call.
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

    async def claim(self, *, limit: int, lease: timedelta) -> Sequence[HealingJob]:
        """Claim jobs that are due, and delete jobs whose resource no longer exists."""
        moment = now()
        due = healing.c.due_at <= moment
        statement = (
            sa.select(healing.c.resource_id)
            .where(due)
            .order_by(healing.c.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        if not await self._read(sa.select(healing.c.resource_id).where(due).limit(1)):
            return ()  # the usual case, without a lock
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
        return [
            HealingJob(resource, rows[resource.id].attempts, rows[resource.id].reread, until)
            for resource in claimed_resources
        ]

    async def end(self, job: HealingJob, *, put_off: tuple[int, datetime] | None) -> None:
        """Delete a claimed job. With `put_off` (attempts and due time), postpone it instead.

        Nothing is changed if the job was claimed or queued again in the meantime.
        """
        ours = healing.c.resource_id == job.resource.id, healing.c.due_at == job.until
        statement: sa.Delete | sa.Update = sa.delete(healing).where(*ours)
        if put_off is not None:
            attempts, due_at = put_off
            statement = sa.update(healing).where(*ours).values(attempts=attempts, due_at=due_at)
        await self._execute(statement)

    async def waiting(self) -> int:
        """Return the number of all jobs, including jobs that are not yet due."""
        (row,) = await self._read(sa.select(sa.func.count()).select_from(healing))
        return int(row[0])
