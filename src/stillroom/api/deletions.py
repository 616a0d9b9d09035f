"""Deleting many images in one request; each is answered for itself."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Body, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.routing import Route

from stillroom.api.authorize import Authorize, authenticate
from stillroom.api.document import BEARER, PATH_EXAMPLE, extra, refusals
from stillroom.api.images import DeletedImage, MethodNotAllowed, json_answer
from stillroom.api.operation import OperationRoute, in_form, json_object, require_literal_route
from stillroom.auth.grants import Grant
from stillroom.errors import BackendUnavailable, StillroomError
from stillroom.http.fields import combined
from stillroom.paths import ImagePath, StorageKey
from stillroom.storage.port import ImageStorage

MAX_PATHS: Final = 1000
"""As many as S3 takes: https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html"""

MAX_BODY_BYTES: Final = 4 * 1024**2
"""A thousand of the longest paths, most of their characters escaped, fit."""

_AT_ONCE: Final = 16
"""Of one request; a disk syncs folders and a bucket answers that many at a time well."""


class PathsToDelete(BaseModel):
    """Images by their paths."""

    model_config = ConfigDict(extra="forbid", strict=True)

    paths: list[str] = Field(min_length=1, max_length=MAX_PATHS, examples=[[PATH_EXAMPLE]])


class UndeletedPath(BaseModel):
    """A path under which nothing was deleted, and why."""

    path: str = Field(examples=["generations/1/none.png"])
    detail: str = Field(examples=["no such image"])
    code: str = Field(description="stable; branch on this", examples=["not_found"])


class DeletedImages(BaseModel):
    """What became of each path, in the order asked for."""

    results: list[DeletedImage | UndeletedPath]


@dataclass(frozen=True, slots=True)
class Deletions:
    """The one operation over one storage.

    Attributes:
        storage: Where the bytes are.
        authorize: Who is asking.
    """

    storage: ImageStorage
    authorize: Authorize

    async def delete_images(
        self,
        request: Request,
        wanted: PathsToDelete = Body(),  # noqa: B008  (for the document, as in images.py)
    ) -> Response:
        """Delete up to 1,000 images. Each is answered for itself."""
        del wanted
        require_literal_route(request)
        fields = combined(request.headers.raw)
        grant = await authenticate(self.authorize, fields)
        grant.require_scope("storage:delete")
        given = await json_object(
            request, fields, max_bytes=MAX_BODY_BYTES, example='{"paths": ["…"]}'
        )
        paths = in_form(PathsToDelete, given).paths

        slots = asyncio.Semaphore(_AT_ONCE)
        given_up: list[BackendUnavailable] = []

        async def result(path: str) -> Mapping[str, object]:
            async with slots:
                try:
                    if given_up:  # each attempt of a thousand would wait for its own time-out
                        raise given_up[0]
                    await self._delete(grant, path)
                except StillroomError as error:
                    if isinstance(error, BackendUnavailable):
                        given_up.append(error)
                    return {"path": path, "detail": str(error), "code": error.code}
                return {"path": path}

        return json_answer({"results": await asyncio.gather(*map(result, paths))})

    async def _delete(self, grant: Grant, path: str) -> None:
        image_path = ImagePath.parse(path)
        grant.require("storage:delete", image_path)
        await self.storage.delete(StorageKey.of_image(image_path))


def deletions_router(deletions: Deletions) -> APIRouter:
    """The route of the one operation, `/storage/delete`."""
    router = APIRouter(
        prefix="/storage/delete",
        tags=["Storage"],
        route_class=OperationRoute,
        dependencies=[BEARER],
    )
    router.add_api_route(
        "",
        deletions.delete_images,
        methods=["POST"],
        response_model=DeletedImages,
        responses=refusals(401, 403, 413, 415),
        openapi_extra=extra(),
    )
    router.routes.append(Route("/storage/delete", MethodNotAllowed("POST")))
    return router
