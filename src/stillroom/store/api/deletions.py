"""HTTP operation that deletes many images in one request, with a result for each image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from fastapi import Request, Response
from pydantic import BaseModel, Field

from stillroom.concurrently import map_concurrently
from stillroom.errors import BackendUnavailable, StillroomError
from stillroom.paths import ImagePath, StorageKey
from stillroom.store.api.call import Call
from stillroom.store.api.forms import JsonForm
from stillroom.store.api.images import DeletedImage, ImageOperations
from stillroom.store.api.responses import json_answer
from stillroom.store.api.routes import Operation
from stillroom.store.http.parameters import DeleteParameters
from stillroom.wire.shown import PATH_EXAMPLE

# Maximum number of paths in one request, as in S3:
# https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
MAX_PATHS: Final = 1000

_CONCURRENT_DELETIONS: Final = 16  # per request; suitable for disks and buckets


# `max_bytes` is enough for 1,000 of the longest paths with JSON escapes.
class PathsToDelete(JsonForm, max_bytes=4 * 1024**2, example='{"paths": ["…"]}'):
    """Request body: paths of the images to delete."""

    paths: list[str] = Field(min_length=1, max_length=MAX_PATHS, examples=[[PATH_EXAMPLE]])


class UndeletedPath(BaseModel):
    """Path of an image that was not deleted, with the reason."""

    path: str = Field(examples=["generations/1/none.png"])
    detail: str = Field(examples=["no such image"])
    code: str = Field(description="stable; branch on this", examples=["not_found"])


class DeletedImages(BaseModel):
    """Result for each path, in the order of the request body."""

    results: list[DeletedImage | UndeletedPath]


@dataclass(frozen=True, slots=True)
class Deletions:
    """Operation that deletes many images."""

    images: ImageOperations

    @Operation("POST", "", (), body=PathsToDelete, answer=DeletedImages, query=DeleteParameters)
    async def delete_images(self, request: Request) -> Response:
        """Delete up to 1,000 images. If one cannot be deleted, the others are still deleted."""
        call = await Call.of(request, self.images.authorize)
        call.grant.require_scope("storage:delete")
        purge = call.query(DeleteParameters).purge
        paths = (await call.json(PathsToDelete)).paths

        outages: list[BackendUnavailable] = []

        async def result(path: str) -> Mapping[str, object]:
            try:
                if outages:  # otherwise, each of 1,000 deletions would wait for a timeout
                    raise outages[0]
                image_path = ImagePath.parse(path)
                call.grant.require("storage:delete", image_path)
                key = StorageKey.of_image(image_path)
                return {"path": path, **await self.images.delete(key, purge=purge)}
            except StillroomError as error:
                if isinstance(error, BackendUnavailable):
                    outages.append(error)
                return {"path": path, "detail": str(error), "code": error.code}

        results = await map_concurrently(result, paths, limit=_CONCURRENT_DELETIONS)
        return json_answer({"results": results})
