"""The media library over HTTP: ingest, read, change, delete."""

import asyncio
import hashlib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, Literal

from fastapi import Request, Response
from pydantic import AfterValidator, BaseModel, Field
from pydantic.config import JsonDict

from stillroom.api.call import Call
from stillroom.api.document import PATH_EXAMPLE, SHA256_EXAMPLE
from stillroom.api.forms import JsonForm, in_form
from stillroom.api.responses import ImageResponse, json_answer, json_bytes
from stillroom.api.routes import Operation, OperationRouter
from stillroom.api.sendfile import ProxySendfile, answered
from stillroom.auth.grants import Authorize, Grant
from stillroom.errors import Forbidden, PreconditionFailed, StillroomError
from stillroom.generation.ai_mark import AiMark
from stillroom.http.fields import entity_tags
from stillroom.http.query import CHANGE_QUERY, MEDIA_QUERY, parse_change_query, parse_media_query
from stillroom.http.serving import (
    IMMUTABLE_CACHE,
    PRIVATE_CACHE,
    answer_redirect,
)
from stillroom.media.resource import Change, MediaResource, ResourceQuery
from stillroom.media.service import INGEST_S, MediaResourceService
from stillroom.media.tags import UNWANTED, checked_tags
from stillroom.paths import ImagePrefix, KeyPrefix, StorageKey, path_of_key
from stillroom.storage.values import Condition, RemoteImage

MAX_ITEMS: Final = 100
_MAX_BODY_BYTES: Final = 1024**2
"""A hundred of the longest keys, most of their characters escaped, fit."""

_AT_ONCE: Final = 4
"""Items of one list under way; a disk syncs and a bucket copies that many well."""

_ID_EXAMPLE: Final = "0197c2a8-7d1e-7c3a-9f00-3b5d8e1a2c4f"


_NOT_GIVEN: Any = None
"""In the place of a value that cannot be null; whether it was given is asked of Pydantic."""

_MAX_PIXELS: Final = 2**31 - 1
_LONGEST_S: Final = 10.0**9
"""Thirty years: more is no duration of a video."""


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain U+0000, which PostgreSQL cannot store")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError("must not contain half of a surrogate pair, which UTF-8 cannot spell")
    return text


def _no_default(schema: JsonDict) -> None:
    """A client that is made from the document must not send one: it would be written."""
    schema.pop("default", None)


Words = Annotated[str, Field(max_length=10_000), AfterValidator(_storable)]
Name = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_storable)]
Pixels = Annotated[int, Field(ge=1, le=_MAX_PIXELS)]
Seconds = Annotated[float, Field(gt=0, le=_LONGEST_S, allow_inf_nan=False)]
Color = Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$"), AfterValidator(str.lower)]


class ImageToIngest(JsonForm):
    """One compute result."""

    MAX_BYTES: ClassVar = _MAX_BODY_BYTES
    EXAMPLE: ClassVar = '{"storage_key": "…"}'

    storage_key: str = Field(
        description="`compute/` and the image's path", examples=[f"compute/{PATH_EXAMPLE}"]
    )
    relocate: bool = Field(
        default=True,
        description="Copy it to a key of its own and delete the source later, for which a token "
        "needs the scope `storage:delete`; else record it where it lies.",
    )


class ImagesToIngest(JsonForm):
    """Several; each is answered for itself."""

    items: list[ImageToIngest] = Field(min_length=1, max_length=MAX_ITEMS)


class ResourceChange(JsonForm):
    """What may be changed; what is left out stays as it is. Null takes a value away."""

    MAX_BYTES: ClassVar = _MAX_BODY_BYTES
    EXAMPLE: ClassVar = '{"caption": "…"}'

    alt_text: Words | None = Field(default=None, examples=["A cat on a sill"])
    caption: Words | None = Field(default=None, examples=["Tom, in the morning"])
    protected: bool = Field(default=False, description="a protected resource is not deleted")
    dominant_color: Color | None = Field(default=None, examples=["#8a6d3b"])
    width: Pixels = Field(default=_NOT_GIVEN, json_schema_extra=_no_default)
    height: Pixels = Field(default=_NOT_GIVEN, json_schema_extra=_no_default)
    duration: Seconds | None = Field(default=None, description="seconds", examples=[4.5])
    color_profile: Name | None = Field(default=None, examples=["sRGB"])


class MediaResourceView(BaseModel):
    """One image or video of the library."""

    id: uuid.UUID
    resource_type: Literal["image", "video"]
    storage_key: str = Field(examples=[f"media/{_ID_EXAMPLE}/file.png"])
    source_key: str | None = Field(
        description="the key that it came from first, if known",
        examples=[f"compute/{PATH_EXAMPLE}"],
    )
    url: str = Field(
        description="where the bytes are served",
        examples=[f"http://127.0.0.1:8000/api/v1/media-resources/{_ID_EXAMPLE}/file"],
    )
    content_hash: str = Field(description="SHA-256, hexadecimal", examples=[SHA256_EXAMPLE])
    extension: str = Field(examples=["png"])
    content_type: str = Field(examples=["image/png"])
    file_size: int = Field(description="bytes")
    width: int = Field(description="pixels, as stored")
    height: int = Field(description="pixels, as stored")
    color_profile: str | None = Field(examples=["sRGB"])
    duration: float | None = Field(description="seconds, of a video", examples=[None])
    dominant_color: str | None = Field(
        description="of most of the picture, in sRGB; computed some seconds after the ingest, and "
        "null where it cannot be",
        examples=["#8a6d3b"],
    )
    ai_mark: AiMark | None = Field(
        description="whether the file says that AI made it; null where that was not looked at "
        "(before this field) or cannot be told",
        examples=["iptc"],
    )
    tags: list[str] = Field(description="sorted", examples=[["cat", "morning"]])
    protected: bool
    alt_text: str | None = Field(examples=["A cat on a sill"])
    caption: str | None = Field(examples=["Tom, in the morning"])
    created_at: datetime


class IngestedImage(BaseModel):
    """A compute result that is in the library now."""

    storage_key: str = Field(
        description="as it was asked for", examples=[f"compute/{PATH_EXAMPLE}"]
    )
    resource: MediaResourceView


class RefusedImage(BaseModel):
    """A compute result that was not ingested, and why."""

    storage_key: str = Field(examples=["compute/generations/1/none.png"])
    detail: str = Field(examples=["no such image"])
    code: str = Field(description="stable; branch on this", examples=["not_found"])


class IngestResults(BaseModel):
    """What became of each item, in the order asked for."""

    results: list[IngestedImage | RefusedImage]


class DeletedResource(BaseModel):
    """What is out of the library."""

    id: uuid.UUID


@dataclass(frozen=True, slots=True)
class MediaOperations:
    """The operations of the library.

    Attributes:
        media: Does the work.
        authorize: Who is asking.
        public_url: A resource's public URL.
        sendfile: Lets a proxy send large files; None where none may.
    """

    media: MediaResourceService
    authorize: Authorize
    public_url: Callable[[MediaResource], str]
    sendfile: ProxySendfile | None = None

    async def ingest(self, request: Request) -> Response:
        """Take compute results into the library. Equal bytes are one resource."""
        call = await Call.of(request, self.authorize)
        call.grant.require_scope("media")
        given = await call.json_object(ImageToIngest)
        deadline = asyncio.get_running_loop().time() + INGEST_S  # of all that is asked for
        if "items" not in given:
            item = in_form(ImageToIngest, given)
            return json_answer(await self._ingested(call.grant, item, deadline))

        slots = asyncio.Semaphore(_AT_ONCE)

        async def result(item: ImageToIngest) -> Mapping[str, object]:
            async with slots:
                try:
                    resource = await self._ingested(call.grant, item, deadline)
                except StillroomError as error:
                    why = {"detail": str(error), "code": error.code}
                    return {"storage_key": item.storage_key, **why}
                return {"storage_key": item.storage_key, "resource": resource}

        items = in_form(ImagesToIngest, given).items
        return json_answer({"results": await asyncio.gather(*map(result, items))})

    async def _ingested(
        self, grant: Grant, item: ImageToIngest, deadline: float
    ) -> Mapping[str, object]:
        path = path_of_key(item.storage_key, at=("body", "storage_key"))
        grant.require("media", path)
        if item.relocate and "storage:delete" not in grant.scopes:
            raise Forbidden(
                "relocating deletes the source, and the token lacks the scope storage:delete: "
                'ask with "relocate": false, or with another token'
            )
        folder = KeyPrefix.of_images(ImagePrefix(grant.folder)) if grant.folder else None
        resource = await self.media.ingest_from_storage_key(
            StorageKey.of_image(path), relocate=item.relocate, within=folder, deadline=deadline
        )
        return self._shown(resource)

    async def list_media_resources(self, request: Request) -> Response:
        """List the library, newest first."""
        call = await self._call(request)
        asked = parse_media_query(call.query)
        wanted = [tag for tag in asked.tags if not tag.startswith(UNWANTED)]
        unwanted = [tag[1:] for tag in asked.tags if tag.startswith(UNWANTED)]
        page = await self.media.page(
            ResourceQuery(
                after=asked.start_after,
                limit=asked.limit,
                content_hash=asked.content_hash,
                content_type=asked.content_type,
                resource_type=asked.resource_type,
                created_from=asked.created_from,
                created_before=asked.created_before,
                tags=sorted(checked_tags(wanted, ("query", "tag"))),
                without_tags=sorted(checked_tags(unwanted, ("query", "tag"))),
            )
        )
        response = json_answer([self._shown(resource) for resource in page.resources])
        if page.more:
            response.headers["link"] = asked.link_to_next(page.resources[-1].id)
        return response

    async def get_media_resource(self, request: Request) -> Response:
        """Get what is known of a resource."""
        call = await self._call(request)
        return self._answer(await self.media.find(_id(call)))

    async def get_media_file(self, request: Request) -> Response:
        """Get a resource's bytes, or a redirect to the URL that serves them."""
        call = await self._call(request)
        resource = await self.media.find(_id(call))
        location = await self.media.locate(resource)
        if isinstance(location, RemoteImage):
            return ImageResponse(answer_redirect(location))
        cache = IMMUTABLE_CACHE if resource.storage_key.is_media else PRIVATE_CACHE
        return await answered(call.fields, location, cache, self.sendfile)

    async def change_media_resource(self, request: Request) -> Response:
        """Set texts, protection and facts; with `only_unset` what of these is null."""
        call = await self._call(request)
        only_unset = parse_change_query(call.query)
        asked = await call.json(ResourceChange)
        change = Change(**{name: getattr(asked, name) for name in asked.model_fields_set})
        changed = await self.media.change(
            _id(call), change, only_unset=only_unset, check=self._condition(call)
        )
        return self._answer(changed)

    def _condition(self, call: Call) -> Callable[[MediaResource], None] | None:
        """What an `If-Match` demands of the resource that is about to be changed."""
        condition = Condition(if_match=entity_tags(call.fields.get("if-match"), weak=False))

        def check(resource: MediaResource) -> None:
            try:
                condition.check(self._etag(resource))
            except PreconditionFailed as error:
                message = "If-Match failed: the resource was changed meanwhile"
                raise PreconditionFailed(message) from error

        return check if condition.is_set else None

    async def delete_media_resource(self, request: Request) -> Response:
        """Take a resource out of the library; its bytes go when the grace period is over."""
        call = await self._call(request)
        resource = await self.media.delete(_id(call))
        return json_answer({"id": str(resource.id)})

    async def _call(self, request: Request) -> Call:
        """A request whose sender may use the whole library."""
        call = await Call.of(request, self.authorize)
        call.grant.require_everywhere("media")
        return call

    def _answer(self, resource: MediaResource) -> Response:
        answer = json_answer(self._shown(resource))
        answer.headers["etag"] = self._etag(resource)
        return answer

    def _etag(self, resource: MediaResource) -> str:
        return f'"{hashlib.sha256(json_bytes(self._shown(resource))).hexdigest()[:32]}"'

    def _shown(self, resource: MediaResource) -> Mapping[str, object]:
        return {
            "id": str(resource.id),
            "resource_type": resource.resource_type,
            "storage_key": resource.storage_key.text,
            "source_key": resource.source_key and resource.source_key.text,
            "url": self.public_url(resource),
            "content_hash": resource.content_hash.hex(),
            "extension": resource.extension,
            "content_type": resource.content_type,
            "file_size": resource.file_size,
            "width": resource.width,
            "height": resource.height,
            "color_profile": resource.color_profile,
            "duration": resource.duration,
            "dominant_color": resource.dominant_color,
            "ai_mark": resource.ai_mark,
            "tags": resource.tags,
            "protected": resource.protected,
            "alt_text": resource.alt_text,
            "caption": resource.caption,
            "created_at": resource.created_at.isoformat(),
        }


def media_router(operations: MediaOperations) -> OperationRouter:
    """The routes of the library, below `/media-resources`."""
    router = OperationRouter("/media-resources", tag="Media")
    router.add(
        "",
        Operation(
            "GET",
            operations.list_media_resources,
            (401, 403, 503),
            answer=list[MediaResourceView],
            query=MEDIA_QUERY,
            is_paged=True,
        ),
    )
    router.add(
        "/ingest",
        Operation(
            "POST",
            operations.ingest,
            (401, 403, 404, 409, 413, 415, 503, 507),
            body=ImageToIngest | ImagesToIngest,
            answer=MediaResourceView | IngestResults,
        ),
    )
    router.add(
        "/{resource_id}",
        Operation(
            "GET", operations.get_media_resource, (401, 403, 404, 503), answer=MediaResourceView
        ),
        Operation(
            "PATCH",
            operations.change_media_resource,
            (401, 403, 404, 412, 413, 415, 503),
            query=CHANGE_QUERY,
            headers=("If-Match",),
            body=ResourceChange,
            answer=MediaResourceView,
        ),
        Operation(
            "DELETE",
            operations.delete_media_resource,
            (401, 403, 404, 409, 503),
            answer=DeletedResource,
        ),
    )
    router.add(
        "/{resource_id}/file",
        Operation(
            "GET",
            operations.get_media_file,
            (401, 403, 404, 412, 503),
            headers=("If-Match", "If-None-Match", "Range"),
        ),
    )
    return router


def _id(call: Call) -> uuid.UUID:
    return call.path_id("resource_id")
