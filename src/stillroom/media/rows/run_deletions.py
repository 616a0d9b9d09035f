"""Rows of `media_run_deletions`: runs that are being deleted, so that a crash forgets none.

A transaction locks such a row before marks; for the rest of the order: `statements.py`.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from stillroom.media.resource import DELETED, RunDeletion, now
from stillroom.media.rows.engine import RowsEngine
from stillroom.media.rows.marks import mark_saves
from stillroom.media.rows.statements import insert_into, keys_with_resource
from stillroom.media.rows.tables import run_deletions
from stillroom.storage.values import StoredImage

_WHAT: Final[tuple[sa.ColumnElement[Any], ...]] = (
    run_deletions.c.folder,
    run_deletions.c.saved_until,
    run_deletions.c.after,
    run_deletions.c.marked,
    run_deletions.c.kept,
    run_deletions.c.newer,
)


class RunDeletionRows:
    """Runs of one library's storage that are being deleted."""

    def __init__(self, engine: RowsEngine) -> None:
        """Use `engine`; its maker closes it."""
        self._engine = engine

    async def begin(
        self, folder: str, claim: uuid.UUID, *, saved_until: datetime, lease: timedelta
    ) -> RunDeletion | None:
        """Write that a run is to be deleted, and claim that; one that was begun starts again.

        Args:
            folder: What begins the keys of its images.
            claim: Of this call alone.
            saved_until: What was saved later stays; of two requests the later time counts.
            lease: After this others may go on.

        Returns:
            None if another process is at it.
        """
        moment = now()
        start: dict[str, object] = {
            "after": "",
            "marked": 0,
            "kept": 0,
            "newer": 0,
            "claimed_by": claim,
            "lease_until": moment + lease,
        }
        async with self._engine.writing() as connection:
            insert = insert_into(connection, run_deletions)
            given, known = insert.excluded.saved_until, run_deletions.c.saved_until
            made = await connection.execute(
                insert.values(folder=folder, saved_until=saved_until, **start)
                .on_conflict_do_update(
                    index_elements=[run_deletions.c.folder],
                    set_={**start, "saved_until": sa.case((known > given, known), else_=given)},
                    where=_is_free(moment),
                )
                .returning(*_WHAT)
            )
            row = made.one_or_none()
        return None if row is None else _deletion(row)

    async def claim(self, claim: uuid.UUID, *, lease: timedelta) -> RunDeletion | None:
        """Claim a deletion whose process has died, or has given up; None: there is none."""
        moment = now()
        left = (
            sa.select(run_deletions.c.folder)
            .where(_is_free(moment))
            .order_by(run_deletions.c.saved_until)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        async with self._engine.writing() as connection:
            folder = (await connection.execute(left)).scalar_one_or_none()
            if folder is None:
                return None
            taken = await connection.execute(
                sa.update(run_deletions)
                .where(run_deletions.c.folder == folder)
                .values(claimed_by=claim, lease_until=moment + lease)
                .returning(*_WHAT)
            )
            return _deletion(taken.one())

    async def mark(
        self,
        claim: uuid.UUID,
        images: Sequence[StoredImage],
        *,
        newer: int,
        due_at: datetime,
        after: str,
        lease: timedelta,
    ) -> bool:
        """Mark a page of a run's images, and record how far its deletion has come.

        Args:
            claim: Of the deletion.
            images: Of the page, but for those that were saved too late.
            newer: How many these are.
            due_at: When the marks are due.
            after: The last key of the page.
            lease: From now on.

        Returns:
            False, and nothing is changed, if another process has claimed the deletion since.
        """
        async with self._engine.writing() as connection:
            held = await connection.execute(
                sa.select(run_deletions.c.folder)
                .where(run_deletions.c.claimed_by == claim)
                .with_for_update()
            )
            if held.one_or_none() is None:
                return False
            needed = await keys_with_resource(connection, [image.key for image in images])
            marked = [image for image in images if image.key not in needed]
            await mark_saves(connection, marked, DELETED, due_at)
            await connection.execute(
                sa.update(run_deletions)
                .where(run_deletions.c.claimed_by == claim)
                .values(
                    after=after,
                    lease_until=now() + lease,
                    marked=run_deletions.c.marked + len(marked),
                    kept=run_deletions.c.kept + len(images) - len(marked),
                    newer=run_deletions.c.newer + newer,
                )
            )
        return True

    async def end(self, claim: uuid.UUID) -> RunDeletion | None:
        """Remove a deletion that is complete; None if another process has claimed it since."""
        async with self._engine.writing() as connection:
            ended = await connection.execute(
                sa.delete(run_deletions)
                .where(run_deletions.c.claimed_by == claim)
                .returning(*_WHAT)
            )
            row = ended.one_or_none()
        return None if row is None else _deletion(row)

    async def release(self, claim: uuid.UUID) -> None:
        """Leave a deletion to the process that asks next."""
        async with self._engine.writing() as connection:
            await connection.execute(
                sa.update(run_deletions)
                .where(run_deletions.c.claimed_by == claim)
                .values(claimed_by=None, lease_until=None)
            )

    async def under_way(self) -> Sequence[RunDeletion]:
        """All of them; each is a request that has not been carried out, so they are few."""
        async with self._engine.reading() as connection:
            asked = sa.select(*_WHAT).order_by(run_deletions.c.folder)
            return [_deletion(row) for row in (await connection.execute(asked)).all()]

    async def take(self, given: Sequence[RunDeletion]) -> None:
        """Write deletions of another library, to be carried out here from the start."""
        async with self._engine.writing() as connection:
            for one in given:
                await connection.execute(
                    insert_into(connection, run_deletions)
                    .values(
                        folder=one.folder,
                        saved_until=one.saved_until,
                        after="",
                        marked=0,
                        kept=0,
                        newer=0,
                    )
                    .on_conflict_do_nothing(index_elements=[run_deletions.c.folder])
                )

    async def is_deleting(self, folders: Sequence[str]) -> bool:
        """Whether a run in one of these folders is being deleted."""
        asked = sa.select(run_deletions.c.folder).where(run_deletions.c.folder.in_(folders))
        async with self._engine.reading() as connection:
            return (await connection.execute(asked.limit(1))).first() is not None


def _is_free(moment: datetime) -> sa.ColumnElement[bool]:
    lease = run_deletions.c.lease_until
    return sa.or_(lease.is_(None), lease < moment)


def _deletion(row: sa.Row[Any]) -> RunDeletion:
    return RunDeletion(**row._asdict())
