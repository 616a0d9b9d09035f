"""What the statements on several tables share; the order of locks, and INSERT of both dialects.

A public method of the classes in this package is one transaction. Those that change something lock
rows in one order (docs/adr/0012): marks, then resources, then tags, then healing, then intents,
then the search index. A condition that must hold stands in the statement itself, so that two
processes cannot both believe it.
"""

import json
from collections.abc import Iterable, Sequence
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


def table_of(
    connection: AsyncConnection | sa.Connection,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
) -> sa.Subquery:
    """Texts as a table with these columns, in one parameter whatever their number.

    A parameter for each text makes another statement of each page, which SQLAlchemy takes 100 to
    150 µs a row to write, on the event loop; this takes 3.
    """
    given = sa.literal(json.dumps([*rows], ensure_ascii=False), sa.Text)
    cells: list[sa.ColumnElement[str]]
    if connection.dialect.name == "sqlite":
        row = sa.func.json_each(given).table_valued("value").c.value
        cells = [sa.func.json_extract(row, f"$[{at}]", type_=sa.Text) for at in range(len(columns))]
    else:
        row = sa.func.json_array_elements(sa.cast(given, sa.JSON)).table_valued("value").c.value
        cells = [row.op("->>", return_type=sa.Text())(at) for at in range(len(columns))]
    return sa.select(*map(sa.label, columns, cells)).subquery()


def among(
    connection: AsyncConnection | sa.Connection, keys: Sequence[StorageKey]
) -> sa.Select[tuple[str]]:
    """For `in_`: some keys, in one parameter."""
    return sa.select(table_of(connection, ["key"], ([key.text] for key in keys)).c.key)


async def keys_with_resource(
    connection: AsyncConnection, keys: Sequence[StorageKey]
) -> set[StorageKey]:
    """Those of the keys under which a resource has its bytes."""
    if not keys:
        return set()
    column = resources.c.storage_key
    asked = sa.select(column).where(column.in_(among(connection, keys)))
    return set((await connection.execute(asked)).scalars())


async def keys_with_intent(
    connection: AsyncConnection, keys: Sequence[StorageKey]
) -> set[StorageKey]:
    """Those of the keys to which a copy is under way."""
    if not keys:
        return set()
    column = intents.c.media_key
    asked = sa.select(column).where(column.in_(among(connection, keys)))
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
    given = among(connection, keys)
    asked = sa.union(*(sa.select(column).where(column.in_(given)) for column in columns))
    return set((await connection.execute(asked)).scalars())
