"""Parts of SQL statements that several modules use, and the order of locks.

Each public method in this package is a transaction. All transactions lock rows in the same order
(docs/adr/0012): pending deletions, resources, tags, healing jobs, intents, search index, webhook
endpoints, feed of events. Statements that write also check the preconditions, so that only one of
two conflicting writes succeeds.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.features.database.clock import now
from stillroom.features.database.statements import among, insert_into
from stillroom.features.library.resource import MediaResource
from stillroom.features.library.rows.tables import (
    deletions,
    failed_deletions,
    healing,
    intents,
    resources,
    tags,
)
from stillroom.features.search.tables import search_images
from stillroom.generation.facts import generation_of
from stillroom.paths import StorageKey

_SEPARATOR: Final = "\x1f"  # between tags in one text; tags contain no control characters
_TAGS: Final = (
    sa.select(sa.func.aggregate_strings(tags.c.tag, _SEPARATOR))
    .where(tags.c.resource_id == resources.c.id)
    .scalar_subquery()
    .label("tags")
)


def is_indexed_in(images: sa.FromClause) -> sa.ColumnElement[bool]:
    """Build the SQL condition that joins a resource with its file's row in the search index."""
    is_same_save = images.c.save_id == resources.c.save_id
    has_same_bytes = images.c.sha256 == resources.c.content_hash
    return (images.c.storage_key == resources.c.storage_key) & (is_same_save | has_same_bytes)


_indexed: Final = search_images.alias()
_GENERATION: Final = (
    sa.select(_indexed.c.generation)
    .where(is_indexed_in(_indexed))
    .scalar_subquery()
    .label("generation")
)


def select_resources() -> sa.Select[Any]:
    """Build a SELECT of resources with tags and generation metadata, for `resource_of`."""
    return sa.select(resources, _TAGS, _GENERATION)


def resource_of(row: sa.Row[Any]) -> MediaResource:
    """Convert a row that `select_resources` has returned to a resource."""
    values = row._asdict()
    names, facts = values.pop("tags"), values.pop("generation")
    return MediaResource(
        **values,
        tags=tuple(sorted(names.split(_SEPARATOR))) if names else (),
        generation=None if facts is None else generation_of(json.loads(facts)),
    )


def values_of(resource: MediaResource) -> dict[str, object]:
    """Return the values of a resource by column name. Tags have their own table."""
    return {column.name: getattr(resource, column.name) for column in resources.columns}


async def await_healing(connection: AsyncConnection, resource: MediaResource) -> None:
    """Queue the computation of a new resource's dominant colour, unless it is already known."""
    if resource.dominant_color is None:
        await connection.execute(
            insert_into(connection, healing)
            .values(resource_id=resource.id, due_at=now())
            .on_conflict_do_nothing()
        )


async def keys_with_resource(
    connection: AsyncConnection, keys: Sequence[StorageKey]
) -> set[StorageKey]:
    """Return the subset of `keys` at which resources have their files."""
    return await known_in(connection, keys, resources.c.storage_key)


async def known_keys(connection: AsyncConnection, keys: Sequence[StorageKey]) -> set[StorageKey]:
    """Return the subset of `keys` to which a row in any table of the library refers."""
    tables = (resources.c.storage_key, deletions.c.storage_key, failed_deletions.c.storage_key)
    return await known_in(connection, keys, intents.c.media_key, *tables)


async def known_in(
    connection: AsyncConnection, keys: Sequence[StorageKey], *columns: sa.ColumnElement[StorageKey]
) -> set[StorageKey]:
    """Return the subset of `keys` that occurs in at least one of the columns."""
    if not keys:
        return set()
    operand = among(connection, keys)
    statement = sa.union(*(sa.select(column).where(column.in_(operand)) for column in columns))
    return set((await connection.execute(statement)).scalars())
