"""Lineage in the search index: queries by origin (`derived_from`) and by the hashes of images.

An origin in the metadata of an image is a path or a SHA-256. `meanings` in `generation/origins.py`
returns the paths to which it may refer. The index contains a word for each path and SHA-256.
"""

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from stillroom.features.search.rows import SearchRows
from stillroom.features.search.tables import search_images
from stillroom.features.search.values import FactsQuery, IndexedImage, SearchQuery, Term
from stillroom.features.search.words import folder_facet
from stillroom.generation.origins import is_sha256, meanings
from stillroom.paths import ImagePrefix, KeyPrefix, image_entry, image_key_bound
from stillroom.store.values import StoredImage

_FILTER: Final = "derived_from"
_MAX_FOUND: Final = 100  # images with the same hash, and origins of an image
_MAX_COUNTED: Final = 10_000  # derivatives to count in each request for metadata

Query = TypeVar("Query", bound=FactsQuery)
images = search_images.c


class LineageRows(SearchRows):
    """Origins and derivatives of the images in one library's search index."""

    async def lineage(self, image: StoredImage, folder: str) -> Mapping[str, object]:
        """Return the origins of an image (`derived_from`) and the number of its derivatives.

        Both are limited to a folder (with a trailing slash, or empty). `derived_from` is None if
        the index does not contain this version of the image yet.
        """
        indexed = await self.find(image.key)
        is_same = indexed is not None and indexed.image.save_id == image.save_id
        names = [image_entry(image.key.text), *([image.sha256.hex()] if image.sha256 else [])]
        return {
            _FILTER: await self._origins(indexed, folder) if indexed and is_same else None,
            "derivatives": await self._count(Term(_FILTER, tuple(names)), folder),
        }

    async def _origins(self, indexed: IndexedImage, folder: str) -> list[str]:
        facts, path = indexed.metadata.generation, image_entry(indexed.image.key.text)
        origins = (facts and facts.derived_from) or ()
        names = dict.fromkeys(name for origin in origins for name in meanings(origin, path))
        if not names:
            return []
        hashes = [name for name in names if is_sha256(name)]
        paths = [name for name in names if not is_sha256(name)]
        async with self._engine.reading() as connection:
            found = {
                *await _paths_among(connection, paths, folder),
                *await _paths_of(connection, hashes, folder),
            }
        first = [path for path in paths if path in found]
        return [*first, *sorted(found.difference(first))][:_MAX_FOUND]

    async def _count(self, term: Term, folder: str) -> int:
        prefix = KeyPrefix.of_images(ImagePrefix(folder))
        query, folder_word = SearchQuery(terms=(term,), prefix=prefix), folder_facet(prefix.text)
        matches = self._build_select(query, (images.id,), folder_word)
        matches = matches.order_by(None).limit(_MAX_COUNTED)
        rows = await self._read(sa.select(sa.func.count()).select_from(matches.subquery()))
        return int(rows[0][0])


async def expand(connection: AsyncConnection, query: Query) -> Query:
    """Extend a search by origin: a path also matches its image's SHA-256, and vice versa."""
    terms = []
    for term in query.terms:
        is_origin = term.kind == _FILTER
        same = await _same_as(connection, term.words[0], query.folder) if is_origin else ()
        terms.append(term._replace(words=(*term.words, *same)))
    return dataclasses.replace(query, terms=tuple(terms))


async def _same_as(connection: AsyncConnection, origin: str, folder: str) -> Iterable[str]:
    if is_sha256(origin):
        return await _paths_of(connection, [origin], folder)
    if not origin.startswith(folder):
        return ()
    hash_ = sa.select(images.sha256).where(images.storage_key == image_key_bound(origin))
    known = (await connection.execute(hash_)).scalar_one_or_none()
    return () if known is None else (known.hex(),)


async def _paths_among(
    connection: AsyncConnection, paths: Collection[str], folder: str
) -> Iterable[str]:
    keys = [image_key_bound(path) for path in paths if path.startswith(folder)]
    found = sa.select(images.storage_key).where(images.storage_key.in_(keys))
    return map(image_entry, (await connection.execute(found)).scalars())


async def _paths_of(
    connection: AsyncConnection, hashes: Collection[str], folder: str
) -> Iterable[str]:
    start = image_key_bound(folder)
    # Not as a range of keys, since SQLite would then read all images in the folder.
    is_inside = sa.func.substr(images.storage_key, 1, len(start)) == start
    found = (
        sa.select(images.storage_key)
        .where(images.sha256.in_([bytes.fromhex(text) for text in hashes]), is_inside)
        .order_by(images.id)
        .limit(_MAX_FOUND)
    )
    return map(image_entry, (await connection.execute(found)).scalars())
