"""What the statements on several tables share; the order of locks, and INSERT of both dialects.

A public method of the classes in this package is one transaction. Those that change something lock
rows in one order (docs/adr/0012): marks, then resources, then tags, then healing, then intents. A
condition that must hold stands in the statement itself, so that two processes cannot both believe
it.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.generation.facts import Generation, generation_of
from stillroom.media.resource import MediaResource, now
from stillroom.media.rows.tables import (
    dead_letters,
    deletions,
    healing,
    intents,
    resources,
    search_images,
    tags,
)
from stillroom.paths import StorageKey

_SEPARATOR: Final = "\x1f"
"""Between tags that come as one text; no tag has a control character."""


class _Tags(sa.TypeDecorator[tuple[str, ...]]):
    """The tags of one resource, sorted."""

    impl = sa.Text
    cache_ok = True

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> tuple[str, ...]:
        """Taken apart."""
        del dialect
        return tuple(sorted(value.split(_SEPARATOR))) if value else ()


_TAGS: Final = sa.type_coerce(
    sa.select(sa.func.aggregate_strings(tags.c.tag, _SEPARATOR))
    .where(tags.c.resource_id == resources.c.id)
    .scalar_subquery(),
    _Tags(),
).label("tags")


class _Generation(sa.TypeDecorator[Generation]):
    """The facts about one image."""

    impl = sa.Text
    cache_ok = True

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Generation | None:
        """As a value."""
        del dialect
        return None if value is None else generation_of(json.loads(value))


def is_indexed_in(images: sa.FromClause) -> sa.ColumnElement[bool]:
    """What joins a resource with the row of the search index that is of its very save."""
    return sa.and_(
        images.c.storage_key == resources.c.storage_key, images.c.save_id == resources.c.save_id
    )


_indexed: Final = search_images.alias()
_GENERATION: Final = sa.type_coerce(
    sa.select(_indexed.c.generation).where(is_indexed_in(_indexed)).scalar_subquery(),
    _Generation(),
).label("generation")


def insert_into(connection: AsyncConnection, table: sa.Table) -> Any:  # noqa: ANN401  (one of two classes with the same methods)
    """An INSERT with the ON CONFLICT of this database."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)


def select_resources() -> sa.Select[Any]:
    """All resources with their tags and facts, as `resource_of` reads them."""
    return sa.select(resources, _TAGS, _GENERATION)


def resource_of(row: sa.Row[Any]) -> MediaResource:
    """A resource as its row says."""
    return MediaResource(**row._asdict())


def values_of(resource: MediaResource) -> dict[str, object]:
    """A resource by the names of its columns; its tags are in a table of their own."""
    return {column.name: getattr(resource, column.name) for column in resources.columns}


async def await_healing(connection: AsyncConnection, resource: MediaResource) -> None:
    """Have computed what only the pixels say, soon and in the background."""
    if resource.dominant_color is None:
        await connection.execute(
            insert_into(connection, healing)
            .values(resource_id=resource.id, due_at=now())
            .on_conflict_do_nothing()
        )


async def keys_with_resource(
    connection: AsyncConnection, keys: Sequence[StorageKey]
) -> set[StorageKey]:
    """Those of the keys under which a resource has its bytes."""
    if not keys:
        return set()
    asked = sa.select(resources.c.storage_key).where(resources.c.storage_key.in_(keys))
    return set((await connection.execute(asked)).scalars())


async def keys_with_intent(
    connection: AsyncConnection, keys: Sequence[StorageKey]
) -> set[StorageKey]:
    """Those of the keys to which a copy is under way."""
    if not keys:
        return set()
    asked = sa.select(intents.c.media_key).where(intents.c.media_key.in_(keys))
    return set((await connection.execute(asked)).scalars())


async def known_keys(connection: AsyncConnection, keys: Sequence[StorageKey]) -> set[StorageKey]:
    """Those of the keys that a row of any table names."""
    if not keys:
        return set()
    columns = (
        resources.c.storage_key,
        intents.c.media_key,
        deletions.c.storage_key,
        dead_letters.c.storage_key,
    )
    asked = sa.union(*(sa.select(column).where(column.in_(keys)) for column in columns))
    return set((await connection.execute(asked)).scalars())
