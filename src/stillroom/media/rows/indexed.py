"""Rows of `search_images` as comparing reads them: which saves the index has."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from stillroom.media.index.values import Indexed
from stillroom.media.rows.engine import RowsEngine
from stillroom.media.rows.search import BEHIND_ALL, allow
from stillroom.media.rows.statements import table_of
from stillroom.media.rows.tables import search_images
from stillroom.paths import KeyPrefix


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

    async def directly_in(
        self, folders: Sequence[KeyPrefix], after: str = "", last: str | None = None
    ) -> Mapping[str, Indexed]:
        """Return which saves the index has in some folders, without those in folders below them.

        Args:
            folders: None of them twice.
            after: Only keys behind this one.
            last: Only keys up to this one; None: all.
        """
        key = search_images.c.storage_key
        async with self._engine.reading() as connection:
            given = table_of(connection, ["prefix"], ([folder.text] for folder in folders))
            prefix: sa.ColumnElement[str] = given.c.prefix
            if not self._engine.is_sqlite:
                await allow(connection, by_age=True)  # it does not know how few rows are in each
                prefix = sa.collate(prefix, "C")
            name = sa.func.substr(key, sa.func.length(prefix) + 1)
            asked = (
                sa.select(key, search_images.c.save_id, search_images.c.etag)
                .join_from(given, search_images, sa.and_(key > prefix, key < prefix + BEHIND_ALL))
                .where(key > after, ~name.contains("/"))
            )
            if last is not None:
                asked = asked.where(key <= last)
            rows = (await connection.execute(asked)).all()
        return {row.storage_key: Indexed(row.save_id, row.etag) for row in rows}
