"""Queries on `search_images` that compare the search index with the storage."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from stillroom.features.database.engine import Rows
from stillroom.features.database.statements import table_of
from stillroom.features.search.rows import allow
from stillroom.features.search.tables import search_images
from stillroom.features.search.values import BEHIND_ALL, Indexed, KeyRange


class IndexedRows(Rows):
    """Image versions in one library's search index."""

    async def between(self, after: str, last: str | None, prefix: str) -> Mapping[str, Indexed]:
        """Return indexed versions by key, for keys after `after` and up to `last` if it is set."""
        key = search_images.c.storage_key
        statement = sa.select(key, search_images.c.save_id, search_images.c.etag).where(
            key > after, key >= prefix, key <= (prefix + BEHIND_ALL if last is None else last)
        )
        rows = await self._read(statement)
        return {row.storage_key: Indexed(row.save_id, row.etag) for row in rows}

    async def in_ranges(self, ranges: Sequence[KeyRange]) -> Mapping[str, Indexed]:
        """Return the indexed versions by key, for key ranges that do not overlap."""
        key = search_images.c.storage_key
        async with self._engine.reading() as connection:
            bounds = table_of(connection, ["after", "last"], ranges)
            after: sa.ColumnElement[str] = bounds.c.after
            last: sa.ColumnElement[str] = bounds.c.last
            if not self._engine.is_sqlite:
                await allow(connection, by_age=True)  # the planner overestimates rows per range
                after, last = sa.collate(after, "C"), sa.collate(last, "C")
            statement = sa.select(key, search_images.c.save_id, search_images.c.etag).join_from(
                bounds, search_images, sa.and_(key > after, key <= last)
            )
            rows = (await connection.execute(statement)).all()
        return {row.storage_key: Indexed(row.save_id, row.etag) for row in rows}
