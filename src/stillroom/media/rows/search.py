"""Rows of `search_images`, and of the full text beside it: FTS5, or a `tsvector`.

A row's id is when its image was saved, in nanoseconds: both databases give the newest rows that
have some words without sorting all of them. `full_text.py` says what the words are.
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
from stillroom.media.rows.engine import RowsEngine
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

_MAX_TYPE: Final = 255  # other tools write into a bucket what they like
_SLICE: Final = 16
"""Rows that are made of images in one go: half a millisecond, for which requests wait."""

_AT_ONCE: Final = 100
"""Rows in one statement of PostgreSQL; the event loop prepares its parameters."""

_NEAR: Final = 5000
"""Rows next to where a page begins that are looked at one by one: 5 ms."""

_REACH: Final = 64
"""As many times the time of the near rows is looked through before all rows are."""

_JSON: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_random: Final = random.SystemRandom()


class SearchRows:
    """The index of one library."""

    def __init__(self, engine: RowsEngine) -> None:
        """Use `engine`; its maker closes it."""
        self._engine = engine

    async def write(
        self,
        images: Sequence[IndexedImage],
        removed: Sequence[Removed] = (),
        *,
        certain: bool = False,
        compared_with: Mapping[str, Indexed] | None = None,
    ) -> int:
        """Write saves and removals in one transaction; of two saves of a key the later one stays.

        Args:
            images: As they were saved.
            removed: Images that are gone.
            certain: They were looked at just now: they stand whatever the rows say.
            compared_with: Rows as they were before that; what has another one now is left out.

        Returns:
            How many rows were written.
        """
        latest = {one.image.key: one for one in images}
        rows: dict[StorageKey, Row] = {}
        for number, one in enumerate(latest.values(), 1):
            rows[one.image.key] = self._row_of(one)
            if not number % _SLICE:
                await asyncio.sleep(0)  # requests go first
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
        known = _known(connection, keys)
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
        """One image as the index has it."""
        asked = sa.select(search_images).where(search_images.c.storage_key == key.text)
        async with self._engine.reading() as connection:
            row = (await connection.execute(asked)).one_or_none()
        return None if row is None else image_of(row)

    async def marks(self, images: Sequence[StoredImage]) -> Mapping[StorageKey, AiMark]:
        """The AI marks of these very saves, as far as the index has them."""
        etags = {image.key.text: image.etag for image in images}
        columns = search_images.c
        asked = sa.select(columns.storage_key, columns.etag, columns.ai_mark).where(
            columns.storage_key.in_(etags), columns.ai_mark.is_not(None)
        )
        async with self._engine.reading() as connection:
            rows = (await connection.execute(asked)).all()
        return {
            StorageKey(row.storage_key): row.ai_mark
            for row in rows
            if row.etag == etags[row.storage_key]
        }

    async def search(self, query: SearchQuery) -> FoundPage:
        """A page of images.

        Raises:
            BackendUnavailable: the database is away, or too slow.
        """
        async with self._engine.reading() as connection:
            rows = await self._found(connection, query)
        shown = rows[: query.limit]
        next_after: str | int | None = None
        if len(rows) > query.limit:
            next_after = shown[-1].storage_key if query.by_path else shown[-1].id
        return FoundPage([image_of(row) for row in shown], next_after)

    async def _found(self, connection: AsyncConnection, query: SearchQuery) -> list[sa.Row[Any]]:
        """The images of a page, and one more if there are more.

        PostgreSQL's index of words knows neither which of them follow each other nor which images
        are new: each image that has the words would be looked at. So a phrase is looked for in the
        nearest rows, then in more that should have twice the images of a page, then everywhere. A
        common one is looked for by age in so many rows, and behind them, too, if it goes on there.
        To count them would take too long for a rare one: it is looked for by words in so much time.
        """
        asked = self._asked(query)
        if self._engine.is_sqlite or query.by_path or not has_phrase(query):
            return [*(await connection.execute(asked)).all()]
        first, last, end = (await connection.execute(_edges(query))).one()
        if first is None:
            return []
        edge = end if last is None else last
        await allow(connection, by_age=True)
        found = near = (await connection.execute(_up_to(edge, asked, query))).all()
        is_common = len(near) ** 2 > query.limit  # as measured
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

    def _asked(self, query: SearchQuery) -> sa.Select[Any]:
        images = search_images.c
        wanted = matching(query, _exact(query), is_sqlite=self._engine.is_sqlite)
        asked = sa.select(*(column for column in images if column.name != "words"))
        place: sa.ColumnElement[int] = images.id
        key: sa.ColumnElement[str] = images.storage_key
        asked = asked.where(*wanted)
        if wanted and self._engine.is_sqlite:
            # The words lead, in the order of their ids: an index on keys would be no way to them.
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
    """Leave PostgreSQL one way to rows in this transaction: by their ids, or by their words.

    https://www.postgresql.org/docs/17/runtime-config-query.html
    """
    ways = {"seqscan": False, "indexscan": by_age, "bitmapscan": not by_age}
    setting = [
        sa.func.set_config(f"enable_{way}", "on" if is_allowed else "off", True)
        for way, is_allowed in ways.items()
    ]
    await connection.execute(sa.select(*setting))


def _bounds(
    query: SearchQuery, place: sa.ColumnElement[int], order: sa.ColumnElement[Any]
) -> Iterable[sa.ColumnElement[bool]]:
    """Bounds of size and time, `place` being their ids, and behind which one a page begins."""
    yield from bounds_of(query)
    if query.saved_from_ns is not None:
        yield place >= known_ns(query.saved_from_ns)
    if query.saved_before_ns is not None:
        yield place < known_ns(query.saved_before_ns) + SPREAD_NS
    if query.after is not None:
        yield order < query.after if query.descending else order > query.after


def _ids(query: SearchQuery) -> sa.Select[Any]:
    """Of the rows that a page can have, in its order."""
    id_ = search_images.c.id
    ids = sa.select(id_).where(*_bounds(query, id_, id_))
    return ids.order_by(id_.desc() if query.descending else id_.asc())


def _edges(query: SearchQuery) -> sa.Select[Any]:
    """Ids of rows that a page can have: of the first, the last near one, and the last of all."""
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


def _known(connection: sa.Connection, keys: Sequence[StorageKey]) -> Mapping[StorageKey, Any]:
    asked = sa.select(
        search_images.c.id,
        search_images.c.storage_key,
        search_images.c.saved_ns,
        search_images.c.save_id,
    ).where(search_images.c.storage_key.in_([key.text for key in keys]))
    return {StorageKey(row.storage_key): row for row in connection.execute(asked).all()}


def _free_ids(connection: sa.Connection, wanted: Sequence[int]) -> list[int]:
    """An id for each time, the time itself if no row has it."""
    ids = list(wanted)
    while True:
        asked = sa.select(search_images.c.id).where(search_images.c.id.in_(ids))
        taken = set((connection.execute(asked)).scalars())
        seen: set[int] = set()
        clashes = []
        for at, id_ in enumerate(ids):
            if id_ in taken or id_ in seen:
                clashes.append(at)
            seen.add(id_)
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
    """By SQLite's driver: what SQLAlchemy does with each value takes longer than the insert."""
    names = ", ".join((id_name, *rows[0]))
    places = "?" + ", ?" * len(rows[0])
    statement = f"INSERT INTO {table.name} ({names}) VALUES ({places})"  # noqa: S608  (our names)
    values = [(id_, *row.values()) for id_, row in zip(ids, rows, strict=True)]
    connection.exec_driver_sql(statement, values)


def _saved_ns(image: StoredImage) -> int:
    return known_ns(image.modified_ns)


def _row_of(indexed: IndexedImage) -> dict[str, Any]:
    image, generation = indexed.image, indexed.generation
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
        "ai_mark": indexed.ai_mark,
    }


def _exact(query: SearchQuery) -> Iterable[str]:
    """The facets that stand beside those of the facts."""
    if query.content_type is not None:
        yield facet("type", query.content_type)
    if not query.by_path and (folder := folder_facet(query.prefix.text)) is not None:
        yield folder
