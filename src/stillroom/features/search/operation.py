"""HTTP operations that search and count images, and the hook that adds AI marks to listings."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace

from fastapi import Request, Response
from pydantic import BaseModel, Field

from stillroom.errors import BackendUnavailable, InvalidParameter
from stillroom.features.database.clock import to_nanoseconds
from stillroom.features.database.database import Database
from stillroom.features.database.tags import UNWANTED, checked_tags
from stillroom.features.metadata.operation import ImageMetadata, describe_metadata
from stillroom.features.search.database import count_rows, search_rows
from stillroom.features.search.facts_query import FactsParameters
from stillroom.features.search.query import SearchFilters, SearchParameters, cursor_behind
from stillroom.features.search.terms import narrowed, parse_terms, terms_of
from stillroom.features.search.values import FactsQuery, SearchQuery, Term
from stillroom.generation.facets import FACETS
from stillroom.paths import ImagePrefix, KeyPrefix, StorageKey, image_entry, image_key_bound
from stillroom.store.api.call import Call
from stillroom.store.api.responses import json_answer
from stillroom.store.api.routes import Operation
from stillroom.store.api.views import view_of
from stillroom.store.auth.grants import Authorize, Grant
from stillroom.store.values import StoredImage
from stillroom.wire import facets as wire


class SearchResults(BaseModel):
    """Page of search results."""

    items: list[ImageMetadata] = Field(
        description="`raw` is null here, and long texts are cut; an image's metadata has all of it"
    )
    next: str | None = Field(
        description="the `cursor` of the next page; null on the last page",
        examples=["MTc2NDE3NjAwMDAwMDAwMDAwMA"],
    )


@view_of(wire.FacetCount)
class FacetCount(BaseModel):
    """Number of images that have a value, such as the name of a model."""


_Counts = list[FacetCount]


@view_of(
    wire.Facets, optional=("tag",),
    model=_Counts, lora=_Counts, sampler=_Counts, tool=_Counts, day=_Counts, tag=_Counts | None,
)  # fmt: skip
class SearchFacets(BaseModel):
    """Values of images, such as models and tags, each with the number of images that have it."""


@dataclass(frozen=True, slots=True)
class SearchOperation:
    """Operations that search images, and that count images by model, tag and other properties."""

    database: Database
    authorize: Authorize

    @Operation("GET", "", (414, 503), answer=SearchResults, query=SearchParameters)
    async def search_images(self, request: Request) -> Response:
        """Search stored images by their path, generation parameters and time, newest first."""
        call = await Call.of(request, self.authorize)
        parameters = call.query(SearchParameters)
        visible = call.grant.narrow("storage:read", parameters.prefix)
        after = parameters.after
        query = replace(
            _query(parameters, visible, call.grant),
            order=parameters.order,
            descending=parameters.sort.startswith("-"),
            after=image_key_bound(after) if isinstance(after, str) else after,
            limit=parameters.limit,
        )
        page = await (await search_rows(self.database)).search(query)
        next_after = page.next_after
        if isinstance(next_after, str):
            next_after = image_entry(next_after)
        items = [describe_metadata(entry.image, entry.metadata) for entry in page.images]
        cursor = None if next_after is None else cursor_behind(next_after)
        return json_answer({"items": items, "next": cursor})

    @Operation("GET", "/facets", (414, 503), answer=SearchFacets, query=SearchFilters)
    async def count_facets(self, request: Request) -> Response:
        """Count images by model, LoRA, sampler and tool, and by day (UTC) and tag.

        Each list has at most 200 values, the most frequent first; `day` has the newest 366 days.
        Without filters, all images are counted. Otherwise, the newest 10,000 matches are counted.
        """
        call = await Call.of(request, self.authorize)
        parameters = call.query(SearchFilters)
        visible = call.grant.narrow("storage:read", parameters.prefix)
        query = _query(parameters, visible, call.grant)
        rows = await count_rows(self.database)
        facets = asdict(await rows.facets(query, with_tags=_sees_library(call.grant)))
        return json_answer({name: value for name, value in facets.items() if value is not None})


@dataclass(frozen=True, slots=True)
class EntryMarks:
    """Hook (`EntryHook`) that adds the AI mark of each image to a listing."""

    database: Database

    async def members(
        self, images: Sequence[StoredImage], deadline: float
    ) -> Mapping[StorageKey, Mapping[str, object]]:
        """Return known AI marks by key, or {} if the database has not responded by `deadline`."""
        if self.database.is_open:
            with contextlib.suppress(BackendUnavailable, TimeoutError):
                async with asyncio.timeout_at(deadline):
                    marks = await (await search_rows(self.database)).marks(images)
                return {key: {"ai_mark": mark} for key, mark in marks.items()}
        return {}


def facts_of(
    parameters: FactsParameters, tags: Sequence[str] = (), *, sees_library: bool = True
) -> FactsQuery:
    """Convert the query parameters of a request to search conditions.

    An image must have each of the `tags`; if a tag begins with `-`, the image must not have it.
    `sees_library` is True if the client may read the media library. Raises `InvalidParameter` if a
    text has no words or too many, or if `q` contains an invalid filter.
    """
    with _named("q"):
        query = parse_terms(parameters.q)
    terms = [*query.terms]
    for name in FACETS:
        if value := getattr(parameters, name):
            with _named(name):
                terms += terms_of(name, value)
    for tag in tags:
        is_excluded = tag.startswith(UNWANTED)
        terms.append(Term("tag", (tag.removeprefix(UNWANTED),), is_excluded=is_excluded))
    return replace(query, terms=tuple(terms), sees_library=sees_library)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise InvalidParameter(str(error), at=("query", name)) from error


def _sees_library(grant: Grant) -> bool:
    return "media" in grant.scopes and not grant.folder


def _query(parameters: SearchFilters, visible: ImagePrefix, grant: Grant) -> SearchQuery:
    sees_library = _sees_library(grant)
    checked_tags((tag.removeprefix(UNWANTED) for tag in parameters.tags), ("query", "tag"))
    facts = facts_of(parameters.facts, parameters.tags, sees_library=sees_library)
    if not sees_library and any(term.kind == "tag" for term in facts.terms):
        grant.require_everywhere("media")
    bounds = {"saved_from_ns": parameters.saved_from, "saved_before_ns": parameters.saved_before}
    facts = narrowed(facts, **{name: to_nanoseconds(at) for name, at in bounds.items() if at})
    conditions = {item.name: getattr(facts, item.name) for item in fields(facts)}
    return SearchQuery(
        **{**conditions, "folder": grant.folder},
        prefix=KeyPrefix.of_images(visible),
        content_type=parameters.content_type,
    )
