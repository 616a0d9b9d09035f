"""Database rows of purges: transactions insert them, and a process claims and sends them."""

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.features.database import leases
from stillroom.features.database.clock import new_id, now
from stillroom.features.database.engine import Rows
from stillroom.features.library.resource import DeadLetter
from stillroom.features.library.rows.tables import dead_letters
from stillroom.features.purge.settings import PurgeConfig
from stillroom.features.purge.tables import purges
from stillroom.paths import COMPUTE_PREFIX, StorageKey

PURGE: Final = "purge"  # `DeadLetter.kind` of a purge that was given up
MAX_ATTEMPTS: Final = 12
_LEASE: Final = timedelta(minutes=1)  # a request takes at most 15 s
_FIRST_PAUSE: Final = timedelta(seconds=2)
_LONGEST_PAUSE: Final = timedelta(hours=1)

# A read that began before the deletion can fill the cache again after the first purge.
REPEAT_AFTER: Final = timedelta(seconds=60)


class Purge(NamedTuple):
    """Claimed purge of a URL. `attempts` is the number of failed attempts."""

    id: uuid.UUID
    url: str
    created_at: datetime
    attempts: int
    is_repeat: bool


_COLUMNS: Final = [purges.c[name] for name in Purge._fields]


def add_purges(
    config: PurgeConfig,
    connection: sa.Connection,
    keys: Collection[StorageKey],
    *,
    by_library: bool,
) -> None:
    """Insert purges of images, in the transaction that records their deletion or replacement.

    `by_library` is True if the media library has deleted the images. Otherwise, only images below
    `compute/` are purged, and only if `config.covers_compute` is True.
    """
    is_covered = by_library or config.covers_compute
    stale = [k for k in keys if is_covered and (by_library or k.text.startswith(COMPUTE_PREFIX))]
    common = {"created_at": now(), "due_at": now()}
    rows = [{"id": new_id(), "url": url, **common} for key in stale for url in config.urls(key)]
    if rows:
        connection.execute(sa.insert(purges), rows)


async def restore_purge(connection: AsyncConnection, dead_letter: DeadLetter) -> None:
    """Retry a purge that is a dead letter: insert its row again."""
    url, created_at = dead_letter.payload["url"], dead_letter.created_at
    row = {"id": dead_letter.id, "url": url, "created_at": created_at, "due_at": now()}
    await connection.execute(sa.insert(purges).values(row))


class PurgeRows(Rows):
    """Database rows of purges."""

    async def claim(self, claim: uuid.UUID, *, limit: int) -> Sequence[Purge]:
        """Claim purges that are due, for a minute."""
        due = sa.select(*_COLUMNS).where(purges.c.due_at <= now(), leases.is_free(purges))
        due = due.order_by(purges.c.due_at).limit(limit)
        if not await self._read(due.limit(1)):  # do not lock an idle database
            return ()
        async with self._engine.writing() as connection:
            rows = await connection.execute(due.with_for_update(skip_locked=True))
            claimed = [Purge(*row) for row in rows]
            update = sa.update(purges).where(purges.c.id.in_([purge.id for purge in claimed]))
            await connection.execute(update.values(leases.claimed(claim, _LEASE)))
        return claimed

    async def settle(self, claim: uuid.UUID, sent: Sequence[Purge]) -> None:
        """Record successful purges. Schedule a second purge of URLs that were purged only once."""
        ours = purges.c.id.in_([purge.id for purge in sent]), leases.is_ours(purges, claim)
        again = {"attempts": 0, "is_repeat": True, "due_at": now() + REPEAT_AFTER}
        async with self._engine.writing() as connection:
            await connection.execute(sa.delete(purges).where(*ours, purges.c.is_repeat))
            await connection.execute(sa.update(purges).where(*ours).values(again | leases.RELEASED))

    async def postpone(
        self, claim: uuid.UUID, failed: Sequence[Purge], error: str, pause: timedelta | None
    ) -> int:
        """Record failed purges, which have equal numbers of attempts, and schedule new attempts.

        A `pause` that the API has requested is no attempt. Return the number of dead letters.
        """
        ours = purges.c.id.in_([purge.id for purge in failed]), leases.is_ours(purges, claim)
        before = failed[0].attempts
        attempts, backoff = before + (pause is None), min(_FIRST_PAUSE * 2**before, _LONGEST_PAUSE)
        values = {"attempts": attempts, "due_at": now() + (backoff if pause is None else pause)}
        async with self._engine.writing() as connection:
            if attempts < MAX_ATTEMPTS:
                update = sa.update(purges).where(*ours).values(values | leases.RELEASED)
                await connection.execute(update)
                return 0
            removed = await connection.execute(sa.delete(purges).where(*ours).returning(*_COLUMNS))
            common = {"kind": PURGE, "failed_at": now(), "attempts": attempts, "last_error": error}
            letters = [
                dict(common, id=dead.id, payload={"url": dead.url}, created_at=dead.created_at)
                for dead in removed
            ]
            if letters:
                await connection.execute(sa.insert(dead_letters), letters)
        return len(letters)

    async def waiting(self) -> tuple[int, timedelta]:
        """Return the number of URLs that wait for their first purge, and the age of the oldest."""
        first = sa.func.min(purges.c.created_at, type_=purges.c.created_at.type)
        query = sa.select(*[sa.func.count().label("number"), first.label("oldest")])
        row, moment = (await self._read(query.where(~purges.c.is_repeat)))[0], now()
        return row.number, moment - (row.oldest or moment)
