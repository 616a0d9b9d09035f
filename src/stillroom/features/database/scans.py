"""Database rows with the progress of the background scans through all images."""

import contextlib
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.features.database import leases
from stillroom.features.database.clock import now
from stillroom.features.database.engine import Rows
from stillroom.features.database.statements import insert_into
from stillroom.features.database.tables import scans


class ScanRows(Rows):
    """Database rows of the scans. Each kind of scan has one row, with the name of that kind."""

    async def run(
        self,
        name: str,
        pages: Callable[[uuid.UUID, str], AsyncGenerator[float, None]],
        stops_within: Callable[[float], Awaitable[bool]],
        *,
        lease: timedelta,
        every: timedelta,
    ) -> bool:
        """Run or resume a scan. Return False if the scan is not due, or is already claimed.

        Args:
            name: Name of the scan.
            pages: Generator, called with the claim and the key after which to resume. After each
                page, the generator records the position and yields the pause in seconds. If the
                claim is lost, the generator returns early.
            stops_within: Function that waits for a number of seconds, and returns whether to stop.
            lease: Duration of the claim.
            every: Interval from the end of one scan to the start of the next scan. A later due
                time is ignored: it was set before the interval or the clock changed.
        """
        claim = uuid.uuid4()
        after = await self._claim(claim, name, lease, every)
        if after is None:
            return False
        async with contextlib.aclosing(pages(claim, after)) as pauses:
            async for pause_s in pauses:
                if await stops_within(pause_s):
                    await self.end(claim, next_at=None)
                    return True
        await self.end(claim, next_at=now() + every)
        return True

    async def _claim(
        self, claim: uuid.UUID, name: str, lease: timedelta, every: timedelta
    ) -> str | None:
        moment = now()
        is_due = sa.or_(scans.c.next_at <= moment, scans.c.next_at > moment + every)
        free = sa.update(scans).where(scans.c.name == name, is_due, leases.is_free(scans))
        claimed = free.values(leases.claimed(claim, lease)).returning(scans.c.after)
        async with self._engine.writing() as connection:
            await insert_scan(connection, name, moment)
            after: str | None = (await connection.execute(claimed)).scalar_one_or_none()
        return after

    async def keep(self, claim: uuid.UUID, *, after: str, lease: timedelta) -> bool:
        """Record the position of a scan and renew its lease. Return False if the claim is lost."""
        async with self._engine.writing() as connection:
            return await leases.renew(connection, scans, claim, lease, after=after)

    async def end(self, claim: uuid.UUID, *, next_at: datetime | None) -> None:
        """End a scan: release the claim, and schedule the next scan for `next_at`.

        If `next_at` is None, the scan was interrupted, and can be resumed at once.
        """
        values = {} if next_at is None else {"after": "", "next_at": next_at}
        await self._execute(leases.release(scans, claim, **values))

    async def next_at(self, name: str) -> datetime | None:
        """Return when a scan is or was due, or None if it has never run."""
        rows = await self._read(sa.select(scans.c.next_at).where(scans.c.name == name))
        return rows[0].next_at if rows else None

    async def forget(self, prefix: str, *, but: str) -> None:
        """Delete the rows of all scans whose names begin with `prefix`, except that of `but`."""
        others = scans.c.name.startswith(prefix, autoescape=True), scans.c.name != but
        await self._execute(sa.delete(scans).where(*others))

    async def restart(self, name: str, *, at: datetime) -> None:
        """Schedule a restart of a scan from the beginning, unless the scan is claimed."""
        unclaimed = scans.c.name == name, leases.is_unclaimed(scans)
        await self._execute(sa.update(scans).where(*unclaimed).values(after="", next_at=at))


async def insert_scan(
    connection: AsyncConnection, name: str, next_at: datetime, after: str = ""
) -> None:
    """Insert the row of a scan, unless it exists."""
    new = insert_into(connection, scans).values(name=name, after=after, next_at=next_at)
    await connection.execute(new.on_conflict_do_nothing(index_elements=[scans.c.name]))
