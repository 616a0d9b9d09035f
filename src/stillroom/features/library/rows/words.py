"""Index words for the media library's captions, alt texts and tags."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import sqlalchemy as sa

from stillroom.features.database.statements import among
from stillroom.features.library.rows.tables import resources, tags
from stillroom.features.search.full_text import full_text, library_facets, texts_of, tsvector
from stillroom.features.search.tables import Row, image_of, lock_index, search_images
from stillroom.paths import StorageKey


def describe(connection: sa.Connection, rows: Collection[Row]) -> None:
    """Add the words of captions, alt texts and tags to index rows that are about to be written."""
    said = _said_of(connection, [StorageKey(image["storage_key"]) for image, _ in rows])
    for image, texts in rows:
        facets = said.get((image["storage_key"], image["save_id"]))
        if facets is not None:
            texts["facets"] += f" {facets}"
            if connection.dialect.name != "sqlite":
                image["words"] = tsvector(texts)


def reword(connection: sa.Connection, keys: Iterable[StorageKey]) -> None:
    """Write changed captions, alt texts and tags to the search index. May wait for a lock."""
    lock_index(connection)
    wanted = search_images.c.storage_key.in_([key.text for key in keys])
    found = connection.execute(sa.select(search_images).where(wanted)).all()
    rows = [(row._asdict(), texts_of(image_of(row))) for row in found]
    describe(connection, rows)
    for image, texts in rows:
        if connection.dialect.name == "sqlite":
            own = full_text.c.rowid == image["id"]
            connection.execute(sa.update(full_text).where(own).values(facets=texts["facets"]))
        else:
            own = search_images.c.id == image["id"]
            connection.execute(sa.update(search_images).where(own).values(words=tsvector(texts)))


def _said_of(
    connection: sa.Connection, keys: Sequence[StorageKey]
) -> Mapping[tuple[str, str], str]:
    """Return the index words for captions, alt texts and tags, by storage key and save id."""
    said = (resources.c.caption, resources.c.alt_text, tags.c.tag)
    asked = (
        sa.select(resources, tags.c.tag)
        .outerjoin(tags, tags.c.resource_id == resources.c.id)
        .where(resources.c.storage_key.in_(among(connection, keys)))
        .where(resources.c.deleted_at.is_(None))
        .where(sa.or_(*(column.is_not(None) for column in said)))
    )
    found: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
    for row in connection.execute(asked).all():
        texts = [text for text in (row.caption, row.alt_text) if text]
        _, names = found.setdefault((row.storage_key.text, row.save_id), (texts, []))
        names += [] if row.tag is None else [row.tag]
    return {save: library_facets(texts, sorted(names)) for save, (texts, names) in found.items()}
