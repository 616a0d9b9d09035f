"""HTTP operations of the media library: ingest, list, read, change and delete resources."""

import asyncio
import dataclasses
import hashlib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, Final

from fastapi import Request, Response

from stillroom.concurrently import map_concurrently
from stillroom.errors import Forbidden, PreconditionFailed, StillroomError
from stillroom.features.database.tags import UNWANTED, checked_tags
from stillroom.features.library.forms import (
    DeletedResource,
    ImagesToIngest,
    ImageToIngest,
    IngestResults,
    MediaResourceView,
    ResourceChange,
)
from stillroom.features.library.requests import (
    ChangeParameters,
    DeletionParameters,
    MediaParameters,
    library_call,
)
from stillroom.features.library.resource import MediaResource, ResourceQuery
from stillroom.features.library.service import INGEST_S, MediaResourceService
from stillroom.features.search.operation import facts_of
from stillroom.paths import ImagePrefix, KeyPrefix, StorageKey, path_of_key
from stillroom.store.api.call import Call
from stillroom.store.api.forms import validate
from stillroom.store.api.responses import ImageResponse, image_response, json_answer, json_bytes
from stillroom.store.api.routes import Operation
from stillroom.store.auth.grants import Authorize, Grant
from stillroom.store.hooks import BodyDelegate
from stillroom.store.http import serving
from stillroom.store.http.parameters import link_after
from stillroom.store.values import RemoteImage
from stillroom.wire.generation import Generation
from stillroom.wire.media import RESOURCE_FIELDS

_CONCURRENT_INGESTS: Final = 4  # by one request; suits disks and buckets
_TO_JSON: Final[Mapping[type, Callable[[Any], object]]] = {
    uuid.UUID: str,
    bytes: bytes.hex,
    StorageKey: attrgetter("text"),
    datetime: datetime.isoformat,
    Generation: Generation.as_json,
}


@dataclass(frozen=True, slots=True)
class MediaOperations:
    """Operations of the media library. `public_url` returns the URL of a resource."""

    media: MediaResourceService
    authorize: Authorize
    public_url: Callable[[MediaResource], str]
    delegate: BodyDelegate | None = None

    @Operation(
        "GET", "", (414, 503), answer=list[MediaResourceView], query=MediaParameters, is_paged=True
    )
    async def list_media_resources(self, request: Request) -> Response:
        """List the resources of the media library, newest first."""
        call = await library_call(request, self.authorize)
        parameters = call.query(MediaParameters)
        required = [tag for tag in parameters.tags if not tag.startswith(UNWANTED)]
        excluded = [tag[1:] for tag in parameters.tags if tag.startswith(UNWANTED)]
        converted = ("start_after", "tags", "facts")
        names = [item.name for item in dataclasses.fields(MediaParameters)]
        query = ResourceQuery(
            after=parameters.start_after,
            tags=sorted(checked_tags(required, ("query", "tag"))),
            without_tags=sorted(checked_tags(excluded, ("query", "tag"))),
            facts=facts_of(parameters.facts),
            **{name: getattr(parameters, name) for name in names if name not in converted},
        )
        page = await self.media.page(query)
        headers = {}
        if page.more:
            last = page.resources[-1].id
            headers["link"] = link_after(last, call.raw_query, MediaParameters)
        return json_answer([*map(self._as_json, page.resources)], headers=headers)

    async def _ingest(
        self, grant: Grant, item: ImageToIngest, deadline: float
    ) -> Mapping[str, object]:
        path = path_of_key(item.storage_key, at=("body", "storage_key"))
        grant.require("media", path)
        if item.relocate and "storage:delete" not in grant.scopes:
            raise Forbidden(
                "relocating deletes the source, but the token lacks the scope storage:delete: "
                'send "relocate": false, or use another token'
            )
        folder = KeyPrefix.of_images(ImagePrefix(grant.folder)) if grant.folder else None
        resource = await self.media.ingest_from_storage_key(
            StorageKey.of_image(path), relocate=item.relocate, within=folder, deadline=deadline
        )
        return self._as_json(resource)

    @Operation(
        "POST",
        "/ingest",
        (404, 409, 503, 507),
        body=ImageToIngest | ImagesToIngest,
        answer=MediaResourceView | IngestResults,
    )
    async def ingest(self, request: Request) -> Response:
        """Ingest images into the media library. Identical bytes map to one resource."""
        call = await Call.of(request, self.authorize)
        call.grant.require_scope("media")
        body = await call.json_object(ImageToIngest)
        # All items of the request share one deadline.
        deadline = asyncio.get_running_loop().time() + INGEST_S
        if "items" not in body:
            item = validate(ImageToIngest, body)
            return json_answer(await self._ingest(call.grant, item, deadline))

        async def result(item: ImageToIngest) -> Mapping[str, object]:
            try:
                resource = await self._ingest(call.grant, item, deadline)
            except StillroomError as error:
                problem = {"detail": str(error), "code": error.code}
                return {"storage_key": item.storage_key, **problem}
            return {"storage_key": item.storage_key, "resource": resource}

        items = validate(ImagesToIngest, body).items
        results = await map_concurrently(result, items, limit=_CONCURRENT_INGESTS)
        return json_answer({"results": results})

    @Operation("GET", "/{resource_id}", (404, 503), answer=MediaResourceView)
    async def get_media_resource(self, request: Request) -> Response:
        """Get the properties of a resource."""
        call = await library_call(request, self.authorize)
        return await self._respond(await self.media.find(call.path_id("resource_id")))

    @Operation(
        "PATCH",
        "/{resource_id}",
        (404, 412, 503),
        query=ChangeParameters,
        headers=("If-Match",),
        body=ResourceChange,
        answer=MediaResourceView,
    )
    async def change_media_resource(self, request: Request) -> Response:
        """Change properties of a resource. With `only_unset`, change only null properties."""
        call = await library_call(request, self.authorize)
        only_unset = call.query(ChangeParameters).only_unset
        body = await call.json(ResourceChange)
        change = {name: getattr(body, name) for name in body.model_fields_set}
        changed = await self.media.change(
            call.path_id("resource_id"), change, only_unset=only_unset, check=self._condition(call)
        )
        return await self._respond(changed)

    @Operation(
        "DELETE",
        "/{resource_id}",
        (404, 409, 412, 503),
        query=DeletionParameters,
        headers=("If-Match",),
        answer=DeletedResource,
    )
    async def delete_media_resource(self, request: Request) -> Response:
        """Remove a resource from the library. Its bytes are deleted after the grace period.

        With `now`, the bytes are deleted at once. After a response 503, the rest is deleted later.
        """
        call = await library_call(request, self.authorize)
        resource_id, is_immediate = call.path_id("resource_id"), call.query(DeletionParameters).now
        if is_immediate:
            call.grant.require_scope("storage:delete")
        delete = self.media.erase if is_immediate else self.media.delete
        await delete(resource_id, check=self._condition(call))
        return json_answer({"id": str(resource_id)})

    def _condition(self, call: Call) -> Callable[[MediaResource], None] | None:
        condition = serving.write_condition(call.fields)

        def check(resource: MediaResource) -> None:
            try:
                condition.check(self._etag(resource))
            except PreconditionFailed as error:
                message = "If-Match failed: the resource was changed meanwhile"
                if condition.if_match is None:
                    message = "If-None-Match failed: the resource exists"
                raise PreconditionFailed(message) from error

        return check if condition.is_set else None

    @Operation(
        "GET",
        "/{resource_id}/file",
        (404, 412, 503),
        headers=("If-Match", "If-None-Match", "Range"),
    )
    async def get_media_file(self, request: Request) -> Response:
        """Get the bytes of a resource, or a redirect to the URL that serves them.

        With `Accept: application/json`, the response is `{"url": …}` instead of a redirect, because
        `fetch` in a web page cannot follow a redirect to a bucket.
        """
        call = await library_call(request, self.authorize)
        resource = await self.media.find(call.path_id("resource_id"))
        location = await self.media.locate(resource)
        if isinstance(location, RemoteImage):
            if call.fields.get("accept") == "application/json":
                headers = {"cache-control": "private, no-store", "vary": "accept"}
                return json_answer({"url": location.url}, headers=headers)
            return ImageResponse(serving.answer_redirect(location))
        cache = serving.IMMUTABLE_CACHE if resource.storage_key.is_media else serving.PRIVATE_CACHE
        return await image_response(call.fields, location, cache, self.delegate)

    async def _respond(self, resource: MediaResource) -> Response:
        content = self._as_json(await self.media.with_facts(resource))
        return json_answer(content, headers={"etag": self._etag(resource)})

    def _etag(self, resource: MediaResource) -> str:
        # Generation parameters are excluded: they depend only on the bytes, and the search index,
        # from which they come, is updated a moment after the ingest.
        content = self._as_json(dataclasses.replace(resource, generation=None))
        return f'"{hashlib.sha256(json_bytes(content)).hexdigest()[:32]}"'

    def _as_json(self, resource: MediaResource) -> Mapping[str, object]:
        values: dict[str, object] = {}
        for name in RESOURCE_FIELDS:
            value = self.public_url(resource) if name == "url" else getattr(resource, name)
            to_json = _TO_JSON.get(type(value))
            values[name] = value if to_json is None else to_json(value)
        return values
