"""HTTP operations on the tags of resources, and on the computation of missing properties."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Request, Response
from pydantic import BaseModel, Field

from stillroom.errors import InvalidParameter
from stillroom.features.database.tags import MAX_TAG_BYTES, MAX_TAGS, checked_tags
from stillroom.features.library.healing import Healer
from stillroom.features.library.requests import RemovedTagsParameters, library_call
from stillroom.features.library.service import MediaResourceService
from stillroom.store.api.call import Call
from stillroom.store.api.forms import JsonForm
from stillroom.store.api.responses import json_answer
from stillroom.store.api.routes import Operation
from stillroom.store.auth.grants import Authorize
from stillroom.store.http.parameters import resource_id
from stillroom.store.http.serving import write_condition
from stillroom.wire.shown import ID_EXAMPLE

MAX_IDS: Final = 1000

_Id = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
_Tag = Annotated[str, Field(json_schema_extra={"minLength": 1, "maxLength": MAX_TAG_BYTES})]


class TagNames(JsonForm, max_bytes=64 * 1024, example='{"tags": ["…"]}'):
    """Request body: tags of 1 to 64 bytes that do not begin with `-`."""

    tags: list[_Tag] = Field(max_length=MAX_TAGS, examples=[["cat", "morning"]])


class TagsView(BaseModel):
    """All tags of a resource after the operation."""

    tags: list[str] = Field(description="sorted", examples=[["cat", "morning"]])


class ResourcesToHeal(JsonForm, max_bytes=64 * 1024, example='{"ids": ["…"]}'):
    """Request body: ids of the resources whose missing properties are computed (default: all)."""

    ids: list[_Id] | None = Field(default=None, max_length=MAX_IDS, examples=[[ID_EXAMPLE]])


class HealingView(BaseModel):
    """Number of resources that are queued for the computation of missing properties."""

    count: int = Field(description="resources with missing properties", examples=[12])


@dataclass(frozen=True, slots=True)
class Enrichment:
    """Operations on tags, and on the computation of missing properties ("healing")."""

    media: MediaResourceService
    healer: Healer
    authorize: Authorize

    @Operation("GET", "/heal", (503,), answer=HealingView)
    async def get_healing(self, request: Request) -> Response:
        """Get the number of resources that are queued for the computation of missing properties."""
        await library_call(request, self.authorize)
        return json_answer({"count": await self.healer.waiting()})

    @Operation(
        "POST",
        "/heal",
        (503,),
        body=ResourcesToHeal,
        may_lack_body=True,
        answer=HealingView,
        status=202,
    )
    async def heal_media_resources(self, request: Request) -> Response:
        """Queue resources for the computation of missing properties in the background."""
        call = await library_call(request, self.authorize)
        body = await call.json(ResourcesToHeal) if call.has_body else ResourcesToHeal()
        at = ("body", "ids")
        ids = None if body.ids is None else {resource_id(text, at) for text in body.ids}
        return json_answer({"count": await self.healer.ask(ids)}, 202)

    @Operation("GET", "/{resource_id}/tags", (404, 503), answer=TagsView)
    async def get_tags(self, request: Request) -> Response:
        """Get a resource's tags."""
        call = await library_call(request, self.authorize)
        resource = await self.media.find(call.path_id("resource_id"))
        return json_answer({"tags": resource.tags})

    @Operation("POST", "/{resource_id}/tags", (404, 503), body=TagNames, answer=TagsView)
    async def add_tags(self, request: Request) -> Response:
        """Add tags to a resource. Existing tags are kept."""
        call = await library_call(request, self.authorize)
        added = await _read_tags(call)
        return await self._change(call, lambda tags: tags | added)

    @Operation("PUT", "/{resource_id}/tags", (404, 503), body=TagNames, answer=TagsView)
    async def replace_tags(self, request: Request) -> Response:
        """Replace all tags of a resource."""
        call = await library_call(request, self.authorize)
        new_tags = await _read_tags(call)
        return await self._change(call, lambda _: new_tags)

    @Operation(
        "DELETE",
        "/{resource_id}/tags",
        (404, 503),
        query=RemovedTagsParameters,
        body=TagNames,
        may_lack_body=True,
        answer=TagsView,
    )
    async def remove_tags(self, request: Request) -> Response:
        """Remove the tags named in the query or the body. Without names, remove all tags."""
        call = await library_call(request, self.authorize)
        texts = call.query(RemovedTagsParameters).tags
        removed = checked_tags(texts, ("query", "tag"))
        if call.has_body:
            removed |= await _read_tags(call)
        removes_all = not (call.has_body or texts)
        return await self._change(call, lambda tags: frozenset() if removes_all else tags - removed)

    async def _change(
        self, call: Call, change: Callable[[frozenset[str]], frozenset[str]]
    ) -> Response:
        if write_condition(call.fields).is_set:
            # An ignored condition could overwrite tags that the client wanted to protect.
            raise InvalidParameter(
                "changing tags supports neither If-Match nor If-None-Match: omit the header, since "
                "each tag is added or removed on its own",
                at=("header", "if-match"),
            )
        tags = await self.media.change_tags(call.path_id("resource_id"), change)
        return json_answer({"tags": tags})


async def _read_tags(call: Call) -> frozenset[str]:
    return checked_tags((await call.json(TagNames)).tags, ("body", "tags"))
