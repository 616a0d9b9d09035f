"""Leases: a process claims database rows for a limited time.

After a crash, other processes can claim the rows when the lease has expired. A claimed row contains
the id of the claim, and the time at which the lease ends. The row of an ingest intent (announced
ingest) contains only the time, which then identifies the claim.
"""

import uuid
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.features.database.clock import now

# Column values of a row without a lease, which keeps the id of its last claim:
ENDED: Final[dict[str, Any]] = {"lease_until": None}
# Column values of an unclaimed row:
RELEASED: Final[dict[str, Any]] = {**ENDED, "claimed_by": None}


def claimed(claim: uuid.UUID, lease: timedelta) -> dict[str, Any]:
    """Return the column values for a claim that begins now."""
    return {"claimed_by": claim, "lease_until": now() + lease}


def is_free(table: sa.Table) -> sa.ColumnElement[bool]:
    """Build the SQL condition that a row has no lease, or that its lease has expired."""
    lease = table.c.lease_until
    return sa.or_(lease.is_(None), lease < now())


def is_unclaimed(table: sa.Table) -> sa.ColumnElement[bool]:
    """Build the SQL condition that a row has no claim, not even one whose lease has expired."""
    return table.c.claimed_by.is_(None)


def is_ours(table: sa.Table, claim: uuid.UUID) -> sa.ColumnElement[bool]:
    """Build the SQL condition that a row has this claim, even if its lease has expired."""
    return table.c.claimed_by == claim


async def renew(
    connection: AsyncConnection,
    table: sa.Table,
    claim: uuid.UUID,
    lease: timedelta,
    **values: object,
) -> bool:
    """Renew a lease and set other columns. Return False if another process has claimed the row."""
    renewal = sa.update(table).where(is_ours(table, claim))
    renewed = await connection.execute(renewal.values(**values, **claimed(claim, lease)))
    return renewed.rowcount > 0


def release(table: sa.Table, claim: uuid.UUID, **values: object) -> sa.Update:
    """Build the statement that releases a claim and sets other columns of the claimed rows."""
    return sa.update(table).where(is_ours(table, claim)).values(**RELEASED, **values)
