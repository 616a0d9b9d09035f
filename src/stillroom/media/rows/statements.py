"""Shared parts of statements, and the order of locks.

Each public method of the classes in this package is one transaction. Methods that write lock rows
in one order (docs/adr/0012): marks, then resources, then tags, then healing, then intents, then
the search index. The statement that writes also checks its preconditions, so that only one of two
processes succeeds.
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
"""Separator of tags in one text. Tags contain no control characters."""


class _Tags(sa.TypeDecorator[tuple[str, ...]]):
    """Column type for the sorted tags of one resource."""

    impl = sa.Text
    cache_ok = True

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> tuple[str, ...]:
        """Split and sort the tags."""
        del dialect
        return tuple(sorted(value.split(_SEPARATOR))) if value else ()


_TAGS: Final = sa.type_coerce(
    sa.select(sa.func.aggregate_strings(tags.c.tag, _SEPARATOR))
    .where(tags.c.resource_id == resources.c.id)
    .scalar_subquery(),
    _Tags(),
).label("tags")


class _Generation(sa.TypeDecorator[Generation]):
    """Column type for the generation facts of one image."""

    impl = sa.Text
    cache_ok = True

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Generation | None:
        """Decode the JSON."""
        del dialect
        return None if value is None else generation_of(json.loads(value))


def is_indexed_in(images: sa.FromClause) -> sa.ColumnElement[bool]:
    """Build the condition that joins a resource with its save's row in the search index."""
    return sa.and_(
        images.c.storage_key == resources.c.storage_key, images.c.save_id == resources.c.save_id
    )


_indexed: Final = search_images.alias()
_GENERATION: Final = sa.type_coerce(
    sa.select(_indexed.c.generation).where(is_indexed_in(_indexed)).scalar_subquery(),
    _Generation(),
).label("generation")


def insert_into(connection: AsyncConnection, table: sa.Table) -> Any:  # noqa: ANN401  (one of two classes with the same methods)
    """Build an INSERT with support for ON CONFLICT in the dialect of the connection."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)


def select_resources() -> sa.Select[Any]:
    """Build a SELECT of resources with their tags and facts, for `resource_of`."""
    return sa.select(resources, _TAGS, _GENERATION)


def resource_of(row: sa.Row[Any]) -> MediaResource:
    """Convert a row of `select_resources` to a resource."""
    return MediaResource(**row._asdict())


def values_of(resource: MediaResource) -> dict[str, object]:
    """Return the values of a resource by column name, without tags, which have their own table."""
    return {column.name: getattr(resource, column.name) for column in resources.columns}


async def await_healing(connection: AsyncConnection, resource: MediaResource) -> None:
    """Enqueue a new resource for the facts that need decoding."""
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
    """Build a table of texts with these columns from a single parameter.

    With a parameter per text, each page would be a new statement, which SQLAlchemy compiles in 100
    to 150 µs per row, on the event loop. This takes 3 µs.
    """
    encoded = sa.literal(json.dumps([*rows], ensure_ascii=False), sa.Text)
    cells: list[sa.ColumnElement[str]]
    if connection.dialect.name == "sqlite":
        row = sa.func.json_each(encoded).table_valued("value").c.value
        cells = [sa.func.json_extract(row, f"$[{at}]", type_=sa.Text) for at in range(len(columns))]
    else:
        row = sa.func.json_array_elements(sa.cast(encoded, sa.JSON)).table_valued("value").c.value
        cells = [row.op("->>", return_type=sa.Text())(at) for at in range(len(columns))]
    return sa.select(*map(sa.label, columns, cells)).subquery()


def among(
    connection: AsyncConnection | sa.Connection, keys: Sequence[StorageKey]
) -> sa.Select[tuple[str]]:
    """Build an operand of `in_` with some keys in a single parameter."""
    return sa.select(table_of(connection, ["key"], ([key.text] for key in keys)).c.key)


async def keys_with_resource(
    connection: AsyncConnection, keys: Sequence[StorageKey]
) -> set[StorageKey]:
    """Return the keys that a resource uses for its bytes."""
    if not keys:
        return set()
    column = resources.c.storage_key
    statement = sa.select(column).where(column.in_(among(connection, keys)))
    return set((await connection.execute(statement)).scalars())


async def keys_with_intent(
    connection: AsyncConnection, keys: Sequence[StorageKey]
) -> set[StorageKey]:
    """Return the keys that an intent has for its copy."""
    if not keys:
        return set()
    column = intents.c.media_key
    statement = sa.select(column).where(column.in_(among(connection, keys)))
    return set((await connection.execute(statement)).scalars())


async def known_keys(connection: AsyncConnection, keys: Sequence[StorageKey]) -> set[StorageKey]:
    """Return the keys that a row of any table refers to."""
    if not keys:
        return set()
    columns = (
        resources.c.storage_key,
        intents.c.media_key,
        deletions.c.storage_key,
        dead_letters.c.storage_key,
    )
    operand = among(connection, keys)
    statement = sa.union(*(sa.select(column).where(column.in_(operand)) for column in columns))
    return set((await connection.execute(statement)).scalars())
