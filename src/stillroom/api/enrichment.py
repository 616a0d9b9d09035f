"""What is added to resources over HTTP: their tags, and what is computed in the background."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from fastapi import Request, Response
from pydantic import BaseModel, Field

from stillroom.api.call import Call
from stillroom.api.forms import JsonForm
from stillroom.api.responses import json_answer
from stillroom.api.routes import Operation, OperationRouter
from stillroom.auth.grants import Authorize
from stillroom.errors import InvalidParameter
from stillroom.http.parameters import resource_id
from stillroom.http.query import REMOVED_TAGS_QUERY, parse_removed_tags_query
from stillroom.http.serving import write_condition
from stillroom.media.healing import Healer
from stillroom.media.service import MediaResourceService
from stillroom.media.tags import MAX_TAG_BYTES, MAX_TAGS, checked_tags

MAX_IDS: Final = 1000
_ID_EXAMPLE: Final = "0197c2a8-7d1e-7c3a-9f00-3b5d8e1a2c4f"

_Id = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
_Tag = Annotated[str, Field(json_schema_extra={"minLength": 1, "maxLength": MAX_TAG_BYTES})]


class TagNames(JsonForm):
    """Tags, each of 1 to 64 bytes; none begins with `-`."""

    MAX_BYTES: ClassVar = 64 * 1024
    EXAMPLE: ClassVar = '{"tags": ["…"]}'

    tags: list[_Tag] = Field(max_length=MAX_TAGS, examples=[["cat", "morning"]])


class TagsView(BaseModel):
    """All tags of a resource."""

    tags: list[str] = Field(description="sorted", examples=[["cat", "morning"]])


class ResourcesToHeal(JsonForm):
    """Of which resources to compute what is missing; without `ids` of all."""

    MAX_BYTES: ClassVar = 64 * 1024
    EXAMPLE: ClassVar = '{"ids": ["…"]}'

    ids: list[_Id] | None = Field(default=None, max_length=MAX_IDS, examples=[[_ID_EXAMPLE]])


class HealingView(BaseModel):
    """How many resources wait."""

    count: int = Field(description="resources of which something is missing", examples=[12])


@dataclass(frozen=True, slots=True)
class Enrichment:
    """The operations on tags and on what is missing.

    Attributes:
        media: Has the tags.
        healer: Computes what is missing.
        authorize: Who is asking.
    """

    media: MediaResourceService
    healer: Healer
    authorize: Authorize

    async def get_tags(self, request: Request) -> Response:
        """Get a resource's tags."""
        call = await self._call(request)
        resource = await self.media.find(call.path_id("resource_id"))
        return json_answer({"tags": resource.tags})

    async def add_tags(self, request: Request) -> Response:
        """Add tags to a resource; those that it has stay."""
        call = await self._call(request)
        added = await _tags(call)
        return await self._changed(call, lambda tags: tags | added)

    async def replace_tags(self, request: Request) -> Response:
        """Give a resource these tags and no others."""
        call = await self._call(request)
        given = await _tags(call)
        return await self._changed(call, lambda _: given)

    async def remove_tags(self, request: Request) -> Response:
        """Take tags away, named in the query or the body; all of them if none is named."""
        call = await self._call(request)
        texts = parse_removed_tags_query(call.query)
        removed = checked_tags(texts, ("query", "tag"))
        if call.has_body:
            removed |= await _tags(call)
        elif not texts:
            return await self._changed(call, lambda _: frozenset())
        return await self._changed(call, lambda tags: tags - removed)

    async def heal_media_resources(self, request: Request) -> Response:
        """Have computed what is missing of resources, in the background."""
        call = await self._call(request)
        asked = await call.json(ResourcesToHeal) if call.has_body else ResourcesToHeal()
        at = ("body", "ids")
        ids = None if asked.ids is None else {resource_id(text, at) for text in asked.ids}
        return json_answer({"count": await self.healer.ask(ids)}, 202)

    async def get_healing(self, request: Request) -> Response:
        """Get how many resources still wait."""
        await self._call(request)
        return json_answer({"count": await self.healer.waiting()})

    async def _changed(
        self, call: Call, wanted: Callable[[frozenset[str]], frozenset[str]]
    ) -> Response:
        if write_condition(call.fields).is_set:
            # Ignored, it would let a change of tags go over what its sender wanted to protect.
            raise InvalidParameter(
                "a change of tags supports neither If-Match nor If-None-Match: tags are added and "
                "taken away one by one",
                at=("header", "if-match"),
            )
        tags = await self.media.change_tags(call.path_id("resource_id"), wanted)
        return json_answer({"tags": tags})

    async def _call(self, request: Request) -> Call:
        """A request whose sender may use the whole library."""
        call = await Call.of(request, self.authorize)
        call.grant.require_everywhere("media")
        return call


async def _tags(call: Call) -> frozenset[str]:
    return checked_tags((await call.json(TagNames)).tags, ("body", "tags"))


def enrichment_router(operations: Enrichment) -> OperationRouter:
    """The routes of tags and healing, below `/media-resources`."""
    router = OperationRouter("/media-resources", tag="Media")
    router.add(
        "/heal",
        Operation("GET", operations.get_healing, (401, 403, 503), answer=HealingView),
        Operation(
            "POST",
            operations.heal_media_resources,
            (401, 403, 413, 415, 503),
            body=ResourcesToHeal,
            may_lack_body=True,
            answer=HealingView,
            status=202,
        ),
    )
    changes = (401, 403, 404, 413, 415, 503)
    router.add(
        "/{resource_id}/tags",
        Operation("GET", operations.get_tags, (401, 403, 404, 503), answer=TagsView),
        Operation("POST", operations.add_tags, changes, body=TagNames, answer=TagsView),
        Operation("PUT", operations.replace_tags, changes, body=TagNames, answer=TagsView),
        Operation(
            "DELETE",
            operations.remove_tags,
            changes,
            query=REMOVED_TAGS_QUERY,
            body=TagNames,
            may_lack_body=True,
            answer=TagsView,
        ),
    )
    return router
