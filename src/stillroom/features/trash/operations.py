"""HTTP operations on the trash: list, restore, and delete for good."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import Request, Response
from pydantic import BaseModel, Field

from stillroom.concurrently import map_concurrently
from stillroom.errors import FeatureOff, InvalidParameter, StillroomError
from stillroom.features.trash.service import Trash
from stillroom.paths import ImagePath
from stillroom.store.api.call import Call
from stillroom.store.api.forms import JsonForm
from stillroom.store.api.images import DeletedImage, ImageOperations, SavedImage
from stillroom.store.api.responses import json_answer
from stillroom.store.api.routes import Operation
from stillroom.store.api.views import view_of
from stillroom.store.auth.grants import Grant, Scope
from stillroom.store.http.parameters import (
    DEFAULT_LIMIT,
    EVERY_PATH,
    Parameter,
    Prefix,
    page_size,
    resource_id,
)
from stillroom.wire.shown import ID_EXAMPLE, PATH_EXAMPLE
from stillroom.wire.trash import TrashedImage

if TYPE_CHECKING:  # a normal import would load the database driver at every start
    from stillroom.features.trash.rows import TrashedFile

_OFF: Final = "this server has no trash: set STILLROOM_TRASH, for example to 7d"
_MAX_LIMIT: Final = 1000
_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TrashParameters:
    """Query parameters of `GET /storage/trash`."""

    prefix: Prefix = EVERY_PATH
    limit: Annotated[int, page_size("Entries", _MAX_LIMIT)] = DEFAULT_LIMIT
    cursor: Annotated[
        uuid.UUID | None, Parameter(resource_id, {"type": "string"}, "`next` of the page before.")
    ] = None


class PathToRestore(JsonForm, max_bytes=16 * 1024, example='{"path": "…"}'):
    """Request body: path at which to restore an image. The default is its former path."""

    path: str | None = Field(default=None, examples=[PATH_EXAMPLE])


class TrashToRestore(JsonForm, max_bytes=128 * 1024, example='{"ids": ["…"]}'):
    """Request body: trash ids of the images and runs to restore."""

    ids: list[str] = Field(min_length=1, max_length=1000, examples=[[ID_EXAMPLE]])


@view_of(TrashedImage)
class TrashedItem(BaseModel):
    """Deleted image or run."""


class TrashPage(BaseModel):
    """Page of the trash, newest first."""

    items: list[TrashedItem]
    next: str | None = Field(description="`cursor` of the next page", examples=[ID_EXAMPLE])


class RestoredItem(BaseModel):
    """Result for one id: `path` of the restored image or run, or the reason for a failure."""

    id: str = Field(examples=[ID_EXAMPLE])
    path: str | None = Field(None, examples=[PATH_EXAMPLE])
    detail: str | None = Field(None, examples=["nothing in the trash has this id"])
    code: str | None = Field(None, examples=["trash_not_found"])


class RestoredItems(BaseModel):
    """Results for the ids, in the order of the request body."""

    results: list[RestoredItem]


@dataclass(frozen=True, slots=True)
class TrashOperations:
    """Operations on the trash. If `trash` is None, all requests are refused with 501."""

    images: ImageOperations
    trash: Trash | None

    @Operation("GET", "", (501, 503), answer=TrashPage, query=TrashParameters)
    async def list_trash(self, request: Request) -> Response:
        """List deleted images and runs that can be restored, newest first."""
        call, trash = await self._begin(request, "storage:read")
        query = call.query(TrashParameters)
        visible = call.grant.narrow("storage:read", query.prefix)
        rows, following = await trash.page(query.cursor, query.limit, visible.text)
        items = [
            {
                "id": str(row.trash_id),
                "path": row.path.rstrip("/"),
                "size": row.size,
                "content_type": None if row.path.endswith("/") else row.content_type,
                "deleted_at": row.deleted_at.isoformat(),
                "purge_at": row.purge_at.isoformat(),
                "actor": row.actor,
                "count": row.images if row.path.endswith("/") else None,
            }
            for row in rows
        ]
        return json_answer({"items": items, "next": following and str(following)})

    @Operation(
        "POST",
        "/{trash_id}/restore",
        (404, 409, 501, 503),
        body=PathToRestore,
        may_lack_body=True,
        answer=SavedImage | RestoredItem,
    )
    async def restore_trash(self, request: Request) -> Response:
        """Restore a deleted image, or all images and the manifest of a deleted run."""
        call, trash = await self._begin(request, "storage:write", "storage:delete")
        id_ = call.path_id("trash_id")
        text = (await call.json(PathToRestore)).path if call.has_body else None
        path = None if text is None else ImagePath.parse(text, at=("body", "path"))
        return json_answer(await self._restore(trash, call.grant, id_, path))

    @Operation("POST", "/restore", (501,), body=TrashToRestore, answer=RestoredItems)
    async def restore_many(self, request: Request) -> Response:
        """Restore up to 1,000 deleted images and runs. If one fails, the others are restored."""
        call, trash = await self._begin(request, "storage:write", "storage:delete")

        async def restore(id_: str) -> Mapping[str, object]:
            try:
                restored = await self._restore(trash, call.grant, resource_id(id_))
            except StillroomError as error:
                return {"id": id_, "detail": str(error), "code": error.code}
            return {"id": id_, "path": restored["path"]}

        ids = (await call.json(TrashToRestore)).ids
        return json_answer({"results": await map_concurrently(restore, ids, limit=_AT_ONCE)})

    @Operation("DELETE", "/{trash_id}", (404, 501, 503), answer=DeletedImage)
    async def purge_trash(self, request: Request) -> Response:
        """Permanently delete an image or run that is in the trash."""
        call, trash = await self._begin(request, "storage:delete")
        files = await trash.find(call.path_id("trash_id"))
        path = _require(call.grant, files[0], "storage:delete")
        await trash.purge(files)
        return json_answer({"path": path.text})

    async def _begin(self, request: Request, *scopes: Scope) -> tuple[Call, Trash]:
        call = await Call.of(request, self.images.authorize)
        for scope in scopes:
            call.grant.require_scope(scope)
        if self.trash is None:
            raise FeatureOff(_OFF)
        return call, self.trash

    async def _restore(
        self, trash: Trash, grant: Grant, id_: uuid.UUID, path: ImagePath | None = None
    ) -> Mapping[str, object]:
        files = await trash.find(id_)
        former = _require(grant, files[0], "storage:write", "storage:delete")
        if path is not None:
            grant.require("storage:write", path)
            if files[0].is_of_run:
                message = "a run is restored to its own folder: leave the path out"
                raise InvalidParameter(message, at=("body", "path"))
        image = await trash.restore(files, path)
        if files[0].is_of_run:
            return {"id": str(id_), "path": former.text}
        return self.images.saved_json(image, path or former)


def _require(grant: Grant, file: "TrashedFile", *scopes: Scope) -> ImagePath:
    """Return a deleted image's or run's path. Raise an error if the grant lacks a scope for it."""
    path = ImagePath(file.path.rstrip("/"))
    for scope in scopes:
        (grant.require_folder if file.is_of_run else grant.require)(scope, path)
    return path
