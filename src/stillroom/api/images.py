"""The five operations, in the order of the document that they come from.

An operation reads top to bottom: who asks, for which path, are they allowed,
what does the storage say, how does HTTP put it. That order is a promise: nothing
is looked up, and nothing of a body is read, before the checks ahead of it passed.

Parameters other than `request` are there for the OpenAPI document; the operations
read the raw request (see `operation.OperationRoute`).
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, File, Path, Query, Request, Response, UploadFile
from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from stillroom.api.authorize import Authorize, authenticate
from stillroom.api.document import (
    BEARER,
    ETAG_EXAMPLE,
    PATH_EXAMPLE,
    SHA256_EXAMPLE,
    extra,
    pages,
    reading,
    refusals,
)
from stillroom.api.listing import Delimiter, Limit, Listing, Prefix, StartAfter
from stillroom.api.operation import (
    OPERATION,
    ImageResponse,
    OperationRoute,
    ProblemResponse,
    raw_image_path,
)
from stillroom.auth.grants import Grant
from stillroom.auth.signed_urls import READER, UrlSigner, is_signed
from stillroom.derived.images import DerivedImages
from stillroom.errors import TooLarge
from stillroom.http.derivation import Derivation, Fit, Format, parse_derivation
from stillroom.http.fields import Fields, combined
from stillroom.http.multipart import FRAMING_BYTES, FilePart, boundary_of
from stillroom.http.problems import JSON_HEADERS, plain_problem
from stillroom.http.serving import (
    PRIVATE_CACHE,
    PUBLIC_CACHE,
    answer_image,
    answer_made_elsewhere,
    answer_redirect,
    is_named,
    request_sha256,
    write_condition,
)
from stillroom.paths import ImagePath, StorageKey, image_entry
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import OpenedImage, RemoteImage, StoredImage
from stillroom.telemetry import metrics

# For the document only: FastAPI allows a path parameter no default, our own calls give none.
_PATH: Any = Path(examples=[PATH_EXAMPLE])
_ASKED: Any = None

_NEXT = "counts as the next of 64, 128, 256, 512, 1024 and 2048"
_Pixels = Annotated[int, Field(ge=1)]
_Percent = Annotated[int, Field(ge=1, le=100)]
_Unset = SkipJsonSchema[None]


class AskedPicture(BaseModel):
    """The parameters of a derived image, for the document only: `parse_derivation` reads them.

    None has a default there: clients made from the document send defaults, and any of these makes
    a GET one for a derived image.
    """

    width: _Pixels | _Unset = Field(None, description=f"Pixels of a smaller picture; {_NEXT}.")
    height: _Pixels | _Unset = Field(None, description=f"Pixels, as `width`; {_NEXT}.")
    fit: Fit | _Unset = Field(
        None, description="`contain` (without it) shows all of the image, `cover` fills the box."
    )
    format: Format | _Unset = Field(None, description="Of the picture; `webp` without it.")
    quality: _Percent | _Unset = Field(None, description="Counts as the next ten; 80 without it.")


class SavedImage(BaseModel):
    """What was stored, and where to find it."""

    path: str = Field(examples=[PATH_EXAMPLE])
    url: str = Field(examples=[f"http://127.0.0.1:8000/api/v1/storage/images/{PATH_EXAMPLE}"])
    size: int = Field(description="bytes", examples=[1_258_291])
    content_type: str = Field(examples=["image/png"])
    sha256: str | None = Field(description="hexadecimal", examples=[SHA256_EXAMPLE])
    etag: str = Field(description="with its quotes, ready for If-Match", examples=[ETAG_EXAMPLE])


class DeletedImage(BaseModel):
    """What was removed."""

    path: str = Field(examples=[PATH_EXAMPLE])


@dataclass(frozen=True, slots=True)
class ImageOperations:
    """The five operations over one storage.

    Attributes:
        storage: Where the bytes are.
        authorize: Who is asking.
        public_url: What `/<path>` is put behind to make an image's public URL.
        max_upload_bytes: Larger images are refused as soon as that is known.
        signer: Checks signed URLs; None where there are none.
        public_read: Whether an image can be read without a token by its path.
        derived: Makes smaller pictures; None where there are none, whatever is asked for.
    """

    storage: ImageStorage
    authorize: Authorize
    public_url: str
    max_upload_bytes: int
    signer: UrlSigner | None = None
    public_read: bool = False
    derived: DerivedImages | None = None

    async def list_images(
        self,
        request: Request,
        prefix: Prefix = "",
        limit: Limit = 100,
        start_after: StartAfter = "",
        delimiter: Delimiter = "",
    ) -> Response:
        """List stored images."""
        del prefix, limit, start_after, delimiter
        listing = await Listing.of(request, self.authorize)
        if listing.is_above_folder:
            return json_answer(await listing.way_to_folder(self.storage))
        page = await self.storage.list(listing.query)
        entries = [image_entry(entry) for entry in page.entries]
        response = json_answer(entries)
        if page.more:
            response.headers["link"] = listing.asked.link_to_next(entries[-1])
        return response

    # Every road to an image asks these two: who may GET and HEAD, and what caches may do with it.

    async def reader(self, fields: Fields, raw_path: bytes, query: bytes) -> Grant:
        """Who may read an image: the holder of a token or a signature, or all.

        A token decides alone: so a signature never adds to what its holder may do. Where
        images are public, no right is missing; but who shows a token or a signature means it,
        and is told if it is not valid, as by S3 and Google Cloud Storage
        (https://cloud.google.com/storage/docs/troubleshooting, "requests to a public bucket").

        Args:
            fields: Of the request.
            raw_path: Of the request target, behind the route's prefix, never decoded.
            query: As it came.

        Raises:
            Unauthenticated: for every reason the same, but for `TokenExpired`.
        """
        if "authorization" in fields:
            grant = await authenticate(self.authorize, fields)
        elif self.signer is not None and is_signed(query):
            grant = self.signer.check(raw_path, query)
        else:
            grant = READER if self.public_read else await authenticate(self.authorize, fields)
        return READER if self.public_read else grant

    @property
    def cache_control(self) -> str:
        """What an answer with an image, or about one, tells caches."""
        return PUBLIC_CACHE if self.public_read else PRIVATE_CACHE

    async def get_image(
        self,
        request: Request,
        path: str = _PATH,
        asked: Annotated[AskedPicture, Query()] = _ASKED,
    ) -> Response:
        """Get image by path. Redirects to CDN when using R2 storage."""
        del path, asked
        fields = combined(request.headers.raw)
        raw_path = raw_image_path(request)
        grant = await self.reader(fields, raw_path, request.scope["query_string"])
        image_path = ImagePath.from_target(raw_path)
        grant.require("storage:read", image_path)

        key = StorageKey.of_image(image_path)
        if self.derived is not None:
            wanted = parse_derivation(request.scope["query_string"])
            if wanted is not None:
                return await self._derived("GET", fields, key, self.derived, wanted)
        location = await self.storage.locate(key)
        if isinstance(location, RemoteImage):
            return ImageResponse(answer_redirect(location))
        try:
            answer = answer_image("GET", fields, location.image, cache_control=self.cache_control)
        except BaseException:
            location.close()
            raise
        return ImageResponse(answer, location)

    async def _derived(
        self,
        method: str,
        fields: Fields,
        key: StorageKey,
        derived: DerivedImages,
        wanted: Derivation,
    ) -> Response:
        """A smaller picture of the image, made here or by the CDN."""
        place = derived.place(key, wanted)
        if place is not None and method == "GET":
            await self.storage.locate(key)  # for the 404: a CDN would remember its own
            return ImageResponse(answer_redirect(RemoteImage(place)))
        if place is not None:
            await self.storage.stat(key)
            return ImageResponse(answer_made_elsewhere(wanted.content_type))
        original = await self.storage.open(key)
        picture: OpenedImage | None = None
        facts = derived.describe(original.image, wanted)
        if is_named(fields, facts):
            original.close()
        else:
            picture = await derived.derive(original, wanted)
            facts = picture.image
        try:
            answer = answer_image(method, fields, facts, cache_control=self.cache_control)
        except BaseException:
            if picture is not None:
                picture.close()
            raise
        return ImageResponse(answer, picture)

    async def save_image(
        self,
        request: Request,
        path: str = _PATH,
        file: UploadFile = File(json_schema_extra={"format": "binary"}),  # noqa: B008  (for the document)
    ) -> Response:
        """Save image to storage."""
        del path, file  # the document's; the body is streamed below, never spooled
        fields = combined(request.headers.raw)
        grant = await authenticate(self.authorize, fields)
        image_path = ImagePath.from_target(raw_image_path(request))
        return json_answer(await self.store(grant, image_path, fields, request.stream()))

    async def store(
        self, grant: Grant, image_path: ImagePath, fields: Fields, body: AsyncIterator[bytes]
    ) -> dict[str, object]:
        """What `save_image` does once it is known who asks, and for which path.

        Args:
            grant: The caller's rights.
            image_path: Where to save.
            fields: The request's.
            body: Its body, of which nothing is asked for before all that can be checked has passed.

        Returns:
            The answer; see `SavedImage`.

        Raises:
            StillroomError: as the refusals of the document say.
        """
        grant.require("storage:write", image_path)
        body_bytes = self._length_of(fields)
        upload = FilePart(
            body,
            boundary_of(fields),
            max_bytes=body_bytes,
            expected_sha256=request_sha256(fields),
        )

        image = await self.storage.save(
            StorageKey.of_image(image_path), upload, write_condition(fields)
        )
        return saved_answer(image, image_path, self.public_url)

    def _length_of(self, fields: Fields) -> int | None:
        """The body's length, if it is declared and an image of allowed size can be in it."""
        declared = fields.get("content-length")
        if declared is None:
            return None
        if int(declared) > self.max_upload_bytes + FRAMING_BYTES:
            raise TooLarge(f"the image is larger than {self.max_upload_bytes} bytes")
        return int(declared)

    async def delete_image(self, request: Request, path: str = _PATH) -> Response:
        """Delete image from storage."""
        del path
        fields = combined(request.headers.raw)
        grant = await authenticate(self.authorize, fields)
        image_path = ImagePath.from_target(raw_image_path(request))
        grant.require("storage:delete", image_path)

        await self.storage.delete(StorageKey.of_image(image_path), write_condition(fields))
        return json_answer({"path": image_path.text})

    async def check_image_exists(
        self,
        request: Request,
        path: str = _PATH,
        asked: Annotated[AskedPicture, Query()] = _ASKED,
    ) -> Response:
        """Check if image exists."""
        del path, asked
        fields = combined(request.headers.raw)
        raw_path = raw_image_path(request)
        grant = await self.reader(fields, raw_path, request.scope["query_string"])
        image_path = ImagePath.from_target(raw_path)
        grant.require("storage:read", image_path)

        key = StorageKey.of_image(image_path)
        if self.derived is not None:
            wanted = parse_derivation(request.scope["query_string"])
            if wanted is not None:
                return await self._derived("HEAD", fields, key, self.derived, wanted)
        image = await self.storage.stat(key)
        return ImageResponse(answer_image("HEAD", fields, image, cache_control=self.cache_control))


def images_router(operations: ImageOperations) -> APIRouter:
    """The routes of the five operations, below `/storage/images`."""
    router = APIRouter(
        prefix="/storage/images",
        tags=["Storage"],
        route_class=OperationRoute,
        dependencies=[BEARER],
    )
    one = "/{path:image_path}"
    add = router.add_api_route
    add(
        "",
        operations.list_images,
        methods=["GET"],
        response_model=list[str],
        responses=refusals(401, 403, 503),
        openapi_extra=pages(["cats/tom.png", PATH_EXAMPLE]),
    )
    add(
        one,
        operations.get_image,
        methods=["GET"],
        response_class=Response,
        responses=reading(401, 403, 404, 412, 415, 503),
        openapi_extra=extra("If-Match", "If-None-Match", "Range"),
    )
    add(
        one,
        operations.save_image,
        methods=["POST"],
        response_model=SavedImage,
        responses=refusals(400, 401, 403, 409, 412, 413, 415, 501, 503, 507),
        openapi_extra=extra("If-Match", "If-None-Match", "Repr-Digest"),
    )
    add(
        one,
        operations.delete_image,
        methods=["DELETE"],
        response_model=DeletedImage,
        responses=refusals(401, 403, 404, 412, 503),
        openapi_extra=extra("If-Match"),
    )
    add(
        one,
        operations.check_image_exists,
        methods=["HEAD"],
        response_class=Response,
        responses=reading(401, 403, 404, 412, 415, 422, 503, has_body=False),
        openapi_extra=extra("If-Match", "If-None-Match", has_body=False),
    )
    router.routes.append(Route("/storage/images", MethodNotAllowed("GET")))
    router.routes.append(
        Route("/storage/images" + one, MethodNotAllowed("GET, HEAD, POST, DELETE"))
    )
    return router


def saved_answer(image: StoredImage, path: ImagePath, public_url: str) -> dict[str, object]:
    """The content of a `SavedImage`."""
    return {
        "path": path.text,
        "url": f"{public_url}/{path.quoted()}",
        "size": image.size,
        "content_type": image.content_type,
        "sha256": image.sha256.hex() if image.sha256 else None,
        "etag": image.etag,
    }


def json_answer(content: object) -> Response:
    """200 and `content`."""
    return Response(json_bytes(content), headers=dict(JSON_HEADERS))


def json_bytes(content: object) -> bytes:
    """`content` as JSON in UTF-8."""
    # JSONResponse would do the same with more options; names are UTF-8 on the wire as on disk.
    # A lone surrogate, which JSON can spell and UTF-8 cannot, is spelled in JSON again.
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


class MethodNotAllowed:
    """405 with all methods of a path; the router alone would name those of its first route."""

    def __init__(self, allow: str) -> None:
        self._allow = allow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and count."""
        metrics.count("method_not_allowed", 405)
        scope[OPERATION] = "method_not_allowed"
        found = plain_problem(405, f"allowed here: {self._allow}", "method_not_allowed")
        found.headers.append(("allow", self._allow))
        await ProblemResponse(found)(scope, receive, send)
