"""Rows of `search_images` as comparing reads them: which saves the index has."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from stillroom.media.index.values import BEHIND_ALL, Indexed, KeyRange
from stillroom.media.rows.engine import RowsEngine
from stillroom.media.rows.search import allow
from stillroom.media.rows.statements import table_of
from stillroom.media.rows.tables import search_images


class IndexedRows:
    """The saves in the index of one library."""

    def __init__(self, engine: RowsEngine) -> None:
        """Use `engine`; its maker closes it."""
        self._engine = engine

    async def between(self, after: str, last: str | None, prefix: str) -> Mapping[str, Indexed]:
        """Which saves the index has behind `after` up to `last` (None: to the end of `prefix`)."""
        key = search_images.c.storage_key
        asked = sa.select(key, search_images.c.save_id, search_images.c.etag).where(
            key > after, key >= prefix, key <= (prefix + BEHIND_ALL if last is None else last)
        )
        async with self._engine.reading() as connection:
            rows = (await connection.execute(asked)).all()
        return {row.storage_key: Indexed(row.save_id, row.etag) for row in rows}

    async def in_ranges(self, ranges: Sequence[KeyRange]) -> Mapping[str, Indexed]:
        """Return which saves the index has in ranges that do not overlap."""
        key = search_images.c.storage_key
        async with self._engine.reading() as connection:
            given = table_of(connection, ["behind", "last"], ranges)
            behind: sa.ColumnElement[str] = given.c.behind
            last: sa.ColumnElement[str] = given.c.last
            if not self._engine.is_sqlite:
                await allow(connection, by_age=True)  # it expects many rows in each
                behind, last = sa.collate(behind, "C"), sa.collate(last, "C")
            asked = sa.select(key, search_images.c.save_id, search_images.c.etag).join_from(
                given, search_images, sa.and_(key > behind, key <= last)
            )
            rows = (await connection.execute(asked)).all()
        return {row.storage_key: Indexed(row.save_id, row.etag) for row in rows}
