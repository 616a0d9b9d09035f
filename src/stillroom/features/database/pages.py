"""Iteration over rows, page by page."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import sqlalchemy as sa

from stillroom.features.database.engine import RowsEngine


async def each_page(
    engine: RowsEngine, statement: sa.Select[Any], *columns: sa.ColumnElement[Any], limit: int
) -> AsyncIterator[Sequence[sa.Row[Any]]]:
    """Yield a statement's rows in pages, sorted by columns that together identify a row.

    Each page is read in its own transaction.
    """
    statement = statement.order_by(*columns).limit(limit)
    following = statement
    while True:
        async with engine.reading() as connection:
            rows = (await connection.execute(following)).all()
        if not rows:
            return
        yield rows
        last = [sa.literal(getattr(rows[-1], str(column.key)), column.type) for column in columns]
        following = statement.where(sa.tuple_(*columns) > sa.tuple_(*last))
