"""The search: images by their prompt, model, seed and time, the newest first."""

from dataclasses import asdict, dataclass
from typing import Final

from fastapi import Request, Response
from pydantic import BaseModel, Field

from stillroom.api.call import Call
from stillroom.api.entries import described
from stillroom.api.metadata import ImageMetadata
from stillroom.api.responses import json_answer
from stillroom.api.routes import Operation, OperationRouter
from stillroom.auth.grants import Authorize
from stillroom.errors import InvalidParameter
from stillroom.http.facts_query import FactsParameters
from stillroom.http.search_query import (
    SEARCH_QUERY,
    SearchParameters,
    cursor_behind,
    parse_search_query,
)
from stillroom.media.database import MediaDatabase
from stillroom.media.index.values import FactsQuery, IndexedImage, SearchQuery
from stillroom.media.index.words import Phrase, phrases_of, words_of
from stillroom.paths import ImagePrefix, KeyPrefix, image_entry, image_key_bound

_MAX_PHRASES: Final = 32


class SearchResults(BaseModel):
    """A page of images that were found."""

    items: list[ImageMetadata] = Field(
        description="`raw` is null here, and long texts are cut: metadata of an image has all"
    )
    next: str | None = Field(
        description="the `cursor` of the next page; null behind the last one",
        examples=["MTc2NDE3NjAwMDAwMDAwMDAwMA"],
    )


@dataclass(frozen=True, slots=True)
class SearchOperation:
    """The one operation over one library.

    Attributes:
        database: Where the index is.
        authorize: Who is asking.
    """

    database: MediaDatabase
    authorize: Authorize

    async def search_images(self, request: Request) -> Response:
        """Search stored images by how they were made, newest first."""
        call = await Call.of(request, self.authorize)
        asked = parse_search_query(call.query)
        query = _query(asked, call.grant.narrow("storage:read", asked.prefix))
        page = await (await self.database.rows()).search.search(query)
        after = page.next_after
        if isinstance(after, str):
            after = image_entry(after)
        return json_answer(
            {
                "items": [_item(image) for image in page.images],
                "next": None if after is None else cursor_behind(after),
            }
        )


def search_router(operation: SearchOperation) -> OperationRouter:
    """The route of the one operation, `/storage/search`."""
    router = OperationRouter("/storage/search", tag="Storage")
    router.add(
        "",
        Operation(
            "GET",
            operation.search_images,
            (401, 403, 414, 503),
            answer=SearchResults,
            query=SEARCH_QUERY,
        ),
    )
    return router


def _item(indexed: IndexedImage) -> dict[str, object]:
    facts = indexed.generation
    return {
        **described(indexed.image),
        "ai_mark": indexed.ai_mark,
        "generation": facts.as_json() if facts is not None else None,
    }


def facts_of(asked: FactsParameters) -> FactsQuery:
    """What the index is asked about how images were made.

    Raises:
        InvalidParameter: a text without a word, or with too many.
    """
    return FactsQuery(
        words=_phrases("q", asked.q),
        prompt=_phrases("prompt", asked.prompt),
        model=_phrase("model", asked.model),
        lora=_phrase("lora", asked.lora),
        sampler=asked.sampler or None,
        seed=asked.seed,
        tool=asked.tool or None,
        ai_mark=asked.ai_mark,
    )


def _query(asked: SearchParameters, visible: ImagePrefix) -> SearchQuery:
    """What the index is asked.

    Args:
        asked: By the client.
        visible: The prefix, narrowed to the caller's folder: no cursor leads out of it.

    Raises:
        InvalidParameter: a text without a word, or with too many.
    """
    after = asked.after
    return SearchQuery(
        **asdict(facts_of(asked.facts)),
        prefix=KeyPrefix.of_images(visible),
        content_type=asked.content_type,
        saved_from_ns=asked.saved_from_ns,
        saved_before_ns=asked.saved_before_ns,
        by_path=asked.by_path,
        descending=asked.descending,
        after=image_key_bound(after) if isinstance(after, str) else after,
        limit=asked.limit,
    )


def _phrases(name: str, text: str) -> tuple[Phrase, ...]:
    found = tuple(phrases_of(text))
    if text.strip() and not found:
        raise InvalidParameter("has no letter and no digit", at=("query", name))
    if len(found) > _MAX_PHRASES:
        raise InvalidParameter(f"has more than {_MAX_PHRASES} words", at=("query", name))
    return found


def _phrase(name: str, text: str) -> Phrase:
    found = tuple(words_of(text))
    if text.strip() and not found:
        raise InvalidParameter("has no letter and no digit", at=("query", name))
    if len(found) > _MAX_PHRASES:
        raise InvalidParameter(f"has more than {_MAX_PHRASES} words", at=("query", name))
    return found
