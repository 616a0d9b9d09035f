"""Table `search_images`: the search index, including full text (see `full_text.py`).

A row's id is the image's save time in nanoseconds. Both databases can therefore return the newest
matching rows without sorting all matching rows.
"""

import asyncio
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.generation.ai_mark import AiMark
from stillroom.media.index.values import (
    BEHIND_ALL,
    FoundPage,
    Indexed,
    IndexedImage,
    Removed,
    SearchQuery,
)
from stillroom.media.index.words import facet, folder_facet
from stillroom.media.rows.engine import Rows
from stillroom.media.rows.full_text import (
    SPREAD_NS,
    bounds_of,
    full_text,
    has_phrase,
    known_ns,
    matching,
    texts_of,
    tsvector,
)
from stillroom.media.rows.library_words import Row, describe, image_of, lock_index
from stillroom.media.rows.tables import search_images
from stillroom.paths import StorageKey
from stillroom.storage.values import StoredImage

_MAX_TYPE: Final = 255  # other tools can store longer content types in a bucket
_SLICE: Final = 16
"""Number of rows to build before pending requests are handled again (half a millisecond)."""

_AT_ONCE: Final = 100
"""Number of rows per PostgreSQL INSERT. The event loop is blocked while parameters are prepared."""

_NEAR: Final = 5000
"""Number of rows after the start of a page that are checked one by one (takes 5 ms)."""

_REACH: Final = 64
"""Maximum time span of the second step of a phrase search (see `SearchRows._page_rows`).

The value is a multiple of the time span of the `_NEAR` rows that the first step searches.
"""

_JSON: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_random: Final = random.SystemRandom()


class SearchRows(Rows):
    """Database rows of one library's search index."""

    async def write(
        self,
        images: Sequence[IndexedImage],
        removed: Sequence[Removed] = (),
        *,
        certain: bool = False,
        compared_with: Mapping[str, Indexed] | None = None,
    ) -> int:
        """Write saved and deleted images in one transaction. The newest version of a key counts.

        Args:
            images: Entries of saved images.
            removed: Deletions of images.
            certain: True if the storage was read just now. Newer rows are then overwritten, too.
            compared_with: Rows that were read before the storage. A key is skipped if its row has
                changed in the meantime.

        Returns:
            The number of rows written.
        """
        latest = {one.image.key: one for one in images}
        rows: dict[StorageKey, Row] = {}
        for number, one in enumerate(latest.values(), 1):
            rows[one.image.key] = self._row_of(one)
            if not number % _SLICE:
                await asyncio.sleep(0)  # let requests run first
        return await self._engine.rewrite(
            lambda connection: self._write(
                connection, rows, latest, removed, certain=certain, compared_with=compared_with
            )
        )

    def _write(
        self,
        connection: sa.Connection,
        rows: Mapping[StorageKey, Row],
        latest: Mapping[StorageKey, IndexedImage],
        removed: Sequence[Removed],
        *,
        certain: bool,
        compared_with: Mapping[str, Indexed] | None,
    ) -> int:
        lock_index(connection)
        keys = [*latest, *(one.key for one in removed)]
        known = _read_known(connection, keys)
        if compared_with is not None:
            same = {
                key
                for key in keys
                if (known[key].save_id if key in known else None)
                == (compared_with[key.text].save_id if key.text in compared_with else None)
            }
            latest = {key: one for key, one in latest.items() if key in same}
            removed = [one for one in removed if one.key in same]
        gone = {
            known[one.key].id
            for one in removed
            if one.key in known and (certain or known[one.key].saved_ns <= one.at_ns)
        }
        gone_keys = {one.key: one.at_ns for one in removed}
        new = [
            one
            for key, one in latest.items()
            if certain
            or (
                _saved_ns(one.image) > gone_keys.get(key, -1)
                and (key not in known or known[key].saved_ns <= _saved_ns(one.image))
            )
        ]
        gone |= {known[one.image.key].id for one in new if one.image.key in known}
        self._remove(connection, gone)
        self._add(connection, [rows[one.image.key] for one in new])
        return len(new)

    async def find(self, key: StorageKey) -> IndexedImage | None:
        """Return the index entry of the image at `key`, or None."""
        asked = sa.select(search_images).where(search_images.c.storage_key == key.text)
        rows = await self._read(asked)
        return image_of(rows[0]) if rows else None

    async def marks(self, images: Sequence[StoredImage]) -> Mapping[StorageKey, AiMark]:
        """Return the known AI labels of exactly these image versions, by key."""
        etags = {image.key.text: image.etag for image in images}
        columns = search_images.c
        asked = sa.select(columns.storage_key, columns.etag, columns.ai_mark).where(
            columns.storage_key.in_(etags), columns.ai_mark.is_not(None)
        )
        return {
            StorageKey(row.storage_key): row.ai_mark
            for row in await self._read(asked)
            if row.etag == etags[row.storage_key]
        }

    async def search(self, query: SearchQuery) -> FoundPage:
        """Return one page of search results.

        Raises:
            BackendUnavailable: the database is unreachable or too slow.
        """
        async with self._engine.reading() as connection:
            rows = await self._page_rows(connection, query)
        shown = rows[: query.limit]
        next_after: str | int | None = None
        if len(rows) > query.limit:
            next_after = shown[-1].storage_key if query.by_path else shown[-1].id
        return FoundPage([image_of(row) for row in shown], next_after)

    async def _page_rows(
        self, connection: AsyncConnection, query: SearchQuery
    ) -> list[sa.Row[Any]]:
        """Return the rows for one page, and one more row if there is a next page.

        PostgreSQL's word index has neither word positions nor row ages, so a phrase search would
        check every image that contains the words. A phrase is therefore searched in three steps:
        first in the `_NEAR` rows at the start of the page, then in a range that should contain two
        pages of results, then in all rows. For a common phrase, the range is a number of rows,
        scanned by age. If the range had more than twice as many results as the first step, all rows
        are scanned by age, too. For a rare phrase, the range is a time span, searched by words:
        counting rows would be too slow.
        """
        asked = self._build_select(query)
        if self._engine.is_sqlite or query.by_path or not has_phrase(query):
            return [*(await connection.execute(asked)).all()]
        first, last, end = (await connection.execute(_edges(query))).one()
        if first is None:
            return []
        edge = end if last is None else last
        await allow(connection, by_age=True)
        found = near = (await connection.execute(_up_to(edge, asked, query))).all()
        is_common = len(near) ** 2 > query.limit  # found by measurements
        if near and edge != end and len(near) <= query.limit:
            times = min(2 * (query.limit + 1) / len(near), _REACH)
            if is_common:
                far = _ids(query).offset(int(_NEAR * times)).limit(1)
                edge = (await connection.execute(far)).scalar_one_or_none() or end
            else:
                edge = _nearer(first + int((last - first) * times), end, query)
            await allow(connection, by_age=is_common)
            found = (await connection.execute(_up_to(edge, asked, query))).all()
        if edge != end and len(found) <= query.limit:
            await allow(connection, by_age=is_common and len(found) > 2 * len(near))
            found = (await connection.execute(asked)).all()
        return [*found]

    def _build_select(self, query: SearchQuery) -> sa.Select[Any]:
        images = search_images.c
        wanted = matching(query, _exact(query), is_sqlite=self._engine.is_sqlite)
        asked = sa.select(*(column for column in images if column.name != "words"))
        place: sa.ColumnElement[int] = images.id
        key: sa.ColumnElement[str] = images.storage_key
        asked = asked.where(*wanted)
        if wanted and self._engine.is_sqlite:
            # Search full text first, in id order: `+` keeps SQLite from using the key index.
            key = sa.literal_column("+search_images.storage_key", sa.String)
            place = full_text.c.rowid
        prefix = query.prefix.text
        asked = asked.where(key >= prefix, key < prefix + BEHIND_ALL)
        order = images.storage_key if query.by_path else place
        asked = asked.where(*_bounds(query, place, order))
        asked = asked.order_by(order.desc() if query.descending else order.asc())
        return asked.limit(query.limit + 1)

    def _remove(self, connection: sa.Connection, ids: Iterable[int]) -> None:
        gone = sorted(ids)
        if not gone:
            return
        connection.execute(sa.delete(search_images).where(search_images.c.id.in_(gone)))
        if self._engine.is_sqlite:
            connection.execute(sa.delete(full_text).where(full_text.c.rowid.in_(gone)))

    def _add(self, connection: sa.Connection, rows: Sequence[Row]) -> None:
        if not rows:
            return
        describe(connection, rows)
        ids = _free_ids(connection, [image["saved_ns"] for image, _ in rows])
        images, texts = zip(*rows, strict=True)
        if self._engine.is_sqlite:
            _insert(connection, search_images, "id", ids, images)
            _insert(connection, full_text, "rowid", ids, texts)
            return
        for start in range(0, len(images), _AT_ONCE):
            until = start + _AT_ONCE
            some = zip(ids[start:until], images[start:until], strict=True)
            connection.execute(sa.insert(search_images), [{"id": id_, **row} for id_, row in some])

    def _row_of(self, indexed: IndexedImage) -> Row:
        row, texts = _row_of(indexed), texts_of(indexed)
        if not self._engine.is_sqlite:
            row["words"] = tsvector(texts)
        return row, texts


async def allow(connection: AsyncConnection, *, by_age: bool) -> None:
    """Restrict the PostgreSQL planner to the id index or the word index for this transaction.

    https://www.postgresql.org/docs/17/runtime-config-query.html
    """
    ways = {"seqscan": False, "indexscan": by_age, "bitmapscan": not by_age}
    settings = [sa.func.set_config(f"enable_{way}", f"{on}", True) for way, on in ways.items()]
    await connection.execute(sa.select(*settings))


def _bounds(
    query: SearchQuery, place: sa.ColumnElement[int], order: sa.ColumnElement[Any]
) -> Iterable[sa.ColumnElement[bool]]:
    """Yield the SQL conditions on the size, the save time, and the position of the page."""
    yield from bounds_of(query)
    if query.saved_from_ns is not None:
        yield place >= known_ns(query.saved_from_ns)
    if query.saved_before_ns is not None:
        yield place < known_ns(query.saved_before_ns) + SPREAD_NS
    if query.after is not None:
        yield order < query.after if query.descending else order > query.after


def _ids(query: SearchQuery) -> sa.Select[Any]:
    """Build a SELECT of the row ids that a page can contain, in page order."""
    id_ = search_images.c.id
    ids = sa.select(id_).where(*_bounds(query, id_, id_))
    return ids.order_by(id_.desc() if query.descending else id_.asc())


def _edges(query: SearchQuery) -> sa.Select[Any]:
    """Build a SELECT of three row ids: first candidate, `_NEAR`-th candidate, last candidate."""
    ids, id_ = _ids(query), search_images.c.id
    back = ids.order_by(None).order_by(id_.asc() if query.descending else id_.desc())
    return sa.select(
        ids.limit(1).scalar_subquery(),
        ids.offset(_NEAR - 1).limit(1).scalar_subquery(),
        back.limit(1).scalar_subquery(),
    )


def _up_to(edge: int, asked: sa.Select[Any], query: SearchQuery) -> sa.Select[Any]:
    id_ = search_images.c.id
    return asked.where(id_ >= edge if query.descending else id_ <= edge)


def _nearer(one: int, other: int, query: SearchQuery) -> int:
    return max(one, other) if query.descending else min(one, other)


def _read_known(connection: sa.Connection, keys: Sequence[StorageKey]) -> Mapping[StorageKey, Any]:
    images = search_images.c
    asked = sa.select(images.id, images.storage_key, images.saved_ns, images.save_id)
    asked = asked.where(images.storage_key.in_([key.text for key in keys]))
    return {StorageKey(row.storage_key): row for row in connection.execute(asked).all()}


def _free_ids(connection: sa.Connection, wanted: Sequence[int]) -> list[int]:
    """Return an unused row id for each save time. The id is the time, increased if necessary."""
    ids = list(wanted)
    while True:
        asked = sa.select(search_images.c.id).where(search_images.c.id.in_(ids))
        taken = set((connection.execute(asked)).scalars())
        last = {id_: at for at, id_ in enumerate(ids)}
        clashes = [at for at, id_ in enumerate(ids) if id_ in taken or last[id_] != at]
        if not clashes:
            return ids
        for at in clashes:
            ids[at] = wanted[at] + _random.randrange(1, SPREAD_NS)


def _insert(
    connection: sa.Connection,
    table: sa.TableClause,
    id_name: str,
    ids: Sequence[int],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Insert rows with SQLite's own driver, because SQLAlchemy takes longer than the insert."""
    names = ", ".join((id_name, *rows[0]))
    places = "?" + ", ?" * len(rows[0])
    statement = f"INSERT INTO {table.name} ({names}) VALUES ({places})"  # noqa: S608  (our names)
    values = [(id_, *row.values()) for id_, row in zip(ids, rows, strict=True)]
    connection.exec_driver_sql(statement, values)


def _saved_ns(image: StoredImage) -> int:
    return known_ns(image.modified_ns)


def _row_of(indexed: IndexedImage) -> dict[str, Any]:
    image, generation = indexed.image, indexed.metadata.generation
    facts = None
    if generation is not None:
        known = {name: value for name, value in generation.as_json().items() if value is not None}
        facts = _JSON.encode(known)
    return {
        "storage_key": image.key.text,
        "saved_ns": _saved_ns(image),
        "size": image.size,
        "etag": image.etag,
        "content_type": image.content_type[:_MAX_TYPE],
        "sha256": image.sha256,
        "save_id": image.save_id,
        "generation": facts,
        "ai_mark": indexed.metadata.ai_mark,
    }


def _exact(query: SearchQuery) -> Iterable[str]:
    """Yield the index words for the query's content type and folder."""
    if query.content_type is not None:
        yield facet("type", query.content_type)
    if not query.by_path and (folder := folder_facet(query.prefix.text)) is not None:
        yield folder
