"""Words of captions, alt texts and tags in the search index."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

import sqlalchemy as sa

from stillroom.features.database.statements import among
from stillroom.features.library.rows.statements import is_indexed_in
from stillroom.features.library.rows.tables import resources, tags
from stillroom.features.search.full_text import full_text, library_facets, texts_of, tsvector
from stillroom.features.search.tables import Row, image_of, lock_index, search_images
from stillroom.paths import COMPUTE_PREFIX, StorageKey

_MAX_TAGS: Final = 10_000  # maximum number of tags to count, in about 50 ms


def describe(connection: sa.Connection, rows: Collection[Row]) -> None:
    """Add the words of captions, alt texts and tags to index rows that are about to be written."""
    words = _words_of(connection, [StorageKey(image["storage_key"]) for image, _ in rows])
    for image, texts in rows:
        key, save_id, sha256 = image["storage_key"], image["save_id"], image["sha256"]
        facets = words.get((key, save_id), words.get((key, sha256)))
        if facets is not None:
            texts["facets"] += f" {facets}"
            if connection.dialect.name != "sqlite":
                image["words"] = tsvector(texts)


def reword(connection: sa.Connection, keys: Iterable[StorageKey]) -> None:
    """Update the search index after captions, alt texts or tags of these files have changed."""
    lock_index(connection)
    these = search_images.c.storage_key.in_([key.text for key in keys])
    indexed = connection.execute(sa.select(search_images).where(these)).all()
    rows = [(row._asdict(), texts_of(image_of(row))) for row in indexed]
    describe(connection, rows)
    for image, texts in rows:
        if connection.dialect.name == "sqlite":
            own = full_text.c.rowid == image["id"]
            connection.execute(sa.update(full_text).where(own).values(facets=texts["facets"]))
        else:
            own = search_images.c.id == image["id"]
            connection.execute(sa.update(search_images).where(own).values(words=tsvector(texts)))


def count_tags(
    connection: sa.Connection, found: sa.Subquery | None, limit: int
) -> Sequence[tuple[str, int]]:
    """Return the most frequent tags of the indexed images in `found`, with their numbers of images.

    If `found` is None, count only the first `_MAX_TAGS` tag rows, newest resources first.
    """
    named: sa.FromClause = tags
    if found is None:
        named = sa.select(tags).order_by(tags.c.resource_id.desc()).limit(_MAX_TAGS).subquery()
    number, key = sa.func.count(), sa.type_coerce(resources.c.storage_key, sa.String)
    statement = (
        sa.select(named.c.tag, number)
        .join(resources, resources.c.id == named.c.resource_id)
        .where(resources.c.deleted_at.is_(None))
        .where(sa.func.substr(key, 1, len(COMPUTE_PREFIX)) == COMPUTE_PREFIX)
        .group_by(named.c.tag)
        .order_by(number.desc(), named.c.tag)
    )
    if found is not None:
        statement = statement.join(search_images, is_indexed_in(search_images))
        statement = statement.join(found, found.c.id == search_images.c.id)
    return [(tag, images) for tag, images in connection.execute(statement.limit(limit))]


def _words_of(
    connection: sa.Connection, keys: Sequence[StorageKey]
) -> Mapping[tuple[str, str | bytes], str]:
    texts = (resources.c.caption, resources.c.alt_text, tags.c.tag)
    statement = (
        sa.select(resources, tags.c.tag)
        .outerjoin(tags, tags.c.resource_id == resources.c.id)
        .where(resources.c.storage_key.in_(among(connection, keys)))
        .where(resources.c.deleted_at.is_(None))
        .where(sa.or_(*(column.is_not(None) for column in texts)))
    )
    by_version: dict[tuple[str, str | bytes], tuple[list[str], list[str]]] = {}
    for row in connection.execute(statement).all():
        described = [text for text in (row.caption, row.alt_text) if text]
        for version in (row.save_id, row.content_hash):
            _, names = by_version.setdefault((row.storage_key.text, version), (described, []))
            names += [] if row.tag is None else [row.tag]
    return {key: library_facets(both[0], sorted(both[1])) for key, both in by_version.items()}
