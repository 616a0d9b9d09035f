"""Deleting many images in one request; each is answered for itself."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from fastapi import Request, Response
from pydantic import BaseModel, Field

from stillroom.api.call import Call
from stillroom.api.document import PATH_EXAMPLE
from stillroom.api.forms import JsonForm
from stillroom.api.images import DeletedImage
from stillroom.api.responses import json_answer
from stillroom.api.routes import Operation, OperationRouter
from stillroom.auth.grants import Authorize, Grant
from stillroom.errors import BackendUnavailable, StillroomError
from stillroom.paths import ImagePath, StorageKey
from stillroom.storage.port import ImageStorage

MAX_PATHS: Final = 1000
"""As many as S3 takes: https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html"""

_AT_ONCE: Final = 16
"""Of one request; a disk syncs folders and a bucket answers that many at a time well."""


class PathsToDelete(JsonForm):
    """Images by their paths."""

    MAX_BYTES: ClassVar = 4 * 1024**2  # a thousand of the longest, most characters escaped, fit
    EXAMPLE: ClassVar = '{"paths": ["…"]}'

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

    async def delete_images(self, request: Request) -> Response:
        """Delete up to 1,000 images. Each is answered for itself."""
        call = await Call.of(request, self.authorize)
        call.grant.require_scope("storage:delete")
        paths = (await call.json(PathsToDelete)).paths

        slots = asyncio.Semaphore(_AT_ONCE)
        given_up: list[BackendUnavailable] = []

        async def result(path: str) -> Mapping[str, object]:
            async with slots:
                try:
                    if given_up:  # each attempt of a thousand would wait for its own time-out
                        raise given_up[0]
                    await self._delete(call.grant, path)
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


def deletions_router(deletions: Deletions) -> OperationRouter:
    """The route of the one operation, `/storage/delete`."""
    router = OperationRouter("/storage/delete", tag="Storage")
    router.add(
        "",
        Operation(
            "POST",
            deletions.delete_images,
            (401, 403, 413, 415),
            body=PathsToDelete,
            answer=DeletedImages,
        ),
    )
    return router
