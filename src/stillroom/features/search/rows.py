"""Table `search_images`: the search index, including full text (see `full_text.py`).

The id of a row is the time in nanoseconds at which the image was saved. Both databases can
therefore return the newest matching rows without sorting all matching rows.
"""

import asyncio
import json
import logging
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.features.database.engine import Rows
from stillroom.features.search.changes import changes_of_deletions, changes_of_saves
from stillroom.features.search.counts import COUNTED, Counted, count_changes, read_counted
from stillroom.features.search.full_text import (
    SPREAD_NS,
    bounds_of,
    full_text,
    has_phrase,
    known_ns,
    matching,
    texts_of,
    tsvector,
)
from stillroom.features.search.tables import Row, image_of, lock_index, other_storage, search_images
from stillroom.features.search.values import (
    BEHIND_ALL,
    FoundPage,
    Indexed,
    IndexedImage,
    Place,
    Removed,
    SearchQuery,
)
from stillroom.features.search.words import facet, folder_facet
from stillroom.paths import KeyPrefix, StorageKey
from stillroom.store.values import StoredImage
from stillroom.wire.generation import AiMark

log = logging.getLogger("stillroom.media")

_MAX_TYPE: Final = 255  # other tools can store longer content types in a bucket
_SLICE: Final = 16  # rows to build before pending requests run (half a millisecond)
_AT_ONCE: Final = 100  # rows per PostgreSQL INSERT, whose preparation blocks the event loop
_NEAR: Final = 5000  # rows after the start of a page that are checked one by one, in 5 ms
# Time span of the second step of a phrase search (`_page_rows`): at most this multiple of the first
_REACH: Final = 64
_MANY: Final = 20_000  # images in a folder that take longer to sort than to find by size

_SHOWN: Final = [column for column in search_images.c if column.name != "words"]

_JSON: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_random: Final = random.SystemRandom()


class SearchRows(Rows):
    """Database access to the search index."""

    async def write(
        self,
        images: Sequence[IndexedImage],
        removed: Sequence[Removed] = (),
        *,
        certain: bool = False,
        compared_with: Mapping[str, Indexed] | None = None,
        actors: Mapping[StorageKey, str | None] | None = None,
    ) -> int:
        """Write saved and deleted images in one transaction. Return the number of rows written.

        Args:
            images: Saved images. If a key occurs more than once, the last one counts.
            removed: Deleted images.
            certain: True if the images were just read from the storage. Otherwise, a change that is
                older than the existing row is skipped.
            compared_with: Rows by key, as they were before the images were read from the storage. A
                key whose row has changed since then is skipped.
            actors: Subjects of the tokens that saved the images, for the feed of events.
        """
        rows: dict[StorageKey, Row] = {}
        for number, (key, indexed) in enumerate({one.image.key: one for one in images}.items(), 1):
            rows[key] = self._row_of(indexed)
            if not number % _SLICE:
                await asyncio.sleep(0)  # let requests run first
        gone = {image.key: image for image in removed}
        return await self._engine.rewrite(
            lambda connection: self._write(
                connection, rows, gone, actors or {}, certain=certain, compared_with=compared_with
            )
        )

    def _write(
        self,
        connection: sa.Connection,
        rows: Mapping[StorageKey, Row],
        gone: Mapping[StorageKey, Removed],
        actors: Mapping[StorageKey, str | None],
        *,
        certain: bool,
        compared_with: Mapping[str, Indexed] | None,
    ) -> int:
        lock_index(connection)
        known = _read_known(connection, {*rows, *gone})
        if compared_with is not None:
            saves = {key.text: row.save_id for key, row in known.items()}
            before = {key: row.save_id for key, row in compared_with.items()}
            same = {key for key in (*rows, *gone) if saves.get(key.text) == before.get(key.text)}
            rows = {key: row for key, row in rows.items() if key in same}
            gone = {key: removed for key, removed in gone.items() if key in same}
        old = {
            key: removed
            for key, removed in gone.items()
            if key in known and (certain or known[key].saved_ns <= removed.at_ns)
        }
        new = [
            key
            for key, (image, _) in rows.items()
            if certain
            or (
                (key not in gone or image["saved_ns"] > gone[key].at_ns)
                and (key not in known or known[key].saved_ns <= image["saved_ns"])
            )
        ]
        removed = self._remove(connection, {known[key].id for key in (*old, *new) if key in known})
        count_changes(connection, self._add(connection, [rows[key] for key in new]), removed)
        changed = [key for key in new if _is_other_save(rows[key][0], known.get(key))]
        # A comparison that finds an image for the first time does not mean that it was replaced.
        replaced = [key for key in changed if key in known or not certain]
        self._engine.note_stale(connection, {*gone, *replaced})
        if self._engine.hooks.written:
            saved = [rows[key][0] for key in changed]
            deleted = [removed for key, removed in old.items() if key not in new]
            self._report(connection, saved, deleted, actors, found=certain)
        return len(new)

    def _report(
        self,
        connection: sa.Connection,
        saved: Sequence[Mapping[str, Any]],
        deleted: Sequence[Removed],
        actors: Mapping[StorageKey, str | None],
        *,
        found: bool,
    ) -> None:
        if found and deleted:
            other = other_storage(self._engine.storage_name)
            if connection.execute(other).first() is not None:
                log.warning(
                    "%d missing images are not reported as deleted: the search index belonged to "
                    "another storage, and a server has not compared all images since",
                    len(deleted),
                )
                deleted = ()
        hooks, keys = self._engine.hooks, [StorageKey(row["storage_key"]) for row in saved]
        runs = hooks.runs(connection, keys) if hooks.runs is not None and keys else {}
        changes = [
            *changes_of_saves(saved, actors, runs, found=found),
            *changes_of_deletions(deleted, found=found),
        ]
        for written in hooks.written if changes else ():
            written(connection, changes)

    def remove(self, connection: sa.Connection, removed: Sequence[Removed]) -> None:
        """Remove the rows of deleted images in the caller's transaction, as its last step."""
        gone = {image.key: image for image in removed}
        self._write(connection, {}, gone, {}, certain=False, compared_with=None)

    async def find(self, key: StorageKey) -> IndexedImage | None:
        """Return the index entry of the image at `key`, or None if the index lacks it."""
        rows = await self._read(
            sa.select(search_images).where(search_images.c.storage_key == key.text)
        )
        return image_of(rows[0]) if rows else None

    async def marks(self, images: Sequence[StoredImage]) -> Mapping[StorageKey, AiMark]:
        """Return the AI marks by key. Images whose indexed version differs are omitted."""
        etags = {image.key.text: image.etag for image in images}
        columns = search_images.c
        statement = sa.select(columns.storage_key, columns.etag, columns.ai_mark).where(
            columns.storage_key.in_(etags), columns.ai_mark.is_not(None)
        )
        return {
            StorageKey(row.storage_key): row.ai_mark
            for row in await self._read(statement)
            if row.etag == etags[row.storage_key]
        }

    async def search(self, query: SearchQuery) -> FoundPage:
        """Return one page of search results."""
        async with self._engine.reading() as connection:
            rows = await self.page_rows(connection, query, *_SHOWN)
        shown = rows[: query.limit]
        next_after: Place | None = None
        if len(rows) > query.limit:
            last = shown[-1]
            places = {"path": last.storage_key, "size": (last.size, last.id)}
            next_after = places.get(query.order, last.id)
        return FoundPage([image_of(row) for row in shown], next_after)

    async def page_rows(
        self, connection: AsyncConnection, query: SearchQuery, *columns: sa.ColumnElement[Any]
    ) -> list[sa.Row[Any]]:
        """Return the index rows for a page, and one more row if there is a next page.

        PostgreSQL's word index has neither word positions nor row ages, so a phrase search would
        check every image that contains the words. A phrase is therefore searched in up to three
        steps, until the page is full:

        1. Scan the next `_NEAR` rows by age.
        2. Search a range with probably two pages of results. For a common phrase, the range is a
           number of rows, which are scanned by age. For a rare phrase, the range is a time span. It
           is searched with the word index, because counting rows would be too slow.
        3. Search all rows. If the phrase is common and step 2 found more than twice as many results
           as step 1, scan the rows by age. Otherwise, use the word index.
        """
        query = await self._engine.expand(connection, query)
        folder = None if query.order == "path" else folder_facet(query.prefix.text)
        if query.order == "size" and await _is_large(connection, query.prefix):
            folder = None  # sort with the index on sizes instead of sorting the whole folder
        statement = self._build_select(query, columns, folder)
        if self._engine.is_sqlite or query.order != "saved" or not has_phrase(query):
            return [*(await connection.execute(statement)).all()]
        first, last, end = (await connection.execute(_edges(query))).one()
        if first is None:
            return []
        edge = end if last is None else last
        await allow(connection, by_age=True)
        found = near = (await connection.execute(_up_to(edge, statement, query))).all()
        is_common = len(near) ** 2 > query.limit  # found by measurements
        if near and edge != end and len(near) <= query.limit:
            times = min(2 * (query.limit + 1) / len(near), _REACH)
            if is_common:
                far = _ids(query).offset(int(_NEAR * times)).limit(1)
                edge = (await connection.execute(far)).scalar_one_or_none() or end
            else:
                nearer = max if query.descending else min
                edge = nearer(first + int((last - first) * times), end)
            await allow(connection, by_age=is_common)
            found = (await connection.execute(_up_to(edge, statement, query))).all()
        if edge != end and len(found) <= query.limit:
            await allow(connection, by_age=is_common and len(found) > 2 * len(near))
            found = (await connection.execute(statement)).all()
        return [*found]

    def _build_select(
        self, query: SearchQuery, columns: Iterable[sa.ColumnElement[Any]], folder: str | None
    ) -> sa.Select[Any]:
        images, is_sqlite = search_images.c, self._engine.is_sqlite
        type_ = None if query.content_type is None else facet("type", query.content_type)
        exact = [word for word in (type_, folder) if word is not None]
        conditions = matching(query, exact, is_sqlite=is_sqlite)
        place: sa.ColumnElement[int] = images.id
        size: sa.ColumnElement[int] = images.size
        key: sa.ColumnElement[str] = images.storage_key
        if (conditions or query.order == "size") and is_sqlite:
            key = sa.literal_column("+search_images.storage_key", sa.String)
        if conditions and is_sqlite:
            # Search full text first, in id order: `+` keeps SQLite from using other indexes.
            size = sa.literal_column("+search_images.size", sa.BigInteger)
            place = full_text.c.rowid
        columns_by_order = {"saved": (place,), "path": (images.storage_key,), "size": (size, place)}
        sorted_by = columns_by_order[query.order]
        order = sa.tuple_(*sorted_by) if query.order == "size" else sorted_by[0]
        prefix = query.prefix.text
        inside = key >= prefix, key < prefix + BEHIND_ALL
        found = sa.select(*columns).where(*conditions, *inside, *_bounds(query, place, order))
        found = found.order_by(*(c.desc() if query.descending else c.asc() for c in sorted_by))
        return found.limit(query.limit + 1)

    def _remove(self, connection: sa.Connection, ids: Iterable[int]) -> Sequence[Counted]:
        gone = sorted(ids)
        if not gone:
            return ()
        removing = sa.delete(search_images).where(search_images.c.id.in_(gone))
        removed = read_counted(connection, removing.returning(*COUNTED))
        if self._engine.is_sqlite:
            connection.execute(sa.delete(full_text).where(full_text.c.rowid.in_(gone)))
        return removed

    def _add(self, connection: sa.Connection, rows: Sequence[Row]) -> list[Counted]:
        if not rows:
            return []
        for add_words in self._engine.hooks.indexing:
            add_words(connection, rows)
        ids = _free_ids(connection, [image["saved_ns"] for image, _ in rows])
        images, words, added = list[dict[str, Any]](), list[dict[str, Any]](), list[Counted]()
        for id_, (image, texts) in zip(ids, rows, strict=True):
            facts = image["generation"]
            text = None if facts is None else _JSON.encode(facts)
            images.append({"id": id_, **image, "generation": text})
            added.append((id_, image["storage_key"], image["saved_ns"], facts))
            words.append({"rowid": id_, **texts})
        if self._engine.is_sqlite:
            _insert(connection, search_images, images)
            _insert(connection, full_text, words)
        else:
            for start in range(0, len(images), _AT_ONCE):
                connection.execute(sa.insert(search_images), images[start : start + _AT_ONCE])
        return added

    def _row_of(self, indexed: IndexedImage) -> Row:
        image, generation, texts = indexed.image, indexed.metadata.generation, texts_of(indexed)
        facts = None
        if generation is not None:
            json_values = generation.as_json().items()
            facts = {name: value for name, value in json_values if value is not None}
        row = {
            "storage_key": image.key.text,
            "saved_ns": known_ns(image.modified_ns),
            **{name: getattr(image, name) for name in ("size", "etag", "sha256", "save_id")},
            "content_type": image.content_type[:_MAX_TYPE],
            "generation": facts,
            "ai_mark": indexed.metadata.ai_mark,
        }
        if not self._engine.is_sqlite:
            row["words"] = tsvector(texts)
        return row, texts


async def allow(connection: AsyncConnection, *, by_age: bool) -> None:
    """Make PostgreSQL use only the index on ids, or only the index on words, in this transaction.

    https://www.postgresql.org/docs/17/runtime-config-query.html
    """
    ways = {"seqscan": False, "indexscan": by_age, "bitmapscan": not by_age}
    settings = [sa.func.set_config(f"enable_{way}", f"{on}", True) for way, on in ways.items()]
    await connection.execute(sa.select(*settings))


async def _is_large(connection: AsyncConnection, folder: KeyPrefix) -> bool:
    key = search_images.c.storage_key
    keys = sa.select(key).where(key >= folder.text, key < folder.text + BEHIND_ALL)
    rest = await connection.execute(keys.order_by(key).offset(_MANY).limit(1))
    return rest.first() is not None


def _bounds(
    query: SearchQuery, place: sa.ColumnElement[int], order: sa.ColumnElement[Any]
) -> Iterable[sa.ColumnElement[bool]]:
    yield from bounds_of(query)
    if query.saved_from_ns is not None:
        yield place >= known_ns(query.saved_from_ns)
    if query.saved_before_ns is not None:
        yield place < known_ns(query.saved_before_ns) + SPREAD_NS
    if query.after is not None:
        yield order < query.after if query.descending else order > query.after


def _ids(query: SearchQuery) -> sa.Select[Any]:
    id_ = search_images.c.id
    ids = sa.select(id_).where(*_bounds(query, id_, id_))
    return ids.order_by(id_.desc() if query.descending else id_.asc())


def _edges(query: SearchQuery) -> sa.Select[Any]:
    # Selects the ids of the first, the `_NEAR`-th and the last row that the query may return.
    ids, id_ = _ids(query), search_images.c.id
    back = ids.order_by(None).order_by(id_.asc() if query.descending else id_.desc())
    return sa.select(
        ids.limit(1).scalar_subquery(),
        ids.offset(_NEAR - 1).limit(1).scalar_subquery(),
        back.limit(1).scalar_subquery(),
    )


def _up_to(edge: int, statement: sa.Select[Any], query: SearchQuery) -> sa.Select[Any]:
    id_ = search_images.c.id
    return statement.where(id_ >= edge if query.descending else id_ <= edge)


def _read_known(connection: sa.Connection, keys: Iterable[StorageKey]) -> Mapping[StorageKey, Any]:
    images = search_images.c
    rows = sa.select(images.id, images.storage_key, images.saved_ns, images.save_id, images.etag)
    rows = rows.where(images.storage_key.in_([key.text for key in keys]))
    return {StorageKey(row.storage_key): row for row in connection.execute(rows).all()}


def _is_other_save(image: Mapping[str, Any], known: sa.Row[Any] | None) -> bool:
    return known is None or (known.save_id, known.etag) != (image["save_id"], image["etag"])


def _free_ids(connection: sa.Connection, times: Sequence[int]) -> list[int]:
    ids = list(times)
    while True:
        existing = sa.select(search_images.c.id).where(search_images.c.id.in_(ids))
        taken = set(connection.execute(existing).scalars())
        last = {id_: at for at, id_ in enumerate(ids)}
        clashes = [at for at, id_ in enumerate(ids) if id_ in taken or last[id_] != at]
        if not clashes:
            return ids
        for at in clashes:
            ids[at] = times[at] + _random.randrange(1, SPREAD_NS)


def _insert(
    connection: sa.Connection, table: sa.TableClause, rows: Sequence[Mapping[str, Any]]
) -> None:
    # With the driver of SQLite, because SQLAlchemy takes longer than the insert.
    names, places = ", ".join(rows[0]), ", ".join("?" * len(rows[0]))
    statement = f"INSERT INTO {table.name} ({names}) VALUES ({places})"  # noqa: S608  (our names)
    connection.exec_driver_sql(statement, [tuple(row.values()) for row in rows])
